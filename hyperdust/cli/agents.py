"""Commands for agents: create, ask, list, close, withdraw."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from hyperdust.cli.use import Wait

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from hyperdust.agent_input import Prefix
    from hyperdust.rpc_client import RpcClient

Which = Annotated[str, typer.Option("--agent", metavar="ID", help="Its id, address or name; see `agent list`.")]


class Currency(StrEnum):
    """What an agent is paid in."""

    BTC = "btc"
    DUST = "dust"
    COIN = "coin"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    agents = group("Agents: contracts that answer with a graph, for a price.")
    agents.command("create")(agent_create)
    agents.command("ask")(agent_ask)
    agents.command("list")(agent_list)
    agents.command("close")(agent_close)
    agents.command("withdraw")(agent_withdraw)
    agents.command("run-due", hidden=True)(agent_run_due)
    app.add_typer(agents, name="agent")


def agent_create(
    name: Annotated[str, typer.Option("--name", help="What people call it.")],
    graph: Annotated[
        str, typer.Option("--graph", help="The graph that it answers with; see `hyperdust graph list`.")
    ] = "llama-tiny",
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Words before every question: a system prompt.")
    ] = None,
    prefix_file: Annotated[
        Path | None,
        typer.Option("--prefix", metavar="FILE", help="Rows before every input, raw little-endian, not --prompt."),
    ] = None,
    price: Annotated[str, typer.Option("--price", help="What an answer costs, beyond the job's fee.")] = "0",
    currency: Annotated[Currency, typer.Option("--currency", help="What the price is in.")] = Currency.BTC,
    coin: Annotated[
        str | None, typer.Option("--coin", metavar="SYMBOL", help="Launch a coin of its own, on a bonding curve.")
    ] = None,
    coin_base: Annotated[str, typer.Option("--coin-base", metavar="BTC", help="Price of its first coin.")] = "0.000001",
    coin_slope: Annotated[
        str, typer.Option("--coin-slope", metavar="BTC", help="What each coin adds to the price.")
    ] = "0.00000001",
    items: Annotated[bool, typer.Option("--items", help="Launch items (ERC-1155) that you can offer.")] = False,
    uri: Annotated[str, typer.Option("--uri", help="Metadata of its ERC-721.")] = "",
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Make an agent that is yours: an ERC-721, and a contract that answers with a graph.

    Examples:
      hyperdust agent create --name ada
      hyperdust agent create --name bard --prompt "Once upon a time" --price 0.00001
      hyperdust agent create --name guild --coin GLD --currency coin --price 5 --json
    """
    from hyperdust import agent, job
    from hyperdust.wallet import parse_btc

    draft = agent.Draft(
        name=name,
        graph=b"",
        prefix=_prefix(graph, prompt, prefix_file),
        currency=agent.CURRENCIES.index(currency.value),
        price=parse_btc(price),
        uri=uri,
        coin=agent.Coin(f"{name} coin"[:25], coin, parse_btc(coin_base), parse_btc(coin_slope)) if coin else None,
        items=items,
    )
    with _signing(rpc, keystore, key, password_file) as (client, account), job.progress() as say:
        from dataclasses import replace

        made = agent.create(client, account, replace(draft, graph=job.find_graph(client, graph)), say)
    emit(
        made.as_json(),
        as_json=as_json,
        text=f"agent {made.id}, {made.name}, is 0x{made.address.hex()}\nanswers with {made.graph_name} for "
        f'{agent.show_amount(made.price, made.currency)}\nhyperdust agent ask --agent {made.id} --text "…"',
    )


