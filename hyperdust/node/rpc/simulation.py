"""eth_simulateV1: blocks that follow a known one in thought only, each with its overrides and unsigned calls."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, cast

import rlp

from chain import engine
from chain.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, ZERO_HASH, Body, Header
from chain.engine import CallMessage, CallResult, Transaction
from chain.errors import Invalid
from chain.hashing import keccak256
from chain.transactions import (
    BlockGasLimitReached,
    FeeCapBelowBaseFee,
    InsufficientFunds,
    IntrinsicGasTooLow,
    NonceTooHigh,
    NonceTooLow,
    TransactionInvalid,
)
from consensus.headers import compute_base_fee
from consensus.validation import environment_of
from hyperdust.node.contracts import State
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.blocks import FullBlock, Log
from hyperdust.node.rpc.errors import InvalidParams, Reverted, RpcError
from hyperdust.node.rpc.eth_call import engine_overrides
from hyperdust.node.rpc.eth_state import load_account
from hyperdust.node.rpc.feeds import bloom_bits
from hyperdust.node.rpc.list_root import compute_list_root
from hyperdust.node.rpc.parameters import LATEST, BlockReference, CallRequest, SimulatedBlock, Simulation
from hyperdust.node.rpc.shapes import Json
from precompiles.registry import PRECOMPILES

_MAX_BLOCKS: Final = 256  # geth's
_NO_REQUESTS: Final = sha256(b"").digest()  # EIP-7685


class SimulationRefused(RpcError):
    """A simulation that cannot be; each rule has geth's code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self._code = code

    def as_json(self) -> dict[str, object]:
        """With the rule's own code."""
        return super().as_json() | {"code": self._code}


_RULE_CODES: Final[Mapping[type[TransactionInvalid], int]] = {
    NonceTooLow: -38010,
    NonceTooHigh: -38011,
    FeeCapBelowBaseFee: -38012,
    IntrinsicGasTooLow: -38013,
    InsufficientFunds: -38014,
    BlockGasLimitReached: -38015,
}


@dataclass(frozen=True, slots=True)
class _Unsigned:
    """A simulated transaction: the fields that `shapes.transaction_json` shows."""

    raw: bytes
    type: int
    sender: bytes
    nonce: int
    to: bytes | None
    value: int
    data: bytes
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    access_list: tuple[tuple[bytes, tuple[bytes, ...]], ...]
    chain_id: int | None
    authorization_list: tuple[()] = ()
    y_parity: int = 0
    v: int = 0
    r: int = 0
    s: int = 0

    @property
    def hash(self) -> bytes:
        """Of the encoding with an empty signature."""
        return keccak256(self.raw)


def simulate(request: Request, simulation: Simulation, block: BlockReference = LATEST) -> list[Json]:
    """Results of calls in blocks that would follow a block."""
    if simulation.trace_transfers:
        raise InvalidParams("traceTransfers is not supported")
    if not simulation.blocks:
        raise InvalidParams("empty input")
    state = request.state(block)
    budget = request.backend.limits.call_gas
    results: list[Json] = []
    for wanted in _fill_gaps(request, simulation.blocks, state.header):
        request.check_time()
        result, state, used = _simulate_block(request, simulation, wanted, state, budget)
        budget -= used
        results.append(result)
    return results


def _fill_gaps(request: Request, blocks: Sequence[SimulatedBlock], base: Header) -> list[SimulatedBlock]:
    """The blocks with number and time set, empty ones in between, in order.

    Raises:
        SimulationRefused: too many, or out of order.
    """
    spacing = request.backend.params.spacing_s
    number, timestamp = base.number, base.timestamp
    filled: list[SimulatedBlock] = []
    for wanted in blocks:
        target = number + 1 if wanted.block.number is None else wanted.block.number
        if target <= number:
            raise SimulationRefused(-38020, f"block numbers must be in order: {target} <= {number}")
        if target - base.number > _MAX_BLOCKS:
            raise SimulationRefused(-38026, "too many blocks")
        for between in range(number + 1, target):
            timestamp += spacing
            filled.append(SimulatedBlock(replace(wanted.block, number=between, timestamp=timestamp)))
        following = timestamp + spacing if wanted.block.timestamp is None else wanted.block.timestamp
        if following <= timestamp:
            raise SimulationRefused(-38021, f"block timestamps must be in order: {following} <= {timestamp}")
        number, timestamp = target, following
        filled.append(replace(wanted, block=replace(wanted.block, number=number, timestamp=timestamp)))
    return filled


