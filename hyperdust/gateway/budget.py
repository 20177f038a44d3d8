"""How much may be spent: a rolling hour of reservations, each replaced by its real cost once that is known.

It lies on disk: a gateway that dies and is started again and again spends no more than one that lives.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

import structlog

from hyperdust.durable import PRIVATE, replace_durably
from hyperdust.gateway.errors import OverBudget
from hyperdust.wallet import show_btc

log = structlog.get_logger()

WINDOW_S: Final = 3600.0


class Budget:
    """Wei of the last hour; safe to share between threads."""

    def __init__(self, limit: int, now: Callable[[], float], path: Path) -> None:
        """`now` is the clock of this machine, which lives outlast; `path` is where the hour is kept."""
        self.limit = limit
        self._now = now
        self._path = path
        self._lock = Lock()
        self._spent: dict[int, tuple[float, int]] = {}
        """Number of a reservation -> (when, wei), oldest first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self._spent = {number: (float(when), int(wei)) for number, (when, wei) in enumerate(found)}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as error:
            log.warning("what was spent is unreadable, the hour begins anew", path=str(path), error=str(error))
        self._count = len(self._spent)

    def reserve(self, amounts: Sequence[int]) -> list[int]:
        """Count expenses before they are made, all or none: the reservations' numbers, once they are on disk.

        Raises:
            OverBudget: says for how long to wait.
            OSError: the disk does not take it.
        """
        with self._lock:
            now = self._forget()
            wei = sum(amounts)
            left = self.limit - sum(amount for _, amount in self._spent.values())
            if wei > left:
                raise OverBudget(
                    f"this costs up to {show_btc(wei)}, and {show_btc(max(left, 0))} of the hour's "
                    f"{show_btc(self.limit)} is left (--budget). Nothing was spent",
                    self._wait(wei, left, now),
                )
            numbers = [self._count + index for index in range(1, len(amounts) + 1)]
            self._count += len(amounts)
            self._spent |= {number: (now, amount) for number, amount in zip(numbers, amounts, strict=True)}
            self._save()
            return numbers

    def settle(self, reservation: int, wei: int) -> None:
        """What a reservation really cost; 0 gives it back."""
        with self._lock:
            if reservation in self._spent:
                self._spent[reservation] = (self._spent[reservation][0], wei)
                self._save()

    def spent(self) -> int:
        """Wei of the last hour, reservations included."""
        with self._lock:
            self._forget()
            return sum(amount for _, amount in self._spent.values())

    def _forget(self) -> float:
        now = self._now()
        # A clock that was set back must not stretch the hour.
        entries = ((number, min(when, now), wei) for number, (when, wei) in self._spent.items())
        self._spent = {number: (when, wei) for number, when, wei in entries if now - when < WINDOW_S}
        return now

    def _save(self) -> None:
        replace_durably(self._path, json.dumps(list(self._spent.values())), PRIVATE)

    def _wait(self, wei: int, left: int, now: float) -> int:
        """Seconds until so much has left the window; an hour where it never fits."""
        for when, amount in self._spent.values():
            left += amount
            if wei <= left:
                return math.ceil(WINDOW_S - (now - when)) or 1
        return int(WINDOW_S)
