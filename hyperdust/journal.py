"""What a role wrote down about its unfinished jobs: it may be killed at any moment and computes nothing twice."""

import json
from collections.abc import Container
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import structlog

from hyperdust.durable import replace_durably

log = structlog.get_logger()

MAX_ENTRIES: Final = 256


class Entry(Protocol):
    """One job's notes: a dataclass of what JSON can say, all but the number with a default."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    job: int


E = TypeVar("E", bound=Entry)


class Journal(Generic[E]):
    """Entries by job in one file, replaced atomically. One process, one thread."""

    def __init__(self, path: Path, kind: type[E]) -> None:
        self._path = path
        self._kind: Any = kind
        self._entries: dict[int, E] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._entries = {int(raw["job"]): self._kind(**raw) for raw in json.loads(path.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:
            # Everything in it can be computed again.
            log.warning("journal unreadable, starting anew", path=str(path), error=str(error))

    def get(self, job: int) -> E:
        """Notes about a job; empty ones if there are none yet."""
        found: E = self._entries.get(job) or self._kind(job)
        return found

    def put(self, entry: E) -> None:
        """Write a job's notes; returns once they are on disk."""
        self._entries[entry.job] = entry
        for job in sorted(self._entries)[:-MAX_ENTRIES]:
            del self._entries[job]
        self._save()

    def keep_only(self, jobs: Container[int]) -> None:
        """Forget jobs that the node no longer offers."""
        gone = [job for job in self._entries if job not in jobs]
        if gone:
            for job in gone:
                del self._entries[job]
            self._save()

    def _save(self) -> None:
        replace_durably(self._path, json.dumps([asdict(entry) for entry in self._entries.values()]))
