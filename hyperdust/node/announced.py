"""Deposit addresses that somebody has asked for: what they stand for, so that signers and evidence can name it.

Node data, not consensus; bounded, the oldest go first. Records: `Kd` and a counter -> binding (63 bytes).
"""

import threading
from typing import Final

from bridge.deposits import encode_binding, read_binding
from bridge.errors import TransactionMalformed
from bridge.peg_errors import UnknownEpoch
from bridge.peg_state import PegState
from bridge.scripts import Binding
from bridge.taproot import is_key
from bridge.transactions import MAX_SATS, Reader
from chain.errors import OutOfRange
from hyperdust.node.store import Store, StoreFault

MAX_ANNOUNCED: Final = 20_000
_RECORD: Final = b"Kd"


class AnnouncementRefused(OutOfRange):
    """A deposit address that nobody could use."""


class AnnouncedDeposits:
    """Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        """Read what the database holds.

        Raises:
            StoreFault: it holds something else.
        """
        self._store = store
        self._lock = threading.Lock()
        self._bindings: dict[Binding, int] = {}
        self._count = 0
        for key, raw in store.load_records(_RECORD):
            self._count = int.from_bytes(key[len(_RECORD) :], "big") + 1
            try:
                self._bindings[read_binding(Reader(raw))] = self._count - 1
            except TransactionMalformed as error:
                raise StoreFault(f"an announced deposit is damaged ({error}); delete the data folder") from error

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """In the order of arrival."""
        with self._lock:
            return tuple(self._bindings)

    def add(self, binding: Binding, state: PegState) -> None:
        """Remember one; `state` is the head's peg.

        Raises:
            AnnouncementRefused, UnknownEpoch: nobody could use it.
        """
        if not is_key(binding.user_key):
            raise AnnouncementRefused("user key", binding.user_key, "32 bytes, x of a point of secp256k1")
        if not 0 <= binding.max_fee <= MAX_SATS:
            raise AnnouncementRefused("maximum fee", binding.max_fee, f"0 to {MAX_SATS} sats")
        if not 0 <= binding.epoch < len(state.custodies):
            raise UnknownEpoch("signer epoch", binding.epoch, f"0 to {len(state.custodies) - 1}")
        with self._lock:
            if binding in self._bindings:
                return
            records: dict[bytes, bytes | None] = {_key(self._count): encode_binding(binding)}
            self._bindings[binding] = self._count
            self._count += 1
            if len(self._bindings) > MAX_ANNOUNCED:
                records[_key(self._bindings.pop(next(iter(self._bindings))))] = None
            self._store.write_records(records)


def _key(number: int) -> bytes:
    return _RECORD + number.to_bytes(8, "big")
