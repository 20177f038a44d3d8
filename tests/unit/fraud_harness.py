"""Two small graphs, executions of them with and without faults, and an accused that lies about anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from chain.hashing import H, keccak256
from pouw.backends.reference import NumpyBackend
from pouw.compiler.tables import power_table
from pouw.execution import encode_tensors, run
from pouw.fraud import Answer, Demand, Facts, OwnTrace, Question, QuestionKind, StepHook, Withheld
from pouw.graph_encoding import compute_graph_id, encode_top_layer
from pouw.hypergraph import (
    Constant,
    Hypergraph,
    Operator,
    OperatorOutput,
    Port,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
    Symbol,
    check_graph,
)
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor, TensorType
from pouw.scan import History, Scan
from pouw.trace import INT8, INT16, INT32, dtype_by_name, tensor_root

BACKEND = NumpyBackend()
VOCABULARY, WIDTH, WIDE = 40, 8, 1200


@dataclass(frozen=True, slots=True)
class Case:
    """A job."""

    graph: Hypergraph
    constants: Mapping[bytes, Tensor]
    inputs: Mapping[str, Tensor]
    symbols: Mapping[str, int]

    @property
    def job_input(self) -> bytes:
        return encode_tensors([self.inputs[port.name] for port in self.graph.inputs])

    def execute(self, fault: StepHook | None = None) -> OwnTrace:
        count, seen = self.graph.operator_count(), 0

        def hook(operator: int, output: Tensor) -> Tensor:
            nonlocal seen
            step, seen = seen // count, seen + 1
            return output if fault is None else fault(step, operator, output)

        execution = run(self.graph, self.constants, self.inputs, self.symbols, BACKEND, on_output=hook)
        return OwnTrace(execution, self.constants, self.inputs, BACKEND, fault)

    def facts(self, trace_root: bytes, output: bytes) -> Facts:
        symbols = tuple(self.symbols[symbol.name] for symbol in self.graph.symbols)
        graph_id = compute_graph_id(encode_top_layer(self.graph))
        return Facts(graph_id, trace_root, keccak256(self.job_input), keccak256(output), symbols)


def output_of(own: OwnTrace) -> bytes:
    return encode_tensors(list(own.execution.outputs.values()))


def flip(step: int, operator: int, place: int, bit: int) -> StepHook:
    """One bit of one value of an operator's output in one step."""

    def apply(at: int, number: int, output: Tensor) -> Tensor:
        if (at, number) != (step, operator):
            return output
        wrong = output.copy()
        wrong.reshape(-1)[place % wrong.size] ^= 1 << bit % (8 * wrong.dtype.itemsize - 1)
        return wrong

    return apply


@dataclass(slots=True)
class Liar:
    """An accused with an execution of his own, but for what he is told to lie about."""

    own: OwnTrace
    ports: dict[tuple[int, int], tuple[bytes, ...]] = field(default_factory=dict)
    children: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    """Of steps; without a scan of the trace, as step 0."""
    steps: tuple[bytes, ...] | None = None
    answers: dict[Question, bytes | None] = field(default_factory=dict)
    """None: withheld."""
    asked: list[Demand] = field(default_factory=list)

    def step_roots(self, step: int) -> tuple[bytes, ...]:
        if step in self.children:
            return self.children[step]
        roots = list(self.own.step_roots(step))
        for (at, subgraph), ports in self.ports.items():
            if at == step:
                roots[subgraph] = H("subgraph-outputs", *ports)
        return tuple(roots)

    def trace_children(self) -> tuple[bytes, ...]:
        if self.steps is not None:
            return self.steps
        if self.own.graph.scan is None:
            return self.step_roots(0)
        return tuple(H("step", *self.step_roots(step)) for step in range(self.own.steps))

    @property
    def trace_root(self) -> bytes:
        return H("trace", *self.trace_children())

    def ask(self, demand: Demand) -> Answer:
        self.asked.append(demand)
        question = demand.question
        if question in self.answers:
            data = self.answers[question]
            if data is None:
                raise Withheld(demand)
            return Answer(data, b"signed")
        match question.kind:
            case QuestionKind.TRACE_CHILDREN:
                return Answer(b"".join(self.trace_children()))
            case QuestionKind.STEP_CHILDREN:
                return Answer(b"".join(self.step_roots(question.step)))
            case QuestionKind.PORT_ROOTS if (question.step, question.subgraph) in self.ports:
                return Answer(b"".join(self.ports[question.step, question.subgraph]))
        signature = b"signed" if question.kind is QuestionKind.OPERATOR_ROOTS else b""
        return Answer(self.own.answer(question).data, signature)


class _Constants(dict[bytes, Tensor]):
    def add(self, tensor: Tensor) -> Constant:
        root = tensor_root(tensor)
        self[root] = tensor
        return Constant(root, TensorType(dtype_by_name(tensor.dtype.name), tensor.shape))


def _operator(name: str, *tensors: Constant | SubgraphInput | OperatorOutput, attributes=()) -> Operator:
    return Operator(RULE_BY_NAME[name], name, tensors, tuple(attributes))


