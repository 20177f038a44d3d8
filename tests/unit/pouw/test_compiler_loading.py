"""Weights and graph folders of strangers: refused by name, in bounded memory and time, whatever their bytes say."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from chain.errors import HyperdustError, Invalid
from hyperdust import graph as g
from pouw.compiler import folder as f
from pouw.compiler import loading
from pouw.compiler.program import Node, Program, evaluate
from pouw.compiler.quantise import quantise
from pouw.compiler.ranges import observe_columns
from pouw.graph_encoding import GRAPH_BYTES_MAX, encode

GIGABYTE = 2**30


def header_file(path, header, body=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + body)
    return path


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_dtypes_are_read_as_the_library_writes_them(tmp_path):
    arrays = {
        name: np.arange(6).reshape(2, 3).astype(name)
        for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")
    }
    save_file(arrays, tmp_path / "a.safetensors", metadata={"format": "np"})
    for name, found in loading.read_header(tmp_path / "a.safetensors").items():
        assert np.array_equal(found.read(), arrays[name])
    header_file(tmp_path / "b.safetensors", {"x": entry("BF16", (2,))}, b"\x80\x3f\x20\xc0")
    assert loading.read_header(tmp_path / "b.safetensors")["x"].read().tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    ("header", "body", "length", "error"),
    [
        (b"", b"", 2**63, loading.FileTooLarge),
        (b"{}", b"", 100, loading.FileTruncated),
        (b"{", b"", None, loading.HeaderMalformed),
        (b"[]", b"", None, loading.HeaderMalformed),
        (b"[" * 100_000, b"", None, loading.HeaderMalformed),
        (b"\xff\xfe", b"", None, loading.HeaderMalformed),
        ({"x": 1}, b"", None, loading.HeaderMalformed),
        ({"x": entry("F8")}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(shape=[2**40])}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(shape=[2**31 - 1] * 4)}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(shape=[-1])}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(shape=[True])}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(shape=[1] * 9)}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(offsets=[4, 0])}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(offsets=[-4, 0])}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(offsets=[0, 4.0])}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(), "y": entry()}, bytes(4), None, loading.HeaderMalformed),
        ({"x": entry(offsets=[4, 8])}, bytes(8), None, loading.HeaderMalformed),
        ({"x": entry()}, bytes(5), None, loading.HeaderMalformed),
        ({"x": entry()}, bytes(3), None, loading.FileTruncated),
        ({"x": entry(shape=[2**20], offsets=[0, 2**22])}, b"", None, loading.FileTruncated),
        ({str(i): entry(shape=[0], offsets=[0, 0]) for i in range(20_000)}, b"", None, loading.HeaderMalformed),
    ],
)
def test_hostile_headers_are_named(tmp_path, header, body, length, error):
    with pytest.raises(error):
        loading.read_header(header_file(tmp_path / "x.safetensors", header, body, length))


def test_files_and_folders_that_are_not_there_are_named(tmp_path):
    with pytest.raises(loading.FileMissing):
        loading.read_header(tmp_path / "absent.safetensors")
    with pytest.raises(loading.FileMissing):
        loading.read_header(tmp_path)
    with pytest.raises(loading.FileMissing):
        loading.read_folder(tmp_path)
    (tmp_path / "short.safetensors").write_bytes(b"123")
    with pytest.raises(loading.FileTruncated):
        loading.read_header(tmp_path / "short.safetensors")
    (tmp_path / "config.json").write_bytes(b" " * (loading.JSON_MAX + 1))
    with pytest.raises(loading.FileTooLarge):
        loading.read_settings(tmp_path / "config.json")
    for content in (b"[1]", b"{", b"[" * 100_000, b"\xff"):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(loading.SettingsMalformed):
            loading.read_settings(tmp_path / "config.json")
    for name in ("a", "b"):
        header_file(tmp_path / f"{name}.safetensors", {"x": entry()}, bytes(4))
    (tmp_path / "short.safetensors").unlink()
    with pytest.raises(loading.HeaderMalformed, match=r"stands in a\.safetensors"):
        loading.read_folder(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stranger") / "small"
    random = np.random.default_rng(0)

    def weights(out, inside):
        matrix = (random.standard_normal((out, inside)) / 4).astype(np.float32)
        return {"weight": matrix, "bias": np.zeros(out, dtype=np.float32)}

    nodes = (
        Node("rows", "x", numbers={"width": 6}),
        Node("linear", "first", (0,), weights(8, 6)),
        Node("activation", "gelu", (1,), function="gelu"),
        Node("linear", "second", (2,), weights(3, 8), block="head"),
    )
    program = Program(nodes, {"y": 3}, 16)
    given_rows = random.standard_normal((4, 6)).astype(np.float32)
    made = quantise("small", program, observe_columns(program, [{"x": given_rows}]))
    x = f.to_integers("x", given_rows, made.built.graph.inputs[0].type, made.input_scales["x"])
    evaluations = (f.Evaluation({"x": x}, evaluate(program, {"x": given_rows})),)
    held = f.ModelFolder(made.built.graph, made.built.constants, made.input_scales, made.output_scales, evaluations)
    f.write_model(folder, held, {}, None)
    return folder


def read(folder):
    path = f.find_graph(str(folder))
    return f.read_model(path, f.read_graph_file(path), GIGABYTE)


def test_a_folder_round_trips(model):
    again = read(model)
    assert encode(again.graph) == (model / "small.graph").read_bytes()
    assert f.read_model(model / "small.graph", again.graph, GIGABYTE).input_scales == again.input_scales
    assert again.evaluations[0].inputs["x"].shape == (4, 6)


def altered(model, tmp_path):
    return Path(shutil.copytree(model, tmp_path / "copy"))


def test_altered_constants_are_named(model, tmp_path):
    copy = altered(model, tmp_path)
    path = copy / "constants.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(f.ConstantAltered, match="root"):
        read(copy)
    graph = f.read_graph_file(copy / "small.graph")
    save_file({root.hex(): np.zeros(1, dtype=np.int8) for root in graph.constants()}, path)
    with pytest.raises(f.ConstantAltered, match="type"):
        read(copy)
    save_file({"x": np.zeros(1, dtype=np.int8)}, path)
    with pytest.raises(f.ConstantAbsent):
        read(copy)
    path.unlink()
    with pytest.raises(loading.FileMissing):
        read(copy)


def test_memory_is_bounded_before_it_is_taken(model):
    graph = f.read_graph_file(model / "small.graph")
    with pytest.raises(f.MemoryNeeded, match="constants"):
        f.read_model(model / "small.graph", graph, 1000)
    f.check_memory(graph, {"S": 16}, GIGABYTE)
    with pytest.raises(f.MemoryNeeded, match="one run"):
        f.check_memory(graph, {"S": 16}, 1000)


def test_graph_files_are_bounded_and_named(model, tmp_path):
    copy = altered(model, tmp_path)
    (copy / "small.graph").rename(copy / "other.graph")
    with pytest.raises(f.FolderUnclear, match="called small"):
        read(copy)
    (copy / "other.graph").write_bytes(bytes(GRAPH_BYTES_MAX + 1))
    with pytest.raises(loading.FileTooLarge):
        read(copy)
    (copy / "second.graph").write_bytes(b"")
    with pytest.raises(f.FolderUnclear, match="2 files"):
        read(copy)
    with pytest.raises(loading.FileMissing):
        g.run(str(tmp_path / "absent.graph"), backend="numpy")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"version": 2}, "version"),
        ({"version": 1}, "name x"),
        ({"version": 1, "inputs": {"x": -1}, "outputs": {"y": 1}}, "scale of x"),
        ({"version": 1, "inputs": {"x": 1}, "outputs": {"y": "1"}}, "scale of y"),
        ({"version": 1, "inputs": {"x": 1}, "outputs": {"y": 10**400}}, "scale of y"),
    ],
)
def test_settings_are_checked(model, tmp_path, content, reason):
    copy = altered(model, tmp_path)
    (copy / "model.json").write_text(json.dumps(content))
    with pytest.raises(loading.SettingsMalformed, match=reason):
        read(copy)


def test_inputs_that_do_not_fit_are_named(model, tmp_path):
    path = tmp_path / "in"
    for content, reason in (
        (b"[[1, 2]]", "shape"),
        (b'[["a"]]', "no list of numbers"),
        (b"[[1], [1, 2]]", "no list of numbers"),
        (b'{"z": [[1]]}', "object with x"),
        (b"[[1e999,0,0,0,0,0]]", "no int16"),
        (b"[", "not JSON"),
        (b"123", "no whole rows"),
        (b"", "no whole rows"),
    ):
        path.write_bytes(content)
        with pytest.raises(f.InputMisfit, match=reason):
            g.run(str(model), input_file=path, backend="numpy")
    with pytest.raises(f.InputMisfit, match="takes no text"):
        g.run(str(model), text="hello", backend="numpy")
    path.write_bytes(b"[0.5, -1, 0, 0, 0, 100]")
    assert np.array(g.run(str(model), input_file=path, backend="numpy")["output"]).shape == (1, 3)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_change_of_a_folder_is_refused_by_name_or_is_what_is_read(model, data):
    """Bytes of any file flipped, cut or replaced: a named error, or exactly the graph that the file says."""
    with tempfile.TemporaryDirectory() as where:
        copy = Path(shutil.copytree(model, Path(where) / "copy"))
        name = data.draw(st.sampled_from(sorted(path.name for path in copy.iterdir())))
        content = bytearray((copy / name).read_bytes())
        match data.draw(st.sampled_from(["flip", "cut", "replace", "insert"])):
            case "flip":
                place = data.draw(st.integers(0, min(len(content), 4000) - 1))
                content[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                content = content[: data.draw(st.integers(0, len(content) - 1))]
            case "replace":
                content = bytearray(data.draw(st.binary(max_size=200)))
            case "insert":
                place = data.draw(st.integers(0, len(content)))
                content[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        (copy / name).write_bytes(content)
        try:
            found = read(copy)
        except (Invalid, HyperdustError):
            return
        assert encode(found.graph) == (copy / "small.graph").read_bytes()  # a symbol's name, say: a graph of another id
        f.check_memory(found.graph, {"S": 4}, GIGABYTE)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "BF16", "I8", "F8", 3]),
                "shape": st.lists(st.integers(-2, 2**33) | st.booleans() | st.none(), max_size=10),
                "data_offsets": st.lists(st.integers(-(2**65), 2**65), max_size=3) | st.none(),
            }
        ),
        max_size=4,
    ),
    st.binary(max_size=64),
)
def test_no_header_makes_more_than_a_named_error(header, body):
    with tempfile.TemporaryDirectory() as where:
        path = header_file(Path(where) / "x.safetensors", header, body)
        try:
            found = loading.read_header(path)
        except Invalid:
            return
        assert sum(one.read().nbytes for one in found.values()) <= 2 * len(body)
