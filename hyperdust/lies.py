"""What roles may do wrong on purpose, so that tests see it caught: on a devnet's chain ids alone."""

from enum import StrEnum

from chain.errors import NodeFault
from chain.params import DEVNET_CHAIN_IDS


class FaultRefused(NodeFault):
    """A deliberate fault outside of a devnet, or of an operator that the graph does not have."""


class ProviderLie(StrEnum):
    """How a miner cheats with a job."""

    VALUE = "value"
    """One wrong value of one operator."""
    OUTPUT = "output"
    """The right trace under another output."""
    WITHHOLD = "withhold"
    """A wrong value, and no answer to any question."""
    HIDE = "hide"
    """A wrong value, submitted and never revealed."""
    SILENT = "silent"
    """The job is taken and nothing is submitted."""
    DOUBLE = "double"
    """One result for two jobs, each submitted twice."""


class CompanionLie(StrEnum):
    """How a companion cheats with a check."""

    COPY = "copy"
    """The provider's commitment as its own."""
    ACCUSE = "accuse"
    """Another trace root than the right one."""


def check_devnet(chain_id: int, option: str) -> None:
    """See that a deliberate fault stays on a devnet.

    Raises:
        FaultRefused
    """
    if chain_id not in DEVNET_CHAIN_IDS:
        raise FaultRefused(f"{option} is for a devnet; this is chain {chain_id}")