def _simulate_block(
    request: Request, simulation: Simulation, wanted: SimulatedBlock, parent: State, budget: int
) -> tuple[Json, State, int]:
    params = request.backend.params
    header = _open_header(wanted, parent.header, validates=simulation.validation)
    overrides = engine_overrides(wanted.overrides)
    environment = environment_of(header, params)
    transactions = _transactions(wanted.calls, parent, overrides, header, (params.chain_id, budget))
    messages = [_message(transaction, call) for transaction, call in zip(transactions, wanted.calls, strict=True)]
    try:
        outcomes, writes, state_root = engine.simulate(
            environment,
            messages,
            parent.read_many,
            overrides=overrides,
            precompiles=PRECOMPILES,
            validates=simulation.validation,
        )
    except TransactionInvalid as error:
        raise SimulationRefused(_RULE_CODES.get(type(error), -32603), f"err: {error}") from error
    except Invalid as error:
        raise SimulationRefused(-32603, f"err: {error}") from error
    receipts = _encode_receipts(transactions, outcomes)
    gas_used = sum(outcome.gas_used for outcome in outcomes)
    if gas_used > header.gas_limit:
        raise SimulationRefused(-38015, f"block gas limit reached: {gas_used} >= {header.gas_limit}")
    sealed = replace(
        header,
        state_root=state_root,
        gas_used=gas_used,
        logs_bloom=_bloom(log for outcome in outcomes for log in outcome.logs),
        transactions_root=compute_list_root([transaction.raw for transaction in transactions]),
        receipts_root=compute_list_root(receipts),
    )
    full = FullBlock(sealed.hash, sealed, Body(tuple(transaction.raw for transaction in transactions), (), b""))
    hashes = [transaction.hash for transaction in transactions]
    # The shapes read fields that an unsigned transaction has as well.
    shown = cast("list[Transaction]", transactions) if simulation.full_transactions else None
    result = shapes.block_json(full, hashes, shown) | {"calls": _calls_json(full, hashes, outcomes)}
    return result, State(sealed, _over(parent, writes, sealed)), gas_used


def _open_header(wanted: SimulatedBlock, parent: Header, *, validates: bool) -> Header:
    changes = wanted.block
    base_fee = changes.base_fee
    if base_fee is None:
        base_fee = compute_base_fee(parent) if validates else 0
    return Header(
        parent_hash=parent.hash,
        ommers_hash=EMPTY_OMMERS_HASH,
        coinbase=parent.coinbase if changes.coinbase is None else changes.coinbase,
        state_root=ZERO_HASH,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        difficulty=parent.difficulty,
        number=changes.number or 0,
        gas_limit=parent.gas_limit if changes.gas_limit is None else changes.gas_limit,
        gas_used=0,
        timestamp=changes.timestamp or 0,
        extra_data=ZERO_HASH,
        mix_hash=changes.prev_randao or ZERO_HASH,
        nonce=bytes(8),
        base_fee_per_gas=base_fee,
        withdrawals_root=EMPTY_TRIE_ROOT,
        blob_gas_used=0,
        excess_blob_gas=0,
        parent_beacon_block_root=ZERO_HASH,
        requests_hash=_NO_REQUESTS,
    )


def _transactions(
    calls: Sequence[CallRequest],
    state: State,
    overrides: Mapping[bytes, engine.AccountOverride],
    header: Header,
    bounds: tuple[int, int],
) -> list[_Unsigned]:
    chain_id, gas_left = bounds
    nonces: dict[bytes, int] = {}
    transactions: list[_Unsigned] = []
    for call in calls:
        if call.authorizations:
            raise InvalidParams("authorizationList is not supported by eth_simulateV1")
        if call.sender not in nonces:
            changed = overrides.get(call.sender)
            known = changed.nonce if changed is not None else None
            nonces[call.sender] = load_account(state, call.sender).nonce if known is None else known
        nonce = nonces[call.sender] if call.nonce is None else call.nonce
        gas = min(gas_left, header.gas_limit) if call.gas is None else call.gas
        transactions.append(_unsigned(call, nonce, gas, chain_id))
        nonces[call.sender] = nonce + 1
    return transactions


