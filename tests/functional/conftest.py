"""What functional tests stand on: a running devnet, and the wallets' own programs from npm.

HYPERDUST_TEST_RPC=URL tests a node that already runs, with the accounts of the well-known test mnemonic;
HYPERDUST_TEST_WS is its WebSocket, else the same address. HYPERDUST_TEST_RPC=anvil tests the tests: a fault
that anvil does not share is the node's.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import structlog
from eth_account import Account
from eth_account.hdaccount import ETHEREUM_DEFAULT_PATH

from tests.functional.ports import free_port_block, free_ports

_HERE: Final = Path(__file__).parent
_MNEMONIC: Final = "test test test test test test test test test test test junk"
_START_LIMIT_S: Final = 300.0
_STOP_LIMIT_S: Final = 10.0
_INSTALL_LIMIT_S: Final = 300.0
_POLL_S: Final = 0.05
_LONGEST: Final = (
    "bridge_user", "bad_days", "signers_round", "liars_devnet", "gateway_openai", "custody_rotation", "agents_devnet",
    "hundred_jobs", "devnet_lifecycle", "bad_days_reorg", "dispute_lie", "finality_devnet", "miner_killed",
    "bridge_credit", "signers_devnet", "bitcoin_origin", "bitcoin_rebuild", "miner_fault", "graphs_jobs", "loop_closes",
    "graph_registered",
)  # fmt: skip
"""Files by their time, a minute and more: workers that take the longest first end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first; within a file, and among the rest, the order stays."""
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@dataclass(frozen=True, slots=True)
class DevAccount:
    """A funded account that no role uses."""

    address: str
    private_key: str


@dataclass(frozen=True, slots=True)
class Devnet:
    """The ready file; `ready` is all of it."""

    rpc: str
    ws: str
    chain_id: int
    accounts: tuple[DevAccount, ...]
    ready: dict[str, Any]
    folder: Path = Path()
    """Of one that tests started: its `data/logs` has what each role said."""

    def request(self, method: str, *params: object) -> Any:
        """The result of one JSON-RPC call."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(self.rpc, json=body, timeout=30, trust_env=False).json()
        assert "error" not in answer, (method, answer)
        return answer["result"]

    @property
    def is_anvil(self) -> bool:
        return str(self.request("web3_clientVersion")).lower().startswith("anvil")


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs of the pinned npm packages."""

    node: Path
    solc: Path

    def program(self, name: str) -> str:
        """The native program of @foundry-rs/<name>; package.json names what its launcher would choose from."""
        system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform, sys.platform)
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        found = _HERE / "node_modules" / "@foundry-rs" / f"{name}-{system}-{machine}" / "bin" / name
        if not found.exists():
            pytest.skip(f"@foundry-rs/{name} has no program for {system}-{machine}")
        return str(found)


def poll(attempt: Callable[[], Any], limit_s: float = 30) -> Any:
    """The first answer of `attempt` that is true, asked for until the limit."""
    end = time.monotonic() + limit_s
    while not (answer := attempt()):
        assert time.monotonic() < end, f"nothing within {limit_s:.0f} s"
        time.sleep(_POLL_S)
    return answer


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Commands that run in this process set their log up on a stream that ends with the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    return poll


def _ready(content: str) -> Devnet:
    ready = json.loads(content)
    accounts = tuple(DevAccount(account["address"], account["private_key"]) for account in ready["accounts"])
    assert len(accounts) >= 6, "the ready file names at least six accounts"
    return Devnet(ready["rpc"], ready["ws"], int(ready["chain_id"]), accounts, ready)


def _known_accounts() -> list[dict[str, str]]:
    Account.enable_unaudited_hdwallet_features()
    paths = [ETHEREUM_DEFAULT_PATH[:-1] + str(index) for index in range(10)]
    accounts = [Account.from_mnemonic(_MNEMONIC, account_path=path) for path in paths]
    return [{"address": account.address, "private_key": "0x" + bytes(account.key).hex()} for account in accounts]


def _running(rpc: str) -> Devnet:
    ws = os.environ.get("HYPERDUST_TEST_WS") or rpc.replace("http", "ws", 1)
    chain_id = Devnet(rpc, ws, 0, (), {}).request("eth_chainId")
    return _ready(json.dumps({"rpc": rpc, "ws": ws, "chain_id": int(chain_id, 16), "accounts": _known_accounts()}))


def _end(process: subprocess.Popen[bytes]) -> int:
    """Ask for an orderly stop; whatever is left after the limit is killed, with its children."""
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _answers(rpc: str) -> bool:
    try:
        httpx.post(rpc, json={"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def _start_anvil(tools: Tools) -> Iterator[Devnet]:
    port = free_ports(1)[0]
    command = [tools.program("anvil"), "--port", str(port), "--block-time", "1", "--steps-tracing", "--silent"]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        rpc = f"http://127.0.0.1:{port}"
        poll(lambda: _answers(rpc))
        yield _running(rpc)
    finally:
        _end(process)


def start_hyperdust(folder: Path, *options: str) -> Iterator[Devnet]:
    """A devnet with a block each second and no Bitcoin, stopped in order at the end."""
    ready_file, log = folder / "ready.json", folder / "devnet.log"
    command = [str(Path(sys.executable).parent / "hyperdust"), "devnet", "--data-dir", str(folder / "data")]
    command += ["--rpc-port", str(free_port_block()), "--ready-file", str(ready_file)]
    command += ["--block-time", "1", "--no-bitcoin", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def said() -> str:
        return f"{' '.join(command)}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-60:])

    try:
        end = time.monotonic() + _START_LIMIT_S
        while not ready_file.exists():
            if process.poll() is not None:
                pytest.fail(f"the devnet ended with {process.returncode} before it was ready:\n{said()}", pytrace=False)
            if time.monotonic() > end:
                pytest.fail(f"the devnet was not ready within {_START_LIMIT_S:.0f} s:\n{said()}", pytrace=False)
            time.sleep(_POLL_S)
        yield replace(_ready(ready_file.read_text()), folder=folder)
        assert process.poll() is None, f"the devnet ended by itself with {process.returncode}:\n{said()}"
    finally:
        if process.poll() is None:
            code = _end(process)
            assert code == 0, f"SIGINT: exit code {code}\n{said()}"


@pytest.fixture(scope="session")
def devnet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    where = os.environ.get("HYPERDUST_TEST_RPC", "")
    if where == "anvil":
        yield from _start_anvil(request.getfixturevalue("tools"))
    elif where:
        yield _running(where)
    else:
        yield from start_hyperdust(tmp_path_factory.mktemp("devnet"))


@pytest.fixture(scope="module")
def own_devnet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    """A devnet of the module's own, with the options that its DEVNET_OPTIONS names."""
    yield from start_hyperdust(tmp_path_factory.mktemp("own"), *request.module.DEVNET_OPTIONS)


