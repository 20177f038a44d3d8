"""What a miner wrote down about its unfinished jobs: it may be killed at any moment and computes nothing twice."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog

log = structlog.get_logger()

MAX_ENTRIES = 256


@dataclass(slots=True)
class Entry:
    """One job's notes; bytes as hex, since the file is JSON."""

    job: int
    failed: bool = False
    """It cannot be executed."""
    trace_root: str = ""
    roots: list[str] = field(default_factory=list)
    """Subgraph roots."""
    output: str = ""


class Journal:
    """Entries by job in one file, replaced atomically. One process, one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[int, Entry] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._entries = {int(raw["job"]): Entry(**raw) for raw in json.loads(path.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:
            # Everything in it can be computed again.
            log.warning("journal unreadable, starting anew", path=str(path), error=str(error))

    def get(self, job: int) -> Entry:
        """Notes about a job; empty ones if there are none yet."""
        return self._entries.get(job) or Entry(job)

    def put(self, entry: Entry) -> None:
        """Write a job's notes; returns once they are on disk."""
        self._entries[entry.job] = entry
        for job in sorted(self._entries)[:-MAX_ENTRIES]:
            del self._entries[job]
        self._save()

    def keep_only(self, jobs: set[int]) -> None:
        """Forget jobs that the node no longer offers."""
        gone = [job for job in self._entries if job not in jobs]
        if gone:
            for job in gone:
                del self._entries[job]
            self._save()

    def _save(self) -> None:
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump([asdict(entry) for entry in self._entries.values()], file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
