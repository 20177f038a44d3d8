"""Judge a proof: pure, bounded by the evidence's length, and only by what the accused committed to, graph and job.

An honest provider's roots are those of the definitions, so no evidence that leads to them shows a fault.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from pouw.fraud_codec import Claim, ShownTensor, decode_evidence
from pouw.fraud_path import Committed, Source, at, axis_of, check_path, concrete, size_of
from pouw.fraud_tensor import Held, hold
from pouw.fraud_types import (
    EvidenceMalformed,
    Facts,
    Form,
    NoFault,
    NotCommitted,
    Outside,
    Verdict,
    VerdictKind,
)
from pouw.graph_encoding import decode_operator, root_of_operator
from pouw.hypergraph import Constant, Operator, Reference, SubgraphInput
from pouw.operators.element import Window
from pouw.operators.elements import WITNESS_RULES, read_element, refutes_element
from pouw.operators.errors import TensorOutOfRange
from pouw.operators.types import Tensor, TensorType
from pouw.scan import STEP_ROWS, History
from pouw.trace import INT32, root_of_bytes

LIST_DIFFERS, HISTORY_DIFFERS = 0, 1
"""Variants of LIST: the operators against the ports; a joined history against the step that a row comes from."""
TRACE_COUNT, STEP_COUNT, PORT_COUNT, AFTER_STOP, TOO_FEW = 0, 1, 2, 3, 4
"""Variants of LENGTH."""
OPERATOR_REFUSES, JOB_REFUSED = 0, 1
"""Variants of INVALID: an operator does not take a value; the graph does not take the job's symbols or input."""


def check_proof(facts: Facts, evidence: bytes) -> Verdict:
    """Return what evidence shows; where it shows no fault of the accused, an error.

    Raises:
        NotGuilty and its kinds; what reading an operator or a top layer and inferring a type raise (all `Invalid`).
    """
    path, claim = decode_evidence(evidence)
    committed = check_path(facts, path)
    with np.errstate(all="ignore"):  # int64 wraps by definition
        return _CHECKS[claim.kind](committed, claim)


@dataclass(frozen=True, slots=True)
class Shown:
    """An operator with what it reads."""

    operator: Operator
    types: tuple[TensorType, ...]
    """Of its inputs, without symbols."""
    held: tuple[Held, ...]
    output: TensorType

    def read(self, tensor: int, window: Window) -> Tensor:
        """Return the values of a window of an input.

        Raises:
            NotCommitted: they were not opened.
        """
        return self.held[tensor].read(window)


def _operator(committed: Committed, claim: Claim) -> Operator:
    head = committed.head(claim.subgraph)
    if claim.operator >= head.operator_count:
        raise Outside("operator", claim.operator, f"below {head.operator_count}")
    found = root_of_operator(claim.encoding, claim.operator, head.operator_count, claim.siblings)
    if found != head.operators_root:
        raise NotCommitted("operators root", found, head.operators_root)
    return decode_operator(claim.encoding, committed.top.symbol_names)


def _shown(committed: Committed, claim: Claim, inputs: Sequence[ShownTensor]) -> Shown:
    operator = _operator(committed, claim)
    _check_place(committed, claim)
    if len(inputs) != len(operator.tensors):
        raise EvidenceMalformed("tensors", f"{len(inputs)} inputs, not {len(operator.tensors)}")
    types, held = [], []
    for reference, shown in zip(operator.tensors, inputs, strict=True):
        source, digest = _source(committed, claim, reference, shown)
        types.append(source.type)
        held.append(hold(source, shown, digest))
    output = concrete(operator.rule.output_type(types, operator.attributes), {})
    return Shown(operator, tuple(types), tuple(held), output)


def _source(
    committed: Committed, claim: Claim, reference: Reference, shown: ShownTensor
) -> tuple[Source, bytes | None]:
    """Return where an input comes from: the graph decides it, and its type except within the subgraph."""
    if not isinstance(reference, Constant | SubgraphInput):
        if reference.index >= claim.operator:
            raise Outside("operator's input", reference.index, f"below {claim.operator}")
        form = Form.decode(shown.form)
        root = committed.operator_root(claim.step, claim.subgraph, reference.index)
        _check_root("form of an input", form.root(), root)
        return Source(form.type(), root), form.digest
    if shown.form:
        raise EvidenceMalformed("form", "of a tensor whose type the graph gives")
    if isinstance(reference, Constant):
        return Source(concrete(reference.type, {}), reference.root), None
    return committed.input(claim.step, claim.subgraph, reference.index), None


