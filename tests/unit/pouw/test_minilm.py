"""MiniLM in exact integers: one trace on every backend, and close to the float model."""

import json

import numpy as np
import pytest

from hyperdust import graph as g
from hyperdust import graph_minilm
from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.execution import run, trace_root
from pouw.graph_encoding import decode, encode
from pouw.hypergraph import SymbolOutOfRange
from pouw.ticket import check_shape

try:
    LOADED = g.load_graph("minilm")
except graph_minilm.WeightsMissing as error:
    pytest.skip(str(error), allow_module_level=True)

TEXTS = ("Thanks!", "Light travels at about three hundred thousand kilometres per second.", g.EXAMPLE_TEXT)


def trace(backend, text):
    inputs = LOADED.encode_text(text)
    symbols = g.symbols_of(LOADED.graph, inputs)
    return trace_root(run(LOADED.graph, LOADED.constants, inputs, symbols, load_backend(backend)))


def test_the_committed_file_is_canonical():
    data = (g.GRAPHS_DIR / "minilm.graph").read_bytes()
    assert encode(decode(data)) == data
    assert len(LOADED.top_layer) < 24_576


def test_constants_are_rebuilt_to_the_committed_roots(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = g.load_graph.__wrapped__("minilm")
    (cached,) = (tmp_path / "hyperdust" / "constants").iterdir()
    assert sorted(first.constants) == sorted(LOADED.constants)
    cached.write_bytes(cached.read_bytes()[:-1] + b"\xff")
    again = g.load_graph.__wrapped__("minilm")
    assert all(np.array_equal(again.constants[root], array) for root, array in LOADED.constants.items())


def test_backends_make_one_trace():
    for text in TEXTS:
        try:
            native = trace("native", text)
        except BackendUnavailable as error:
            pytest.skip(str(error))
        assert native == trace("numpy", text)


def test_definitions_make_the_same_trace():
    class Definitions:
        name = "definitions"

        def compute(self, rule, tensors, attributes):
            return rule.compute(tensors, attributes)

    inputs = LOADED.encode_text(TEXTS[0])
    found = run(LOADED.graph, LOADED.constants, inputs, g.symbols_of(LOADED.graph, inputs), Definitions())
    assert trace_root(found) == trace("numpy", TEXTS[0])


def test_fidelity():
    found = g.check("minilm")
    assert found["n"] == 50
    assert found["cosine_mean"] >= 0.995
    assert found["cosine_min"] >= 0.98


def test_six_products_may_be_mined():
    operands = LOADED.graph.mining_operands()
    assert len(operands) == 6
    for operand in operands:
        check_shape(16, operand.n, operand.k)
        weights = LOADED.constants[operand.root]
        assert weights.shape == (operand.n, operand.k)
        assert int(np.abs(weights.astype(np.int16)).max()) <= 63
    symbols = {"S": 16}
    mining = sum(c * 16 ** e[0] for c, e in LOADED.graph.mining_macs_terms())
    assert 0.3 < mining / LOADED.graph.macs(symbols) < 0.4


def test_no_compiled_product_leaves_int64():
    worst = 0
    for _, _, operator in LOADED.graph.operators():
        if operator.rule.name == "rescale":
            multipliers = LOADED.constants[operator.tensors[2].root]
            worst = max(worst, int(multipliers.max()))
            assert int(multipliers.min()) >= 0
    assert 1552 * 63 * 63 * 2**23 * worst < 2**63
    assert 384 * 127 * 127 * 2**23 * worst < 2**63


def test_run_prints_what_the_interface_promises(tmp_path):
    found = g.run("minilm", backend="numpy")
    assert sorted(found) == ["macs", "operators", "output", "seconds", "trace_root"]
    assert found["operators"] == LOADED.graph.operator_count()
    assert len(found["output"]) == 384
    ids = LOADED.example()["ids"]
    for name, content in (("list.json", json.dumps(ids.tolist()).encode()), ("raw", ids.astype("<i4").tobytes())):
        (tmp_path / name).write_bytes(content)
        again = g.run("minilm", input_file=tmp_path / name, backend="numpy")
        assert again["trace_root"] == found["trace_root"]
    carried = g.input_bytes("minilm", None, None)
    assert carried.symbols == (len(ids),)
    output = np.array(found["output"], dtype="<i2").tobytes()
    assert g.decode_outputs("minilm", carried.symbols, output) == found["output"]


def test_input_errors_are_named(tmp_path):
    bad = tmp_path / "bad"
    for content, reason in ((b"[1, 2.5]", "list of int32"), (b"[1,", "whole number"), (b"123", "whole number")):
        bad.write_bytes(content)
        with pytest.raises(g.InputUnreadable, match=reason):
            g.run("minilm", input_file=bad, backend="numpy")
    with pytest.raises(g.InputUnreadable, match="cannot read"):
        g.run("minilm", input_file=tmp_path / "absent", backend="numpy")
    with pytest.raises(g.UnknownGraph, match="known: .*minilm"):
        g.run("nothing")
    bad.write_bytes(b"")
    with pytest.raises(SymbolOutOfRange):
        g.run("minilm", input_file=bad, backend="numpy")


def test_missing_weights_name_the_command(monkeypatch):
    monkeypatch.setattr(graph_minilm, "find_spec", lambda _name: None)
    with pytest.raises(graph_minilm.WeightsMissing, match="make setup"):
        graph_minilm.model_dir()
