"""Make the evidence of a difference: what the disputed element reads, opened, and the path to all roots it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from chain.errors import NodeFault
from pouw.execution import encode_tensors
from pouw.fraud_check import (
    AFTER_STOP,
    HISTORY_DIFFERS,
    JOB_REFUSED,
    LIST_DIFFERS,
    PORT_COUNT,
    STEP_COUNT,
    TOO_FEW,
    check_proof,
)
from pouw.fraud_codec import Claim, Opening, Path, ShownTensor, encode_evidence
from pouw.fraud_own import OwnTrace, form_of
from pouw.fraud_search import Difference
from pouw.fraud_tensor import merge_spans, open_chunks
from pouw.fraud_types import EvidenceMalformed, Facts, Place, Proof, VerdictKind
from pouw.graph_encoding import encode_operator, encode_top_layer, operator_siblings
from pouw.hypergraph import Hypergraph, Operator, OperatorOutput, Subgraph, SubgraphInput
from pouw.operators.element import Window
from pouw.operators.elements import WITNESS_RULES, read_element, refutes_element
from pouw.operators.errors import TensorOutOfRange
from pouw.operators.types import Tensor, TensorType
from pouw.scan import History
from pouw.trace import LEAF_BYTES, dtype_by_name

_TRIES = 1 << 20  # elements that are looked at for one that an operator refuses


class NothingRefused(NodeFault):
    """No element was found that shows why an operator refuses its inputs."""


def build_proof(facts: Facts, own: OwnTrace, difference: Difference, job_input: bytes, job_output: bytes) -> Proof:
    """Return what the court's `prove` takes.

    Raises:
        NothingRefused: an operator refuses a value that was not found. NotGuilty: the evidence is too large.
    """
    builder = _Builder(own, difference)
    claim = builder.claim()
    path = Path(
        encode_top_layer(own.graph),
        difference.trace_children,
        tuple(sorted(builder.steps.items())),
        tuple((*place, roots) for place, roots in sorted(builder.ports.items())),
        difference.operators if builder.rests_on_list else None,
        job_input if builder.reads_input else None,
        job_output if difference.kind is VerdictKind.OUTPUT else None,
    )
    return _proof(facts, encode_evidence(path, claim), difference.signature)


def prove_refused_job(facts: Facts, graph: Hypergraph, job_input: bytes) -> Proof:
    """Return the proof against a result of a job whose symbols or input the graph does not take.

    Raises:
        NotGuilty: it does take them.
    """
    path = Path(encode_top_layer(graph), job_input=job_input)
    return _proof(facts, encode_evidence(path, Claim(VerdictKind.INVALID, JOB_REFUSED)), b"")


def _proof(facts: Facts, evidence: bytes, signature: bytes) -> Proof:
    verdict = check_proof(facts, evidence)
    return Proof(evidence, signature if any(verdict.list_hash) else b"", verdict)


@dataclass(slots=True)
class _Builder:
    own: OwnTrace
    difference: Difference
    steps: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    ports: dict[tuple[int, int], tuple[bytes, ...]] = field(default_factory=dict)
    reads_input: bool = False
    rests_on_list: bool = False

    def claim(self) -> Claim:
        """Return the claim, and collect what its path has to show."""
        found, graph = self.difference, self.own.graph
        place = found.place
        names = (found.kind, found.variant, place.step, place.subgraph, place.operator, found.element)
        match found.kind:
            case VerdictKind.LENGTH:
                self._need_length(found)
                return Claim(*names)
            case VerdictKind.OUTPUT:
                name = graph.scan.output if graph.scan is not None else graph.outputs[found.element]
                self._need_named(place.step, name)
                return Claim(*names)
            case VerdictKind.LIST if found.variant == LIST_DIFFERS:
                self.rests_on_list = True
                self._need_ports(place.step, place.subgraph)
                return Claim(*names)
            case VerdictKind.LIST if found.variant == HISTORY_DIFFERS:
                return Claim(*names, tensors=self._history())
        if place.operator >= len(graph.subgraphs[place.subgraph].operators):  # the form of a history
            self.rests_on_list = True
            self._need_ports(place.step, place.subgraph)
            return Claim(*names, tensors=(self._output(),))
        return self._operator()

    def _operator(self) -> Claim:
        """Return the claim about an operator."""
        found, graph, place = self.difference, self.own.graph, self.difference.place
        subgraph = graph.subgraphs[place.subgraph]
        operator = subgraph.operators[place.operator]
        tensors = self.own.gather(place)
        whole = self._need_inputs(subgraph, operator)
        element, witness, windows = self._choose(place, tensors)
        shown = []
        for number, (reference, tensor) in enumerate(zip(operator.tensors, tensors, strict=True)):
            form = form_of(tensor).encode() if isinstance(reference, OperatorOutput) else b""
            opened = () if whole[number] else _open(tensor, [window for at, window in windows if at == number])
            shown.append(ShownTensor(form, opened))
        if found.kind is not VerdictKind.INVALID:
            shown.append(self._output())
        names = [symbol.name for symbol in graph.symbols]
        siblings = operator_siblings(subgraph, names, place.operator)
        at = (found.kind, found.variant, place.step, place.subgraph, place.operator, element, witness)
        return Claim(*at, encode_operator(operator, names), siblings, tuple(shown))

    def _need_inputs(self, subgraph: Subgraph, operator: Operator) -> list[bool]:
        """Need the roots of an operator's inputs and of its output; for each input whether it is the job's."""
        place = self.difference.place
        ports = [output.operator for output in subgraph.outputs]
        made = [reference.index for reference in operator.tensors if isinstance(reference, OperatorOutput)]
        if self.difference.kind is not VerdictKind.INVALID:
            made.append(place.operator)
        sources = [subgraph.inputs[x.index] if isinstance(x, SubgraphInput) else None for x in operator.tensors]
        histories = any(isinstance(source, History) for source in sources)
        self.rests_on_list = histories or any(index not in ports for index in made)
        if made or histories:
            self._need_ports(place.step, place.subgraph)
        self._need_step(place.step)
        return [isinstance(source, str) and self._need_named(place.step, source) for source in sources]

    def _choose(self, place: Place, tensors: Sequence[Tensor]) -> tuple[int, int, list[tuple[int, Window]]]:
        """Return the element, the witness, and what the judge reads for them."""
        found = self.difference
        operator = self.own.graph.subgraphs[place.subgraph].operators[place.operator]
        if found.kind is VerdictKind.INVALID:
            element, witness = self._refused(place, tensors)
            return element, witness, self._windows(place, tensors, element, witness, witness)
        if found.kind is VerdictKind.WITNESS:
            claimed = self._claimed()
            right = int(self.own.tensor(place).reshape(-1)[found.element])
            witness = WITNESS_RULES[operator.rule.name].choose(right, claimed)
            return found.element, witness, self._windows(place, tensors, found.element, claimed, witness)
        if found.kind is VerdictKind.ELEMENT:
            return found.element, 0, self._windows(place, tensors, found.element, 0, 0)
        return found.element, 0, []

    def _history(self) -> tuple[ShownTensor, ...]:
        """Return a history's chunk and the step that its element comes from."""
        own, place = self.own, self.difference.place
        subgraph = own.graph.subgraphs[place.subgraph]
        histories = [source for source in subgraph.inputs if isinstance(source, History)]
        name = histories[place.operator - len(subgraph.operators)].name
        joined, first = own.tensor(place), own.named(0, name)
        axis = own.history_axis(name)
        inner = 1
        for size in joined.shape[axis + 1 :]:
            inner *= size
        above, below = divmod(self.difference.element, inner)
        above, position = divmod(above, joined.shape[axis])
        rows = first.shape[axis]
        step, row = (0, position) if position < rows else (position - rows + 1, 0)
        piece = own.named(step, name)
        self.rests_on_list = True
        self._need_ports(place.step, place.subgraph)
        whole = self._need_named(step, name)
        window = Window((above * piece.shape[axis] + row) * inner + below)
        return self._output(), ShownTensor(b"", () if whole else _open(piece, [window]))

    def _output(self) -> ShownTensor:
        """Return what the accused published of the disputed tensor."""
        found = self.difference
        if found.kind is VerdictKind.FORM:
            return ShownTensor(b"" if found.form is None else found.form.encode())
        return ShownTensor(b"", () if found.leaf is None else (found.leaf,))

    def _claimed(self) -> int:
        """Return the accused's value of the disputed element."""
        found, right = self.difference, self.own.tensor(self.difference.place)
        if found.leaf is None:
            raise EvidenceMalformed("difference", "no chunk")
        start = found.element * right.dtype.itemsize - found.leaf.first_chunk * LEAF_BYTES
        signed = right.dtype.kind == "i"
        return int.from_bytes(found.leaf.data[start : start + right.dtype.itemsize], "little", signed=signed)

    def _windows(
        self, place: Place, tensors: Sequence[Tensor], element: int, claimed: int, witness: int
    ) -> list[tuple[int, Window]]:
        """Return what the judge reads, up to a value that the operator refuses."""
        operator = self.own.graph.subgraphs[place.subgraph].operators[place.operator]
        types = [TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors]
        windows: list[tuple[int, Window]] = []

        def read(tensor: int, window: Window) -> Tensor:
            windows.append((tensor, window))
            values: Tensor = tensors[tensor].reshape(-1)[window.indices()]
            return values

        try:
            if operator.rule.name in WITNESS_RULES:
                refutes_element(operator.rule, types, operator.attributes, element, claimed, witness, read)
            else:
                read_element(operator.rule, types, operator.attributes, element, read)
        except TensorOutOfRange:
            if self.difference.kind is not VerdictKind.INVALID:
                raise
        else:
            if self.difference.kind is VerdictKind.INVALID:
                raise NothingRefused(f"element {element} of {operator.label} is not refused")
        return windows

    def _refused(self, place: Place, tensors: Sequence[Tensor]) -> tuple[int, int]:
        """Return an element, and a witness, of which the operator refuses a value."""
        operator = self.own.graph.subgraphs[place.subgraph].operators[place.operator]
        types = [TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors]
        shape = operator.rule.output_type(types, operator.attributes).at({})
        size, width = 1, shape[-1] if shape else 1
        for dimension in shape:
            size *= dimension
        if operator.rule.name in WITNESS_RULES:
            tried = product((0,), range(min(_TRIES, max(tensor.size for tensor in tensors))))
        else:
            places = (*range(0, size, width), *range(min(size, _TRIES)))[:_TRIES]
            tried = product(places, (0,))
        for element, witness in tried:
            try:
                self._windows(place, tensors, element, witness, witness)
            except NothingRefused:
                continue
            return element, witness
        raise NothingRefused(f"operator {operator.label}: no element shows what it refuses")

    def _need_length(self, found: Difference) -> None:
        graph, place = self.own.graph, found.place
        if found.variant == STEP_COUNT:
            self._need_step(place.step)
        elif found.variant == PORT_COUNT:
            self._need_ports(place.step, place.subgraph)
        elif found.variant in {AFTER_STOP, TOO_FEW} and graph.scan is not None:
            self._need_named(place.step, graph.scan.output)

    def _need_named(self, step: int, name: str) -> bool:
        """Need a named tensor's root, or the job's input; whether it was the input."""
        graph = self.own.graph
        if graph.scan is not None and name == graph.scan.input and step > 0:
            step, name = step - 1, graph.scan.output
        elif any(port.name == name for port in graph.inputs):
            self.reads_input = True
            return True
        for number, subgraph in enumerate(graph.subgraphs):
            if any(output.port.name == name for output in subgraph.outputs):
                self._need_ports(step, number)
        return False

    def _need_ports(self, step: int, subgraph: int) -> None:
        found = self.difference
        disputed = (step, subgraph) == (found.place.step, found.place.subgraph) and found.port_roots is not None
        roots = found.port_roots if disputed else None
        self.ports[step, subgraph] = self.own.port_roots(step, subgraph) if roots is None else roots
        self._need_step(step)

    def _need_step(self, step: int) -> None:
        if self.own.graph.scan is None:
            return
        found = self.difference
        theirs = found.step_children if step == found.place.step else None
        self.steps[step] = self.own.step_roots(step) if theirs is None else theirs


def _open(tensor: Tensor, windows: Sequence[Window]) -> tuple[Opening, ...]:
    """Open the chunks that windows of a tensor lie in."""
    data = encode_tensors([tensor])
    ranges = [span for window in windows for span in window.byte_ranges(tensor.dtype.itemsize)]
    spans = merge_spans([(start // LEAF_BYTES, -(-end // LEAF_BYTES)) for start, end in ranges], len(data))
    return tuple(open_chunks(data, first, end - first) for first, end in spans)
