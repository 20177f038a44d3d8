"""What the logs of JobMarket and Court say about one job, oldest first: its state, its companion, its demands."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from chain.hashing import keccak256
from pouw.fraud import Facts


class Status(IntEnum):
    """JobMarket's states."""

    NONE = 0
    REQUESTED = 1
    CLAIMED = 2
    REVEALED = 3
    FINAL = 4
    REFUNDED = 5
    SLASHED = 6


STATUS_AFTER: Final = {
    "Requested": Status.REQUESTED,
    "Submitted": Status.CLAIMED,
    "Revealed": Status.REVEALED,
    "Settled": Status.FINAL,
    "Refunded": Status.REFUNDED,
    "Convicted": Status.SLASHED,
}
EVENTS: Final = {
    "JobMarket": (*STATUS_AFTER, "Declined", "Committed", "CompanionRevealed", "Held", "CompanionRefuted"),
    "Court": ("Demanded", "Answered", "Expired", "Verdict"),
}
"""Events that are kept; no name stands in both contracts."""


@dataclass(frozen=True, slots=True)
class Event:
    """One log about one job."""

    name: str
    block_hash: bytes
    number: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Demand:
    """A question that the court took."""

    id: int
    asker: bytes
    question: bytes
    deadline: int
    """Last block for its answer."""


@dataclass(slots=True)
class Job:
    """A job and what happened to it, oldest first; the first event is its request."""

    id: int
    events: list[Event] = field(default_factory=list)
    drawn: tuple[bytes, bytes] | None = None
    """(hash of the block whose beacon drew, provider): holds while that block is canonical."""
    drawn_companion: tuple[bytes, bytes] | None = None
    """Likewise; 20 zeros: none was drawn."""

    @property
    def request(self) -> dict[str, Any]:
        """Fields of `Requested`."""
        return self.events[0].values

    @property
    def status(self) -> Status:
        """State after the last event that changed it."""
        return next(STATUS_AFTER[event.name] for event in reversed(self.events) if event.name in STATUS_AFTER)

    def last(self, name: str) -> Event | None:
        """The newest event of a kind."""
        return next((event for event in reversed(self.events) if event.name == name), None)

    @property
    def provider(self) -> bytes | None:
        """Who submitted a result."""
        submitted = self.last("Submitted")
        return address_bytes(submitted.values["provider"]) if submitted else None

    @property
    def companion(self) -> bytes | None:
        """Who committed to a check."""
        committed = self.last("Committed")
        return address_bytes(committed.values["companion"]) if committed else None

    @property
    def held_until(self) -> int:
        """Last block in which a dispute keeps the job from being final; 0 without one."""
        return max((int(event.values["until"]) for event in self.events if event.name == "Held"), default=0)

    def open_demands(self) -> Iterator[Demand]:
        """Demands that are neither answered nor expired, oldest first."""
        closed = {event.values["demand"] for event in self.events if event.name in {"Answered", "Expired"}}
        for event in self.events:
            if event.name == "Demanded" and event.values["demand"] not in closed:
                values = event.values
                asker = address_bytes(values["asker"])
                yield Demand(int(values["demand"]), asker, bytes(values["question"]), int(values["deadline"]))

    def answered(self) -> Iterator[tuple[bytes, bytes]]:
        """Questions and answers that stand on chain, checked by the court."""
        questions = {event.values["demand"]: event.values["question"] for event in self.events if _is_demand(event)}
        for event in self.events:
            if event.name == "Answered" and event.values["demand"] in questions:
                yield bytes(questions[event.values["demand"]]), bytes(event.values["data"])

    def facts(self) -> Facts | None:
        """What the court knows of it; None before the reveal."""
        submitted, revealed = self.last("Submitted"), self.last("Revealed")
        if submitted is None or revealed is None:
            return None
        return Facts(
            graph=self.request["graph"],
            trace_root=revealed.values["trace_root"],
            input_hash=keccak256(self.request["input"]),
            output_hash=keccak256(submitted.values["output"]),
            symbols=tuple(self.request["symbols"]),
        )


def address_bytes(value: object) -> bytes:
    """An address as logs and views give it: hex text."""
    return bytes.fromhex(str(value)[2:])


def _is_demand(event: Event) -> bool:
    return event.name == "Demanded"
