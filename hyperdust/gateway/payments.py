"""Payments whose jobs are not over: on disk before they are sent, so that no crash forgets money that may come back.

A payment is noted by its transaction; which job it made is known once it is in a block, perhaps by another life of this
gateway.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final

import structlog

from hyperdust import job
from hyperdust.contracts_abi import decode_event, event_topic
from hyperdust.durable import PRIVATE, replace_durably

log = structlog.get_logger()

MOST: Final = 10_000
"""Payments that are looked after; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Payment:
    """One transaction, and what it asked for; as JSON says it."""

    transaction: str
    sent_at: int
    """Seconds of the clock."""
    wei: int
    """Fee and price."""
    deadline: int
    """Last block for the answer."""
    agent: str | None = None
    """Address of the agent that was asked, in hex."""
    job: int | None = None
    """None: not seen in a block yet."""
    ask: int | None = None
    """Number of the agent's ask."""

    def in_block(self, receipt: Mapping[str, Any]) -> "Payment":
        """With what its receipt says.

        Raises:
            JobError: it made no job.
        """
        return replace(self, job=job.job_of(receipt), ask=None if self.agent is None else _ask_of(receipt))


class Payments:
    """Open payments by transaction, in one file. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._open: dict[str, Payment] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = [Payment(**raw) for raw in json.loads(path.read_text(encoding="utf-8"))]
            self._open = {payment.transaction: payment for payment in found}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as error:
            # The jobs stand on chain: whoever paid may still have each refunded.
            log.warning(
                "payments unreadable, starting anew: see `hyperdust job refund`", path=str(path), error=str(error)
            )

    def put(self, payment: Payment) -> None:
        """Note a payment, or what became of it; returns once that is on disk.

        Raises:
            OSError: the disk does not take it.
        """
        with self._lock:
            self._open[payment.transaction] = payment
            while len(self._open) > MOST:
                del self._open[next(iter(self._open))]
            self._save()

    def drop(self, transaction: str) -> None:
        """Forget one: nothing is to be fetched any more."""
        with self._lock:
            if self._open.pop(transaction, None) is not None:
                self._save()

    def listed(self) -> list[Payment]:
        """All of them, oldest first."""
        with self._lock:
            return list(self._open.values())

    def _save(self) -> None:
        replace_durably(self._path, json.dumps([asdict(payment) for payment in self._open.values()]), PRIVATE)


def _ask_of(receipt: Mapping[str, Any]) -> int | None:
    """Number of the ask, the agent's."""
    topic = event_topic("Agent", "Asked")
    for entry in receipt["logs"]:
        topics = [bytes.fromhex(word[2:]) for word in entry["topics"]]
        if topics and topics[0] == topic:
            return int(decode_event("Agent", "Asked", topics, bytes.fromhex(entry["data"][2:]))["number"])
    return None