def _port(name: str, dtype, *shape) -> Port:
    return Port(name, TensorType(dtype, shape))


def plain_case(seed: int = 1, rows: int = 70) -> Case:
    """Embed, multiply (a subgraph of one operator; 2 levels of tree), choose. Two outputs."""
    random = np.random.default_rng(seed)
    constants = _Constants()
    table = constants.add(random.integers(-900, 900, (VOCABULARY, WIDTH), dtype=np.int16))
    factors = constants.add(np.full(WIDTH, 1 << 8, dtype=np.int16))
    weights = constants.add(random.integers(-60, 60, (WIDE, WIDTH), dtype=np.int8))
    embed = Subgraph(
        "embed",
        ("ids",),
        (SubgraphOutput(_port("x", INT16, "S", WIDTH), 0), SubgraphOutput(_port("q", INT8, "S", WIDTH), 2)),
        (
            _operator("embedding", SubgraphInput(0), table),
            _operator("row_maximum", OperatorOutput(0), factors),
            _operator("quantize", OperatorOutput(0), OperatorOutput(1), factors, attributes=(63,)),
        ),
    )
    product = Subgraph(
        "product",
        ("q",),
        (SubgraphOutput(_port("y", INT32, "S", WIDE), 0),),
        (_operator("matmul", SubgraphInput(0), weights, attributes=(1,)),),
    )
    choose = Subgraph(
        "choose",
        ("y", "x"),
        (SubgraphOutput(_port("best", INT32, 1), 1), SubgraphOutput(_port("sum", INT32, "S", WIDTH), 2)),
        (
            _operator("last_row", SubgraphInput(0)),
            _operator("argmax", OperatorOutput(0)),
            _operator("add", SubgraphInput(1), SubgraphInput(1)),
        ),
    )
    inputs = (_port("ids", INT32, "S"),)
    graph = Hypergraph("plain", (Symbol("S", 1, 90),), inputs, ("best", "sum"), (embed, product, choose))
    check_graph(graph)
    ids = random.integers(0, VOCABULARY, rows, dtype=np.int32)
    return Case(graph, dict(constants), {"ids": ids}, {"S": rows})


def loop_case(seed: int = 1, rows: int = 5, limit: int = 6, stop: int = -1) -> Case:
    """A decoding loop with histories: keys as they are, values transposed, and the tokens themselves."""
    random = np.random.default_rng(seed)
    constants = _Constants()
    table = constants.add(random.integers(-900, 900, (VOCABULARY, WIDTH), dtype=np.int16))
    factors = constants.add(np.full(WIDTH, 1 << 8, dtype=np.int16))
    powers = constants.add(power_table())
    weights = constants.add(random.integers(-60, 60, (VOCABULARY, WIDTH), dtype=np.int8))
    embed = Subgraph(
        "embed",
        ("ids",),
        (SubgraphOutput(_port("x", INT16, "R", WIDTH), 0), SubgraphOutput(_port("v", INT16, WIDTH, "R"), 1)),
        (
            _operator("embedding", SubgraphInput(0), table),
            _operator("transpose_columns", OperatorOutput(0), attributes=(0, WIDTH)),
        ),
    )
    attend = Subgraph(
        "attend",
        ("x", History("x"), History("v")),
        (SubgraphOutput(_port("mix", INT16, "R", WIDTH), 2),),
        (
            _operator("causal_scores", SubgraphInput(0), SubgraphInput(1), attributes=(2, 2, WIDTH // 2, 9)),
            _operator("causal_softmax", OperatorOutput(0), powers),
            _operator("grouped_mix", OperatorOutput(1), SubgraphInput(2), attributes=(2,)),
        ),
    )
    head = Subgraph(
        "head",
        ("mix", History("ids"), "seed"),
        (SubgraphOutput(_port("token", INT32, 1), 4),),
        (
            _operator("row_maximum", SubgraphInput(0), factors),
            _operator("quantize", SubgraphInput(0), OperatorOutput(0), factors, attributes=(63,)),
            _operator("matmul", OperatorOutput(1), weights, attributes=(0,)),
            _operator("last_row", OperatorOutput(2)),
            _operator(
                "sample",
                OperatorOutput(3),
                SubgraphInput(2),
                SubgraphInput(1),
                powers,
                attributes=(1 << 6, VOCABULARY, 60_000),
            ),
        ),
    )
    graph = Hypergraph(
        "loop",
        (Symbol("S", 1, 20), Symbol("T", 1, 12)),
        (_port("ids", INT32, "S"), _port("seed", INT32, 1)),
        ("token",),
        (embed, attend, head),
        Scan("ids", "token", stop, "T"),
    )
    check_graph(graph)
    inputs = {
        "ids": random.integers(0, VOCABULARY, rows, dtype=np.int32),
        "seed": np.array([seed], dtype=np.int32),
    }
    return Case(graph, dict(constants), inputs, {"S": rows, "T": limit})