def _check_element(committed: Committed, claim: Claim) -> Verdict:
    if not claim.tensors:
        raise EvidenceMalformed("tensors", "no output")
    shown = _shown(committed, claim, claim.tensors[:-1])
    operator = shown.operator
    root = committed.operator_root(claim.step, claim.subgraph, claim.operator)
    _check_inside(claim.element, shown.output)
    output = hold(Source(shown.output, root), claim.tensors[-1], None)
    claimed = int(output.read(Window(claim.element))[0])
    witnessed = operator.rule.name in WITNESS_RULES
    if witnessed != (claim.kind is VerdictKind.WITNESS):
        raise EvidenceMalformed("claim", f"{operator.rule.name} is disputed by {'a witness' if witnessed else 'value'}")
    if witnessed:
        arguments = (operator.rule, shown.types, operator.attributes, claim.element, claimed, claim.witness)
        if not refutes_element(*arguments, shown.read):
            raise NoFault("witness", claim.witness, f"one that refutes {claimed}")
    else:
        value = read_element(operator.rule, shown.types, operator.attributes, claim.element, shown.read)
        if value == claimed:
            raise NoFault("element", claimed, f"other than {value}")
    return _verdict(committed, claim)


def _check_form(committed: Committed, claim: Claim) -> Verdict:
    if not claim.tensors:
        raise EvidenceMalformed("tensors", "no output")
    form = Form.decode(claim.tensors[-1].form)
    root = committed.operator_root(claim.step, claim.subgraph, claim.operator)
    _check_root("form", form.root(), root)
    history = _history(committed, claim)
    if history is not None:
        _check_place(committed, claim)
        expected = committed.history_type(claim.step, claim.subgraph, history)
    else:
        expected = _shown(committed, claim, claim.tensors[:-1]).output
    right = Form.of(expected.dtype, expected.at({}), form.digest)
    if form == right:
        raise NoFault("form", expected, "another")
    return _verdict(committed, claim)


def _history(committed: Committed, claim: Claim) -> History | None:
    """Return the history that a place behind the operators names; None for an operator."""
    head = committed.head(claim.subgraph)
    if claim.operator < head.operator_count:
        return None
    histories = tuple(source for source in head.inputs if isinstance(source, History))
    return at(histories, claim.operator - head.operator_count, "history")


def _check_list(committed: Committed, claim: Claim) -> Verdict:
    head = committed.head(claim.subgraph)
    if claim.variant == HISTORY_DIFFERS:
        return _check_history(committed, claim)
    _check_variant(claim, LIST_DIFFERS)
    listed = committed.path.operators
    if listed is None:
        raise NotCommitted("operator list", "none", "shown")
    ports = committed.port_roots(claim.step, claim.subgraph)
    if len(ports) != len(head.outputs):
        raise Outside("ports", len(ports), len(head.outputs))
    try:
        committed.check_list(claim.step, claim.subgraph, listed)
    except NotCommitted:
        return _verdict(committed, claim, operator=0)
    raise NoFault("operator list", "the committed ports", "others")


def _check_history(committed: Committed, claim: Claim) -> Verdict:
    """Compare one element of a joined history with the step that it comes from."""
    history = _history(committed, claim)
    if history is None or len(claim.tensors) != 2:
        raise EvidenceMalformed("claim", "no history and a piece of it")
    _check_place(committed, claim)
    joined = committed.history_type(claim.step, claim.subgraph, history)
    _check_inside(claim.element, joined)
    shape = joined.at({})
    axis = axis_of(history.name, committed.type_of(claim.subgraph, history.name))
    inner = 1
    for size in shape[axis + 1 :]:
        inner *= size
    above, position, below = (
        claim.element // inner // shape[axis],
        claim.element // inner % shape[axis],
        claim.element % inner,
    )
    rows = committed.symbols_at(0)[STEP_ROWS]
    step, row = (0, position) if position < rows else (position - rows + 1, 0)
    piece = committed.tensor(step, claim.subgraph if step == claim.step else len(committed.top.subgraphs), history.name)
    piece_rows = committed.symbols_at(step)[STEP_ROWS]
    expected_shape = (*shape[:axis], piece_rows, *shape[axis + 1 :])
    if piece.type != TensorType(joined.dtype, expected_shape):
        raise Outside("piece of a history", piece.type, expected_shape)
    root = committed.listed(claim.operator)
    whole = hold(Source(joined, root), claim.tensors[0], None).read(Window(claim.element))
    part = hold(piece, claim.tensors[1], None).read(Window((above * piece_rows + row) * inner + below))
    if int(whole[0]) == int(part[0]):
        raise NoFault("element of a history", int(whole[0]), "another")
    return _verdict(committed, claim, operator=0)


def _check_output(committed: Committed, claim: Claim) -> Verdict:
    data = committed.path.job_output
    if data is None:
        raise NotCommitted("job's output", "none", "shown")
    top = committed.top
    if top.scan is not None:
        count = len(data) // 4
        if len(data) % 4 or count != len(committed.trace_children()):
            return _verdict(committed, claim, operator=0)
        if claim.step >= count:
            raise Outside("step", claim.step, f"below {count}")
        shown = committed.tensor(claim.step, len(top.subgraphs), top.scan.output)
        part = data[4 * claim.step : 4 * claim.step + 4]
    else:
        sources = [(name, concrete(_named_type(committed, name), committed.symbols)) for name in top.outputs]
        sizes = [size_of(found) for _, found in sources]
        if len(data) != sum(sizes):
            return _verdict(committed, claim, operator=0)
        name, _ = at(tuple(sources), claim.element, "output")
        shown = committed.tensor(0, len(top.subgraphs), name)
        start = sum(sizes[: claim.element])
        part = data[start : start + sizes[claim.element]]
    if shown.data is not None:
        same = shown.data == part
    else:
        same = root_of_bytes(shown.type.dtype, shown.type.at({}), part) == shown.root
    if same:
        raise NoFault("job's output", "the trace's", "another")
    return _verdict(committed, claim, operator=0)


