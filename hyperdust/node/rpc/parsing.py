"""JSON values to typed parameters, strictly as geth reads them: one parser per type, named in `PARSERS`.

Longer than other modules because it is a flat list of small functions.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from chain.blocks import Withdrawal
from hyperdust.node.rpc.errors import InvalidParams
from hyperdust.node.rpc.parameters import (
    LATEST,
    TAGS,
    AccountOverride,
    Address,
    Authorization,
    BlockOverrides,
    BlockReference,
    CallRequest,
    Count,
    Data,
    Hash,
    LogFilter,
    PayloadAttributes,
    Percentiles,
    ProofKey,
    Quantity,
    RawTransactions,
    SimulatedBlock,
    Simulation,
    Slot,
    StateOverrides,
    StorageRequest,
    TracerOptions,
)

T = TypeVar("T")
MAX_TOPICS: Final = 4
MAX_FILTER_CHOICES: Final = 1_000  # addresses, or topics at one position; geth's limit
_FEE_BITS: Final = 128  # what the engine holds; no account has so much
_HEIGHT_BITS: Final = 63  # of heights and times, so that following blocks still fit 64
_HEX: Final = re.compile(r"[0-9a-fA-F]*")


def parse_quantity(value: object, bits: int = 256) -> int:
    """A hex quantity without leading zeros.

    Raises:
        InvalidParams
    """
    digits = _hex_digits(value)
    if not digits:
        raise InvalidParams('hex string "0x"')
    if len(digits) > 1 and digits[0] == "0":
        raise InvalidParams("hex number with leading zero digits")
    number = int(digits, 16)
    if number >> bits:
        raise InvalidParams(f"hex number > {bits} bits")
    return number


def parse_data(value: object, size: int | None = None) -> bytes:
    """0x-hex bytes, of one length where `size` is given.

    Raises:
        InvalidParams
    """
    digits = _hex_digits(value)
    if len(digits) % 2:
        raise InvalidParams("hex string of odd length")
    if size is not None and len(digits) != 2 * size:
        raise InvalidParams(f"hex string has length {len(digits)}, want {2 * size}")
    return bytes.fromhex(digits)


def parse_address(value: object) -> Address:
    """20 bytes."""
    return Address(parse_data(value, 20))


def parse_hash(value: object) -> Hash:
    """32 bytes."""
    return Hash(parse_data(value, 32))


def parse_slot(value: object) -> Slot:
    """A storage key: hex with or without prefix, at most 32 bytes, leading zeros or not."""
    text = _string(value)
    digits = text[2:] if text[:2] in {"0x", "0X"} else text
    if not _HEX.fullmatch(digits):
        raise InvalidParams(f'invalid hex in storage key: "{text}"')
    if len(digits) > 64:
        raise InvalidParams(f'storage key too long (want at most 32 bytes): "{text}"')
    return Slot(bytes.fromhex(digits.rjust(64, "0")))


def parse_block(value: object) -> BlockReference:
    """A number, a tag, or {blockHash | blockNumber, requireCanonical}; null means latest."""
    if value is None:
        return LATEST
    if isinstance(value, Mapping):
        return _parse_block_object(value)
    text = _string(value)
    if text in TAGS:
        return BlockReference(tag=text)
    if len(text) == 66:
        return BlockReference(hash=parse_hash(text))
    return BlockReference(number=parse_quantity(text, bits=63))


def parse_block_number(value: object) -> BlockReference:
    """A number or a tag, never a hash."""
    if value is not None and _string(value) not in TAGS:
        return BlockReference(number=parse_quantity(value, bits=63))
    return parse_block(value)


def _parse_block_object(value: Mapping[str, object]) -> BlockReference:
    if ("blockHash" in value) == ("blockNumber" in value):
        raise InvalidParams("cannot specify both BlockHash and BlockNumber, choose one or the other")
    if "blockNumber" in value:
        return parse_block_number(value["blockNumber"])
    return BlockReference(
        hash=parse_hash(value["blockHash"]), require_canonical=parse_flag(value.get("requireCanonical", False))
    )


def parse_flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidParams(f"cannot unmarshal {_kind(value)} into a boolean")
    return value


def parse_count(value: object) -> Count:
    """A number as hex, as a decimal string or as a JSON integer."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return Count(value)
    text = _string(value)
    if text.isascii() and text.isdigit():
        return Count(int(text))
    return Count(parse_quantity(text, bits=64))


