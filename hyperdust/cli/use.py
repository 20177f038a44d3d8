"""Commands that ask a node: job, wallet, status; and doctor, which looks at this machine."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hyperdust.cli.options import (
    DEFAULT_RPC,
    Json,
    Key,
    Keystore,
    PasswordFile,
    Rpc,
    UsageFault,
    emit,
    group,
    read_password,
)


class Wait(StrEnum):
    """How sure an answer has to be."""

    CLAIMED = "claimed"
    FINAL = "final"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    jobs = group("Pay for a computation, and read its answer.")
    jobs.command("ask")(ask)
    jobs.command("refund")(refund)
    app.add_typer(jobs, name="job")

    wallet = group("Keys and coins.")
    wallet.command("new")(wallet_new)
    wallet.command("list")(wallet_list)
    wallet.command("send")(wallet_send)
    wallet.command("balance")(wallet_balance)
    app.add_typer(wallet, name="wallet")

    app.command()(status)
    app.command()(doctor)


def ask(
    graph: Annotated[str, typer.Option("--graph", help="A graph's name; see `hyperdust graph list`.")] = "minilm",
    text: Annotated[str | None, typer.Option("--text", help="Words to answer.")] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Input tensors as raw little-endian bytes, instead of --text."),
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="ADDR", help="Who shall answer. Default: drawn.")
    ] = None,
    wait: Annotated[Wait, typer.Option("--wait", help="claimed: answered; final: past every dispute.")] = Wait.CLAIMED,
    max_fee: Annotated[str, typer.Option("--max-fee", metavar="BTC", help="What the answer may cost.")] = "0.00001",
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")] = 300.0,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write a render's image, as PNG.")] = None,
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Ask a graph: pay, wait, print the answer.

    Examples:
      hyperdust job ask --graph minilm --text "Bitcoin is electronic cash"
      hyperdust job ask --graph minilm --text "Bitcoin is electronic cash" --wait final --json
      hyperdust job ask --graph render_island --out island.png
    """
    from hyperdust import graph_scene, job
    from hyperdust.graph import input_bytes
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import load_account, parse_address, parse_btc, show_btc

    question = input_bytes(graph, text, input_file)
    with RpcClient(rpc) as client, job.progress() as say:
        account = load_account(client.quantity("eth_chainId"), keystore, key, lambda: read_password(password_file))
        answer = job.ask(
            client,
            account,
            job.Question(
                graph=graph,
                data=question.data,
                symbols=question.symbols,
                fee=parse_btc(max_fee),
                provider=parse_address(provider) if provider else None,
            ),
            until_final=wait is Wait.FINAL,
            timeout_s=timeout,
            say=say,
        )
    if out is not None:
        graph_scene.write_described(answer.output, out)
    emit(
        answer.as_json(),
        as_json=as_json,
        text=f"job {answer.job}: {answer.status}, answered in block {answer.block} by {answer.provider}, "
        f"{show_btc(answer.fee_wei)}\ntrace root {answer.trace_root}\n{answer.summary()}",
    )


