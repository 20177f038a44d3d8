"""One call of eth_simulateV1: the unsigned transaction that it stands for, and running that on a state."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import rlp

from chain import engine
from chain.engine import AccountOverride, BlockEnvironment, CallMessage, CallResult, Precompile
from chain.hashing import keccak256
from hyperdust.node.contracts import State
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.blob_fees import prepare_blob_fees
from hyperdust.node.rpc.blocks import Log
from hyperdust.node.rpc.delegation import delegate
from hyperdust.node.rpc.errors import Reverted
from hyperdust.node.rpc.eth_call import credit_sender
from hyperdust.node.rpc.eth_state import load_account
from hyperdust.node.rpc.parameters import Authorization, CallRequest
from hyperdust.node.rpc.shapes import Json

MAX_NONCE: Final = (1 << 64) - 1  # EIP-2681
_TRANSFER_ADDRESS: Final = b"\xee" * 20  # where geth lets transfers of ether log from
_TRANSFER_TOPIC: Final = keccak256(b"Transfer(address,address,uint256)")
_CALL_TRACER: Final = json.dumps({"tracer": "callTracer", "tracerConfig": {"withLog": True}})
_LEGACY, _DYNAMIC, _BLOB, _SET_CODE = 0, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Unsigned:
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
    blob_hashes: tuple[bytes, ...]
    max_fee_per_blob_gas: int
    authorization_list: tuple[tuple[int, bytes, int, int, int, int], ...]
    y_parity: int = 0
    v: int = 0
    r: int = 0
    s: int = 0

    @property
    def hash(self) -> bytes:
        """Of the encoding with an empty signature."""
        return keccak256(self.raw)


def make_transaction(call: CallRequest, nonce: int, gas: int, chain_id: int) -> Unsigned:
    """The transaction that a call stands for; its type as geth picks it: legacy where it names a gas price."""
    cap, tip = call.max_fee_per_gas or 0, call.max_priority_fee_per_gas or 0
    middle: list[object] = [_integer(gas), call.to or b"", _integer(call.value), call.data]
    dynamic = [_integer(number) for number in (chain_id, nonce, tip, cap)]
    access_list = [[address, list(slots)] for address, slots in call.access_list]
    signature = [b"", b"", b""]
    if call.gas_price is not None:
        cap = tip = call.gas_price
        kind, items = _LEGACY, [_integer(nonce), _integer(call.gas_price), *middle, *signature]
    elif call.authorizations:
        signed = [_authorization_items(one) for one in call.authorizations]
        kind, items = _SET_CODE, [*dynamic, *middle, access_list, signed, *signature]
    elif call.blob_hashes:
        blobs = [_integer(call.max_fee_per_blob_gas or 0), list(call.blob_hashes)]
        kind, items = _BLOB, [*dynamic, *middle, access_list, *blobs, *signature]
    else:
        kind, items = _DYNAMIC, [*dynamic, *middle, access_list, *signature]
    encoded = bytes(rlp.encode(items))
    return Unsigned(
        raw=bytes([kind]) + encoded if kind else encoded,
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
        blob_hashes=call.blob_hashes if kind == _BLOB else (),
        max_fee_per_blob_gas=call.max_fee_per_blob_gas or 0,
        authorization_list=tuple(
            (one.chain_id, one.address, one.nonce, one.y_parity, one.r, one.s) for one in call.authorizations
        ),
    )


def _authorization_items(one: Authorization) -> list[object]:
    numbers = [_integer(number) for number in (one.nonce, one.y_parity, one.r, one.s)]
    return [_integer(one.chain_id), one.address, *numbers]


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


@dataclass(frozen=True, slots=True)
class World:
    """What a block's calls have in common."""

    environment: BlockEnvironment
    blob_base_fee: int | None
    precompiles: Sequence[Precompile]
    validates: bool
    traces_transfers: bool


@dataclass(frozen=True, slots=True)
class Ran:
    """What a call did: its result, what it wrote, its logs as they are shown."""

    result: CallResult
    writes: engine.Writes
    state_root: bytes
    logs: tuple[Log, ...]