def parse_percentiles(value: object) -> Percentiles:
    """A list of numbers."""
    if value is None:
        return Percentiles(())
    items = _list(value, 100)
    if any(isinstance(item, bool) or not isinstance(item, int | float) for item in items):
        raise InvalidParams("invalid reward percentile: not a number")
    return Percentiles(tuple(float(item) for item in items))


def parse_call(value: object) -> CallRequest:
    """A call object; `input` goes before `data`, which means the same."""
    item = _object(value)
    data, alias = _optional(item, "input", parse_data), _optional(item, "data", parse_data)
    price = _optional(item, "gasPrice", _parse_fee)
    fee_cap = _optional(item, "maxFeePerGas", _parse_fee)
    tip_cap = _optional(item, "maxPriorityFeePerGas", _parse_fee)
    if price is not None and (fee_cap is not None or tip_cap is not None):
        raise InvalidParams("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
    if fee_cap is not None and tip_cap is not None and fee_cap < tip_cap:
        raise InvalidParams(f"maxFeePerGas ({fee_cap:#x}) < maxPriorityFeePerGas ({tip_cap:#x})")
    if item.get("blobs"):
        raise InvalidParams("blobs are not supported: give blobVersionedHashes")
    return CallRequest(
        sender=_optional(item, "from", parse_address) or bytes(20),
        to=_optional(item, "to", parse_address),
        gas=_optional(item, "gas", _parse_u64),
        gas_price=price,
        max_fee_per_gas=fee_cap,
        max_priority_fee_per_gas=tip_cap,
        value=_optional(item, "value", parse_quantity) or 0,
        nonce=_optional(item, "nonce", _parse_u64),
        data=data if data is not None else alias or b"",
        chain_id=_optional(item, "chainId", parse_quantity),
        access_list=_parse_access_list(item.get("accessList")),
        blob_hashes=tuple(parse_hash(one) for one in _list(item.get("blobVersionedHashes") or [])),
        max_fee_per_blob_gas=_optional(item, "maxFeePerBlobGas", _parse_fee),
        authorizations=tuple(
            _parse_authorization(_object(entry)) for entry in _list(item.get("authorizationList") or [])
        ),
    )


def _parse_authorization(item: Mapping[str, object]) -> Authorization:
    parity = item["yParity"] if "yParity" in item else item.get("v")
    return Authorization(
        chain_id=parse_quantity(item.get("chainId")),
        address=parse_address(item.get("address")),
        nonce=_parse_u64(item.get("nonce")),
        y_parity=parse_quantity(parity),
        r=parse_quantity(item.get("r")),
        s=parse_quantity(item.get("s")),
    )


def _parse_access_list(value: object) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    if value is None:
        return ()
    entries = [_object(entry) for entry in _list(value, 10_000)]
    return tuple(
        (
            parse_address(entry.get("address")),
            tuple(parse_hash(key) for key in _list(entry.get("storageKeys") or [], 10_000)),
        )
        for entry in entries
    )


def parse_state_overrides(value: object) -> StateOverrides:
    """{address: {balance, nonce, code, state | stateDiff}}."""
    if value is None:
        return StateOverrides()
    accounts = []
    for key, entry in _object(value).items():
        item = _object(entry)
        if item.get("state") is not None and item.get("stateDiff") is not None:
            raise InvalidParams(f"account {key} has both 'state' and 'stateDiff'")
        override = AccountOverride(
            balance=_optional(item, "balance", parse_quantity),
            nonce=_optional(item, "nonce", _parse_u64),
            code=_optional(item, "code", parse_data),
            state=_optional(item, "state", _parse_slots),
            state_diff=_optional(item, "stateDiff", _parse_slots) or (),
            move_precompile_to=_optional(item, "movePrecompileToAddress", parse_address),
        )
        accounts.append((bytes(parse_address(key)), override))
    return StateOverrides(tuple(accounts))


def _parse_slots(value: object) -> tuple[tuple[int, int], ...]:
    return tuple(
        (int.from_bytes(parse_hash(key), "big"), int.from_bytes(parse_hash(word), "big"))
        for key, word in _object(value).items()
    )


def parse_block_overrides(value: object) -> BlockOverrides:
    """{number, time, feeRecipient, gasLimit, baseFeePerGas, prevRandao, ...}; null changes nothing."""
    if value is None:
        return BlockOverrides()
    item = _object(value)
    for name in ("beaconRoot", "withdrawals"):
        if item.get(name) is not None:
            raise InvalidParams(f'block override "{name}" is not supported for this RPC method')
    return _parse_simulated_overrides(item)


def _parse_simulated_overrides(value: object) -> BlockOverrides:
    if value is None:
        return BlockOverrides()
    item = _object(value)
    return BlockOverrides(
        number=_optional(item, "number", _parse_height),
        timestamp=_optional(item, "time", _parse_height),
        coinbase=_optional(item, "feeRecipient", parse_address) or _optional(item, "coinbase", parse_address),
        gas_limit=_optional(item, "gasLimit", _parse_u64),
        base_fee=_optional(item, "baseFeePerGas", _parse_u64),
        prev_randao=_optional(item, "prevRandao", parse_hash) or _optional(item, "random", parse_hash),
        difficulty=_optional(item, "difficulty", parse_quantity),
        blob_base_fee=_optional(item, "blobBaseFee", _parse_u64),
        beacon_root=_optional(item, "beaconRoot", parse_hash),
        withdrawals=_optional(item, "withdrawals", parse_withdrawals),
    )


def parse_withdrawals(value: object) -> tuple[Withdrawal, ...]:
    """[{index, validatorIndex, address, amount}]."""
    entries = [_object(entry) for entry in _list(value)]
    return tuple(
        Withdrawal(
            _parse_u64(entry.get("index")),
            _parse_u64(entry.get("validatorIndex")),
            parse_address(entry.get("address")),
            _parse_u64(entry.get("amount")),
        )
        for entry in entries
    )


def parse_simulation(value: object) -> Simulation:
    """{blockStateCalls: [{blockOverrides, stateOverrides, calls}], validation, traceTransfers, ...}."""
    item = _object(value)
    blocks = [_object(entry) for entry in _list(item.get("blockStateCalls"), 100_000)]
    return Simulation(
        blocks=tuple(
            SimulatedBlock(
                _parse_simulated_overrides(entry.get("blockOverrides")),
                parse_state_overrides(entry.get("stateOverrides")),
                tuple(parse_call(call) for call in _list(entry.get("calls") or [], 1_000)),
            )
            for entry in blocks
        ),
        validation=_optional(item, "validation", parse_flag) or False,
        trace_transfers=_optional(item, "traceTransfers", parse_flag) or False,
        full_transactions=_optional(item, "returnFullTransactions", parse_flag) or False,
    )


def parse_log_filter(value: object) -> LogFilter:
    """{blockHash | fromBlock, toBlock; address; topics}."""
    item = _object(value)
    block_hash = _optional(item, "blockHash", parse_hash)
    bounds = {name: _optional(item, name, parse_block_number) for name in ("fromBlock", "toBlock")}
    if block_hash is not None and any(bounds.values()):
        raise InvalidParams("cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other")
    topics = _list(item.get("topics") or [])
    if len(topics) > MAX_TOPICS:
        raise InvalidParams("exceed max topics")
    return LogFilter(
        block_hash=block_hash,
        from_block=bounds["fromBlock"],
        to_block=bounds["toBlock"],
        addresses=_choices(item.get("address"), parse_address),
        topics=tuple(_choices(topic, parse_hash) for topic in topics),
    )


def _choices(value: object, parse: Callable[[object], bytes]) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    entries = _list(value, MAX_FILTER_CHOICES) if isinstance(value, list) else [value]
    if None in entries:
        return frozenset()  # null among alternatives matches everything, as in geth
    return frozenset(parse(entry) for entry in entries)


def parse_storage_request(value: object) -> StorageRequest:
    """{address: [slot, ...]}, at most 1,024 slots."""
    item = _object(value)
    accounts = tuple(
        (parse_address(key), tuple(parse_slot(slot) for slot in _list(slots))) for key, slots in item.items()
    )
    if not any(slots for _, slots in accounts):
        raise InvalidParams("empty request")
    if sum(len(slots) for _, slots in accounts) > 1024:
        raise InvalidParams("too many slots (max 1024)")
    return StorageRequest(accounts)


def parse_proof_keys(value: object) -> tuple[ProofKey, ...]:
    """A list of storage keys."""
    return tuple(_parse_proof_key(item) for item in _list(value, 1024))


def _parse_proof_key(value: object) -> ProofKey:
    slot = parse_slot(value)
    number = int.from_bytes(slot, "big")
    return ProofKey(number, "0x" + slot.hex() if len(_string(value)) >= 66 else hex(number))


def parse_tracer(value: object) -> TracerOptions:
    """{tracer, tracerConfig, and the struct logger's switches}."""
    item = _object(value) if value is not None else {}
    tracer = item.get("tracer")
    nested = item.get("tracerConfig")
    options = {key: entry for key, entry in item.items() if key not in {"tracer", "tracerConfig", "timeout", "reexec"}}
    options.update(_object(nested) if nested is not None else {})
    return TracerOptions(_string(tracer) if tracer is not None else None, options)


def parse_payload_attributes(value: object) -> PayloadAttributes:
    """{timestamp, prevRandao, suggestedFeeRecipient, withdrawals, parentBeaconBlockRoot}."""
    item = _object(value)
    return PayloadAttributes(
        timestamp=_parse_height(item.get("timestamp")),
        prev_randao=parse_hash(item.get("prevRandao")),
        coinbase=parse_address(item.get("suggestedFeeRecipient")),
        withdrawals=_optional(item, "withdrawals", parse_withdrawals) or (),
        beacon_root=_optional(item, "parentBeaconBlockRoot", parse_hash) or bytes(32),
    )


def parse_raw_transactions(value: object) -> RawTransactions:
    """A list of EIP-2718 encodings."""
    return RawTransactions(tuple(parse_data(one) for one in _list(value, 10_000)))


def parse_text(value: object) -> str:
    """Any string."""
    return _string(value)


def parse_integer(value: object) -> int:
    """A JSON integer, a decimal string or a hex quantity: ids of jobs."""
    return int(parse_count(value))


def _parse_fee(value: object) -> int:
    return parse_quantity(value, bits=_FEE_BITS)


def _parse_height(value: object) -> int:
    return parse_quantity(value, bits=_HEIGHT_BITS)


def _parse_u64(value: object) -> int:
    return parse_quantity(value, bits=64)


def _optional(item: Mapping[str, object], name: str, parse: Callable[[object], T]) -> T | None:
    value = item.get(name)
    if value is None:
        return None
    try:
        return parse(value)
    except InvalidParams as error:
        raise InvalidParams(f"{name}: {error.message}") from error


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidParams(f"cannot unmarshal {_kind(value)} into a string")
    return value


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidParams(f"cannot unmarshal {_kind(value)} into an object")
    return value


def _list(value: object, limit: int = 1024) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidParams(f"cannot unmarshal {_kind(value)} into a list")
    if len(value) > limit:
        raise InvalidParams(f"list of {len(value)}, at most {limit}")
    return value


def _hex_digits(value: object) -> str:
    text = _string(value)
    if not text:
        raise InvalidParams("empty hex string")
    if text[:2] not in {"0x", "0X"}:
        raise InvalidParams("hex string without 0x prefix")
    if not _HEX.fullmatch(text, 2):
        raise InvalidParams("invalid hex string")
    return text[2:]


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


PARSERS: Final[Mapping[object, Callable[[object], object]]] = {
    Address: parse_address,
    Hash: parse_hash,
    Data: parse_data,
    Quantity: parse_quantity,
    Slot: parse_slot,
    Count: parse_count,
    Percentiles: parse_percentiles,
    BlockReference: parse_block,
    CallRequest: parse_call,
    StateOverrides: parse_state_overrides,
    BlockOverrides: parse_block_overrides,
    LogFilter: parse_log_filter,
    Simulation: parse_simulation,
    StorageRequest: parse_storage_request,
    TracerOptions: parse_tracer,
    PayloadAttributes: parse_payload_attributes,
    RawTransactions | None: parse_raw_transactions,
    tuple[ProofKey, ...]: parse_proof_keys,
    bool: parse_flag,
    str: parse_text,
    int: parse_integer,
    object: lambda value: value,
}