def _unsigned(call: CallRequest, nonce: int, gas: int, chain_id: int) -> _Unsigned:
    tail: list[object] = [_integer(gas), call.to or b"", _integer(call.value), call.data]
    access_list = [[address, list(slots)] for address, slots in call.access_list]
    signature = [b"", b"", b""]
    cap, tip = call.max_fee_per_gas or 0, call.max_priority_fee_per_gas or 0
    if call.gas_price is None:
        head = [_integer(number) for number in (chain_id, nonce, tip, cap)]
        kind, raw = 2, b"\2" + rlp.encode([*head, *tail, access_list, *signature])
    elif access_list:
        head = [_integer(number) for number in (chain_id, nonce, call.gas_price)]
        kind, raw = 1, b"\1" + rlp.encode([*head, *tail, access_list, *signature])
    else:
        head = [_integer(number) for number in (nonce, call.gas_price)]
        kind, raw = 0, rlp.encode([*head, *tail, *signature])
    if call.gas_price is not None:
        cap = tip = call.gas_price
    return _Unsigned(
        raw=raw,
        type=kind,
        sender=call.sender,
        nonce=nonce,
        to=call.to,
        value=call.value,
        data=call.data,
        gas_limit=gas,
        max_fee_per_gas=cap,
        max_priority_fee_per_gas=tip,
        access_list=call.access_list,
        chain_id=chain_id if kind else None,
    )


def _message(transaction: _Unsigned, call: CallRequest) -> CallMessage:
    return CallMessage(
        sender=transaction.sender,
        to=transaction.to,
        data=transaction.data,
        value=transaction.value,
        gas=transaction.gas_limit,
        gas_price=transaction.max_fee_per_gas,
        max_priority_fee=transaction.max_priority_fee_per_gas if transaction.type == 2 else None,
        access_list=transaction.access_list,
        nonce=call.nonce,
    )


def _encode_receipts(transactions: Sequence[_Unsigned], outcomes: Sequence[CallResult]) -> list[bytes]:
    receipts: list[bytes] = []
    cumulative = 0
    for transaction, outcome in zip(transactions, outcomes, strict=True):
        cumulative += outcome.gas_used
        logs = [[log.address, list(log.topics), log.data] for log in outcome.logs]
        encoded = rlp.encode([_integer(int(outcome.success)), _integer(cumulative), _bloom(outcome.logs), logs])
        receipts.append(bytes([transaction.type]) + encoded if transaction.type else encoded)
    return receipts


def _calls_json(block: FullBlock, hashes: Sequence[bytes], outcomes: Sequence[CallResult]) -> list[Json]:
    calls: list[Json] = []
    first_log = 0
    for index, outcome in enumerate(outcomes):
        logs = [
            shapes.log_json(Log(log.address, log.topics, log.data), block, (hashes[index], index, first_log + offset))
            for offset, log in enumerate(outcome.logs)
        ]
        first_log += len(logs)
        call: Json = {
            "returnData": shapes.data(outcome.output),
            "logs": logs,
            "gasUsed": shapes.quantity(outcome.gas_used),
            "maxUsedGas": shapes.quantity(outcome.gas_used + outcome.gas_refunded),
            "status": shapes.quantity(int(outcome.success)),
        }
        if not outcome.success:
            reverted = outcome.error is None or outcome.error.startswith("execution reverted")
            call["error"] = (
                Reverted(outcome.output).as_json() if reverted else {"code": -32015, "message": outcome.error}
            )
        calls.append(call)
    return calls


def _over(parent: State, writes: engine.Writes, header: Header) -> engine.ReadMany:
    written = dict(writes) | {b"h" + header.number.to_bytes(8, "big"): header.hash}

    def read_many(keys: Sequence[bytes]) -> list[bytes | None]:
        missing = [key for key in keys if key not in written]
        found = dict(zip(missing, parent.read_many(missing), strict=True)) if missing else {}
        return [written[key] if key in written else found[key] for key in keys]

    return read_many


def _bloom(logs: Iterable[engine.Log]) -> bytes:
    bits = 0
    for log in logs:
        for value in (log.address, *log.topics):
            bits |= bloom_bits(value)
    return bits.to_bytes(256, "big")


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
