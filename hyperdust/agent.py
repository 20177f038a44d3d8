"""Agents on the chain, for programs (the command line is one): make one, find it, ask it, collect what it earned.

with RpcClient() as client:
    agent = find_agent(client, "ada")
    question = question_of(agent, "Who pays the miners?")
    print(ask(client, account, agent, question).answer.summary())
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from eth_account.signers.local import LocalAccount

from hyperdust import job
from hyperdust.agent_input import AgentError, Prefix, input_behind
from hyperdust.contracts_abi import ADDRESSES, decode_event, decode_output, encode_call, event_topic
from hyperdust.rpc_client import RpcClient

CURRENCIES: Final = ("btc", "dust", "coin")
"""In the order of their numbers on the chain."""
BTC, DUST, COIN = range(3)
UNIT: Final = 10**18
"""Smallest units of one BTC, one DUST, one coin."""

_ZERO: Final = bytes(20)
_CLAIMED: Final = 2
_FINAL: Final = 4
_SHUT: Final = 2**128
"""A price in BTC that nobody has: an agent's, until its own coin is there to be paid in."""
_CLOSE_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Agent:
    """What the chain says of an agent."""

    id: int
    address: bytes
    owner: str
    name: str
    graph: bytes
    graph_name: str
    """As the registry says; names are anyone's to take."""
    currency: int
    price: int
    """In the currency's smallest unit; the job's fee comes on top."""
    coin: bytes | None
    items: bytes | None
    prefix: Prefix
    asks: int

    def as_json(self) -> dict[str, Any]:
        """As `agent list --json` prints it."""
        return {
            "agent": self.id,
            "address": _hex(self.address),
            "owner": self.owner,
            "name": self.name,
            "graph": self.graph_name,
            "graph_id": _hex(self.graph),
            "currency": CURRENCIES[self.currency],
            "price": str(self.price),
            "coin": _hex(self.coin) if self.coin else None,
            "items": _hex(self.items) if self.items else None,
            "prefix_rows": self.prefix.rows,
            "asks": self.asks,
        }


@dataclass(frozen=True, slots=True)
class Coin:
    """A coin to launch, sold and bought back at `base + slope * supply`."""

    name: str
    symbol: str
    base: int
    """Wei for a coin when there is none."""
    slope: int
    """Wei by which each coin raises the price."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An agent to make."""

    name: str
    graph: bytes
    prefix: Prefix = field(default_factory=Prefix)
    currency: int = BTC
    price: int = 0
    uri: str = ""
    """Metadata of the ERC-721."""
    coin: Coin | None = None
    items: bool = False


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """An answer, and what the agent took for it."""

    agent: Agent
    ask: int
    """Number of the ask, the agent's."""
    answer: job.Answer

    def as_json(self) -> dict[str, Any]:
        """As `agent ask --json` prints it: the job's fields, and the agent's."""
        return self.answer.as_json() | {
            "agent": self.agent.id,
            "ask": self.ask,
            "currency": CURRENCIES[self.agent.currency],
            "price": str(self.agent.price),
        }


def read_agent(client: RpcClient, number: int) -> Agent:
    """An agent by its id.

    Raises:
        AgentError: there is none.
    """
    (address,) = _view(client, "AgentFactory", ADDRESSES["AgentFactory"], "agent_at", number)
    at = _address(address)
    if at == _ZERO:
        raise AgentError(f"no agent {number} on this chain; `hyperdust agent list` shows those that are")

    def factory(function: str) -> Any:
        return _view(client, "AgentFactory", ADDRESSES["AgentFactory"], function, number)[0]

    def own(function: str) -> Any:
        return _view(client, "Agent", at, function)[0]

    graph = own("graph")
    return Agent(
        id=number,
        address=at,
        owner=factory("ownerOf"),
        name=factory("name_of"),
        graph=graph,
        graph_name=_view(client, "GraphRegistry", ADDRESSES["GraphRegistry"], "name_of", graph)[0],
        currency=own("currency"),
        price=own("price"),
        coin=_optional(factory("coin_of")),
        items=_optional(factory("items_of")),
        prefix=Prefix(own("prefix"), own("prefix_rows"), own("prefix_symbol")),
        asks=own("asks_count"),
    )


def list_agents(client: RpcClient, owner: str | None = None) -> Iterator[Agent]:
    """Every agent, or an owner's, by id."""
    (count,) = _view(client, "AgentFactory", ADDRESSES["AgentFactory"], "totalSupply")
    for number in range(1, count + 1):
        found = read_agent(client, number)
        if owner is None or found.owner.lower() == owner.lower():
            yield found


