"""Who spoiled the key path, as one leader remembers it: payments wait for nobody again and again."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

_STRIKES: Final = 2
"""So often in a row a signer may be the reason that a round was signed by scripts after all."""
_BLOCKS: Final = 36
"""Bitcoin blocks for which rounds do without it then: six hours, about six rounds, a third dearer each."""


@dataclass(slots=True)
class Spoilers:
    """Strikes by key; in memory alone. One thread."""

    _strikes: dict[bytes, int] = field(default_factory=dict)
    _until: dict[bytes, int] = field(default_factory=dict)

    def strike(self, keys: Collection[bytes], height: int) -> None:
        """Note who was the reason, at a Bitcoin height."""
        for key in keys:
            self._strikes[key] = self._strikes.get(key, 0) + 1
            if self._strikes[key] >= _STRIKES:
                self._until[key] = height + _BLOCKS

    def pardon(self, keys: Collection[bytes]) -> None:
        """Note who signed together with all others."""
        for key in keys:
            self._strikes.pop(key, None)
            self._until.pop(key, None)

    def blocked(self, height: int) -> frozenset[bytes]:
        """Whom no round shall depend on at a Bitcoin height. After that one more strike is enough."""
        return frozenset(key for key, until in self._until.items() if height < until)