def agent_ask(
    which: Which,
    text: Annotated[str | None, typer.Option("--text", help="Words to answer.")] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Input behind the agent's prefix, as `job ask --input` takes it."),
    ] = None,
    graph: Annotated[
        str | None, typer.Option("--graph", help="Folder of its graph, where this machine has no graph of its name.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="ADDR", help="Who shall execute the job. Default: drawn.")
    ] = None,
    wait: Annotated[Wait, typer.Option("--wait", help="claimed: answered; final: past every dispute.")] = Wait.CLAIMED,
    max_fee: Annotated[str, typer.Option("--max-fee", metavar="BTC", help="What the job may cost.")] = "0.00001",
    max_price: Annotated[
        str | None, typer.Option("--max-price", help="What the agent may take, in its currency. Default: its price.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")] = 300.0,
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Ask an agent: pay its price and the job, wait, print the answer.

    Examples:
      hyperdust agent ask --agent 1 --text "A miner"
      hyperdust agent ask --agent bard --text "there was a block" --wait final --json
    """
    from dataclasses import replace

    from hyperdust import agent, job
    from hyperdust.wallet import parse_address, parse_btc

    with _signing(rpc, keystore, key, password_file) as (client, account), job.progress() as say:
        found = agent.find_agent(client, which)
        question = replace(
            agent.question_of(found, text, input_file, graph),
            fee=parse_btc(max_fee),
            provider=parse_address(provider) if provider else None,
        )
        answered = agent.ask(
            client,
            account,
            found,
            question,
            max_price=None if max_price is None else parse_btc(max_price),
            until_final=wait is Wait.FINAL,
            timeout_s=timeout,
            say=say,
        )
    answer = answered.answer
    emit(
        answered.as_json(),
        as_json=as_json,
        text=f"{found.name}, ask {answered.ask}, job {answer.job}: {answer.status}, answered in block {answer.block} "
        f"by {answer.provider}\n{answer.summary()}",
    )


def agent_list(
    owner: Annotated[str | None, typer.Option("--owner", metavar="ADDR", help="Only this account's.")] = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Agents on this chain.

    Examples:
      hyperdust agent list
      hyperdust agent list --owner 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266 --json
    """
    from hyperdust.agent import list_agents, show_amount
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import parse_address

    if owner is not None:
        parse_address(owner)
    with RpcClient(rpc) as client:
        found = list(list_agents(client, owner))
    lines = "\n".join(
        f"{one.id:>4}  {one.name}  {one.graph_name}  {show_amount(one.price, one.currency)}  {one.owner}"
        for one in found
    )
    emit(
        [one.as_json() for one in found],
        as_json=as_json,
        text=lines or "no agents yet; `hyperdust agent create --name NAME` makes one",
    )


def agent_close(
    which: Which,
    ask: Annotated[list[int], typer.Option("--ask", min=1, help="Number of an ask; may be given again.")],
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """End asks whose jobs are over: the agent gets its price, or the asker everything back. Anyone may.

    Example:
      hyperdust agent close --agent 1 --ask 3 --ask 4
    """
    from hyperdust import agent

    with _signing(rpc, keystore, key, password_file) as (client, account):
        found = agent.find_agent(client, which)
        agent.close(client, account, found, ask)
    emit({"agent": found.id, "closed": ask}, as_json=as_json, text=f"closed {', '.join(map(str, ask))}")


def agent_withdraw(
    which: Which,
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Pay yourself what your agent has earned with final jobs.

    Example:
      hyperdust agent withdraw --agent 1
    """
    from hyperdust import agent, job

    with _signing(rpc, keystore, key, password_file) as (client, account), job.progress() as say:
        found = agent.find_agent(client, which)
        paid = agent.withdraw(client, account, found, say)
    shown = [agent.show_amount(paid[name], number) for number, name in enumerate(agent.CURRENCIES) if paid[name]]
    emit(
        {"agent": found.id, "owner": found.owner} | {name: str(amount) for name, amount in paid.items()},
        as_json=as_json,
        text=", ".join(shown) or "nothing earned yet; a price is earned once its job is final",
    )


def agent_run_due(
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Run the scheduled calls that are due, for their tips.

    Example:
      hyperdust agent run-due --json
    """
    from hyperdust.scheduler import run_due

    with _signing(rpc, keystore, key, password_file) as (client, account):
        ran = run_due(client, account)
    lines = "\n".join(f"call {row['call']}: {'ran' if row['success'] else 'its target failed'}" for row in ran)
    emit(ran, as_json=as_json, text=lines or "nothing is due")


@contextmanager
def _signing(
    rpc: str, keystore: Path | None, key: str | None, password_file: Path | None
) -> "Iterator[tuple[RpcClient, LocalAccount]]":
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import load_account

    with RpcClient(rpc) as client:
        yield client, load_account(client.quantity("eth_chainId"), keystore, key, lambda: read_password(password_file))


def _prefix(graph: str, prompt: str | None, prefix_file: Path | None) -> "Prefix":
    from hyperdust.agent_input import Prefix, prefix_of, raw_prefix

    if prompt is not None and prefix_file is not None:
        raise UsageFault("give --prompt or --prefix, not both")
    if prompt is not None:
        return prefix_of(graph, prompt)
    return Prefix() if prefix_file is None else raw_prefix(graph, prefix_file.read_bytes())
