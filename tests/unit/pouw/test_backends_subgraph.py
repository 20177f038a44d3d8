"""Operators that run together give what they give one by one, and only those go together that nobody observes."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pouw.backends import cases_subgraph, native_fused
from pouw.backends.native import NativeBackend
from pouw.backends.registry import BackendUnavailable, BackendWrong, check_backend, load_backend, run_definitions
from pouw.hypergraph import Subgraph, SubgraphInput, SubgraphOutput
from pouw.operators.errors import TensorOutOfRange

SUBGRAPH, CONSTANTS = cases_subgraph.subgraph()


def served(name):
    try:
        return load_backend(name)
    except BackendUnavailable as error:
        pytest.skip(str(error))


def test_patterns_go_together_and_the_observed_stay_apart():
    steps = native_fused.plan(SUBGRAPH)
    found = [(step.kind, step.operators[-1].rule.name) for step in steps]
    assert found == [
        ("linear", "rescale"),
        ("attention", "attention_mix"),
        ("attention", "grouped_mix"),
        ("linear", "layer_norm"),
        ("linear", "lookup"),
        ("linear", "layer_norm"),
        ("linear", "rescale"),
        ("linear", "rescale"),
        ("operator", "lookup"),
    ]
    outputs = {step.output for step in steps}
    assert {output.operator for output in SUBGRAPH.outputs} <= outputs


def test_every_operator_that_leaves_a_subgraph_is_computed_apart():
    for index in range(len(SUBGRAPH.operators)):
        port = type(SUBGRAPH.outputs[0])(SUBGRAPH.outputs[0].port, index)
        steps = native_fused.plan(Subgraph("one", ("x",), (port,), SUBGRAPH.operators))
        assert index in {step.output for step in steps}
        made = []
        for step in steps:
            made += [operator.label for operator in step.operators]
        assert sorted(made) == sorted(operator.label for operator in SUBGRAPH.operators)


@pytest.mark.parametrize("name", ["native", "torch", "torch-cuda"])
def test_each_output_alone_is_the_definition(name):
    backend = served(name)
    x = cases_subgraph.inputs()[2]
    expected = run_definitions(SUBGRAPH, (x,), CONSTANTS)
    for index in range(len(SUBGRAPH.operators)):
        port = type(SUBGRAPH.outputs[0])(SUBGRAPH.outputs[0].port, index)
        (got,) = backend.run_subgraph(Subgraph("one", ("x",), (port,), SUBGRAPH.operators), (x,), CONSTANTS)
        assert got.dtype == expected[index].dtype
        assert np.array_equal(got, expected[index])


def test_another_array_under_a_root_is_used():
    backend = served("native")
    x = cases_subgraph.inputs()[1]
    backend.run_subgraph(SUBGRAPH, (x,), CONSTANTS)
    changed = {root: np.where(array > 100, 1, array).astype(array.dtype) for root, array in CONSTANTS.items()}
    changed |= {root: array for root, array in CONSTANTS.items() if array.ndim == 1 and array.dtype == np.int16}
    expected = run_definitions(SUBGRAPH, (x,), changed)
    for output, got in zip(SUBGRAPH.outputs, backend.run_subgraph(SUBGRAPH, (x,), changed), strict=True):
        assert np.array_equal(got, expected[output.operator])


@pytest.mark.parametrize("name", ["native", "torch"])
def test_a_mining_operand_out_of_range_is_named(name):
    backend = served(name)
    (mining,) = (operator for operator in SUBGRAPH.operators if operator.attributes == (1,))
    root = mining.tensors[1].root
    wrong = CONSTANTS | {root: np.full_like(CONSTANTS[root], 65)}
    with pytest.raises(TensorOutOfRange, match="mining operand B"):
        backend.run_subgraph(SUBGRAPH, cases_subgraph.inputs()[:1], wrong)


def test_columns_by_themselves_go_together_with_the_rows_that_they_gather():
    subgraph, _ = cases_subgraph.taps()
    steps = native_fused.plan(subgraph)
    assert [(step.kind, len(step.operators), step.inputs) for step in steps] == [("taps", 5, (SubgraphInput(0),))] * 2
    for index in range(4):  # an observed operator of the chain keeps it apart
        port = SubgraphOutput(SUBGRAPH.outputs[0].port, index)
        steps = native_fused.plan(Subgraph("seen", ("x",), (*subgraph.outputs, port), subgraph.operators))
        assert [step.kind for step in steps] == ["operator"] * 6
    last = subgraph.operators[-1]
    for attributes in ((3, 3, 5, 6, 9), (3, 2, 6, 6, 9)):  # no whole column
        other = (*subgraph.operators[:-1], dataclasses.replace(last, attributes=attributes))
        assert "taps" not in {step.kind for step in native_fused.plan(Subgraph("odd", ("x",), subgraph.outputs, other))}


@pytest.mark.parametrize("name", ["native", "torch"])
def test_a_tap_that_no_table_has_is_named(name):
    subgraph, constants = cases_subgraph.taps()
    with pytest.raises(TensorOutOfRange, match="token id"):
        served(name).run_subgraph(subgraph, (cases_subgraph.taps_inputs()[0][:10].copy(),), constants)


def mined(bound):
    """A mining product of what `quantize` makes within a bound; bound 0: of the input itself."""
    builder = cases_subgraph._Builder()
    a = SubgraphInput(0)
    if bound:
        factors = builder.constant(np.full(8, 256, dtype=np.int16))
        largest = builder.add("row_maximum", a, factors)
        a = builder.add("quantize", a, largest, factors, attributes=(bound,))
    weights = builder.constant((np.arange(40, dtype=np.int8).reshape(8, 5) - 20).T)  # not in order
    builder.add("matmul", a, weights, attributes=(1,))
    outputs = [SubgraphOutput(SUBGRAPH.outputs[0].port, index) for index in range(len(builder.operators))]
    return Subgraph("mined", ("x",), tuple(outputs), tuple(builder.operators)), builder.constants


@pytest.mark.parametrize("bound", [0, 1, 64])
def test_a_mining_product_of_operands_in_range(bound):
    subgraph, constants = mined(bound)
    x = np.arange(24, dtype=np.int16 if bound else np.int8).reshape(8, 3).T  # not in order either
    expected = run_definitions(subgraph, (x,), constants)
    backend = served("native")
    for _ in range(2):
        for got, wanted in zip(backend.run_subgraph(subgraph, (x,), constants), expected, strict=True):
            assert np.array_equal(got, wanted)


@pytest.mark.parametrize("bound", [0, 65, 127])
def test_a_mining_operand_that_no_bound_holds_is_looked_at(bound):
    subgraph, constants = mined(bound)
    x = np.full((3, 8), 100, dtype=np.int16 if bound else np.int8)
    with pytest.raises(TensorOutOfRange, match="mining operand A"):
        served("native").run_subgraph(subgraph, (x,), constants)


@pytest.mark.parametrize("name", ["native", "torch"])
def test_factors_out_of_range_are_named(name):
    backend = served(name)
    root = SUBGRAPH.operators[0].tensors[1].root
    wrong = CONSTANTS | {root: np.full_like(CONSTANTS[root], 257)}
    with pytest.raises(TensorOutOfRange, match="factors"):
        backend.run_subgraph(SUBGRAPH, cases_subgraph.inputs()[:1], wrong)


def test_a_wrong_subgraph_is_refused():
    class Wrong(NativeBackend):
        def run_subgraph(self, subgraph, inputs, constants):
            first, *rest = super().run_subgraph(subgraph, inputs, constants)
            return (first ^ 1, *rest)

    served("native")
    with pytest.raises(BackendWrong, match="subgraph output mixed"):
        check_backend(Wrong())


def test_patterns_alone_run_in_one_call():
    hyperdust_core = pytest.importorskip("hyperdust_core")
    backend = NativeBackend()
    alone = cases_subgraph.patterns_alone(SUBGRAPH)
    x = cases_subgraph.inputs()[2]
    expected = run_definitions(SUBGRAPH, (x,), CONSTANTS)
    steps = native_fused.plan(alone)
    whole = native_fused.prepare_whole(alone, steps, hyperdust_core, CONSTANTS, backend._pack)
    assert whole is not None
    for output, got in zip(alone.outputs, whole((x,)), strict=True):
        assert np.array_equal(got, expected[output.operator])
    # an operator that no pattern holds keeps the subgraph to its steps
    with_one_more = native_fused.plan(SUBGRAPH)
    assert native_fused.prepare_whole(SUBGRAPH, with_one_more, hyperdust_core, CONSTANTS, backend._pack) is None


def test_products_on_all_cores_from_several_threads_are_exact():
    hyperdust_core = pytest.importorskip("hyperdust_core")
    rng = np.random.default_rng(11)
    cases = []
    for m, k, n in ((300, 257, 129), (1, 5000, 1700), (130, 400, 500), (700, 96, 48)):
        a, b = (rng.integers(-128, 128, (rows, k), dtype=np.int8) for rows in (m, n))
        a[-1], b[-1] = -128, -128
        cases.append((a, hyperdust_core.PackedWeights(b), a.astype(np.float64) @ b.T.astype(np.float64)))

    def wrong(_: int) -> int:
        return sum(not np.array_equal(weights.matmul(a), exact) for a, weights, exact in cases * 8)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(wrong, range(4))) == [0, 0, 0, 0]
