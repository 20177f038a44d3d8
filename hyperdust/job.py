"""Pay for a computation and wait for its answer: request, claim, reveal, final, each with a bound and a reason."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError
from hyperdust.contracts_abi import ADDRESSES, decode_event, decode_output, decode_struct, encode_call, event_topic
from hyperdust.rpc_client import RpcClient, RpcError

Say = Callable[[str], None]

_POLL_S: Final = 0.3
DEADLINE_BLOCKS: Final = 600  # an hour at the main network's spacing of 6 s
_ANSWERED: Final = {"claimed", "revealed", "final"}
_NOTHING_BACK: Final[Mapping[str, str]] = {
    "revealed": "answered; its fee comes back only if it is proven false (`hyperdust challenge`)",
    "final": "answered and paid",
    "refunded": "its fee is back already",
    "slashed": "its answer was proven false, its fee is back already",
}
_REVEAL_WAIT_S: Final = 30.0
"""The reveal follows the claim by a block or two; --wait claimed gives it that long, so that a trace root is there."""


class JobError(HyperdustError):
    """A job cannot be asked, or was not answered in time; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a graph."""

    graph: str
    """Name in the registry."""
    data: bytes
    """Input tensors, row-major little-endian, in the graph's order."""
    symbols: tuple[int, ...]
    fee: int
    """Wei."""
    provider: bytes | None = None
    """Who shall answer; None: drawn."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the chain says of an answered job."""

    job: int
    status: str
    """`claimed` or `final`."""
    provider: str
    block: int
    """Where the output was submitted."""
    trace_root: str | None
    output: Any
    fee_wei: int
    text: str | None = None
    """What a language model said."""
    companion: str | None = None
    """Who checks it; None if nobody was drawn, or not yet."""

    def as_json(self) -> dict[str, Any]:
        """As `job ask --json` prints it."""
        return {
            "job": self.job,
            "status": self.status,
            "provider": self.provider,
            "companion": self.companion,
            "block": self.block,
            "trace_root": self.trace_root,
            "output": self.output,
            "fee_wei": self.fee_wei,
            **({} if self.text is None else {"text": self.text}),
        }

    def summary(self) -> str:
        """What a person wants to see of the output."""
        return self.text if self.text is not None else show_output(self.output)


def ask(
    client: RpcClient,
    account: LocalAccount,
    question: Question,
    *,
    until_final: bool = False,
    timeout_s: float = 300.0,
    say: Say = lambda _: None,
) -> Answer:
    """Request, pay, wait, read the answer.

    Raises:
        JobError: unknown graph, nobody serves it, no answer in time.
        RpcError, TransactionFailed, ReceiptTimeout: the request did not get into a block.
    """
    deadline = time.monotonic() + timeout_s
    graph = find_graph(client, question.graph)
    if not client.call("hyperdust_getProviders", "0x" + graph.hex()):
        raise JobError(
            f"no provider is bonded for {question.graph}; `hyperdust miner --graph {question.graph}` makes one"
        )
    say("sending the request")
    call = encode_call(
        "JobMarket",
        "request",
        graph,
        question.data,
        list(question.symbols),
        deadline_of(client, graph, question.symbols),
        question.provider or bytes(20),
    )
    receipt = client.send_transaction(account, ADDRESSES["JobMarket"], call, question.fee)
    job = job_of(receipt)
    say(f"job {job} is in block {int(receipt['blockNumber'], 16)}; waiting for the answer")
    return follow(client, job, question, until_final=until_final, timeout_s=deadline - time.monotonic(), say=say)


