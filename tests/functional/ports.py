"""Free ports for processes that tests start; two test processes never choose the same, whenever they ask."""

import random
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Final

BLOCK: Final = 60
"""All ports of a devnet lie in P .. P+59 (interfaces.md)."""
_LOWEST: Final = 11_000
_END: Final = 32_000
"""Above it outgoing connections take theirs (Linux: 32768, others: 49152)."""
_TRIES: Final = 200
_LOOPBACK: Final = "127.0.0.1"

_claims: Final[list[socket.socket]] = []
"""UDP sockets on the first port of every block taken, open as long as this process lives: nobody here speaks UDP."""


def free_port_block() -> int:
    """The first of `BLOCK` neighbouring TCP ports that are free now and that no other test process was given."""
    for _ in range(_TRIES):
        first = random.randrange(_LOWEST, _END - BLOCK, BLOCK)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((_LOOPBACK, first))
            _probe(range(first, first + BLOCK))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return first
    raise AssertionError(f"no {BLOCK} neighbouring ports are free")


def _probe(ports: range) -> None:
    for port in ports:
        with closing(socket.socket()) as probe:
            probe.bind((_LOOPBACK, port))


def _one_by_one() -> Iterator[int]:
    while True:
        first = free_port_block()
        yield from range(first, first + BLOCK)


_single: Final = _one_by_one()


def free_ports(count: int) -> list[int]:
    """Single ports, from blocks of this process: none is given twice."""
    return [next(_single) for _ in range(count)]
