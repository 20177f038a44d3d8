"""More rows than a table has positions: the operator refuses them, so does each element, and who answers is guilty."""

import numpy as np
import pytest

from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.fraud import OwnTrace, VerdictKind, build_proof, check_proof, find_difference
from pouw.graph_encoding import encode
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
from pouw.operators.elements import read_element
from pouw.operators.errors import TensorOutOfRange
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT16, INT32, dtype_by_name, tensor_root
from precompiles.graph_facts import read_facts
from precompiles.judge import judge
from tests.unit.fraud_harness import Case, Liar, output_of

X = np.arange(24, dtype=np.int16).reshape(6, 4)
TABLE = np.arange(32, dtype=np.int16).reshape(8, 4)


def tensors_of(name, rows, so_far, positions):
    table = TABLE[:positions]
    return (X[:rows], table) if name == "add_positions" else (X[:rows], np.zeros(so_far, np.int32), table)


@pytest.mark.parametrize(
    ("name", "rows", "so_far", "positions", "fits"),
    [
        ("add_positions", 6, 0, 6, True),
        ("add_positions", 6, 0, 5, False),
        ("add_positions", 6, 0, 1, False),  # numpy would take the one row for all
        ("rope", 6, 6, 6, True),
        ("rope", 2, 6, 6, True),
        ("rope", 6, 5, 8, False),  # positions below 0
        ("rope", 6, 7, 6, False),
    ],
)
def test_every_element_refuses_what_the_operator_refuses(name, rows, so_far, positions, fits):
    rule, attributes = RULE_BY_NAME[name], (1, 4, 0) if name == "rope" else ()
    tensors = tensors_of(name, rows, so_far, positions)
    types = [TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors]

    def read(number, window):
        return tensors[number].reshape(-1)[window.indices()]

    if fits:
        whole = rule.compute(tensors, attributes).reshape(-1)
        assert [read_element(rule, types, attributes, index, read) for index in range(4 * rows)] == whole.tolist()
        return
    for backend in ("numpy", "native", "torch"):
        try:
            found = load_backend(backend)
        except BackendUnavailable:
            continue
        with pytest.raises(TensorOutOfRange):
            found.compute(rule, tensors, attributes)
    for index in range(4 * rows):
        with pytest.raises(TensorOutOfRange):
            read_element(rule, types, attributes, index, read)


def case_of(name, rows, positions):
    """A graph that takes more rows than it has positions for: its author's fault, and it can be registered."""
    ids = SubgraphInput(0)
    held = {tensor_root(array): array for array in (X, TABLE[:positions])}
    words, table = (
        Constant(root, TensorType(dtype_by_name(array.dtype.name), array.shape)) for root, array in held.items()
    )
    embed = Operator(RULE_BY_NAME["embedding"], "embed", (ids, words), ())
    if name == "rope":
        second = Operator(RULE_BY_NAME[name], name, (OperatorOutput(0), ids, table), (1, 4, 0))
        made = TensorType(INT16, ("S", 4))
    else:
        second = Operator(RULE_BY_NAME[name], name, (OperatorOutput(0), table), ())
        made = TensorType(INT32, ("S", 4))
    part = Subgraph("s", ("ids",), (SubgraphOutput(Port("y", made), 1),), (embed, second))
    graph = Hypergraph("g", (Symbol("S", 1, 6),), (Port("ids", TensorType(INT32, ("S",))),), ("y",), (part,))
    check_graph(graph)
    return Case(graph, held, {"ids": np.arange(rows, dtype=np.int32)}, {"S": rows})


@pytest.mark.parametrize("name", ["rope", "add_positions"])
def test_who_answers_a_job_that_nobody_can_compute_is_guilty(name):
    case = case_of(name, 6, 5)
    assert read_facts(encode(case.graph))
    own = OwnTrace.until_refused(case.graph, case.constants, case.inputs, case.symbols, NumpyBackend())
    bad = case_of(name, 6, 8).execute()  # as if there were enough
    facts = case.facts(Liar(bad).trace_root, output_of(bad))
    difference = find_difference(facts, own, Liar(bad), output_of(bad))
    assert difference is not None
    proof = build_proof(facts, own, difference, case.job_input, output_of(bad))
    verdict = check_proof(facts, proof.evidence)
    assert (verdict.kind, verdict.operator) == (VerdictKind.INVALID, 1)
    assert judge(b"\1" + facts.encode() + proof.evidence) is not None