def follow(
    client: RpcClient,
    job: int,
    question: Question,
    *,
    until_final: bool = False,
    timeout_s: float = 300.0,
    say: Say = lambda _: None,
) -> Answer:
    """Wait for the answer of a job that is in a block, whoever requested it, and read it.

    Raises:
        JobError: no answer in time.
    """
    deadline = time.monotonic() + timeout_s
    found = _wait(client, job, _ANSWERED, deadline)
    if until_final:
        say(f"job {job} is claimed; waiting until it is final")
        found = _wait(client, job, {"final"}, deadline)
    elif not found.get("trace_root"):
        say(f"job {job} is claimed; waiting for its trace root")
        try:
            found = _wait(client, job, {"revealed", "final"}, min(deadline, time.monotonic() + _REVEAL_WAIT_S))
        except JobError:
            say("the provider has not revealed its trace root yet")
    return _answer(client, job, found, question)


def find_graph(client: RpcClient, name: str) -> bytes:
    """Id of a registered graph: that of the file on this machine, for names on a chain are anyone's to take.

    Raises:
        UnknownGraph: it is not on this machine.
        JobError: it is not registered; names those that are.
    """
    from hyperdust.graph import read_graph  # noqa: PLC0415  # loads the graph's description
    from pouw.graph_encoding import compute_graph_id, encode_top_layer  # noqa: PLC0415

    identity = compute_graph_id(encode_top_layer(read_graph(name)))
    if not _view(client, "GraphRegistry", "is_registered", identity)[0]:
        names = ", ".join(graphs_on_chain(client)) or "none"
        register = f"`hyperdust graph register --graph {name}` puts it there"
        raise JobError(f"no graph {name!r} on this chain: {register}; registered: {names}")
    return identity


def graphs_on_chain(client: RpcClient) -> dict[str, bytes]:
    """Names and ids in the registry; of several with one name the first."""
    (count,) = _view(client, "GraphRegistry", "graph_count")
    ids = [_view(client, "GraphRegistry", "graph_at", index)[0] for index in range(count)]
    names: dict[str, bytes] = {}
    for graph in ids:
        names.setdefault(_view(client, "GraphRegistry", "name_of", graph)[0], graph)
    return names


def show_output(output: Any, values: int = 6) -> str:
    """The first numbers of an output, and how many there are; a picture's size."""
    if isinstance(output, dict) and "shape" in output:
        return f"{output['dtype']}{output['shape']}"
    flat = list(_flatten(output))
    more = f" … {len(flat)} values" if len(flat) > values else ""
    return f"[{', '.join(str(value) for value in flat[:values])}{more}]"


@contextmanager
def progress() -> Iterator[Say]:
    """Where steps are shown: one line with the time on a terminal, else a line each; always on stderr."""
    if not sys.stderr.isatty():
        yield lambda step: print(step, file=sys.stderr, flush=True)
        return
    from rich.console import Console  # noqa: PLC0415  # loads only where it is shown
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda step: bar.update(task, description=step)


def _flatten(value: Any) -> Iterator[Any]:
    return chain.from_iterable(_flatten(item) for item in value) if isinstance(value, list) else iter([value])


def _view(client: RpcClient, contract: str, function: str, *args: object) -> tuple[Any, ...]:
    return decode_output(contract, function, client.view(ADDRESSES[contract], encode_call(contract, function, *args)))


def deadline_of(client: RpcClient, graph: bytes, symbols: tuple[int, ...], wanted: int = DEADLINE_BLOCKS) -> int:
    """The last block for the answer to a job with these symbols: `wanted` on, within what JobMarket takes."""
    (longest,) = _view(client, "JobMarket", "max_deadline")
    (shortest,) = _view(client, "JobMarket", "shortest_deadline", graph, list(symbols))
    # Some blocks may pass before the request is in one.
    blocks: int = min(longest, max(wanted, 2 * shortest))
    return client.quantity("eth_blockNumber") + blocks


