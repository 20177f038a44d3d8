"""A peg state as bytes: one encoding, integers little-endian, lists after their u32 counts."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from bridge.deposits import Outpoint
from bridge.errors import TransactionMalformed
from bridge.peg_errors import StateMalformed
from bridge.peg_state import (
    Freeze,
    PegState,
    Reason,
    Sweep,
    SweepStatus,
    VaultCoin,
    VaultRecord,
    Withdrawal,
)
from bridge.scripts import ADDRESS_BYTES, Custody, SignerSet
from bridge.transactions import Reader

_VERSION: Final = 2
_T = TypeVar("_T")


def encode_state(state: PegState) -> bytes:
    """Canonical bytes."""
    return b"".join(
        (
            bytes([_VERSION]),
            _list(state.custodies, _custody),
            b"\x00" if state.base is None else b"\x01" + _coin(state.base),
            _list(state.records, _record),
            _list(state.undone, _outpoint),
            _number(state.supply_wei, 32),
            _number(state.genesis_sats, 8),
            _list(state.queue, _withdrawal),
            _number(state.next_number, 8),
            b"\x00" if state.frozen is None else _freeze(state.frozen),
        )
    )


def decode_state(raw: bytes) -> PegState:
    """Read exactly one.

    Raises:
        StateMalformed: none, or another encoding of the same state.
    """
    reader = Reader(raw)
    try:
        if (version := reader.number(1)) != _VERSION:
            raise StateMalformed("peg state", f"version {version}")
        state = PegState(
            _read_list(reader, _read_custody),
            _read_coin(reader) if _read_flag(reader) else None,
            _read_list(reader, _read_record),
            _read_list(reader, _read_outpoint),
            reader.number(32),
            reader.number(8),
            _read_list(reader, _read_withdrawal),
            reader.number(8),
            _read_freeze(reader),
        )
        reader.end()
    except (TransactionMalformed, ValueError) as error:
        raise StateMalformed("peg state", str(error)) from error
    if encode_state(state) != raw:
        raise StateMalformed("peg state", "is not in its one encoding")
    return state


def _number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def _bytes(value: bytes) -> bytes:
    return _number(len(value), 4) + value


def _list(items: Sequence[_T], encode: Callable[[_T], bytes]) -> bytes:
    return _number(len(items), 4) + b"".join(map(encode, items))


def _signers(signers: SignerSet) -> bytes:
    return _number(signers.threshold, 1) + _list(signers.keys, bytes) + _bytes(signers.group_key)


def _custody(custody: Custody) -> bytes:
    signers = _signers(custody.signers) + _signers(custody.council)
    named = _number(custody.starts_at, 4) + _number(custody.named_by, 3) + _bytes(custody.rescues)
    return _number(custody.epoch, 3) + signers + named


def _coin(coin: VaultCoin) -> bytes:
    numbers = _number(coin.sats, 8) + _number(coin.height, 4) + _number(coin.epoch, 3)
    return coin.txid + numbers + coin.anchor_id + _number(coin.anchor_height, 8)


def _outpoint(outpoint: Outpoint) -> bytes:
    return outpoint.txid + _number(outpoint.index, 4)


def _sweep(sweep: Sweep) -> bytes:
    flags = bytes([sweep.from_coinbase, sweep.status])
    amounts = _number(sweep.sats, 8) + _number(sweep.worth, 8)
    return _outpoint(sweep.outpoint) + amounts + flags + sweep.address + _bytes(sweep.script)


def _withdrawal(one: Withdrawal) -> bytes:
    numbers = (one.number, one.sats, one.max_fee, one.refused_at)
    return b"".join(_number(number, 8) for number in numbers) + _bytes(one.script)


def _record(record: VaultRecord) -> bytes:
    head = _coin(record.coin) + record.block_hash + _number(record.charge, 4)
    return head + _list(record.paid, _withdrawal) + _list(record.sweeps, _sweep)


def _freeze(freeze: Freeze) -> bytes:
    return bytes([freeze.reason]) + freeze.txid + freeze.block_hash + _number(freeze.height, 4)


def _read_flag(reader: Reader) -> bool:
    if (flag := reader.number(1)) > 1:
        raise StateMalformed("peg state", f"flag {flag}")
    return bool(flag)


def _read_bytes(reader: Reader) -> bytes:
    return reader.take(reader.number(4))


def _read_list(reader: Reader, read: Callable[[Reader], _T]) -> tuple[_T, ...]:
    return tuple(read(reader) for _ in range(reader.number(4)))


def _read_signers(reader: Reader) -> SignerSet:
    return SignerSet(reader.number(1), _read_list(reader, lambda source: source.take(32)), _read_bytes(reader))


def _read_custody(reader: Reader) -> Custody:
    epoch, signers, council = reader.number(3), _read_signers(reader), _read_signers(reader)
    return Custody(epoch, signers, council, reader.number(4), reader.number(3), _read_bytes(reader))


def _read_coin(reader: Reader) -> VaultCoin:
    txid, sats, height, epoch = reader.take(32), reader.number(8), reader.number(4), reader.number(3)
    return VaultCoin(txid, sats, height, epoch, reader.take(32), reader.number(8))


def _read_outpoint(reader: Reader) -> Outpoint:
    return Outpoint(reader.take(32), reader.number(4))


def _read_sweep(reader: Reader) -> Sweep:
    outpoint, sats, worth = _read_outpoint(reader), reader.number(8), reader.number(8)
    from_coinbase, status = _read_flag(reader), SweepStatus(reader.number(1))
    address = reader.take(ADDRESS_BYTES)
    return Sweep(outpoint, sats, _read_bytes(reader), from_coinbase, status, address, worth)


def _read_withdrawal(reader: Reader) -> Withdrawal:
    number, sats, max_fee, refused_at = (reader.number(8) for _ in range(4))
    return Withdrawal(number, _read_bytes(reader), sats, max_fee, refused_at)


def _read_record(reader: Reader) -> VaultRecord:
    coin, block_hash, charge = _read_coin(reader), reader.take(32), reader.number(4)
    return VaultRecord(coin, block_hash, charge, _read_list(reader, _read_withdrawal), _read_list(reader, _read_sweep))


def _read_freeze(reader: Reader) -> Freeze | None:
    if not (reason := reader.number(1)):
        return None
    return Freeze(Reason(reason), reader.take(32), reader.take(32), reader.number(4))
