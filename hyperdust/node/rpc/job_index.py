"""Where each job of the JobMarket changed state: an index in memory over the market's events, following the chain."""

import threading
from dataclasses import dataclass
from typing import Final

from chain.params import JOB_MARKET
from hyperdust.contracts_abi import event_topic
from hyperdust.node.rpc.blocks import BlockReader
from hyperdust.node.rpc.feeds import LogCursor
from hyperdust.node.rpc.parameters import LogFilter
from hyperdust.node.store import ChainSnapshot

# What an event of the market makes of a job.
_STATES: Final = {
    "Requested": "requested",
    "Submitted": "claimed",
    "Revealed": "revealed",
    "Settled": "final",
    "Refunded": "refunded",
}
STATE_BY_STATUS: Final = (None, "requested", "claimed", "revealed", "final", "refunded")  # JobMarket.status


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a job's state."""

    state: str
    block_number: int
    transaction_hash: bytes


class JobIndex:
    """Transitions by job. The first question reads the chain's blooms from genesis; later ones what is new."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursor: LogCursor | None = None
        self._transitions: dict[int, list[Transition]] = {}

    def transitions(self, job: int, snapshot: ChainSnapshot, blocks: BlockReader) -> list[Transition]:
        """A job's transitions, oldest first."""
        with self._lock:
            if self._cursor is None:
                wanted = LogFilter(addresses=frozenset({JOB_MARKET}), topics=(frozenset(_state_by_topic()),))
                self._cursor = LogCursor(snapshot.genesis_hash, wanted, blocks)
            states = _state_by_topic()
            for found, removed in self._cursor.advance_found(snapshot):
                number = int.from_bytes(found.log.topics[1], "big")
                listed = self._transitions.setdefault(number, [])
                transition = Transition(states[found.log.topics[0]], found.header.number, found.transaction_hash)
                if removed:
                    listed.remove(transition)
                else:
                    listed.append(transition)
            return list(self._transitions.get(job, ()))


def _state_by_topic() -> dict[bytes, str]:
    return {event_topic("JobMarket", event): state for event, state in _STATES.items()}
