"""Find where an accused's execution leaves one's own: level by level, each answer checked before it is believed.

Steps, subgraphs, the operator list, a tensor's form, its BLAKE3 tree (256 children at a time), one chunk, one element.
Everything before the difference is equal in both: who executed the job holds all that the disputed element reads.
"""

from dataclasses import dataclass, replace

import numpy as np

from chain.hashing import keccak256
from pouw.execution import encode_tensors
from pouw.fraud_check import (
    AFTER_STOP,
    HISTORY_DIFFERS,
    LIST_DIFFERS,
    OPERATOR_REFUSES,
    PORT_COUNT,
    STEP_COUNT,
    TOO_FEW,
    TRACE_COUNT,
)
from pouw.fraud_codec import Opening, Path, split_roots
from pouw.fraud_own import OwnTrace, child_values, form_of
from pouw.fraud_question import check_data, check_question, encode_demand
from pouw.fraud_tensor import children_of, opening_of_leaf, siblings_within, top_node
from pouw.fraud_types import (
    ANSWER_BYTES_MAX,
    Answer,
    Demand,
    EvidenceMalformed,
    Facts,
    FalseAnswer,
    Form,
    NotCommitted,
    NotGuilty,
    Place,
    Published,
    Question,
    QuestionKind,
    VerdictKind,
)
from pouw.graph_encoding import encode_top_layer
from pouw.operators.elements import WITNESS_RULES
from pouw.operators.types import Tensor
from pouw.scan import History
from pouw.trace import LEAF_BYTES, tensor_root


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the accused is wrong, with what he published on the way there."""

    kind: VerdictKind
    variant: int
    place: Place
    element: int = 0
    trace_children: tuple[bytes, ...] | None = None
    step_children: tuple[bytes, ...] | None = None
    """Of the place's step; None: equal to one's own, or no scan."""
    port_roots: tuple[bytes, ...] | None = None
    """Of the place's subgraph; None: equal to one's own."""
    operators: tuple[bytes, ...] | None = None
    """The operator list, where it was asked for."""
    signature: bytes = b""
    """Of the operator list; empty where it was published on chain."""
    form: Form | None = None
    """What the place's root binds."""
    leaf: Opening | None = None
    """The chunk with the element."""


def find_difference(facts: Facts, own: OwnTrace, accused: Published, job_output: bytes) -> Difference | None:
    """Return the accused's first fault; None where he has none.

    Raises:
        Withheld, FalseAnswer: with the `Demand` that the accused has to answer; as good as the same to the court.
        NotCommitted: `job_output` is not what the accused submitted.
    """
    if keccak256(job_output) != facts.output_hash:
        raise NotCommitted("job's output", keccak256(job_output), facts.output_hash)
    return _Search(facts, own, accused, encode_top_layer(own.graph)).find(job_output)


