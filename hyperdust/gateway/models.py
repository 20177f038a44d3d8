"""What can be asked: graphs on this machine that the chain knows, and agents that answer with one of them.

Everything here reads the chain or a graph's files and blocks; the server calls it in threads.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from chain.errors import HyperdustError, NodeFault
from hyperdust import agent as agents
from hyperdust import graph_scene, graph_text, job
from hyperdust.agent_input import AgentError
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from hyperdust.gateway.errors import NoModel, NoProvider, Refused, TooLong, Unsupported
from hyperdust.graph import LoadedGraph, list_graphs, load_graph
from hyperdust.rpc_client import RpcClient, RpcError
from pouw.hypergraph import Hypergraph

log = structlog.get_logger()

TEXT: Final = "text"
EMBEDDING: Final = "embedding"
AGENTS_LISTED: Final = 50
"""The newest agents; older ones are asked by their id all the same."""
_OUTPUT_TOKENS: Final = 8192 // 4
"""What the market's longest answer holds."""
_AGENT: Final = re.compile(r"agent:([1-9][0-9]{0,17})")


class NotServable(NodeFault):
    """A graph that --graph names and this endpoint cannot serve."""


@dataclass(frozen=True, slots=True)
class Model:
    """A graph, or an agent in front of one."""

    id: str
    """What requests call it."""
    kind: str
    """TEXT or EMBEDDING."""
    source: str
    """What this machine's commands call the graph: its name, or its folder."""
    graph: Hypergraph
    graph_id: bytes
    tokens_max: int
    """Tokens of a prompt stay below this; at it the tokenizer may have cut words off."""
    agent: agents.Agent | None = None

    @property
    def price(self) -> int:
        """Wei beyond the job's fee."""
        return 0 if self.agent is None else self.agent.price

    @property
    def output_max(self) -> int:
        """New tokens at most."""
        return min(self.graph.symbols[self._limit].high, _OUTPUT_TOKENS)

    @property
    def _limit(self) -> int:
        if self.graph.scan is None:
            raise AssertionError(self.id)
        return [symbol.name for symbol in self.graph.symbols].index(self.graph.scan.limit)

    def as_json(self) -> dict[str, Any]:
        """A row of GET /v1/models; when a graph was registered is not known, so `created` is 0."""
        facts: dict[str, Any] = {"kind": self.kind, "graph": self.graph.name, "graph_id": "0x" + self.graph_id.hex()}
        if self.agent is not None:
            facts |= {"agent": self.agent.id, "name": self.agent.name, "price_wei": self.agent.price}
        owner = "hyperdust" if self.agent is None else self.agent.owner
        return {"id": self.id, "object": "model", "created": 0, "owned_by": owner, "hyperdust": facts}

    def question(self, text: str, fee: int, max_tokens: int | None = None, seed: int = 0) -> "Asked":
        """What is asked for a text.

        Raises:
            TooLong: more tokens than the graph takes or makes.
            Unsupported: a seed, of a graph that takes none.
        """
        rows = len(load_graph(self.source).encode_text(text)[self.graph.inputs[0].name])
        if rows >= self.tokens_max:
            raise TooLong(f"the text has {rows} tokens or more; {self.id} takes at most {self.tokens_max - 1}")
        if rows == 0:
            raise Unsupported(f"the text has no tokens for {self.id}")
        try:
            question = self._plain(text)
        except AgentError as error:
            raise TooLong(str(error)) from error
        return self._patched(replace(question, fee=fee), max_tokens, seed)

    def _plain(self, text: str) -> job.Question:
        if self.agent is not None:
            return agents.question_of(self.agent, text, graph=self.source)
        from hyperdust.graph import input_bytes  # noqa: PLC0415  # the module's other names are enough elsewhere

        given = input_bytes(self.source, text, None)
        return job.Question(graph=self.source, data=given.data, symbols=given.symbols, fee=0)

    def _patched(self, question: job.Question, max_tokens: int | None, seed: int) -> "Asked":
        """With the limit of new tokens and the seed that the caller wants."""
        data, symbols = question.data, list(question.symbols)
        if self.kind == TEXT:
            wanted = min(symbols[self._limit], self.output_max) if max_tokens is None else max_tokens
            if wanted > self.output_max:
                raise TooLong(f"{self.id} makes at most {self.output_max} tokens, not {wanted}", "max_tokens")
            symbols[self._limit] = wanted
        if seed:
            if self.graph.inputs[-1].name != "seed":
                raise Unsupported(f"seed: {self.id} takes none", "seed")
            data = data[:-4] + seed.to_bytes(4, "little", signed=True)
        given = replace(question, data=data, symbols=tuple(symbols))
        whole = given if self.agent is None else agents.whole_question(self.agent, given)
        return Asked(self, given, whole, seed)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to one model."""

    model: Model
    given: job.Question
    """What is sent: behind an agent's prefix."""
    whole: job.Question
    """What is executed."""
    seed: int

    @property
    def value(self) -> int:
        """Wei that go with it: fee and price."""
        return self.given.fee + self.model.price

    @property
    def prompt_tokens(self) -> int:
        """As many as the graph reads, an agent's prompt among them."""
        return self.whole.symbols[0]


