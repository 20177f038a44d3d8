"""Installed filters: bounded in number, dropped when nobody asks for five minutes."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hyperdust.node.rpc.errors import LimitExceeded, ServerError
from hyperdust.node.rpc.feeds import Cursor
from hyperdust.node.rpc.parameters import LogFilter
from hyperdust.node.store import ChainSnapshot

EXPIRY_S: Final = 300.0  # geth's
MAX_FILTERS: Final = 1_024


@dataclass(slots=True)
class _Installed:
    cursor: Cursor
    wanted: LogFilter | None
    asked_at: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Filters:
    """Filters by id. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._installed: dict[str, _Installed] = {}

    def install(self, cursor: Cursor, wanted: LogFilter | None = None) -> str:
        """Keep a cursor; returns its id.

        Raises:
            LimitExceeded: too many filters, all of them in use.
        """
        with self._lock:
            self._drop_expired()
            if len(self._installed) >= MAX_FILTERS:
                raise LimitExceeded(f"too many filters, at most {MAX_FILTERS}")
            identifier = "0x" + secrets.token_hex(16)
            self._installed[identifier] = _Installed(cursor, wanted, self._clock())
        return identifier

    def uninstall(self, identifier: str) -> bool:
        """Forget a filter; False where there was none."""
        with self._lock:
            return self._installed.pop(identifier, None) is not None

    def changes(self, identifier: str, snapshot: ChainSnapshot) -> list[object]:
        """What is new for a filter.

        Raises:
            ServerError: filter not found.
        """
        installed = self._find(identifier)
        with installed.lock:
            return installed.cursor.advance(snapshot)

    def log_filter(self, identifier: str) -> LogFilter:
        """What a log filter asks for.

        Raises:
            ServerError: filter not found, or not for logs.
        """
        wanted = self._find(identifier).wanted
        if wanted is None:
            raise ServerError("filter not found")
        return wanted

    def _find(self, identifier: str) -> _Installed:
        with self._lock:
            self._drop_expired()
            installed = self._installed.get(identifier)
            if installed is None:
                raise ServerError("filter not found")
            installed.asked_at = self._clock()
            return installed

    def _drop_expired(self) -> None:
        oldest = self._clock() - EXPIRY_S
        for identifier in [key for key, installed in self._installed.items() if installed.asked_at < oldest]:
            del self._installed[identifier]