def _named_type(committed: Committed, name: str) -> TensorType:
    return committed.type_of(len(committed.top.subgraphs), name)


def _check_length(committed: Committed, claim: Claim) -> Verdict:
    top, count = committed.top, len(committed.trace_children())
    subgraphs = len(top.subgraphs)
    if claim.variant == TRACE_COUNT:
        most = subgraphs if top.scan is None else committed.symbols[top.scan.limit]
        least = subgraphs if top.scan is None else 1
        _check_fault(fault=not least <= count <= most, what="trace's children", got=count)
    elif claim.variant == STEP_COUNT:
        found = len(committed.step_children(claim.step))
        _check_fault(fault=found != subgraphs, what="step's children", got=found)
    elif claim.variant == PORT_COUNT:
        found = len(committed.port_roots(claim.step, claim.subgraph))
        _check_fault(fault=found != len(committed.head(claim.subgraph).outputs), what="ports", got=found)
    else:
        _check_stop(committed, claim, count)
    return _verdict(committed, claim, operator=0)


def _check_stop(committed: Committed, claim: Claim, count: int) -> None:
    scan = committed.top.scan
    if scan is None or claim.variant not in {AFTER_STOP, TOO_FEW}:
        raise EvidenceMalformed("claim", f"variant {claim.variant}")
    token = committed.tensor(claim.step, len(committed.top.subgraphs), scan.output)
    stop = root_of_bytes(INT32, (1,), scan.stop.to_bytes(4, "little", signed=True))
    if claim.variant == AFTER_STOP:
        fault = token.root == stop and claim.step + 1 < count
    else:
        fault = token.root != stop and claim.step + 1 == count < committed.symbols[scan.limit]
    _check_fault(fault=fault, what="steps", got=count)


def _check_invalid(committed: Committed, claim: Claim) -> Verdict:
    if claim.variant == JOB_REFUSED:
        _check_job(committed)
        return _verdict(committed, claim, operator=0)
    _check_variant(claim, OPERATOR_REFUSES)
    shown = _shown(committed, claim, claim.tensors)
    rule, attributes = shown.operator.rule, shown.operator.attributes
    try:
        if rule.name in WITNESS_RULES:
            refutes_element(rule, shown.types, attributes, claim.element, claim.witness, claim.witness, shown.read)
        else:
            read_element(rule, shown.types, attributes, claim.element, shown.read)
    except TensorOutOfRange:
        return _verdict(committed, claim)
    raise NoFault("values", "what the operator takes", "a value that it refuses")


def _check_job(committed: Committed) -> None:
    top, data = committed.top, committed.path.job_input
    outside = any(not symbol.low <= committed.symbols[symbol.name] <= symbol.high for symbol in top.symbols)
    if outside:
        return
    if data is None:
        raise NotCommitted("job's input", "none", "shown")
    size = sum(size_of(concrete(port.type, committed.symbols)) for port in top.inputs)
    _check_fault(fault=len(data) != size, what="bytes of input", got=len(data))


def _check_fault(*, fault: bool, what: str, got: int) -> None:
    if not fault:
        raise NoFault(what, got, "another number")


def _check_place(committed: Committed, claim: Claim) -> None:
    """Refuse a step that is none, and a list that is not of the disputed subgraph."""
    committed.check_step(claim.step)
    if committed.path.operators is not None:
        committed.check_list(claim.step, claim.subgraph, committed.path.operators)


def _check_inside(element: int, of: TensorType) -> None:
    if element >= prod(of.at({})):
        raise Outside("element", element, of)


def _check_root(what: str, got: bytes, expected: bytes) -> None:
    if got != expected:
        raise NotCommitted(what, got, expected)


def _check_variant(claim: Claim, variant: int) -> None:
    if claim.variant != variant:
        raise EvidenceMalformed("claim", f"variant {claim.variant} of {claim.kind.name}")


def _verdict(committed: Committed, claim: Claim, operator: int | None = None) -> Verdict:
    """Return the verdict; an operator behind the last one is a history, which counts as the subgraph's first."""
    head = at(committed.top.subgraphs, claim.subgraph, "subgraph")
    within = claim.operator if operator is None else operator
    first = committed.first_operator(claim.subgraph)
    index = first + (within if within < head.operator_count else 0)
    return Verdict(claim.kind, claim.step, claim.subgraph, index, claim.element, committed.list_hash())


_CHECKS = {
    VerdictKind.ELEMENT: _check_element,
    VerdictKind.WITNESS: _check_element,
    VerdictKind.FORM: _check_form,
    VerdictKind.LIST: _check_list,
    VerdictKind.OUTPUT: _check_output,
    VerdictKind.LENGTH: _check_length,
    VerdictKind.INVALID: _check_invalid,
}
