"""eth_simulateV1: blocks that follow a known one in thought only, each with its overrides and unsigned calls.

Order and defaults are geth's (internal/ethapi/simulate.go): overrides, the system's opening calls, the calls one by
one, withdrawals and the system's closing calls.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, cast

import rlp
from eth_utils.address import to_checksum_address

from chain import engine
from chain.blocks import ZERO_HASH, Body, Header
from chain.engine import Executed, SystemCall, Transaction
from chain.errors import Invalid
from chain.state import block_hash_key
from chain.transactions import (
    FeeCapBelowBaseFee,
    InitcodeTooLarge,
    InsufficientFunds,
    IntrinsicGasTooLow,
    NonceOverflow,
    NonceTooHigh,
    NonceTooLow,
    SenderNotEOA,
    TipAboveFeeCap,
    TransactionInvalid,
)
from hyperdust.node.contracts import State
from hyperdust.node.foreign_blocks import CANCUN_FIELDS, LONDON_FIELDS, PRAGUE_FIELDS, SHANGHAI_FIELDS, field_count_of
from hyperdust.node.foreign_rules import is_at_least
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.blocks import FullBlock, Log
from hyperdust.node.rpc.delegation import DELEGATION
from hyperdust.node.rpc.errors import InvalidParams, RpcError
from hyperdust.node.rpc.eth_call import engine_overrides
from hyperdust.node.rpc.eth_state import load_account, load_code
from hyperdust.node.rpc.feeds import bloom_bits
from hyperdust.node.rpc.list_root import compute_list_root
from hyperdust.node.rpc.parameters import LATEST, BlockOverrides, BlockReference, SimulatedBlock, Simulation
from hyperdust.node.rpc.precompile_moves import move_precompiles
from hyperdust.node.rpc.shapes import Json
from hyperdust.node.rpc.simulated_calls import MAX_NONCE, Ran, Unsigned, World, call_json, make_transaction, run_call

_MAX_BLOCKS: Final = 256  # geth's
_BEACON_ROOTS: Final = bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02")  # EIP-4788
_HISTORY: Final = bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935")  # EIP-2935
_CLOSING: Final = (
    (bytes.fromhex("00000961ef480eb55e80d19ad83579a64c007002"), 1),  # EIP-7002
    (bytes.fromhex("0000bbddc7ce488642fb579f8b00f3a590007251"), 2),  # EIP-7251
)


class SimulationRefused(RpcError):
    """A simulation that cannot be; each rule has geth's code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self._code = code

    def as_json(self) -> dict[str, object]:
        """With the rule's own code."""
        return super().as_json() | {"code": self._code}


_RULE_CODES: Final[Mapping[type[Invalid], int]] = {
    NonceTooLow: -38010,
    NonceTooHigh: -38011,
    FeeCapBelowBaseFee: -38012,
    IntrinsicGasTooLow: -38013,
    InsufficientFunds: -38014,
    SenderNotEOA: -38024,
    InitcodeTooLarge: -38025,
    TipAboveFeeCap: -32602,
}
_BLOCK_GAS_CODE: Final = -38015
_OTHER_RULE_CODE: Final = -32603


def simulate(request: Request, simulation: Simulation, block: BlockReference = LATEST) -> list[Json]:
    """Results of calls in blocks that would follow a block."""
    if not simulation.blocks:
        raise InvalidParams("empty input")
    if len(simulation.blocks) > _MAX_BLOCKS:
        raise SimulationRefused(-38026, "too many blocks")
    base = request.state(block)
    world = _Written(base.read_many)
    parent, budget = base.header, request.backend.limits.call_gas
    results: list[Json] = []
    for wanted in _fill_gaps(request, simulation.blocks, parent):
        request.check_time()
        simulated = _Simulated(request, simulation, wanted, parent, world, budget)
        result, parent = simulated.run()
        budget = simulated.budget
        results.append(result)
    return results


