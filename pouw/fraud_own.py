"""An execution of one's own that can be asked for anything that its trace commits to.

Kept are the subgraphs' outputs; what is inside a subgraph is computed again when it is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from blake3 import blake3

from chain.hashing import H, keccak256
from pouw.execution import Backend, Execution, check_array, encode_tensors, gather
from pouw.fraud_tensor import children_of, node_bytes, node_value, nodes_at, top_node
from pouw.fraud_types import Answer, Demand, Form, Outside, Place, Question, QuestionKind, TreeNode
from pouw.hypergraph import Hypergraph, Subgraph, input_types
from pouw.operators.errors import TensorOutOfRange
from pouw.operators.types import Tensor
from pouw.scan import ROWS_SO_FAR, STEP_ROWS, History, history_axis
from pouw.trace import LEAF_BYTES, dtype_by_name, tensor_root

StepHook = Callable[[int, int, Tensor], Tensor]
"""(step, global operator index, output) -> output: deliberate faults on a devnet."""


def list_hash(roots: bytes) -> bytes:
    """Return what an accused signs of an operator list: keccak256 of its roots, one behind the other."""
    return keccak256(roots)


@dataclass(slots=True)
class Inside:
    """What is inside one subgraph in one step."""

    inputs: tuple[Tensor, ...]
    operators: tuple[Tensor, ...]
    """Outputs, up to the operator that refused a value."""
    histories: tuple[Tensor, ...]
    """Joined, in the order of the inputs."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """In the order of an operator list."""
        return (*self.operators, *self.histories)


@dataclass(slots=True)
class OwnTrace:
    """An execution, its constants and inputs; a `Published` that answers every question."""

    execution: Execution
    constants: Mapping[bytes, Tensor]
    inputs: Mapping[str, Tensor]
    backend: Backend
    on_output: StepHook | None = None
    refused: Place | None = None
    """The operator that did not take a value; nothing behind it exists."""
    _inside: dict[tuple[int, int], Inside] = field(default_factory=dict)
    """The subgraph that was asked for last: questions about one come in a row."""
    _roots: dict[int, tuple[bytes, ...]] = field(default_factory=dict)

    @classmethod
    def until_refused(
        cls,
        graph: Hypergraph,
        constants: Mapping[bytes, Tensor],
        inputs: Mapping[str, Tensor],
        symbols: Mapping[str, int],
        backend: Backend,
    ) -> "OwnTrace":
        """Execute a job of which an operator refuses a value, up to there.

        Raises:
            As `pouw.execution.run`, but for TensorOutOfRange.
        """
        outputs: list[tuple[Tensor, ...]] = []
        own = cls(Execution({}, (), None, graph, symbols), constants, inputs, backend)
        steps = 1 if graph.scan is None else symbols[graph.scan.limit]
        for step in range(steps):
            for number, subgraph in enumerate(graph.subgraphs):
                own.execution = Execution({}, tuple(outputs), None, graph, symbols)
                inside = own.inside(step, number)
                if len(inside.operators) < len(subgraph.operators):
                    own.refused = Place(step, number, len(inside.operators))
                    return own
                made = tuple(inside.operators[named.operator] for named in subgraph.outputs)
                for named, output in zip(subgraph.outputs, made, strict=True):
                    check_array(named.port.name, output, named.port.type, own.symbols_at(step))
                outputs.append(made)
            own.execution = Execution({}, tuple(outputs), None, graph, symbols)
            if graph.scan is not None and int(own.named(step, graph.scan.output)[0]) == graph.scan.stop:
                break
        return own

    @property
    def graph(self) -> Hypergraph:
        """The graph."""
        return self.execution.graph

    @property
    def steps(self) -> int:
        """Number of steps; 1 without a scan."""
        return max(1, len(self.execution.subgraph_outputs) // max(1, len(self.graph.subgraphs)))

    @property
    def symbol_names(self) -> list[str]:
        """Names of the symbols, in the graph's order."""
        return [symbol.name for symbol in self.graph.symbols]

    def symbols_at(self, step: int) -> Mapping[str, int]:
        """Return the symbols' values in a step."""
        scan = self.graph.scan
        if scan is None:
            return self.execution.symbols
        rows = self.inputs[scan.input].shape[0]
        return {**self.execution.symbols, STEP_ROWS: rows if step == 0 else 1, ROWS_SO_FAR: rows + step}

    def ports(self, step: int, subgraph: int) -> tuple[Tensor, ...]:
        """Return a subgraph's outputs.

        Raises:
            Outside: there are none.
        """
        count = len(self.graph.subgraphs)
        place = step * count + subgraph
        if not (0 <= subgraph < count and 0 <= place < len(self.execution.subgraph_outputs)):
            raise Outside("subgraph", (step, subgraph), f"below ({self.steps}, {count})")
        return self.execution.subgraph_outputs[place]

    def port_roots(self, step: int, subgraph: int) -> tuple[bytes, ...]:
        """Return the roots of a subgraph's outputs.

        Raises:
            Outside
        """
        return tuple(tensor_root(tensor) for tensor in self.ports(step, subgraph))

    def step_roots(self, step: int) -> tuple[bytes, ...]:
        """Return the roots of a step's subgraphs, as many as there are.

        Raises:
            Outside
        """
        if step not in self._roots:
            there = len(self.execution.subgraph_outputs) - step * len(self.graph.subgraphs)
            numbers = range(min(len(self.graph.subgraphs), there))
            self._roots[step] = tuple(H("subgraph-outputs", *self.port_roots(step, number)) for number in numbers)
        return self._roots[step]

    def trace_children(self) -> tuple[bytes, ...]:
        """Return what the trace root covers."""
        if self.graph.scan is None:
            return self.step_roots(0)
        return tuple(H("step", *self.step_roots(step)) for step in range(self.steps))

    def named(self, step: int, name: str) -> Tensor:
        """Return the tensor of a name in a step.

        Raises:
            Outside: it was not made.
        """
        scan = self.graph.scan
        if scan is not None and name == scan.input and step > 0:
            return self.named(step - 1, scan.output)
        if name in self.inputs:
            return self.inputs[name]
        for number, subgraph in enumerate(self.graph.subgraphs):
            for place, output in enumerate(subgraph.outputs):
                if output.port.name == name:
                    return self.ports(step, number)[place]
        raise Outside("tensor", name, "one of the graph")

    def history(self, step: int, name: str) -> Tensor:
        """Return a tensor of all steps up to one, joined.

        Raises:
            Outside
        """
        pieces = [self.named(earlier, name) for earlier in range(step + 1)]
        return np.concatenate(pieces, axis=self.history_axis(name))

    def history_axis(self, name: str) -> int:
        """Return the dimension along which a tensor's steps are joined."""
        types = input_types(self.graph)
        types.update({output.port.name: output.port.type for part in self.graph.subgraphs for output in part.outputs})
        return history_axis(name, types[name])

    def inside(self, step: int, subgraph: int) -> Inside:
        """Return what is inside a subgraph: computed again, up to an operator that refuses a value.

        Raises:
            Outside
        """
        if (step, subgraph) not in self._inside:
            self._inside.clear()
            self._inside[step, subgraph] = self._compute(step, subgraph)
        return self._inside[step, subgraph]

    def tensor(self, place: Place) -> Tensor:
        """Return an operator's output, or a joined history.

        Raises:
            Outside
        """
        tensors = self.inside(place.step, place.subgraph).tensors
        if not 0 <= place.operator < len(tensors):
            raise Outside("operator", place.operator, f"below {len(tensors)}")
        return tensors[place.operator]

    def gather(self, place: Place) -> tuple[Tensor, ...]:
        """Return what an operator reads.

        Raises:
            Outside
        """
        inside = self.inside(place.step, place.subgraph)
        operators = self.graph.subgraphs[place.subgraph].operators
        if not 0 <= place.operator < len(operators):
            raise Outside("operator", place.operator, f"below {len(operators)}")
        return gather(operators[place.operator], inside.inputs, inside.operators, self.constants)

    def first_operator(self, subgraph: int) -> int:
        """Return the global index of a subgraph's first operator."""
        return sum(len(part.operators) for part in self.graph.subgraphs[:subgraph])

    def ask(self, demand: Demand) -> Answer:
        """Answer a demand's question.

        Raises:
            Outside
        """
        return self.answer(demand.question)

    def answer(self, question: Question) -> Answer:
        """Return the answer; an operator list is left unsigned.

        Raises:
            Outside: it is about nothing in this execution.
        """
        place = question.place
        match question.kind:
            case QuestionKind.TRACE_CHILDREN:
                return Answer(b"".join(self.trace_children()))
            case QuestionKind.STEP_CHILDREN:
                return Answer(b"".join(self.step_roots(place.step)))
            case QuestionKind.PORT_ROOTS:
                return Answer(b"".join(self.port_roots(place.step, place.subgraph)))
            case QuestionKind.OPERATOR_ROOTS:
                tensors = self.inside(place.step, place.subgraph).tensors
                return Answer(b"".join(tensor_root(tensor) for tensor in tensors))
            case QuestionKind.FORM:
                return Answer(form_of(self.tensor(place)).encode())
            case QuestionKind.TREE_CHILDREN:
                data = encode_tensors([self.tensor(place)])
                return Answer(b"".join(child_values(data, question.node)))
            case QuestionKind.LEAF:
                data = encode_tensors([self.tensor(place)])
                if question.index >= nodes_at(len(data), 0):
                    raise Outside("chunk", question.index, f"below {nodes_at(len(data), 0)}")
                return Answer(data[question.index * LEAF_BYTES : (question.index + 1) * LEAF_BYTES])

    def _compute(self, step: int, number: int) -> Inside:
        if not 0 <= number < len(self.graph.subgraphs) or not 0 <= step <= self.steps:
            raise Outside("subgraph", (step, number), f"below ({self.steps}, {len(self.graph.subgraphs)})")
        subgraph = self.graph.subgraphs[number]
        inputs = tuple(
            self.history(step, source.name) if isinstance(source, History) else self.named(step, source)
            for source in subgraph.inputs
        )
        operators = self._run(step, number, subgraph, inputs)
        named = zip(subgraph.inputs, inputs, strict=True)
        return Inside(inputs, operators, tuple(tensor for source, tensor in named if isinstance(source, History)))

    def _run(self, step: int, number: int, subgraph: Subgraph, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        made: list[Tensor] = []
        first = self.first_operator(number)
        for place, operator in enumerate(subgraph.operators):
            tensors = gather(operator, inputs, made, self.constants)
            try:
                output = self.backend.compute(operator.rule, tensors, operator.attributes)
            except TensorOutOfRange:
                break
            made.append(output if self.on_output is None else self.on_output(step, first + place, output))
        return tuple(made)


def form_of(tensor: Tensor) -> Form:
    """Return what a tensor's root binds."""
    digest = blake3(encode_tensors([tensor]), max_threads=blake3.AUTO).digest()
    return Form.of(dtype_by_name(tensor.dtype.name), tensor.shape, digest)


def child_values(data: bytes, node: TreeNode) -> tuple[bytes, ...]:
    """Return the values of a node's children, from a tensor's bytes.

    Raises:
        Outside: the tree has no such node.
    """
    if not 1 <= node.level <= top_node(len(data)).level or node.index >= nodes_at(len(data), node.level):
        raise Outside("node", node, f"of {len(data)} bytes")
    return tuple(node_value(node_bytes(data, child), child) for child in children_of(len(data), node))