def run_call(world: World, transaction: Unsigned, call: CallRequest, state: State) -> Ran:
    """Run a transaction on a state.

    Raises:
        TransactionInvalid: it breaks a rule that binds.
    """
    cap = transaction.max_fee_per_blob_gas
    blobs = len(transaction.blob_hashes)
    fees = prepare_blob_fees(world.environment, world.blob_base_fee, blobs, cap, validates=world.validates)
    overrides: dict[bytes, AccountOverride] = {}
    delegated = delegate(overrides, call.authorizations, state, call.sender, world.environment.chain_id)
    if fees.credit:
        credit_sender(overrides, state, call.sender, fees.credit)
    wraps = not world.validates and load_account(state, call.sender).nonce == MAX_NONCE
    if wraps:
        known = overrides.get(call.sender, AccountOverride())
        overrides[call.sender] = replace(known, nonce=MAX_NONCE - 1)
    message = CallMessage(
        sender=transaction.sender,
        to=transaction.to,
        data=transaction.data,
        value=transaction.value,
        gas=max(transaction.gas_limit - delegated.gas, 0),
        gas_price=transaction.max_fee_per_gas,
        max_priority_fee=None if transaction.type == _LEGACY else transaction.max_priority_fee_per_gas,
        access_list=transaction.access_list,
        blob_hashes=transaction.blob_hashes,
        max_fee_per_blob_gas=fees.cap,
        nonce=MAX_NONCE - 1 if wraps else transaction.nonce,
    )
    (result,), writes, state_root = engine.simulate(
        fees.environment,
        [message],
        state.read_many,
        overrides=overrides,
        precompiles=world.precompiles,
        validates=world.validates,
    )
    settled = delegated.settle(result)
    owed = (settled.gas_used - result.gas_used) * transaction.max_fee_per_gas
    if wraps or owed:
        written = State(state.header, _over(state.read_many, dict(writes)))
        changes = _corrections(world.environment, transaction, written, settled.gas_used - result.gas_used)
        if wraps:  # geth lets it start anew where nothing is validated
            changes[call.sender] = replace(changes.get(call.sender, AccountOverride()), nonce=0)
        _, more, state_root = engine.simulate(world.environment, (), written.read_many, overrides=changes)
        writes = (*writes, *more)
    logs = tuple(Log(log.address, log.topics, log.data) for log in result.logs)
    if world.traces_transfers:
        traced = engine.call(
            fees.environment,
            message,
            state.read_many,
            overrides=overrides,
            precompiles=world.precompiles,
            trace=_CALL_TRACER,
        )
        logs = tuple(_logs_with_transfers(json.loads(traced.trace or "{}")))
    return Ran(settled, writes, state_root, logs)


def _corrections(
    environment: BlockEnvironment, transaction: Unsigned, written: State, gas: int
) -> dict[bytes, AccountOverride]:
    """Who pays for gas that the engine did not count, and who gets the tip."""
    tip = min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - environment.base_fee)
    price = environment.base_fee + tip
    if not gas or not transaction.max_fee_per_gas:
        return {}
    changes = {transaction.sender: -gas * price}
    changes[environment.coinbase] = changes.get(environment.coinbase, 0) + gas * tip
    balances = {address: load_account(written, address).balance + change for address, change in changes.items()}
    return {address: AccountOverride(balance=max(balance, 0)) for address, balance in balances.items()}


def _over(below: engine.ReadMany, written: Mapping[bytes, bytes | None]) -> engine.ReadMany:
    """Reads what was written, and below it what was there."""

    def read_many(keys: Sequence[bytes]) -> list[bytes | None]:
        missing = [key for key in keys if key not in written]
        found = dict(zip(missing, below(missing), strict=True)) if missing else {}
        return [written[key] if key in written else found[key] for key in keys]

    return read_many


def call_json(outcome: CallResult, logs: Sequence[Json]) -> Json:
    """A call's result as eth_simulateV1 shows it; `logs`: in their JSON form."""
    call: Json = {
        "returnData": shapes.data(outcome.output if outcome.success else b""),
        "logs": logs,
        "gasUsed": shapes.quantity(outcome.gas_used),
        "maxUsedGas": shapes.quantity(outcome.gas_used + outcome.gas_refunded),
        "status": shapes.quantity(int(outcome.success)),
    }
    if not outcome.success:
        reverted = outcome.error is None or outcome.error.startswith("execution reverted")
        call["error"] = Reverted(outcome.output).as_json() if reverted else {"code": -32015, "message": outcome.error}
    return call


def _logs_with_transfers(frame: Mapping[str, Any]) -> list[Log]:
    """A frame's logs and those of the calls in it, in order; each that moves ether begins with a log of that."""
    if frame.get("error") is not None:
        return []
    found: list[Log] = []
    value = int(frame.get("value") or "0x0", 16)
    if value and frame.get("type") != "DELEGATECALL":
        parties = [bytes.fromhex(frame[name][2:]) for name in ("from", "to")]
        topics = (_TRANSFER_TOPIC, *(party.rjust(32, b"\0") for party in parties))
        found.append(Log(_TRANSFER_ADDRESS, topics, value.to_bytes(32, "big")))
    calls = frame.get("calls") or []
    logs = [(int(log.get("position") or "0x0", 16), log) for log in frame.get("logs") or []]
    for index in range(len(calls) + 1):
        found += [_log(log) for position, log in logs if position == index]
        if index < len(calls):
            found += _logs_with_transfers(calls[index])
    return found


def _log(log: Mapping[str, Any]) -> Log:
    topics = tuple(bytes.fromhex(topic[2:]) for topic in log["topics"])
    return Log(bytes.fromhex(log["address"][2:]), topics, bytes.fromhex(log["data"][2:]))
