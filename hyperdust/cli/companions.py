"""Commands that check what providers computed: companion runs until it is stopped, challenge is for one job."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

from pathlib import Path
from typing import Annotated

import typer

from hyperdust.cli.options import DEFAULT_RPC, Json, Keystore, PasswordFile, Rpc, UsageFault, emit, read_password
from hyperdust.cli.roles import Form, Level, follow_supervisor, wait_for_chain_id
from hyperdust.lies import CompanionLie
from hyperdust.logging import LogFormat, LogLevel

WorkGrpc = Annotated[str, typer.Option("--work-grpc", metavar="HOST:PORT", help="Work API of the node.")]
Backend = Annotated[
    str, typer.Option("--backend", help="See `hyperdust graph backends`; best another than the providers'.")
]
DevKey = Annotated[str | None, typer.Option("--key", metavar="HEX", help="Plain private key, on a devnet only.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(companion)
    app.command()(challenge)


def companion(
    graph: Annotated[
        list[str], typer.Option("--graph", help="Graph whose jobs are checked; give it again for more.")
    ] = ["minilm"],  # noqa: B006 - typer reads it, nobody writes
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Notes about unfinished checks. Default: a folder of yours.")
    ] = None,
    rpc: Rpc = DEFAULT_RPC,
    work_grpc: WorkGrpc = "127.0.0.1:8547",
    keystore: Keystore = None,
    key: DevKey = None,
    password_file: PasswordFile = None,
    backend: Backend = "native",
    bond: Annotated[bool, typer.Option("--bond/--no-bond", help="Bond the key if needed, to be drawn.")] = True,
    fault_kind: Annotated[
        CompanionLie | None, typer.Option("--fault-kind", help="Devnet only: how it cheats with each check.")
    ] = None,
    log_level: Level = LogLevel.INFO,
    log_format: Form = LogFormat.CONSOLE,
) -> None:
    """A companion: executes jobs once more, is paid for each check, and proves it where a provider lied.

    Its key is bonded if needed; it should serve no graph as a provider that it checks.

    Examples:
      hyperdust companion --keystore companion.json --graph minilm
      hyperdust companion --rpc http://10.0.0.2:8545 --work-grpc 10.0.0.2:8547 --keystore companion.json --backend numpy
    """
    from hyperdust.companion import CompanionConfig, run_companion
    from hyperdust.logging import set_up
    from hyperdust.paths import state_dir
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import load_account

    follow_supervisor()
    set_up(log_level, log_format)
    if keystore is None and key is None:
        raise UsageFault("a companion needs its own key; give --keystore FILE (`hyperdust wallet new` makes one)")
    with RpcClient(rpc) as client:
        account = load_account(wait_for_chain_id(client), keystore, key, lambda: read_password(password_file))
    run_companion(
        CompanionConfig(
            account=account,
            graphs=tuple(graph),
            rpc=rpc,
            work_grpc=work_grpc,
            backend=backend,
            data_dir=data_dir or state_dir() / "companion",
            bond=bond,
            lie=fault_kind,
        )
    )


def challenge(
    job: Annotated[int, typer.Option("--job", min=1, help="Number of a revealed job.")],
    graph: Annotated[str, typer.Option("--graph", help="Its graph's name.")] = "minilm",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Notes, to go on after a stop. Default: a folder of yours.")
    ] = None,
    rpc: Rpc = DEFAULT_RPC,
    work_grpc: WorkGrpc = "127.0.0.1:8547",
    keystore: Keystore = None,
    key: DevKey = None,
    password_file: PasswordFile = None,
    backend: Backend = "native",
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for a verdict.")] = 600.0,
    as_json: Json = False,
    log_level: Level = LogLevel.WARNING,
    log_format: Form = LogFormat.CONSOLE,
) -> None:
    """Check one revealed job; where it is false, prove it and take half of the provider's bond.

    Anyone may, as long as the job is not final. Proving costs gas, a demand for withheld data its deposit.

    Examples:
      hyperdust challenge --job 17 --keystore mine.json
      hyperdust challenge --job 17 --graph llama-tiny --keystore mine.json --json
    """
    from hyperdust.companion import ChallengeConfig, run_challenge
    from hyperdust.logging import set_up
    from hyperdust.paths import state_dir
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import load_account

    set_up(log_level, log_format)
    with RpcClient(rpc) as client:
        chain_id = client.quantity("eth_chainId")
    account = load_account(chain_id, keystore, key, lambda: read_password(password_file))
    config = ChallengeConfig(
        account=account,
        job=job,
        graph=graph,
        rpc=rpc,
        work_grpc=work_grpc,
        backend=backend,
        data_dir=data_dir or state_dir() / "challenge",
        timeout_s=timeout,
    )
    found = run_challenge(config)
    text = f"job {job} is right"
    if found["verdict"] == "guilty":
        text = f"job {job} is false ({found['kind']}, operator {found['operator']}): its provider is slashed"
    emit(found, as_json=as_json, text=text)
