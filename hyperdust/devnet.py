"""`hyperdust devnet`: a whole network on this machine: its own genesis, its processes, a first paid job."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError
from hyperdust import job
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from hyperdust.devnet_bitcoin import INITIAL_BLOCKS, DevnetBitcoin
from hyperdust.devnet_folder import DevnetError, locked, prepare_genesis, wipe, write_atomically
from hyperdust.devnet_ports import Ports, check_ports, is_listening
from hyperdust.devnet_signers import count_signers, open_vault, signer_roles
from hyperdust.rpc_client import RpcClient, Unreachable
from hyperdust.supervisor import Role, Supervisor
from hyperdust.wallet import DEVNET_MNEMONIC, WEI_PER_BTC, role_key, show_btc, user_key

_COMMAND: Final = (sys.executable, "-m", "hyperdust.cli")
_ACCOUNTS: Final = 10
_FIRST_JOB: Final = "Bitcoin is a peer-to-peer electronic cash system"
_FIRST_JOB_FEE: Final = WEI_PER_BTC // 100_000
_START_TIMEOUT_S: Final = 180.0
_POLL_S: Final = 0.1
_FAUCET_ROLE: Final = 19
"""Its account: the last of those that genesis funds with 10 BTC for roles."""
_FIRST_COMPANION_ROLE: Final = 10
"""Their accounts: 10 to 17, behind the miners'."""
_VAULT_ROLE: Final = 18
"""Its account: pays the first deposit."""
_BITCOIN_SPACINGS: Final = 2
"""Blocks of the chain to one of Bitcoin."""
_EXPLORER_STOP_S: Final = 1.0
"""It has nothing to write."""


@dataclass(frozen=True, slots=True)
class DevnetConfig:
    """Options of `hyperdust devnet`."""

    data_dir: Path
    rpc_port: int
    ready_file: Path | None
    seed: int | None
    """Fixes the chain id of a new chain; None: drawn at random."""
    block_time_s: int | None
    """None: the chain's own, 2 s for a new one."""
    miners: int
    demo: bool
    fresh: bool
    explorer: bool = True
    bitcoin: bool = True
    companions: int = 1


