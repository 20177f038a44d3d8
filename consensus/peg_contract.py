"""What `Bridge` tells the rules of the peg, and what they tell it: the ABI of a few functions, by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge.deposits import Outpoint
from bridge.peg_state import PegState
from chain.engine import SYSTEM_ADDRESS, BlockEnvironment, CallMessage, ReadMany, StateCache, SystemCall, call
from chain.errors import NodeFault
from chain.hashing import keccak256
from chain.params import BRIDGE

WITHDRAWALS_REQUEST: Final = 0xF0
"""Type of the request (EIP-7685) that lists a block's withdrawals to Bitcoin."""
QUEUED, GIVEN_UP, PAID, REFUNDED = 1, 2, 3, 4
"""Statuses of a withdrawal in the contract."""
_RECORDS_MAX: Final = 256
_VIEW_GAS: Final = 30_000_000
_PARTS: Final = {  # kind -> bytes before and after the payload, payload's bytes
    1: (b"\x76\xa9\x14", b"\x88\xac", 20),
    2: (b"\xa9\x14", b"\x87", 20),
    3: (b"\x00\x14", b"", 20),
    4: (b"\x00\x20", b"", 32),
    5: (b"\x51\x20", b"", 32),
}


def _selector(signature: str) -> bytes:
    return keccak256(signature.encode())[:4]


_PENDING: Final = _selector("pending()")
_WITHDRAWAL_OF: Final = _selector("withdrawal_of(uint256)")
_COUNT_FEES: Final = _selector("count_fees(uint256)")
_UPDATE: Final = _selector("update(bytes32,uint256,uint256,uint256,uint256,bytes32)")
_RECORD: Final = _selector("record(bytes32[],uint256[],uint256[])")
CLOSING_CALL: Final = SystemCall(to=BRIDGE, data=_selector("requests()"), request_type=WITHDRAWALS_REQUEST)
"""Ends every block of a network with a peg."""


@dataclass(frozen=True, slots=True)
class QueuedWithdrawal:
    """A withdrawal that the peg has not taken in yet."""

    number: int
    sats: int
    max_fee: int
    script: bytes


@dataclass(frozen=True, slots=True)
class Pending:
    """What has happened on L2 since the peg changed last."""

    peg_root: bytes
    """keccak256 of the peg's state."""
    burned_wei: int
    credit_count: int
    """Credits and refunds, ever."""
    queued: tuple[QueuedWithdrawal, ...]
    given_up: tuple[int, ...]
    """Numbers of withdrawals."""


def load_pending(environment: BlockEnvironment, read_many: ReadMany, cache: StateCache | None = None) -> Pending:
    """What `Bridge.pending` says in a block's state.

    Raises:
        NodeFault: it says nothing that can be read.
    """
    words = _words(_view(environment, _PENDING, read_many, cache))
    try:
        queue, numbers = _number(words[3]) // 32, _number(words[4]) // 32
        rows = words[queue + 1 : queue + 1 + 5 * _number(words[queue])]
        queued = tuple(_read_queued(rows[at : at + 5]) for at in range(0, len(rows), 5))
        given_up = tuple(map(_number, words[numbers + 1 : numbers + 1 + _number(words[numbers])]))
    except (IndexError, KeyError) as error:
        raise NodeFault(f"Bridge.pending gave {len(words)} words that cannot be read") from error
    return Pending(words[0], _number(words[1]), _number(words[2]), queued, given_up)


def load_account(
    environment: BlockEnvironment, number: int, read_many: ReadMany, cache: StateCache | None = None
) -> bytes:
    """Who burned a withdrawal: its refund goes there."""
    words = _words(_view(environment, _WITHDRAWAL_OF + _word(number), read_many, cache))
    return words[0][12:]


def count_fees_call(fees_wei: int) -> SystemCall:
    """Opens a block in which the peg stays as it is."""
    return SystemCall(to=BRIDGE, data=_COUNT_FEES + _word(fees_wei))


def update_call(peg_root: bytes, state: PegState, credit_count: int, evidence_root: bytes) -> SystemCall:
    """Opens a block in which the peg changes."""
    frozen = 0 if state.frozen is None else int(state.frozen.reason)
    numbers = (state.supply_wei, state.vault_sats, frozen, credit_count)
    return SystemCall(to=BRIDGE, data=_UPDATE + peg_root + b"".join(map(_word, numbers)) + evidence_root)


def record_calls(outpoints: Sequence[Outpoint], statuses: Sequence[tuple[int, int]]) -> tuple[SystemCall, ...]:
    """What became of deposits and of withdrawals (number, status), in as many calls as it takes."""
    keys = [hash_outpoint(outpoint) for outpoint in outpoints]
    calls = []
    for at in range(0, max(len(keys), len(statuses)), _RECORDS_MAX):
        some = statuses[at : at + _RECORDS_MAX]
        lists = (
            keys[at : at + _RECORDS_MAX],
            [_word(number) for number, _ in some],
            [_word(status) for _, status in some],
        )
        calls.append(SystemCall(to=BRIDGE, data=_RECORD + _encode_lists(lists)))
    return tuple(calls)


def hash_outpoint(outpoint: Outpoint) -> bytes:
    """By which `Bridge.credited_at` knows a deposit."""
    return keccak256(outpoint.txid + _word(outpoint.index))


def _encode_lists(lists: Sequence[Sequence[bytes]]) -> bytes:
    heads, tail = b"", b""
    for items in lists:
        heads += _word(32 * len(lists) + len(tail))
        tail += _word(len(items)) + b"".join(items)
    return heads + tail


def _read_queued(words: Sequence[bytes]) -> QueuedWithdrawal:
    number, sats, max_fee, kind = map(_number, words[:4])
    before, after, size = _PARTS[kind]
    return QueuedWithdrawal(number, sats, max_fee, before + words[4][:size] + after)


def _view(environment: BlockEnvironment, data: bytes, read_many: ReadMany, cache: StateCache | None) -> bytes:
    message = CallMessage(sender=SYSTEM_ADDRESS, to=BRIDGE, data=data, gas=_VIEW_GAS)
    result = call(environment, message, read_many, cache=cache)
    if not result.success:
        raise NodeFault(f"a view of Bridge failed: {result.error}")
    return result.output


def _words(output: bytes) -> list[bytes]:
    return [output[at : at + 32] for at in range(0, len(output), 32)]


def _number(word: bytes) -> int:
    return int.from_bytes(word, "big")


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")