@dataclass(frozen=True, slots=True)
class _Search:
    facts: Facts
    own: OwnTrace
    accused: Published
    top_layer: bytes

    def find(self, job_output: bytes) -> Difference | None:
        """Compare from the trace root down; the output last."""
        own, graph = self.own, self.own.graph
        answer = self._ask(Question(QuestionKind.TRACE_CHILDREN), Path(self.top_layer))
        children = split_roots(answer.data, "answer")
        known = Difference(VerdictKind.LENGTH, TRACE_COUNT, Place(0, 0, 0), trace_children=children)
        if graph.scan is None:
            if len(children) != len(graph.subgraphs):
                return known
            return self._step(replace(known, step_children=None), 0, children) or self._output(known, job_output)
        if not 1 <= len(children) <= own.execution.symbols[graph.scan.limit]:
            return known
        complete = own.refused.step if own.refused is not None else own.steps
        mine = own.trace_children()
        for step in range(min(len(children), complete)):
            if children[step] != mine[step]:
                return self._step(known, step, self._step_children(known, step))
        if len(children) < complete or (own.refused is not None and len(children) == complete):
            return replace(known, variant=TOO_FEW, place=Place(len(children) - 1, 0, 0))
        if own.refused is not None:
            return self._step(known, complete, self._step_children(known, complete))
        if len(children) > complete:
            return replace(known, variant=AFTER_STOP, place=Place(complete - 1, 0, 0))
        return self._output(known, job_output)

    def _step_children(self, known: Difference, step: int) -> tuple[bytes, ...]:
        path = Path(self.top_layer, known.trace_children)
        return split_roots(self._ask(Question(QuestionKind.STEP_CHILDREN, step), path).data, "answer")

    def _step(self, known: Difference, step: int, children: tuple[bytes, ...]) -> Difference | None:
        """Find the first subgraph that differs in a step."""
        own = self.own
        if own.graph.scan is not None:
            known = replace(known, step_children=children)
        if len(children) != len(own.graph.subgraphs):
            return replace(known, variant=STEP_COUNT, place=Place(step, 0, 0))
        mine = own.step_roots(step)
        refused = own.refused if own.refused is not None and own.refused.step == step else None
        for number in range(len(mine) if refused is None else refused.subgraph):
            if children[number] != mine[number]:
                return self._subgraph(known, step, number)
        return None if refused is None else self._subgraph(known, step, refused.subgraph)

    def _subgraph(self, known: Difference, step: int, number: int) -> Difference:
        """Find the first operator, or history, that differs in a subgraph."""
        own, subgraph = self.own, self.own.graph.subgraphs[number]
        asked = self._ask(Question(QuestionKind.PORT_ROOTS, step, number), self._path(known, step))
        ports = split_roots(asked.data, "answer")
        known = replace(known, port_roots=ports, place=Place(step, number, 0))
        if len(ports) != len(subgraph.outputs):
            return replace(known, variant=PORT_COUNT)
        by_port = {output.operator: root for output, root in zip(subgraph.outputs, ports, strict=True)}
        histories = sum(isinstance(source, History) for source in subgraph.inputs)
        if histories or len(by_port) < len(subgraph.operators):
            path = self._path(known, step)
            answer = self._ask(Question(QuestionKind.OPERATOR_ROOTS, step, number), path)
            listed = split_roots(answer.data, "answer")
            known = replace(known, operators=listed, signature=answer.signature)
        else:
            listed = tuple(by_port[place] for place in range(len(subgraph.operators)))
        differs = any(
            output.operator >= len(listed) or listed[output.operator] != root
            for output, root in zip(subgraph.outputs, ports, strict=True)
        )
        if len(listed) != len(subgraph.operators) + histories or differs:
            return replace(known, kind=VerdictKind.LIST, variant=LIST_DIFFERS)
        inside = own.inside(step, number)
        joined = tuple(enumerate(inside.histories, len(subgraph.operators)))
        for index, tensor in (*joined, *enumerate(inside.operators)):
            if listed[index] != tensor_root(tensor):
                return self._tensor(known, Place(step, number, index), tensor)
        place = Place(step, number, len(inside.operators))
        return replace(known, kind=VerdictKind.INVALID, variant=OPERATOR_REFUSES, place=place)

    def _tensor(self, known: Difference, place: Place, mine: Tensor) -> Difference:
        """Find the first element that differs in a tensor."""
        subgraph = self.own.graph.subgraphs[place.subgraph]
        ports = [output.operator for output in subgraph.outputs]
        rests_on = known if place.operator not in ports else replace(known, operators=None)
        path = self._path(rests_on, place.step)
        names = (place.step, place.subgraph, place.operator)
        form = Form.decode(self._ask(Question(QuestionKind.FORM, *names), path, known.signature).data)
        known = replace(known, place=place, form=form)
        right = form_of(mine)
        if replace(form, digest=right.digest) != right:
            return replace(known, kind=VerdictKind.FORM, variant=0)
        data = encode_tensors([mine])
        node, value, siblings = top_node(len(data)), form.digest, list[bytes]()
        while node.level:
            question = Question(QuestionKind.TREE_CHILDREN, *names, node.level, node.index)
            answer = self._ask(question, path, known.signature, form.encode(), value, siblings)
            values = split_roots(answer.data, "answer")
            own_values = child_values(data, node)
            child = next(at for at, other in enumerate(own_values) if values[at] != other)
            siblings = [*siblings_within(values, child), *siblings]
            node, value = children_of(len(data), node)[child], values[child]
        question = Question(QuestionKind.LEAF, *names, 0, node.index)
        leaf = self._ask(question, path, known.signature, form.encode(), value, siblings).data
        start = node.index * LEAF_BYTES
        pairs = np.frombuffer(leaf, np.uint8) != np.frombuffer(data[start : start + LEAF_BYTES], np.uint8)
        element = (start + int(pairs.argmax())) // mine.dtype.itemsize
        kind, variant = VerdictKind.LIST, HISTORY_DIFFERS
        if place.operator < len(subgraph.operators):
            witnessed = subgraph.operators[place.operator].rule.name in WITNESS_RULES
            kind, variant = (VerdictKind.WITNESS if witnessed else VerdictKind.ELEMENT), 0
        opening = opening_of_leaf(len(data), node.index, leaf, siblings)
        return replace(known, kind=kind, variant=variant, element=element, leaf=opening)

    def _output(self, known: Difference, job_output: bytes) -> Difference | None:
        """Compare the job's output with one's own, which is the trace's."""
        own = self.own
        outputs = list(own.execution.outputs.values())
        mine = encode_tensors(outputs)
        if job_output == mine:
            return None
        known = replace(known, kind=VerdictKind.OUTPUT, variant=0)
        if len(job_output) != len(mine):
            return known
        at = next(place for place, (a, b) in enumerate(zip(job_output, mine, strict=True)) if a != b)
        if own.graph.scan is not None:
            return replace(known, place=Place(at // 4, 0, 0))
        ends = np.cumsum([output.nbytes for output in outputs])
        return replace(known, element=int(np.searchsorted(ends, at, side="right")))

    def _path(self, known: Difference, step: int) -> Path:
        scan = self.own.graph.scan
        steps = ((step, known.step_children or ()),) if scan is not None else ()
        ports = () if known.port_roots is None else ((step, known.place.subgraph, known.port_roots),)
        return Path(self.top_layer, known.trace_children, steps, ports, known.operators)

    def _ask(
        self,
        question: Question,
        path: Path,
        signature: bytes = b"",
        form: bytes = b"",
        value: bytes = b"",
        siblings: list[bytes] | None = None,
    ) -> Answer:
        """Ask, and believe only what leads to the commitment.

        Raises:
            Withheld, FalseAnswer.
        """
        data = encode_demand(question, path, form, value, b"".join(siblings or ()))
        demand = Demand(question, data, signature if path.operators is not None else b"")
        asked = check_question(self.facts, data)
        answer = self.accused.ask(demand)
        try:
            if len(answer.data) > ANSWER_BYTES_MAX:
                raise EvidenceMalformed("answer", f"{len(answer.data)} bytes, at most {ANSWER_BYTES_MAX}")
            check_data(asked, answer.data)
            if question.kind is QuestionKind.OPERATOR_ROOTS:
                split_roots(answer.data, "operator list")
        except NotGuilty as error:
            raise FalseAnswer(question.kind.name, str(error), demand) from error
        return answer
