"""Commands that run until they are stopped: devnet, node, miner, explorer."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hyperdust.cli.options import (
    DEFAULT_RPC,
    BitcoinCookie,
    BitcoinPassword,
    BitcoinUser,
    Json,
    Rpc,
    UsageFault,
    check_login,
    emit,
)
from hyperdust.lies import ProviderLie
from hyperdust.logging import LogFormat, LogLevel

if TYPE_CHECKING:
    from hyperdust.rpc_client import RpcClient

_NODE_WAIT_S: Final = 30.0

Level = Annotated[LogLevel, typer.Option("--log-level", help="Least severe events to log.")]
Form = Annotated[LogFormat, typer.Option("--log-format", help="Lines for people, or JSON.")]
RpcPort = Annotated[int, typer.Option("--rpc-port", min=1, max=65_476, help="JSON-RPC over HTTP; other ports follow.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(devnet)
    app.command()(node)
    app.command()(miner)
    app.command()(explorer)


def devnet(
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of chain and logs. Default: a folder of yours, kept.")
    ] = None,
    rpc_port: RpcPort = 8545,
    ready_file: Annotated[
        Path | None,
        typer.Option("--ready-file", metavar="FILE", help="Written when everything is up: endpoints, keys, pids."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Fixes the chain id of a new chain.")] = None,
    block_time: Annotated[
        int | None, typer.Option("--block-time", min=1, help="Seconds between blocks of a new chain. Default: 2.")
    ] = None,
    miners: Annotated[int, typer.Option("--miners", min=1, max=10, help="Miners to start.")] = 1,
    companions: Annotated[
        int, typer.Option("--companions", min=0, max=8, help="Companions to start, which check the miners.")
    ] = 1,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Nodes to start; peer to peer is not built: 1.")] = 1,
    demo: Annotated[bool, typer.Option("--demo/--no-demo", help="Run a first paid job.")] = True,
    bitcoin: Annotated[
        bool,
        typer.Option("--bitcoin/--no-bitcoin", help="Start a bitcoind (regtest) beside it, and follow it."),
    ] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the chain in the data folder first.")] = False,
    pages: Annotated[bool, typer.Option("--explorer/--no-explorer", help="Serve web pages of the chain.")] = True,
) -> None:
    """A whole network on this machine: Bitcoin, node, miners, companions, funded accounts, a first paid job.

    A second start goes on with the same chain. Ctrl-C stops everything in order.

    Examples:
      hyperdust devnet
      hyperdust devnet --block-time 1 --miners 2 --fresh
      hyperdust devnet --data-dir /tmp/d --rpc-port 9545 --ready-file /tmp/d/ready.json
    """
    from hyperdust.devnet import DevnetConfig, run_devnet
    from hyperdust.paths import state_dir

    if nodes > 1:
        raise UsageFault(f"--nodes {nodes}: peer to peer is not built yet; a devnet has one node. Leave --nodes out")
    run_devnet(
        DevnetConfig(
            data_dir=(data_dir or state_dir() / "devnet").absolute(),
            rpc_port=rpc_port,
            ready_file=ready_file and ready_file.absolute(),
            seed=seed,
            block_time_s=block_time,
            miners=miners,
            companions=companions,
            demo=demo,
            fresh=fresh,
            explorer=pages,
            bitcoin=bitcoin,
        )
    )


def node(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Folder of the database; made where missing.")],
    genesis: Annotated[str, typer.Option("--genesis", help="A network's name, or a genesis file.")] = "regtest",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    rpc_port: RpcPort = 8545,
    ws_port: Annotated[
        int | None, typer.Option("--ws-port", help="JSON-RPC over WebSocket. Default: RPC port + 1.")
    ] = None,
    work_grpc_port: Annotated[
        int | None, typer.Option("--work-grpc-port", help="Work API for miners. Default: RPC port + 2.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option("--metrics-port", help="Prometheus. Default: RPC port + 3.")
    ] = None,
    block_time: Annotated[
        int | None, typer.Option("--block-time", min=1, help="Hold blocks this many seconds apart (devnet).")
    ] = None,
    bitcoin_rpc: Annotated[
        str | None, typer.Option("--bitcoin-rpc", metavar="URL", help="bitcoind to follow. Default: none.")
    ] = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    sync_from: Annotated[
        str | None,
        typer.Option("--sync-from", metavar="bitcoin", help="First rebuild the chain from what Bitcoin holds of it."),
    ] = None,
    sync_start_height: Annotated[
        int, typer.Option("--sync-start-height", min=0, help="Bitcoin block from which on there may be data.")
    ] = 0,
    archive: Annotated[bool, typer.Option("--archive", help="Keep the state of every block.")] = False,
    dev: Annotated[bool, typer.Option("--dev", help="Serve the debug namespace.")] = False,
    import_file: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Test-only, with --no-seal: serve this foreign chain (RLP)."),
    ] = None,
    seal: Annotated[
        bool, typer.Option("--seal/--no-seal", help="Test-only: do not check the seals of --import.")
    ] = True,
    log_level: Level = LogLevel.INFO,
    log_format: Form = LogFormat.CONSOLE,
) -> None:
    """One node: keeps the chain, serves JSON-RPC, gives work to miners.

    Example:
      hyperdust node --data-dir ~/.local/state/hyperdust/node --genesis regtest --block-time 2
      hyperdust node --data-dir ~/.local/state/hyperdust/node --genesis main \
          --bitcoin-rpc http://127.0.0.1:8332 --bitcoin-cookie ~/.bitcoin/.cookie --sync-from bitcoin
      hyperdust node --data-dir /tmp/d --genesis genesis.json --import chain.rlp --no-seal
    """
    import trio
    from pydantic import SecretStr, ValidationError

    from hyperdust.logging import set_up
    from hyperdust.node.app import run_node
    from hyperdust.node.config import NodeConfig

    follow_supervisor()
    set_up(log_level, log_format)
    _check_import(
        import_file,
        seal=seal,
        refused={
            "--work-grpc-port": work_grpc_port,
            "--metrics-port": metrics_port,
            "--block-time": block_time,
            "--bitcoin-rpc": bitcoin_rpc,
            "--sync-from": sync_from,
        },
    )
    if sync_from not in {None, "bitcoin"}:
        raise UsageFault(f"--sync-from {sync_from}: there is only bitcoin")
    if sync_from is not None and bitcoin_rpc is None:
        raise UsageFault("--sync-from bitcoin needs --bitcoin-rpc URL")
    check_login(bitcoin_rpc, bitcoin_user, bitcoin_cookie)
    try:
        config = NodeConfig(
            data_dir=data_dir,
            genesis=genesis,
            host=host,
            rpc_port=rpc_port,
            ws_port=rpc_port + 1 if ws_port is None else ws_port,
            work_grpc_port=rpc_port + 2 if work_grpc_port is None else work_grpc_port,
            metrics_port=rpc_port + 3 if metrics_port is None else metrics_port,
            block_time_s=block_time,
            archive=archive,
            sync_from=None if sync_from is None else "bitcoin",
            sync_start_height=sync_start_height,
            bitcoin_rpc=bitcoin_rpc,
            bitcoin_user=bitcoin_user,
            bitcoin_password=SecretStr(bitcoin_password),
            bitcoin_cookie=bitcoin_cookie,
            dev=dev,
            import_file=import_file,
        )
    except ValidationError as error:
        raise UsageFault("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())) from error
    trio.run(run_node, config)


def miner(
    graph: Annotated[
        list[str], typer.Option("--graph", help="Graph to serve and to mine with; give it again for more.")
    ] = ["minilm"],  # noqa: B006 - typer reads it, nobody writes
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Journal of unfinished jobs. Default: a folder of yours.")
    ] = None,
    rpc: Rpc = DEFAULT_RPC,
    work_grpc: Annotated[
        str, typer.Option("--work-grpc", metavar="HOST:PORT", help="Work API of the node.")
    ] = "127.0.0.1:8547",
    keystore: Annotated[
        Path | None, typer.Option("--keystore", metavar="FILE", help="Encrypted key that mines.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="HEX", help="Plain private key, on a devnet only.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="Keystore's password.")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="See `hyperdust graph backends`.")] = "native",
    fault: Annotated[
        int | None, typer.Option("--fault", min=0, help="Devnet only: corrupt one value of this operator in each job.")
    ] = None,
    fault_kind: Annotated[
        ProviderLie | None,
        typer.Option("--fault-kind", help="Devnet only: how it cheats; value with --fault alone."),
    ] = None,
    fault_rate: Annotated[
        int, typer.Option("--fault-rate", min=0, max=100, help="Devnet only: percent of jobs that it lies about.")
    ] = 100,
    fault_seed: Annotated[int, typer.Option("--fault-seed", min=0, help="Devnet only: fixes which jobs.")] = 0,
    bond: Annotated[bool, typer.Option("--bond/--no-bond", help="Bond the key if needed, to serve jobs.")] = True,
    rebond: Annotated[bool, typer.Option("--rebond", help="Devnet only: bond again after each slash.")] = False,
    due: Annotated[
        bool, typer.Option("--run-due/--no-run-due", help="Run scheduled calls where the tip is worth it.")
    ] = True,
    log_level: Level = LogLevel.INFO,
    log_format: Form = LogFormat.CONSOLE,
) -> None:
    """A miner: executes paid jobs exactly, and makes blocks from their products. Bonds its key if needed.

    Examples:
      hyperdust miner --keystore miner.json
      hyperdust miner --rpc http://10.0.0.2:8545 --work-grpc 10.0.0.2:8547 --keystore miner.json
    """
    from hyperdust.cli.options import read_password
    from hyperdust.logging import set_up
    from hyperdust.miner import MinerConfig, run_miner
    from hyperdust.miner.fault import Liar
    from hyperdust.paths import state_dir
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import load_account

    follow_supervisor()
    set_up(log_level, log_format)
    with RpcClient(rpc) as client:
        if keystore is None and key is None:
            raise UsageFault("a miner needs its own key; give --keystore FILE (`hyperdust wallet new` makes one)")
        chain_id = wait_for_chain_id(client)
        account = load_account(chain_id, keystore, key, lambda: read_password(password_file))
    liar = None
    if fault is not None or fault_kind is not None:
        liar = Liar(fault_kind or ProviderLie.VALUE, fault, fault_rate, fault_seed)
    run_miner(
        MinerConfig(
            data_dir=data_dir or state_dir() / "miner",
            account=account,
            graphs=tuple(graph),
            rpc=rpc,
            work_grpc=work_grpc,
            backend=backend,
            liar=liar,
            bond=bond,
            rebond=rebond,
            run_due=due,
        )
    )


def explorer(
    rpc: Rpc = DEFAULT_RPC,
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port of the pages.")] = 8549,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    public_rpc: Annotated[
        str | None, typer.Option("--public-rpc", metavar="URL", help="What wallets are told to use. Default: --rpc.")
    ] = None,
    faucet_key: Annotated[
        str | None,
        typer.Option("--faucet-key", metavar="HEX", help="Devnet only: key whose coins the faucet gives away."),
    ] = None,
    as_json: Json = False,
    log_level: Level = LogLevel.INFO,
    log_format: Form = LogFormat.CONSOLE,
) -> None:
    """Web pages of a chain: blocks and their certificates, jobs, addresses, graphs; on a devnet a faucet.

    Examples:
      hyperdust explorer
      hyperdust explorer --rpc http://10.0.0.2:8545 --public-rpc https://rpc.example.org --host 0.0.0.0
    """
    import trio

    from hyperdust.explorer.app import ExplorerConfig, run_explorer
    from hyperdust.logging import set_up

    follow_supervisor()
    set_up(log_level, log_format)
    if faucet_key is not None and re.fullmatch("(0x)?[0-9a-fA-F]{64}", faucet_key) is None:
        raise UsageFault("--faucet-key is no private key: 64 hex digits are expected")

    def on_ready(url: str) -> None:
        emit({"url": url}, as_json=as_json, text=f"explorer at {url}, of the node at {rpc}")
        sys.stdout.flush()

    trio.run(run_explorer, ExplorerConfig(rpc, public_rpc or rpc, host, port, faucet_key), on_ready)


def _check_import(import_file: Path | None, *, seal: bool, refused: Mapping[str, object]) -> None:
    """An imported foreign chain is served and nothing else: it is never mined on, and its seals prove nothing here."""
    if import_file is None:
        if not seal:
            raise UsageFault("--no-seal goes with --import alone: this chain's own blocks are always checked")
        return
    if seal:
        raise UsageFault("--import takes --no-seal: seals of a foreign chain cannot be checked here")
    for option, value in refused.items():
        if value is not None:
            raise UsageFault(f"--import refuses {option}: a node on a foreign chain answers JSON-RPC and never mines")


def wait_for_chain_id(client: "RpcClient") -> int:
    """The chain id of a node that may be starting too: say so, and give it a while."""
    from hyperdust.rpc_client import Unreachable

    deadline = time.monotonic() + _NODE_WAIT_S
    while True:
        try:
            return client.quantity("eth_chainId")
        except Unreachable as error:
            if time.monotonic() > deadline:
                raise
            print(f"waiting for the node: {error}", file=sys.stderr, flush=True)
            time.sleep(1)


def follow_supervisor() -> None:
    """Stop when the supervisor that started this process is gone: its end of our stdin closes."""
    if os.environ.pop("HYPERDUST_SUPERVISED", None) is None:
        return

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(8)
        os._exit(1)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()
