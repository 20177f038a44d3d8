"""The command that serves graphs and agents to OpenAI's clients until it is stopped."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

import sys
from pathlib import Path
from typing import Annotated

import typer

from hyperdust.cli.options import DEFAULT_RPC, Json, Key, Keystore, PasswordFile, Rpc, emit, read_password
from hyperdust.cli.roles import Form, Level, follow_supervisor, wait_for_chain_id
from hyperdust.cli.use import Wait
from hyperdust.logging import LogFormat, LogLevel


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(gateway)


def gateway(
    graph: Annotated[
        list[str] | None,
        typer.Option("--graph", help="Graph to offer, by name or folder; give it again for more. Default: all here."),
    ] = None,
    rpc: Rpc = DEFAULT_RPC,
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8700,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; another than loopback needs --api-key.")
    ] = "127.0.0.1",
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", help="Bearer token that requests have to carry; better: HYPERDUST_API_KEY."),
    ] = None,
    wait: Annotated[
        Wait, typer.Option("--wait", help="When to answer: claimed (seconds), or final (past every dispute).")
    ] = Wait.CLAIMED,
    fee: Annotated[str, typer.Option("--fee", metavar="BTC", help="What each job pays.")] = "0.00001",
    max_fee: Annotated[
        str, typer.Option("--max-fee", metavar="BTC", help="What one request may cost: its jobs, and an agent's price.")
    ] = "0.0001",
    budget: Annotated[
        str, typer.Option("--budget", metavar="BTC", help="What all requests of an hour may cost, with gas.")
    ] = "0.001",
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds a request waits for its answer.")] = 120.0,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=32, help="Requests answered at once.")] = 8,
    deadline: Annotated[
        int,
        typer.Option("--deadline", metavar="BLOCKS", min=1, help="Unanswered for so long, a job's money comes back."),
    ] = 600,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="ADDR", help="Who shall answer for graphs. Default: drawn.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="What was spent, and what is not over. Default: your state folder."),
    ] = None,
    max_body: Annotated[int, typer.Option("--max-body", metavar="BYTES", min=1024, help="Longest request.")] = 2**18,
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    as_json: Json = False,
    log_level: Level = LogLevel.INFO,
    log_format: Form = LogFormat.CONSOLE,
) -> None:
    """An OpenAI-compatible endpoint: each request is a job, paid from your key; the answer says which.

    Models are graphs (llama-tiny, minilm) and agents (agent:ID). Requests spend coins: --max-fee bounds one, --budget
    an hour.

    Examples:
      hyperdust gateway
      hyperdust gateway --keystore mine.json --budget 0.0005 --wait final
      HYPERDUST_API_KEY=secret hyperdust gateway --host 0.0.0.0 --keystore mine.json
      OPENAI_BASE_URL=http://127.0.0.1:8700/v1 OPENAI_API_KEY=none python your_program.py
    """
    import trio

    from hyperdust.gateway.app import run_gateway
    from hyperdust.gateway.config import GatewayConfig
    from hyperdust.logging import set_up
    from hyperdust.paths import state_dir
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import load_account, parse_address, parse_btc

    follow_supervisor()
    set_up(log_level, log_format)
    with RpcClient(rpc) as client:
        account = load_account(wait_for_chain_id(client), keystore, key, lambda: read_password(password_file))
    config = GatewayConfig(
        account=account,
        rpc=rpc,
        host=host,
        port=port,
        graphs=tuple(graph or ()),
        api_key=api_key,
        fee_wei=parse_btc(fee),
        max_fee_wei=parse_btc(max_fee),
        budget_wei=parse_btc(budget),
        until_final=wait is Wait.FINAL,
        timeout_s=timeout,
        concurrency=concurrency,
        body_bytes=max_body,
        provider=parse_address(provider) if provider else bytes(20),
        deadline_blocks=deadline,
        data_dir=data_dir or state_dir() / "gateway",
    )

    def on_ready(url: str, models: list[str]) -> None:
        emit(
            {"url": url, "models": models, "address": account.address},
            as_json=as_json,
            text=f"gateway at {url}, paying with {account.address} through {rpc}\n"
            f"models: {', '.join(models)}, agent:ID",
        )
        sys.stdout.flush()

    trio.run(run_gateway, config, on_ready)
