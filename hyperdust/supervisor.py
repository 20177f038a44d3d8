"""Keeps processes running: starts roles, restarts one that dies with backoff, stops them in order.

A role that finds its stdin closed knows that the supervisor is gone, and stops by itself.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chain.errors import NodeFault

_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SETTLED_S: Final = 30.0
"""Who ran this long starts over with the shortest backoff."""
_GIVE_UP_DEATHS: Final = 3
"""Deaths in a row, while the network starts, that are no accident."""
_STOP_S: Final = 4.0
"""What a kind of role may take to stop before it is killed: node and miners, which write, stay below 10 s together."""
_LOG_BYTES: Final = 64 * 1024 * 1024


class RoleDied(NodeFault):
    """A role dies again and again while starting; carries the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Role:
    """One process to keep running."""

    kind: str
    """`node`, `miner`, ...; what the ready file lists its process under."""
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    stop_s: float = _STOP_S
    stage: str = ""
    """Roles of one stage stop together; stages in the reverse of the order in which they came. Empty: the kind."""


@dataclass(slots=True)
class _Running:
    role: Role
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    retry_at: float = 0.0
    deaths: int = 0
    """In a row."""
    restarts: int = field(default=0)


class Supervisor:
    """Owns the processes of the roles that it is given."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self._running = [_Running(role) for role in roles]

    def start(self) -> None:
        """Start all."""
        for running in self._running:
            self._launch(running)

    def add(self, role: Role) -> None:
        """Take on one more; the next `check` starts it. From any thread."""
        self._running.append(_Running(role))

    def check(self, *, patient: bool) -> bool:
        """Restart who died and is due; whether a pid changed.

        Raises:
            RoleDied: not patient, and a role died three times in a row.
        """
        changed = False
        now = time.monotonic()
        for running in tuple(self._running):
            if running.process is None:
                if now >= running.retry_at:
                    self._launch(running)
                    running.restarts += 1
                    changed = True
                continue
            if (code := running.process.poll()) is None:
                continue
            if running.process.stdin is not None:
                running.process.stdin.close()
            running.process = None
            running.deaths = 1 if now - running.started > _SETTLED_S else running.deaths + 1
            if not patient and running.deaths >= _GIVE_UP_DEATHS:
                raise RoleDied(
                    f"{running.role.name} does not start (exit code {code}); its last words:\n{_tail(running.role.log)}"
                )
            running.retry_at = now + _BACKOFF_S[min(running.deaths, len(_BACKOFF_S)) - 1]
            print(f"devnet: {running.role.name} ended ({_cause(code)}); restarting it", file=sys.stderr, flush=True)
        return changed

    def pids(self) -> dict[str, list[int]]:
        """Process ids by kind."""
        roles = tuple(self._running)
        found: dict[str, list[int]] = {running.role.kind: [] for running in roles}
        for running in roles:
            if running.process is not None:
                found[running.role.kind].append(running.process.pid)
        return found

    def stop(self) -> None:
        """Stop all, the last stage first; who does not stop in time is killed."""
        stages = list(dict.fromkeys(_stage(running.role) for running in self._running))
        for stage in reversed(stages):
            running = [r for r in self._running if _stage(r.role) == stage]
            alive = [r.process for r in running if r.process and r.process.poll() is None]
            for process in alive:
                process.terminate()
            deadline = time.monotonic() + max(r.role.stop_s for r in running)
            for process in alive:
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for each in self._running:
            if each.process is not None and each.process.stdin is not None:
                each.process.stdin.close()
            each.process = None

    def _launch(self, running: _Running) -> None:
        role = running.role
        role.log.parent.mkdir(parents=True, exist_ok=True)
        if role.log.exists() and role.log.stat().st_size > _LOG_BYTES:
            role.log.replace(role.log.with_suffix(".1.log"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HYPERDUST_")}
        with role.log.open("ab") as log:
            running.process = subprocess.Popen(
                role.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, **role.environment, "HYPERDUST_SUPERVISED": "1"},
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, so that roles stop in order
            )
        running.started = time.monotonic()


def _stage(role: Role) -> str:
    return role.stage or role.kind


def _cause(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(
            "  " + line for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        )
    except OSError as error:
        return f"  {error}"