@pytest.fixture(scope="session")
def tools() -> Tools:
    """The pinned npm packages, installed once for each state of the lock file."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("wallet tests need Node.js 20 or newer with npm (CI has them): https://nodejs.org")
    stamp = _HERE / "node_modules" / ".installed"
    with (_HERE / "package-lock.json").open("rb") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)  # another worker may be at it
        wanted = hashlib.sha256(lock_file.read()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            run = subprocess.run(
                [npm, "ci"], cwd=_HERE, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S, check=False
            )
            if run.returncode != 0:
                pytest.fail(f"npm ci in tests/functional failed:\n{run.stdout}{run.stderr}", pytrace=False)
            stamp.write_text(wanted)
    return Tools(Path(node), _HERE / "tools" / "solc")


@pytest.fixture
def anvil_deviates(request: pytest.FixtureRequest, devnet: Devnet) -> Callable[[str], None]:
    """Marks the running test as one that anvil, and anvil alone, is known to fail."""

    def deviates(how: str) -> None:
        if devnet.is_anvil:
            request.applymarker(pytest.mark.xfail(reason=f"anvil: {how}", strict=True))

    return deviates


@pytest.fixture(scope="session")
def forge_project() -> Path:
    return _HERE / "forge_project"


@pytest.fixture(scope="session")
def counter(tools: Tools, forge_project: Path) -> dict[str, Any]:
    """`abi` and `bytecode` of Counter.sol."""
    settings = {"outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}}}
    source = {"Counter.sol": {"content": (forge_project / "src" / "Counter.sol").read_text()}}
    job = json.dumps({"language": "Solidity", "sources": source, "settings": settings})
    run = subprocess.run(
        [tools.solc, "--standard-json"], input=job, capture_output=True, text=True, timeout=60, check=True
    )
    output = json.loads(run.stdout)
    assert not output.get("errors"), output["errors"]
    compiled = output["contracts"]["Counter.sol"]["Counter"]
    return {"abi": compiled["abi"], "bytecode": "0x" + compiled["evm"]["bytecode"]["object"]}


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Surroundings of a tool: a home of its own, and no proxy before loopback."""
    home = str(tmp_path_factory.mktemp("home"))
    loopback = "127.0.0.1,localhost"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOUNDRY_", "ETH_", "DAPP_"))}
    return kept | {"HOME": home, "NO_PROXY": loopback, "no_proxy": loopback, "NO_COLOR": "1", "FOUNDRY_OFFLINE": "true"}


@pytest.fixture(scope="session")
def run_checks(
    devnet: Devnet, tools: Tools, counter: dict[str, Any], environment: dict[str, str]
) -> Callable[..., dict[str, str | None]]:
    """Runs js/<name>.mjs, which prints one JSON line a check; gives each check's error, None if it holds."""

    def run(name: str, account: DevAccount) -> dict[str, str | None]:
        given = {"rpc": devnet.rpc, "ws": devnet.ws, "chainId": devnet.chain_id, "counter": counter}
        given["account"] = {"address": account.address, "privateKey": account.private_key}
        program = [tools.node, _HERE / "js" / f"{name}.mjs"]
        done = subprocess.run(
            program, input=json.dumps(given), env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return {line["check"]: line["error"] for line in lines}

    return run


@pytest.fixture(scope="session")
def try_cast(tools, devnet, environment) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs cast against the devnet, whatever comes of it."""
    program = tools.program("cast")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        given = environment | {"ETH_RPC_URL": devnet.rpc}
        command = [program, *map(str, arguments)]
        return subprocess.run(command, env=given, capture_output=True, text=True, timeout=90, check=False)

    return run


@pytest.fixture(scope="session")
def cast(try_cast) -> Callable[..., str]:
    """What cast prints; it has to succeed."""

    def run(*arguments: object) -> str:
        done = try_cast(*arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return str(done.stdout).strip()

    return run