def run_devnet(config: DevnetConfig) -> None:
    """Start everything, write the ready file, keep it running until SIGINT or SIGTERM.

    Raises:
        DevnetError: it cannot start; nothing is left running.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    config.data_dir.mkdir(parents=True, exist_ok=True)
    with locked(config.data_dir):
        _forget(config.ready_file)
        if config.fresh:
            wipe(config.data_dir)
        genesis = prepare_genesis(config.data_dir, config.seed, config.block_time_s)
        signers = count_signers(genesis) if config.bitcoin else 0
        ports = Ports(config.rpc_port, config.explorer, config.bitcoin, signers)
        check_ports(ports.named)
        bitcoin = _bitcoin(config, genesis, ports) if config.bitcoin else None
        supervisor = Supervisor(_roles(config, genesis, ports, bitcoin))
        try:
            companions = _companions(config, genesis, ports)
            Devnet(config, genesis, ports, supervisor, stop, bitcoin, companions).run()
        finally:
            _forget(config.ready_file)
            if bitcoin is not None:
                bitcoin.stop()
            supervisor.stop()


@dataclass
class Devnet:
    """One run: starting, ready, stopping."""

    config: DevnetConfig
    genesis: Mapping[str, Any]
    ports: Ports
    supervisor: Supervisor
    stop: threading.Event
    bitcoin: DevnetBitcoin | None = None
    companions: Sequence[Role] = ()

    def run(self) -> None:
        """Start the roles, wait until all is up, then supervise until told to stop."""
        started = time.monotonic()
        result: dict[str, Any] = {}
        _say(
            f"chain {self.genesis['chain_id']}, a block every {self.genesis['spacing_s']} s, in {self.config.data_dir}"
        )
        self.supervisor.start()
        with job.progress() as say:
            # The wait and the first job block; the supervisor must not.
            worker = threading.Thread(target=self._become_ready, args=(result, say), daemon=True)
            worker.start()
            if self.bitcoin is not None:
                threading.Thread(target=self._start_bitcoin, args=(self.bitcoin, result, say), daemon=True).start()
            while worker.is_alive() and not self.stop.is_set() and "error" not in result:
                self.supervisor.check(patient=False)
                self.stop.wait(_POLL_S)
        if not self.stop.is_set():
            if "error" in result:
                raise result["error"]
            self._write_ready(result)
            self._print_ready(result, time.monotonic() - started)
        while not self.stop.is_set():
            if self.supervisor.check(patient=True):
                self._write_ready(result)
            self.stop.wait(_POLL_S)
        _say("stopping")

    def _become_ready(self, result: dict[str, Any], say: job.Say) -> None:
        try:
            with RpcClient(self._url) as client:
                self._wait_for(client, say, "the node to answer", _answers)
                self._wait_for(client, say, "the miners to bond and make blocks", self._mines)
                for role in self.companions:  # only now: nothing that the first job needs waits for them
                    self.supervisor.add(role)
                if self.config.explorer:
                    self._wait_for(client, say, "the explorer to answer", lambda _: is_listening(self.ports.explorer))
                result["graphs"] = {name: "0x" + graph.hex() for name, graph in job.graphs_on_chain(client).items()}
                result["first_job"] = self._first_job(client, say) if self.config.demo else None
                checked = bytes.fromhex(result["graphs"]["minilm"][2:])
                self._wait_for(client, say, "the companions to bond", lambda client: self._check(client, checked))
                self._wait_for(client, say, "the node to follow Bitcoin", self._follows_bitcoin)
        except (HyperdustError, OSError) as error:
            result["error"] = error

    def _start_bitcoin(self, bitcoin: DevnetBitcoin, result: dict[str, Any], say: job.Say) -> None:
        try:
            self.supervisor.add(bitcoin.prepare(say))
            for role in signer_roles(_COMMAND, self.config.data_dir, self.genesis, self.ports.rpc, bitcoin):
                self.supervisor.add(role)
            bitcoin.start_mining()
            if self.ports.signers:
                with RpcClient(self._url) as client:
                    open_vault(client, bitcoin, role_key(_VAULT_ROLE), self.stop)
        except (HyperdustError, OSError) as error:
            result["error"] = error

    def _follows_bitcoin(self, client: RpcClient) -> bool:
        if self.bitcoin is None:
            return True
        peg = client.call("hyperdust_pegStatus")
        return self.bitcoin.is_ready.is_set() and peg is not None and peg["bitcoin"]["height"] >= INITIAL_BLOCKS

    def _wait_for(self, client: RpcClient, say: job.Say, what: str, done: Callable[[RpcClient], bool]) -> None:
        say(f"waiting for {what}")
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self.stop.is_set():
            if done(client):
                return
            if time.monotonic() > deadline:
                logs = self.config.data_dir / "logs"
                raise DevnetError(f"waited {_START_TIMEOUT_S:.0f} s for {what}; the reason should be in {logs}")
            time.sleep(_POLL_S)

    def _mines(self, client: RpcClient) -> bool:
        bonded = {address.lower() for address in client.call("hyperdust_getProviders", "minilm")}
        ours = {role_key(index).address.lower() for index in range(self.config.miners)}
        return ours <= bonded

    def _check(self, client: RpcClient, graph: bytes) -> bool:
        return all(_is_companion(client, graph, index) for index in range(len(self.companions)))

    def _first_job(self, client: RpcClient, say: job.Say) -> Mapping[str, Any]:
        from hyperdust.graph import input_bytes  # noqa: PLC0415  # loads while the processes start

        question = input_bytes("minilm", _FIRST_JOB, None)
        return job.ask(
            client,
            user_key(0),
            job.Question("minilm", question.data, question.symbols, _FIRST_JOB_FEE),
            say=lambda step: say(f"first job: {step}"),
        ).as_json()

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.ports.rpc}"

    @property
    def _explorer_url(self) -> str | None:
        return f"http://127.0.0.1:{self.ports.explorer}" if self.config.explorer else None

    def _write_ready(self, result: Mapping[str, Any]) -> None:
        if self.config.ready_file is None:
            return
        pids = self.supervisor.pids()
        ws = f"ws://127.0.0.1:{self.ports.named['ws']}"
        content = {
            "rpc": self._url,
            "ws": ws,
            "explorer": self._explorer_url,
            "metrics": f"http://127.0.0.1:{self.ports.named['metrics']}/metrics",
            "work_grpc": f"127.0.0.1:{self.ports.named['work_grpc']}",
            "chain_id": self.genesis["chain_id"],
            "accounts": [
                {"address": account.address, "private_key": _private_key(account)} for account in _user_accounts()
            ],
            "nodes": [{"rpc": self._url, "ws": ws, "pid": pid} for pid in pids["node"]],
            "bitcoin": None if (bitcoin := self.bitcoin) is None else _bitcoin_access(bitcoin),
            "graphs": result["graphs"],
            "contracts": {name: "0x" + address.hex() for name, address in ADDRESSES.items()},
            "pids": {
                "companion": [],
                "signer": [],
                "explorer": [],
                **pids,
                "bitcoind": next(iter(pids.get("bitcoind", ())), None),
            },
            "first_job": result["first_job"],
        }
        write_atomically(self.config.ready_file, json.dumps(content, indent=2) + "\n")

    def _print_ready(self, result: Mapping[str, Any], seconds: float) -> None:
        named = self.ports.named
        print(f"\nAccounts, funded by genesis (mnemonic: {DEVNET_MNEMONIC}; worthless anywhere else)")
        for index, account in enumerate(_user_accounts()):
            print(f"  {index}  {account.address}  {_private_key(account)}")
        print(f"\nEndpoints\n  JSON-RPC   {self._url}\n  WebSocket  ws://127.0.0.1:{named['ws']}")
        print(f"  Work API   127.0.0.1:{named['work_grpc']} (gRPC)")
        print(f"  Metrics    http://127.0.0.1:{named['metrics']}/metrics")
        if self.bitcoin is not None:
            print(f"  Bitcoin    {self.bitcoin.url} (regtest; user, password: {self.bitcoin.datadir / 'bitcoin.conf'})")
        if self._explorer_url is not None:
            print(f"\nExplorer, with a faucet and a button for MetaMask\n  {self._explorer_url}")
        print("\nMetaMask: add a network by hand")
        print(f"  RPC URL {self._url}   chain id {self.genesis['chain_id']}   currency symbol BTC")
        if (first := result["first_job"]) is not None:
            print(f"\nFirst job: {_FIRST_JOB!r} to minilm")
            print(f"  job {first['job']}, {first['status']} in block {first['block']} by {first['provider']}", end="")
            print(f" for {show_btc(first['fee_wei'])}")
            print(f"  trace root {first['trace_root']}\n  {job.show_output(first['output'])}")
        print(f"\nReady after {seconds:.1f} s. Next: {_program()} status{self._rpc_option}   Ctrl-C stops.", flush=True)

    @property
    def _rpc_option(self) -> str:
        return "" if self.ports.rpc == 8545 else f" --rpc {self._url}"


def _bitcoin(config: DevnetConfig, genesis: Mapping[str, Any], ports: Ports) -> DevnetBitcoin:
    named, block_s = ports.named, _BITCOIN_SPACINGS * int(genesis["spacing_s"])
    return DevnetBitcoin(config.data_dir, named["bitcoin_rpc"], named["bitcoin_p2p"], block_s)


def _bitcoin_access(bitcoin: DevnetBitcoin) -> dict[str, str]:
    login = bitcoin.login
    return {"rpc": bitcoin.url, "user": login.user, "password": login.password, "datadir": str(bitcoin.datadir)}


def _roles(
    config: DevnetConfig, genesis: Mapping[str, Any], ports: Ports, bitcoin: DevnetBitcoin | None = None
) -> list[Role]:
    named = {name: str(port) for name, port in ports.named.items()}
    logs = config.data_dir / "logs"
    follows = () if bitcoin is None else ("--bitcoin-rpc", bitcoin.url, "--bitcoin-user", bitcoin.login.user)
    node = Role(
        kind="node",
        name="node0",
        log=logs / "node0.log",
        environment={} if bitcoin is None else {"HYPERDUST_BITCOIN_PASSWORD": bitcoin.login.password},
        command=(
            *_COMMAND, "node", "--dev", "--data-dir", str(config.data_dir / "node0"),
            "--genesis", str(config.data_dir / "genesis.json"), "--block-time", str(genesis["spacing_s"]),
            "--rpc-port", named["rpc"], "--ws-port", named["ws"],
            "--work-grpc-port", named["work_grpc"], "--metrics-port", named["metrics"], *follows,
        ),
    )  # fmt: skip
    miners = [
        Role(
            kind="miner",
            name=f"miner{index}",
            log=logs / f"miner{index}.log",
            environment={"HYPERDUST_KEY": _private_key(role_key(index))},
            command=(*_COMMAND, "miner", *_works(config, genesis, ports, f"miner{index}")),
        )
        for index in range(config.miners)
    ]
    explorer = Role(
        kind="explorer",
        name="explorer",
        log=logs / "explorer.log",
        environment={"HYPERDUST_FAUCET_KEY": _private_key(role_key(_FAUCET_ROLE))},
        command=(
            *_COMMAND, "explorer", "--rpc", f"http://127.0.0.1:{named['rpc']}", "--port", str(ports.explorer),
        ),
        stop_s=_EXPLORER_STOP_S,
    )  # fmt: skip
    return [node, *miners, explorer] if config.explorer else [node, *miners]


def _companions(config: DevnetConfig, genesis: Mapping[str, Any], ports: Ports) -> list[Role]:
    return [
        Role(
            kind="companion",
            name=f"companion{index}",
            log=config.data_dir / "logs" / f"companion{index}.log",
            environment={"HYPERDUST_KEY": _private_key(role_key(_FIRST_COMPANION_ROLE + index))},
            command=(*_COMMAND, "companion", *_works(config, genesis, ports, f"companion{index}")),
            stage="miner",
        )
        for index in range(config.companions)
    ]


def _works(config: DevnetConfig, genesis: Mapping[str, Any], ports: Ports, name: str) -> tuple[str, ...]:
    """Options that miners and companions share."""
    graphs = (word for graph in genesis.get("graphs", ()) for word in ("--graph", graph))
    return (
        *graphs, "--data-dir", str(config.data_dir / name), "--rpc", f"http://127.0.0.1:{ports.rpc}",
        "--work-grpc", f"127.0.0.1:{ports.named['work_grpc']}",
    )  # fmt: skip


def _is_companion(client: RpcClient, graph: bytes, index: int) -> bool:
    account = role_key(_FIRST_COMPANION_ROLE + index).address
    raw = client.view(ADDRESSES["Bonds"], encode_call("Bonds", "is_companion", graph, account))
    return bool(decode_output("Bonds", "is_companion", raw)[0])


def _forget(ready_file: Path | None) -> None:
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


def _answers(client: RpcClient) -> bool:
    try:
        client.call("eth_blockNumber")
    except Unreachable:
        return False
    return True


def _user_accounts() -> list[LocalAccount]:
    return [user_key(index) for index in range(_ACCOUNTS)]


def _private_key(account: LocalAccount) -> str:
    return "0x" + bytes(account.key).hex()


def _program() -> str:
    """How a person calls `hyperdust` from here."""
    beside = Path(sys.executable).with_name("hyperdust")
    return "hyperdust" if shutil.which("hyperdust") or not beside.exists() else os.path.relpath(beside)


def _say(text: str) -> None:
    print(f"devnet: {text}", file=sys.stderr, flush=True)
