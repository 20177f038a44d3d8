"""debug_*: raw encodings and traces; off unless the node runs with --dev."""

import json
from typing import Any, Final

from chain.engine import trace_transactions
from chain.errors import Invalid, NotYet
from hyperdust.node.foreign_blocks import encode_ethereum_block
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.blocks import FullBlock
from hyperdust.node.rpc.errors import ServerError
from hyperdust.node.rpc.eth_blocks import get_raw_transaction_by_hash
from hyperdust.node.rpc.eth_call import prepare
from hyperdust.node.rpc.parameters import (
    LATEST,
    BlockReference,
    CallRequest,
    Hash,
    TracerOptions,
)
from hyperdust.node.rpc.parsing import parse_block_overrides, parse_state_overrides
from hyperdust.node.rpc.shapes import Json

_STRUCT_LOGS = TracerOptions(None, {})
_NOTHING: Final = {"returnData": "0x", "refund": 0, "memory": [], "error": None}
TRACERS = ("callTracer", "prestateTracer", "4byteTracer", "flatCallTracer", "muxTracer", "noopTracer")


def _as_geth(trace: Any) -> Any:
    """Struct logs as geth writes them: without what is empty or zero."""
    if isinstance(trace, dict) and "structLogs" in trace:
        for step in trace["structLogs"]:
            for name, nothing in _NOTHING.items():
                if name in step and step[name] == nothing:
                    del step[name]
    return trace


def _engine_config(tracer: TracerOptions) -> str:
    if tracer.tracer is None:
        return json.dumps(dict(tracer.options))
    if tracer.tracer not in TRACERS:
        raise ServerError(f"tracer {tracer.tracer} is not known; there are {', '.join(TRACERS)} and struct logs")
    return json.dumps({"tracer": tracer.tracer, "tracerConfig": dict(tracer.options)})


def _trace(request: Request, block: FullBlock, first: int, last: int, tracer: TracerOptions) -> list[object]:
    """Traces of a block's transactions from `first` to `last`, re-executed on its parent's state."""
    if block.header.number == 0:
        raise ServerError("genesis is not traceable")
    parent = BlockReference(hash=block.header.parent_hash)
    transactions = request.backend.blocks.transactions(block)[: last + 1]
    read_many, parent_header = request.state(parent).read_many, request.require_header(parent)[1]
    rules = request.backend.rules
    try:
        traces = trace_transactions(
            rules.environment_of(block.header),
            transactions,
            read_many,
            precompiles=rules.precompiles_of(block.header),
            before=rules.opening_calls(parent_header, block.header, block.body, read_many),
            first=first,
            config=_engine_config(tracer),
        )
    except (Invalid, NotYet, ValueError) as error:
        raise ServerError(f"tracing failed: {error}") from error
    return [_as_geth(json.loads(trace)) for trace in traces]


def trace_transaction(request: Request, transaction_hash: Hash, tracer: TracerOptions = _STRUCT_LOGS) -> object:
    """What a transaction did, step by step or call by call."""
    place = request.snapshot.locate_transaction(transaction_hash)
    block = request.find_block(BlockReference(hash=place[0])) if place else None
    if place is None or block is None:
        raise ServerError("transaction not found")
    return _trace(request, block, place[1], place[1], tracer)[0]


def trace_block_by_number(request: Request, block: BlockReference, tracer: TracerOptions = _STRUCT_LOGS) -> list[Json]:
    """Traces of all transactions of a block."""
    found = request.find_block(block)
    if found is None:
        raise ServerError("block not found")
    hashes = request.snapshot.load_transaction_hashes(found.hash)
    traces = _trace(request, found, 0, len(hashes), tracer)
    return [{"txHash": shapes.data(one), "result": trace} for one, trace in zip(hashes, traces, strict=True)]


def trace_block_by_hash(request: Request, block_hash: Hash, tracer: TracerOptions = _STRUCT_LOGS) -> list[Json]:
    """Traces of all transactions of a block."""
    return trace_block_by_number(request, BlockReference(hash=block_hash), tracer)


def trace_call(
    request: Request, transaction: CallRequest, block: BlockReference = LATEST, tracer: TracerOptions = _STRUCT_LOGS
) -> object:
    """What a message would do."""
    inner = dict(tracer.options)
    overrides = parse_state_overrides(inner.pop("stateOverrides", None))
    block_overrides = parse_block_overrides(inner.pop("blockOverrides", None))
    trial = prepare(request, transaction, block, overrides, block_overrides)
    try:
        result = trial.run(trace=_engine_config(TracerOptions(tracer.tracer, inner)))
    except (Invalid, ValueError) as error:
        raise ServerError(f"tracing failed: {error}") from error
    if result.trace is None:
        raise ServerError("tracing failed: the engine gave no trace")
    return _as_geth(json.loads(result.trace))


def get_raw_header(request: Request, block: BlockReference) -> str:
    """A header's RLP."""
    return shapes.data(request.require_header(block)[1].encode())


def get_raw_block(request: Request, block: BlockReference) -> str:
    """A block in Ethereum's encoding, without the certificate."""
    found = request.find_block(block)
    if found is None:
        raise ServerError("block not found")
    return shapes.data(encode_ethereum_block(found.header, found.body))


def get_raw_transaction(request: Request, transaction_hash: Hash) -> str:
    """A transaction's EIP-2718 encoding."""
    return get_raw_transaction_by_hash(request, transaction_hash)


def get_raw_receipts(request: Request, block: BlockReference) -> list[str]:
    """A block's receipts in their consensus encoding."""
    block_hash, _ = request.require_header(block)
    return [shapes.data(raw) for raw in request.snapshot.load_receipts(block_hash)]


def get_bad_blocks(_request: Request) -> list[Json]:
    """Empty: a block that breaks a rule is not kept."""
    return []
