"""Where a job of the JobMarket changed state: the market's record names the blocks, their logs the transactions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chain.params import JOB_MARKET
from hyperdust.contracts_abi import event_topic
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.feeds import LogMatcher, find_logs
from hyperdust.node.rpc.parameters import LogFilter

STATE_BY_STATUS: Final = (None, "requested", "claimed", "revealed", "final", "refunded", "slashed")
"""JobMarket.status in words."""

# What an event of the market makes of a job.
_STATES: Final = {
    "Requested": "requested",
    "Submitted": "claimed",
    "Revealed": "revealed",
    "Settled": "final",
    "Refunded": "refunded",
    "Convicted": "slashed",
}
_VERDICTS: Final = ("Convicted", "CompanionRefuted")
_BLOCKS: Final = ("requested_at", "submitted_at", "revealed_at", "closed_at")  # fields of the market's record


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a job's state."""

    state: str
    block_number: int
    transaction_hash: bytes


def find_transitions(request: Request, job: int, record: Mapping[str, Any]) -> Iterator[Transition]:
    """A job's transitions, oldest first, given the market's record of it."""
    states = {event_topic("JobMarket", event): state for event, state in _STATES.items()}
    for number in sorted({record[name] for name in _BLOCKS} - {0}):
        for topic, transaction in _find_logs(request, job, number, frozenset(states)):
            yield Transition(states[topic], number, transaction)


def find_verdict(request: Request, job: int, number: int) -> bytes | None:
    """Hash of the transaction in a block that decided a dispute about a job."""
    topics = frozenset(event_topic("JobMarket", event) for event in _VERDICTS)
    return next((transaction for _, transaction in _find_logs(request, job, number, topics)), None)


def _find_logs(request: Request, job: int, number: int, topics: frozenset[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """(topic, transaction hash) of the market's logs about a job in one block."""
    block_hash = request.snapshot.canonical_hash(number)
    if block_hash is None:
        return
    wanted = LogFilter(addresses=frozenset({JOB_MARKET}), topics=(topics, frozenset({job.to_bytes(32, "big")})))
    header = request.snapshot.require_header(block_hash)
    for found in find_logs(request.snapshot, request.backend.blocks, block_hash, header, LogMatcher(wanted)):
        yield found.log.topics[0], found.transaction_hash