def refund(
    number: Annotated[int, typer.Argument(metavar="ID", min=0, help="The job's number.")],
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Give back the fee of a job that was not answered, or not revealed, in time. Anyone may; who asked gets it.

    Examples:
      hyperdust job refund 17
      hyperdust job refund 17 --keystore mine.json --json
    """
    from hyperdust import job
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import load_account, show_btc

    with RpcClient(rpc) as client:
        account = load_account(client.quantity("eth_chainId"), keystore, key, lambda: read_password(password_file))
        found = job.refund(client, account, number)
    text = f"job {number}: {found['status']}, {show_btc(found['fee_wei'])} for {found['requester']}"
    emit(found, as_json=as_json, text=f"{text}, transaction {found['transaction']}")


def wallet_new(
    keystore: Annotated[
        Path | None,
        typer.Option("--keystore", metavar="FILE", help="File to write; never overwritten. Default: a new one."),
    ] = None,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Make a key, encrypted with a password.

    Examples:
      hyperdust wallet new
      hyperdust wallet new --keystore miner.json --password-file secret
    """
    from hyperdust.wallet import new_keystore

    address, path = new_keystore(read_password(password_file, confirm=True), keystore)
    emit(
        {"address": address, "keystore": str(path)},
        as_json=as_json,
        text=f"{address}\n{path}\nKeep the file and the password: without both, what the address holds is lost.",
    )


def wallet_list(
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where to look. Default: your keystore folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Addresses of your keystore files.

    Example:
      hyperdust wallet list --json
    """
    from hyperdust.wallet import list_keystores

    found = [{"address": address, "keystore": str(path)} for address, path in list_keystores(folder)]
    lines = "\n".join(f"{row['address']}  {row['keystore']}" for row in found)
    emit(found, as_json=as_json, text=lines or "no keys yet; `hyperdust wallet new` makes one")


def wallet_send(
    to: Annotated[str, typer.Option("--to", metavar="ADDR", help="Who receives.")],
    btc: Annotated[str, typer.Option("--btc", help="How much, in BTC.")],
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Send BTC on the L2, and wait for its block.

    Example:
      hyperdust wallet send --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --btc 0.5
    """
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import load_account, parse_address, parse_btc, send, show_btc

    value, receiver = parse_btc(btc), parse_address(to)
    with RpcClient(rpc) as client:
        account = load_account(client.quantity("eth_chainId"), keystore, key, lambda: read_password(password_file))
        receipt = send(client, account, receiver, value)
    answer = {
        "transaction": receipt["transactionHash"],
        "block": int(receipt["blockNumber"], 16),
        "from": account.address,
        "to": to,
        "value_wei": value,
        "fee_wei": int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16),
    }
    emit(
        answer,
        as_json=as_json,
        text=f"{show_btc(value)} to {to} in block {answer['block']}, transaction {answer['transaction']}",
    )


def wallet_balance(
    addresses: Annotated[
        list[str] | None, typer.Argument(help="Default: your keystores; on a devnet account 0.")
    ] = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """BTC and DUST of addresses.

    Example:
      hyperdust wallet balance 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266
    """
    from chain.params import DEVNET_CHAIN_IDS
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import balances, list_keystores, show_btc, user_key

    with RpcClient(rpc) as client:
        wanted = addresses or [address for address, _ in list_keystores()]
        if not wanted and client.quantity("eth_chainId") in DEVNET_CHAIN_IDS:
            wanted = [user_key(0).address]
        if not wanted:
            raise UsageFault("no address to look at; give one, or make a key with `hyperdust wallet new`")
        rows = balances(client, wanted)
    lines = "\n".join(
        f"{row['address']}  {show_btc(row['btc_wei'])}  {show_btc(row['dust']).replace('BTC', 'DUST')}" for row in rows
    )
    emit(rows, as_json=as_json, text=lines)


def status(rpc: Rpc = DEFAULT_RPC, as_json: Json = False) -> None:
    """How the chain is doing: head, finality, mempool, miners, jobs.

    Example:
      hyperdust status --rpc http://127.0.0.1:8545 --json
    """
    from hyperdust.rpc_client import RpcClient
    from hyperdust.status import read_status, show_status

    with RpcClient(rpc) as client:
        found = read_status(client)
    emit(found, as_json=as_json, text=show_status(found))


def doctor(
    rpc_port: Annotated[int, typer.Option("--rpc-port", help="First port that a devnet would take.")] = 8545,
    as_json: Json = False,
) -> None:
    """What this machine lacks, each with the command that mends it. Exit code 1 where something fails.

    Example:
      hyperdust doctor
    """
    from hyperdust.doctor import examine, show_findings

    findings = examine(rpc_port)
    failed = any(finding.verdict == "fail" for finding in findings)
    emit(
        {"ok": not failed, "checks": [finding.as_json() for finding in findings]},
        as_json=as_json,
        text=show_findings(findings),
    )
    if failed:
        raise typer.Exit(1)
