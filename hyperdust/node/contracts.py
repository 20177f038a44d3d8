"""What the predeployed contracts say: typed view calls on any block's state, through the engine."""

from dataclasses import dataclass

from chain.blocks import Header
from chain.engine import SYSTEM_ADDRESS, CallMessage, ReadMany, call
from chain.errors import NodeFault
from chain.params import ChainParams
from consensus.certificate import Operand
from consensus.validation import environment_of
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from precompiles.registry import precompiles_for

_VIEW_GAS = 30_000_000


class ViewFailed(NodeFault):
    """A view of a predeploy reverted."""


@dataclass(frozen=True, slots=True)
class State:
    """A block's state, ready for calls: its header and its reader."""

    header: Header
    read_many: ReadMany


def view(state: State, params: ChainParams, contract: str, function: str, *args: object) -> tuple[object, ...]:
    """Call a view function of a predeploy on a block's state.

    Raises:
        ViewFailed: it reverted.
    """
    message = CallMessage(
        sender=SYSTEM_ADDRESS,
        to=ADDRESSES[contract],
        data=encode_call(contract, function, *args),
        value=0,
        gas=_VIEW_GAS,
    )
    table = precompiles_for(None, state.header.parent_beacon_block_root)  # no view of a predeploy asks for Bitcoin
    result = call(environment_of(state.header, params), message, state.read_many, precompiles=table)
    if not result.success:
        raise ViewFailed(f"{contract}.{function}: {result.error}")
    return decode_output(contract, function, result.output)


def load_operand(state: State, params: ChainParams, graph: bytes, operator: int) -> Operand | None:
    """Weights of a registered mining product; None where there is no such graph or product."""
    try:
        root, k, n = view(state, params, "GraphRegistry", "operand", graph, operator)
    except ViewFailed:
        return None
    return Operand(root=root, k=k, n=n)  # type: ignore[arg-type]  # the ABI says bytes32, uint32, uint32