class Catalog:
    """The models of this gateway."""

    def __init__(self, client: RpcClient, models: Mapping[bytes, Model]) -> None:
        self._client = client
        self._models = models
        """By the graph's id."""

    @classmethod
    def load(cls, client: RpcClient, graphs: Sequence[str]) -> "Catalog":
        """Read graphs by name or folder; without any, those that ship.

        Raises:
            NotServable: one of those named takes no text, or two have one name.
            UnknownGraph, WeightsMissing: it cannot be read.
        """
        models = dict(_named(graphs) if graphs else _shipped())
        names = [model.id for model in models.values()]
        if not models or len(set(names)) != len(names):
            raise NotServable(f"graphs to offer need different names; got {', '.join(names) or 'none'}")
        return cls(client, models)

    def find(self, name: str, kind: str) -> Model:
        """A model that can be asked now.

        Raises:
            NoModel: there is none, or it is of the other kind, or not on this chain.
            NoProvider: nobody executes it.
            Unsupported: an agent that is not paid in BTC.
        """
        found = self._agent(int(match[1])) if (match := _AGENT.fullmatch(name)) else self._by_name(name)
        if found.kind != kind:
            where = "/v1/embeddings" if found.kind == EMBEDDING else "/v1/chat/completions"
            raise NoModel(f"{found.id} makes {found.kind}; ask it at {where}", "model")
        if not self._registered(found.graph_id):
            raise NoModel(f"{found.graph.name} is not registered on this chain", "model")
        if not self._providers(found.graph_id):
            raise NoProvider(f"no provider is bonded for {found.graph.name}")
        return found

    def get(self, name: str) -> Model:
        """A model by its name alone, as GET /v1/models/NAME tells it.

        Raises:
            NoModel, Unsupported.
        """
        return self._agent(int(match[1])) if (match := _AGENT.fullmatch(name)) else self._by_name(name)

    def names(self) -> list[str]:
        """Of the graphs."""
        return [model.id for model in self._models.values()]

    def listed(self) -> Iterator[Model]:
        """Graphs with a provider on this chain, and the newest agents in front of them."""
        asked = {graph for graph in self._models if self._registered(graph) and self._providers(graph)}
        yield from (model for graph, model in self._models.items() if graph in asked)
        for number in self._newest_agents():
            try:
                found = self._agent(number)
            except Refused:
                continue  # another graph, or another currency
            if found.graph_id in asked:
                yield found

    def _by_name(self, name: str) -> Model:
        for model in self._models.values():
            if model.id == name:
                return model
        known = ", ".join(model.id for model in self._models.values())
        raise NoModel(f"no model {name!r} here; there are {known}, and agent:ID", "model")

    def _agent(self, number: int) -> Model:
        try:
            found = agents.read_agent(self._client, number)
        except AgentError as error:
            raise NoModel(str(error), "model") from error
        behind = self._models.get(found.graph)
        if behind is None:
            raise NoModel(
                f"agent {number} answers with {found.graph_name!r}, which this gateway does not offer", "model"
            )
        if found.currency != agents.BTC:
            currency = agents.CURRENCIES[found.currency]
            raise Unsupported(f"agent {number} is paid in {currency}; this gateway pays BTC alone", "model")
        return replace(behind, id=f"agent:{number}", agent=found)

    def _newest_agents(self) -> Iterator[int]:
        (count,) = self._view("AgentFactory", "totalSupply")
        yield from range(count, max(0, count - AGENTS_LISTED), -1)

    def _registered(self, graph: bytes) -> bool:
        return bool(self._view("GraphRegistry", "is_registered", graph)[0])

    def _providers(self, graph: bytes) -> bool:
        try:
            return bool(self._client.call("hyperdust_getProviders", "0x" + graph.hex()))
        except RpcError:
            return False

    def _view(self, contract: str, function: str, *args: object) -> tuple[Any, ...]:
        raw = self._client.view(ADDRESSES[contract], encode_call(contract, function, *args))
        return decode_output(contract, function, raw)


def kind_of(loaded: LoadedGraph) -> str | None:
    """TEXT or EMBEDDING; None for graphs that take something else than a text, or give another thing."""
    graph = loaded.graph
    if graph_text.is_text(graph):
        return TEXT
    rows = graph.inputs[0].type
    if graph_scene.is_render(graph) or len(graph.inputs) != 1 or len(graph.outputs) != 1 or len(rows.shape) != 1:
        return None
    try:
        loaded.encode_text("a")
    except HyperdustError:
        return None  # a compiled model without a tokenizer
    return EMBEDDING


def _model(source: str) -> Model:
    loaded = load_graph(source)
    kind = kind_of(loaded)
    if kind is None:
        raise NotServable(f"graph {source} does not turn a text into text or an embedding")
    dimension = loaded.graph.inputs[0].type.shape[0]
    most = next((symbol.high for symbol in loaded.graph.symbols if symbol.name == dimension), 0)
    if loaded.compiled is not None:
        most = min(most, loaded.compiled.rows_max)
    return Model(loaded.graph.name, kind, source, loaded.graph, loaded.graph_id, most)


def _named(graphs: Sequence[str]) -> Iterator[tuple[bytes, Model]]:
    for source in graphs:
        model = _model(source)
        yield model.graph_id, model


def _shipped() -> Iterator[tuple[bytes, Model]]:
    for row in list_graphs():
        try:
            model = _model(row["name"])
        except NotServable:
            continue
        except NodeFault as error:
            log.warning("a graph is not offered", graph=row["name"], reason=str(error))
            continue
        yield model.graph_id, model