class _Written:
    """What a simulation wrote so far, over the state that it began with."""

    def __init__(self, below: engine.ReadMany) -> None:
        self._values: dict[bytes, bytes | None] = {}
        self._below = below

    def write(self, writes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Add writes."""
        self._values.update(writes)

    def read_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `chain.engine.ReadMany`."""
        missing = [key for key in keys if key not in self._values]
        found = dict(zip(missing, self._below(missing), strict=True)) if missing else {}
        return [self._values[key] if key in self._values else found[key] for key in keys]


def _fill_gaps(request: Request, blocks: Sequence[SimulatedBlock], base: Header) -> list[SimulatedBlock]:
    """The blocks with number and time set, empty ones in between, in order.

    Raises:
        SimulationRefused: too many, or out of order.
    """
    spacing = request.backend.rules.spacing_s
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
            filled.append(SimulatedBlock(BlockOverrides(number=between, timestamp=timestamp)))
        following = timestamp + spacing if wanted.block.timestamp is None else wanted.block.timestamp
        if following <= timestamp:
            raise SimulationRefused(-38021, f"block timestamps must be in order: {following} <= {timestamp}")
        number, timestamp = target, following
        filled.append(replace(wanted, block=replace(wanted.block, number=number, timestamp=timestamp)))
    return filled


@dataclass(frozen=True, slots=True)
class _Done:
    """A transaction that ran."""

    transaction: Unsigned
    ran: Ran


class _Simulated:
    """One block in the making."""

    def __init__(
        self,
        request: Request,
        simulation: Simulation,
        wanted: SimulatedBlock,
        parent: Header,
        written: _Written,
        budget: int,
    ) -> None:
        self._request = request
        self._simulation = simulation
        self._wanted = wanted
        self._parent = parent
        self._rules = request.backend.rules
        self._header = self._open_header()
        self._written = written
        self._state = State(self._header, written.read_many)
        self.budget = budget
        """Gas that this and all later blocks may still use."""

    def run(self) -> tuple[Json, Header]:
        """The block as JSON, and its header.

        Raises:
            SimulationRefused: a call breaks a rule.
        """
        environment = self._rules.environment_of(self._header)
        difficulty = self._wanted.block.difficulty
        if difficulty is not None:
            environment = replace(environment, difficulty=difficulty)
        present = self._rules.precompiles_of(self._header)
        precompiles = move_precompiles(self._wanted.overrides, environment, present)
        overrides = engine_overrides(self._wanted.overrides)
        _, writes, _ = engine.simulate(environment, (), self._state.read_many, overrides=overrides)
        self._written.write(writes)
        self._system(environment, self._opening_calls(), (), ())
        world = World(
            environment,
            self._wanted.block.blob_base_fee,
            precompiles,
            self._simulation.validation,
            self._simulation.trace_transfers,
        )
        done = self._run_calls(world)
        withdrawals = self._wanted.block.withdrawals or ()
        credited = [(one.index, one.validator_index, one.address, one.amount) for one in withdrawals]
        credited += self._rules.reward_credits(self._header, ())
        closed = self._system(environment, (), self._closing_calls(), credited)
        sealed = self._seal(done, closed)
        self._written.write([(block_hash_key(sealed.number), sealed.hash)])
        return self._as_json(sealed, done), sealed

    def _open_header(self) -> Header:
        changes, parent = self._wanted.block, self._parent
        header = self._rules.header_after(parent, changes.number or 0, changes.timestamp or 0)
        count = field_count_of(header)
        base_fee = 0
        if count >= LONDON_FIELDS:
            default = self._rules.base_fee_after(parent) if self._simulation.validation else 0
            base_fee = default if changes.base_fee is None else changes.base_fee
        return replace(
            header,
            coinbase=parent.coinbase if changes.coinbase is None else changes.coinbase,
            difficulty=header.difficulty if changes.difficulty is None else changes.difficulty,
            gas_limit=parent.gas_limit if changes.gas_limit is None else changes.gas_limit,
            mix_hash=changes.prev_randao or ZERO_HASH,
            base_fee_per_gas=base_fee,
            parent_beacon_block_root=changes.beacon_root or header.parent_beacon_block_root
            if count >= CANCUN_FIELDS
            else ZERO_HASH,
        )

    def _has_code(self, address: bytes) -> bool:
        return bool(load_code(self._state, address))

    def _opening_calls(self) -> list[SystemCall]:
        count = field_count_of(self._header)
        calls = []
        if count >= CANCUN_FIELDS and self._has_code(_BEACON_ROOTS):
            calls.append(SystemCall(_BEACON_ROOTS, self._header.parent_beacon_block_root))
        if count >= PRAGUE_FIELDS and self._has_code(_HISTORY):
            calls.append(SystemCall(_HISTORY, self._header.parent_hash))
        return calls

    def _closing_calls(self) -> list[SystemCall]:
        if field_count_of(self._header) < PRAGUE_FIELDS:
            return []
        return [SystemCall(to, b"", kind) for to, kind in _CLOSING if self._has_code(to)]

    def _system(
        self,
        environment: engine.BlockEnvironment,
        before: Sequence[SystemCall],
        after: Sequence[SystemCall],
        credited: Sequence[tuple[int, int, bytes, int]],
    ) -> Executed:
        """What the system does around the calls."""
        executed = engine.execute(
            environment,
            (),
            self._state.read_many,
            before=before,
            after=after,
            withdrawals=credited,
            system_contracts=False,
        )
        self._written.write(executed.writes)
        return executed

    def _run_calls(self, world: World) -> list[_Done]:
        done: list[_Done] = []
        gas_used = 0
        for call in self._wanted.calls:
            self._request.check_time()
            if call.blob_hashes and not world.environment.allow_blobs:
                raise InvalidParams("this chain has no blob transactions")
            left = self._header.gas_limit - gas_used
            if call.gas is not None and call.gas > left:
                raise SimulationRefused(
                    _BLOCK_GAS_CODE, f"block gas limit reached: remaining: {left}, required: {call.gas}"
                )
            nonce = load_account(self._state, call.sender).nonce if call.nonce is None else call.nonce
            gas = min(left if call.gas is None else call.gas, self.budget)
            chain_id = world.environment.chain_id
            if call.chain_id is not None and call.chain_id != chain_id:
                raise SimulationRefused(
                    _OTHER_RULE_CODE, f"chainId does not match node's (have={call.chain_id}, want={chain_id})"
                )
            if call.gas_price is None and field_count_of(self._header) < LONDON_FIELDS:
                call = replace(call, gas_price=0)  # noqa: PLW2901 - there is no other kind of price yet
            transaction = make_transaction(call, nonce, gas, chain_id)
            try:
                if world.validates:
                    _check_sender(call.sender, nonce, self._state)
                ran = run_call(world, transaction, call, self._state)
            except TransactionInvalid as error:
                code = _RULE_CODES.get(type(error), _OTHER_RULE_CODE)
                sender = to_checksum_address(call.sender)
                raise SimulationRefused(code, f"err: {error}: address {sender} (supplied gas {gas})") from error
            self._written.write(ran.writes)
            gas_used += ran.result.gas_used
            self.budget = max(self.budget - ran.result.gas_used, 0)
            done.append(_Done(transaction, ran))
        return done

    def _seal(self, done: Sequence[_Done], closed: Executed) -> Header:
        count = field_count_of(self._header)
        blobs = sum(len(one.transaction.blob_hashes) for one in done)
        requests = b"".join(sha256(request).digest() for request in closed.requests)
        header = self._header
        fork = self._rules.environment_of(header).fork
        return replace(
            header,
            state_root=closed.state_root,
            gas_used=sum(one.ran.result.gas_used for one in done),
            blob_gas_used=blobs * shapes.GAS_PER_BLOB,
            logs_bloom=_bloom(log for one in done for log in one.ran.result.logs),
            transactions_root=compute_list_root([one.transaction.raw for one in done]),
            receipts_root=compute_list_root(_encode_receipts(done, has_status=is_at_least(fork, "Byzantium"))),
            withdrawals_root=closed.withdrawals_root or header.withdrawals_root,
            requests_hash=sha256(requests).digest() if count >= PRAGUE_FIELDS else header.requests_hash,
        )

    def _as_json(self, sealed: Header, done: Sequence[_Done]) -> Json:
        transactions = [one.transaction for one in done]
        withdrawals = self._wanted.block.withdrawals or () if field_count_of(sealed) >= SHANGHAI_FIELDS else ()
        body = Body(tuple(transaction.raw for transaction in transactions), withdrawals, b"")
        full = FullBlock(sealed.hash, sealed, body)
        hashes = [transaction.hash for transaction in transactions]
        # The shapes read fields that an unsigned transaction has as well.
        shown = cast("list[Transaction]", transactions) if self._simulation.full_transactions else None
        return shapes.block_json(full, hashes, shown) | {"calls": _calls_json(full, done)}


def _check_sender(sender: bytes, nonce: int, state: State) -> None:
    """What geth checks before fees, and the engine after them.

    Raises:
        TransactionInvalid
    """
    expected = load_account(state, sender).nonce
    if nonce < expected:
        raise NonceTooLow(nonce, expected)
    if nonce > expected:
        raise NonceTooHigh(nonce, expected)
    if nonce >= MAX_NONCE:
        raise NonceOverflow
    code = load_code(state, sender)
    if code and code[:3] != DELEGATION:
        raise SenderNotEOA


def _encode_receipts(done: Sequence[_Done], *, has_status: bool) -> list[bytes]:
    """Source: EIP-658; before it a receipt has the state root where its status is now."""
    receipts: list[bytes] = []
    cumulative = 0
    for one in done:
        outcome, kind = one.ran.result, one.transaction.type
        cumulative += outcome.gas_used
        logs = [[log.address, list(log.topics), log.data] for log in outcome.logs]
        first = _integer(int(outcome.success)) if has_status else one.ran.state_root
        encoded = bytes(rlp.encode([first, _integer(cumulative), _bloom(outcome.logs), logs]))
        receipts.append(bytes([kind]) + encoded if kind else encoded)
    return receipts


def _calls_json(block: FullBlock, done: Sequence[_Done]) -> list[Json]:
    calls: list[Json] = []
    first_log = 0
    for index, one in enumerate(done):
        outcome, transaction_hash = one.ran.result, one.transaction.hash
        logs = [
            shapes.log_json(
                Log(log.address, log.topics, log.data), block, (transaction_hash, index, first_log + offset)
            )
            for offset, log in enumerate(one.ran.logs)
        ]
        first_log += len(logs)
        calls.append(call_json(outcome, logs))
    return calls


def _bloom(logs: Iterable[engine.Log]) -> bytes:
    bits = 0
    for log in logs:
        for value in (log.address, *log.topics):
            bits |= bloom_bits(value)
    return bits.to_bytes(256, "big")


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