def find_agent(client: RpcClient, which: str) -> Agent:
    """An agent by id, by address or by name.

    Raises:
        AgentError: none, or several of that name: names them.
    """
    if which.isdecimal():
        return read_agent(client, int(which))
    if which.startswith("0x"):
        from hyperdust.wallet import parse_address  # noqa: PLC0415  # loads more than most commands need

        (number,) = _view(client, "AgentFactory", ADDRESSES["AgentFactory"], "id_of", parse_address(which))
        if number == 0:
            raise AgentError(f"{which} is no agent; `hyperdust agent list` shows those that are")
        return read_agent(client, number)
    found = [agent for agent in list_agents(client) if agent.name == which]
    if len(found) == 1:
        return found[0]
    if not found:
        raise AgentError(f"no agent is called {which!r}; `hyperdust agent list` shows those that are")
    ids = ", ".join(str(agent.id) for agent in found)
    raise AgentError(f"{len(found)} agents are called {which!r}; say which by its id: {ids}")


def question_of(
    agent: Agent, text: str | None = None, input_file: Any = None, graph: str | None = None
) -> job.Question:
    """What is asked of an agent, behind its prefix; `fee` is to be set (`dataclasses.replace`).

    `graph`: this machine's name or folder of the graph, if it is not the registry's name.

    Raises:
        UnknownGraph, WeightsMissing, InputUnreadable, SymbolOutOfRange.
        AgentError: the graph on this machine is another one.
    """
    from hyperdust.graph import load_graph  # noqa: PLC0415  # loads the graph's description

    name = graph or agent.graph_name
    loaded = load_graph(name)
    if loaded.graph_id != agent.graph:
        raise AgentError(
            f"agent {agent.id} answers with graph {_hex(agent.graph)}; {name!r} on this machine is "
            f"{_hex(loaded.graph_id)}. Give its folder with --graph"
        )
    data, symbols = input_behind(agent.prefix, name, text, input_file)
    return job.Question(graph=name, data=data, symbols=symbols, fee=0)


def whole_question(agent: Agent, question: job.Question) -> job.Question:
    """The question as the job has it: prefix and input together."""
    symbols = list(question.symbols)
    if agent.prefix.rows:
        symbols[agent.prefix.symbol] += agent.prefix.rows
    return replace(question, data=agent.prefix.data + question.data, symbols=tuple(symbols))


def create(client: RpcClient, account: LocalAccount, draft: Draft, say: job.Say = lambda _: None) -> Agent:
    """Make an agent, its coin and its items; one transaction each.

    Raises:
        AgentError: the draft contradicts itself.
        RpcError, TransactionFailed, ReceiptTimeout: the chain refused.
    """
    if draft.currency == COIN and draft.coin is None:
        raise AgentError("an agent that is paid in its own coin needs one: give --coin SYMBOL")
    shut = draft.currency == COIN
    arguments = (
        draft.name,
        draft.graph,
        draft.prefix.data,
        draft.prefix.symbol,
        draft.prefix.rows,
        BTC if shut else draft.currency,
        _SHUT if shut else draft.price,
        draft.uri,
    )
    say(f"making agent {draft.name}")
    receipt = _send(client, account, "AgentFactory", ADDRESSES["AgentFactory"], "create", *arguments)
    number = int(_event(receipt, "AgentFactory", "Created")["id"])
    if draft.coin is not None:
        say(f"launching {draft.coin.symbol}")
        launched = (number, draft.coin.name, draft.coin.symbol, draft.coin.base, draft.coin.slope)
        _send(client, account, "AgentFactory", ADDRESSES["AgentFactory"], "launch_coin", *launched)
    if draft.items:
        say("launching its items")
        _send(client, account, "AgentFactory", ADDRESSES["AgentFactory"], "launch_items", number)
    if shut:
        (address,) = _view(client, "AgentFactory", ADDRESSES["AgentFactory"], "agent_at", number)
        _send(client, account, "Agent", _address(address), "set_price", COIN, draft.price)
    return read_agent(client, number)


def ask(
    client: RpcClient,
    account: LocalAccount,
    agent: Agent,
    question: job.Question,
    *,
    max_price: int | None = None,
    until_final: bool = False,
    timeout_s: float = 300.0,
    say: job.Say = lambda _: None,
) -> AgentAnswer:
    """Ask, pay job and agent, wait, read the answer. `question` as `question_of` gives it, with its fee.

    Raises:
        AgentError: it costs more than `max_price`.
        JobError: no answer in time; fee and price come back by `close`.
        RpcError, TransactionFailed, ReceiptTimeout: the ask did not get into a block.
    """
    if max_price is not None and agent.price > max_price:
        raise AgentError(
            f"agent {agent.id} takes {show_amount(agent.price, agent.currency)}, "
            f"more than {show_amount(max_price, agent.currency)}; give a higher --max-price"
        )
    whole = whole_question(agent, question)
    _allow(client, account, agent, say)
    terms = (question.provider or _ZERO, question.fee, agent.currency, agent.price, _CLAIMED, 0, 0)
    deadline = job.deadline_of(client, agent.graph, whole.symbols)
    say(f"asking agent {agent.id}, {agent.name}")
    arguments = (question.data, list(question.symbols), deadline, terms)
    value = question.fee + (agent.price if agent.currency == BTC else 0)
    receipt = _send(client, account, "Agent", agent.address, "ask", *arguments, value=value)
    number = int(_event(receipt, "Agent", "Asked", agent.address)["number"])
    found = job.job_of(receipt)
    say(f"ask {number} is job {found}; waiting for the answer")
    try:
        answer = job.follow(client, found, whole, until_final=until_final, timeout_s=timeout_s, say=say)
    except job.JobError as error:
        raise AgentError(
            f"{error}. Once the job is refunded, `hyperdust agent close --agent {agent.id} --ask {number}` "
            "brings fee and price back"
        ) from error
    return AgentAnswer(agent, number, answer)


