"""How much may be spent: a rolling hour of reservations, each replaced by its real cost once that is known."""

import math
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from hyperdust.gateway.errors import OverBudget
from hyperdust.wallet import show_btc

WINDOW_S: Final = 3600.0


class Budget:
    """Wei of the last hour; safe to share between threads."""

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self.limit = limit
        self._now = now
        self._lock = Lock()
        self._spent: dict[int, tuple[float, int]] = {}
        """Number of a reservation -> (when, wei), oldest first."""
        self._count = 0

    def reserve(self, amounts: Sequence[int]) -> list[int]:
        """Count expenses before they are made, all or none: the reservations' numbers.

        Raises:
            OverBudget: says for how long to wait.
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
            return numbers

    def settle(self, reservation: int, wei: int) -> None:
        """What a reservation really cost; 0 gives it back."""
        with self._lock:
            if reservation in self._spent:
                self._spent[reservation] = (self._spent[reservation][0], wei)

    def spent(self) -> int:
        """Wei of the last hour, reservations included."""
        with self._lock:
            self._forget()
            return sum(amount for _, amount in self._spent.values())

    def _forget(self) -> float:
        now = self._now()
        self._spent = {number: entry for number, entry in self._spent.items() if now - entry[0] < WINDOW_S}
        return now

    def _wait(self, wei: int, left: int, now: float) -> int:
        """Seconds until so much has left the window; an hour where it never fits."""
        for when, amount in self._spent.values():
            left += amount
            if wei <= left:
                return math.ceil(WINDOW_S - (now - when)) or 1
        return int(WINDOW_S)