def refund(client: RpcClient, account: LocalAccount, number: int) -> dict[str, Any]:
    """Have the fee of a job given back that came to nothing: what `job refund --json` prints.

    Raises:
        JobError: there is no such job, or nothing to give back, or not yet; says why and from when.
        TransactionFailed, ReceiptTimeout, Unreachable.
    """
    market = ADDRESSES["JobMarket"]
    found = client.call("hyperdust_getJob", number)
    if not found:
        raise JobError(f"there is no job {number}")
    record = decode_struct("JobMarket", "job", client.view(market, encode_call("JobMarket", "job", number)))
    status, head = found["status"], client.quantity("eth_blockNumber")
    if status in _NOTHING_BACK:
        raise JobError(f"job {number} is {status}: {_NOTHING_BACK[status]}")
    try:
        receipt = client.send_transaction(account, market, encode_call("JobMarket", "refund", number))
    except RpcError as error:
        until = f"be answered until block {record['deadline']}" if status == "requested" else "be revealed yet"
        raise JobError(f"job {number} is {status} at block {head} and may {until}: {error.message}") from error
    return {
        "job": number,
        "status": client.call("hyperdust_getJob", number)["status"],
        "requester": record["requester"],
        "fee_wei": record["fee"],
        "transaction": receipt["transactionHash"],
    }


def job_of(receipt: Mapping[str, Any]) -> int:
    """Number of the job that a transaction requested.

    Raises:
        JobError: it requested none.
    """
    topic = event_topic("JobMarket", "Requested")
    for log in receipt["logs"]:
        topics = [bytes.fromhex(word[2:]) for word in log["topics"]]
        if topics and topics[0] == topic:
            return int(decode_event("JobMarket", "Requested", topics, bytes.fromhex(log["data"][2:]))["job"])
    raise JobError(f"transaction {receipt['transactionHash']} made no job")


def _wait(client: RpcClient, job: int, wanted: set[str], deadline: float) -> Mapping[str, Any]:
    while True:
        found = client.call("hyperdust_getJob", job)
        if found and found["status"] in wanted:
            return dict(found)
        if found and found["status"] == "refunded":
            raise JobError(f"job {job} was not answered before its deadline; the fee is back")
        if found and found["status"] == "slashed":
            raise JobError(f"the answer to job {job} was proven false; its provider is slashed, the fee is back")
        if time.monotonic() > deadline:
            raise JobError(_why_waiting(client, job, found["status"] if found else "unknown"))
        time.sleep(_POLL_S)


def _why_waiting(client: RpcClient, job: int, status: str) -> str:
    head = client.quantity("eth_blockNumber")
    try:
        raw = client.view(ADDRESSES["JobMarket"], encode_call("JobMarket", "job", job))
        record = decode_struct("JobMarket", "job", raw)
        (takeover,) = _view(client, "JobMarket", "takeover_blocks")
    except RpcError as error:
        return f"job {job} is {status} at block {head} ({error.message}); see `hyperdust status`"
    if status == "requested":
        drawn = "its drawn" if record["candidates"] else "its named"
        later = f"any bonded provider may take it over after block {record['requested_at'] + takeover}, and "
        return (
            f"job {job} is not answered at block {head}: {drawn} provider {record['provider']} is late; "
            f"{later if record['candidates'] else ''}the fee comes back by `refund` after block {record['deadline']}"
        )
    return f"job {job} is {status} at block {head}, not further yet; give it more time with --timeout"


def _answer(client: RpcClient, job: int, found: Mapping[str, Any], question: Question) -> Answer:
    from hyperdust.graph import decode_outputs, text_of  # noqa: PLC0415  # loads the graph's description

    raw = _view(client, "JobMarket", "output_of", job)[0]
    claimed = next((step for step in found["transitions"] if step["state"] == "claimed"), None)
    output = decode_outputs(question.graph, question.symbols, raw)
    return Answer(
        job=job,
        status="final" if found["status"] == "final" else "claimed",
        provider=str(_view(client, "JobMarket", "provider_of", job)[0]),
        block=_number(claimed["block"]) if claimed else client.quantity("eth_blockNumber"),
        trace_root=found.get("trace_root"),
        output=output,
        fee_wei=question.fee,
        text=text_of(question.graph, output),
        companion=found.get("companion"),
    )


def _number(value: int | str) -> int:
    return int(value, 16) if isinstance(value, str) else value