def close(client: RpcClient, account: LocalAccount, agent: Agent, numbers: Sequence[int]) -> None:
    """End the escrow of asks whose jobs are over: the price to the agent, or everything back to the asker.

    Raises:
        RpcError: one of them is not over.
    """
    for start in range(0, len(numbers), _CLOSE_MAX):
        some = list(numbers[start : start + _CLOSE_MAX])
        _send(client, account, "Agent", agent.address, "close", some)


def withdraw(client: RpcClient, account: LocalAccount, agent: Agent, say: job.Say = lambda _: None) -> dict[str, int]:
    """Close what is over, and pay the owner what the agent has earned, by currency.

    Raises:
        AgentError: the account is not the owner.
        RpcError, TransactionFailed, ReceiptTimeout: the chain refused.
    """
    if account.address.lower() != agent.owner.lower():
        raise AgentError(f"agent {agent.id} belongs to {agent.owner}, not to {account.address}; give its --keystore")
    over = [number for number in range(1, agent.asks + 1) if _is_over(client, agent, number)]
    if over:
        say(f"closing {len(over)} asks")
        close(client, account, agent, over)
    paid = {}
    for currency, name in enumerate(CURRENCIES):
        (amount,) = _view(client, "Agent", agent.address, "revenue", currency)
        if amount:
            _send(client, account, "Agent", agent.address, "withdraw_revenue", currency, _address(account.address))
        paid[name] = int(amount)
    return paid


def callback_cost(client: RpcClient, agent: Agent, callback_gas: int) -> int:
    """Wei to send beyond fee and price so that a contract is called back with this much gas.

    Twice its cost at the present base fee: for a rise of it, and the runner's tip. What is left comes back.
    """
    (deliver,) = _view(client, "Agent", agent.address, "DELIVER_GAS")
    (run,) = _view(client, "Scheduler", ADDRESSES["Scheduler"], "RUN_GAS")
    base_fee = int(client.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    return int(2 * (deliver + run + callback_gas) * base_fee)


def show_amount(amount: int, currency: int) -> str:
    """An amount as people read it."""
    from hyperdust.wallet import show_btc  # noqa: PLC0415  # loads more than most commands need

    return show_btc(amount).replace("BTC", ("BTC", "DUST", "coins")[currency])


def _is_over(client: RpcClient, agent: Agent, number: int) -> bool:
    (record,) = _view(client, "Agent", agent.address, "ask_of", number)
    (status,) = _view(client, "JobMarket", ADDRESSES["JobMarket"], "status", record[1])
    return bool(record[-1] == 0 and status >= _FINAL)


def _allow(client: RpcClient, account: LocalAccount, agent: Agent, say: job.Say) -> None:
    """Let the agent take its price, where that is a token."""
    if agent.currency == BTC or agent.price == 0:
        return
    kind, token = ("Dust", ADDRESSES["Dust"]) if agent.currency == DUST else ("AgentCoin", agent.coin or _ZERO)
    owner = _address(account.address)
    (held,) = _view(client, kind, token, "balanceOf", owner)
    if held < agent.price:
        where = "mining earns it" if agent.currency == DUST else f"buy it from {_hex(token)}"
        raise AgentError(
            f"{account.address} holds {show_amount(held, agent.currency)} and agent {agent.id} takes "
            f"{show_amount(agent.price, agent.currency)}; {where}"
        )
    (allowed,) = _view(client, kind, token, "allowance", owner, agent.address)
    if allowed < agent.price:
        say("allowing the agent to take its price")
        _send(client, account, kind, token, "approve", agent.address, agent.price)


def _view(client: RpcClient, kind: str, at: bytes, function: str, *args: object) -> tuple[Any, ...]:
    return decode_output(kind, function, client.view(at, encode_call(kind, function, *args)))


def _send(
    client: RpcClient, account: LocalAccount, kind: str, at: bytes, function: str, *args: object, value: int = 0
) -> Mapping[str, Any]:
    return client.send_transaction(account, at, encode_call(kind, function, *args), value)


def _event(receipt: Mapping[str, Any], kind: str, event: str, at: bytes | None = None) -> dict[str, Any]:
    topic = event_topic(kind, event)
    for log in receipt["logs"]:
        topics = [bytes.fromhex(word[2:]) for word in log["topics"]]
        if topics and topics[0] == topic and at in {None, _address(log["address"])}:
            return decode_event(kind, event, topics, bytes.fromhex(log["data"][2:]))
    raise AgentError(f"transaction {receipt['transactionHash']} has no event {event}")


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _optional(address: str) -> bytes | None:
    found = _address(address)
    return None if found == _ZERO else found


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
