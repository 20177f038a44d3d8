"""A small BERT in a Hugging Face folder becomes an exact graph, and a folder that anyone can run."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from hyperdust import compile as c
from hyperdust import graph as g
from hyperdust.cli.app import run as command
from hyperdust.compile_show import report_table
from pouw.backends.registry import list_backends
from pouw.compiler import export
from pouw.compiler import folder as f
from pouw.compiler.hf import UnknownConfig, load_bert, read_config
from pouw.compiler.loading import FileTruncated, PickleRefused, TensorMissing
from pouw.compiler.program import Node, Program, UnmappableOperator, evaluate
from pouw.compiler.quantise import quantise
from pouw.compiler.ranges import CalibrationEmpty, NotFinite, observe_columns
from pouw.compiler.vit import load_vit
from pouw.graph_encoding import decode, encode
from pouw.operators.rules import RULE_BY_NAME

CONFIG = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 1024,  # deep enough for a ticket
    "vocab_size": 50,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def bert_tensors(seed=7, **changes):
    sizes = {**CONFIG, **changes}
    random = np.random.default_rng(seed)
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]

    def some(*shape, scale=1.0):
        return (random.standard_normal(shape) * scale).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": some(sizes["vocab_size"], width, scale=0.5),
        "embeddings.position_embeddings.weight": some(sizes["max_position_embeddings"], width, scale=0.2),
        "embeddings.token_type_embeddings.weight": some(sizes["type_vocab_size"], width, scale=0.1),
    }
    places = {"embeddings.LayerNorm": None}
    for layer in range(sizes["num_hidden_layers"]):
        name = f"encoder.layer.{layer}."
        places |= {f"{name}attention.self.{part}": (width, width) for part in ("query", "key", "value")}
        places |= {
            f"{name}attention.output.dense": (width, width),
            f"{name}attention.output.LayerNorm": None,
            f"{name}intermediate.dense": (inner, width),
            f"{name}output.dense": (width, inner),
            f"{name}output.LayerNorm": None,
        }
    for name, shape in places.items():
        tensors[f"{name}.weight"] = (
            1 + some(width, scale=0.1) if shape is None else some(*shape, scale=shape[1] ** -0.5)
        )
        tensors[f"{name}.bias"] = some(width if shape is None else shape[0], scale=0.1)
    return tensors


def write_bert(folder, prefix="", **changes):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    sizes = {key: value for key, value in changes.items() if key in CONFIG}
    save_file({prefix + name: array for name, array in bert_tensors(**sizes).items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("hf") / "Small-BERT")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    random = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("rows") / "ids.safetensors"
    save_file({f"{i:02}.ids": random.integers(0, 50, 3 + 2 * i).astype(np.int64) for i in range(16)}, path)
    return path


@pytest.fixture(scope="module")
def compiled(source, rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "model"
    return out, c.compile_source(c.Options(str(source), out, rows))


def test_a_bert_folder_compiles_close_to_its_float_model(compiled):
    out, report = compiled
    assert report["name"] == "small-bert"
    assert report["fidelity"]["cosine_min"] >= 0.99
    assert report["fidelity"]["inputs"] == "held out"
    assert report["fidelity"]["n"] == 4
    assert 0.2 < report["cost"]["mining_share"] < 0.5
    assert sorted(path.name for path in out.iterdir()) == [
        "constants.safetensors",
        "evaluation.safetensors",
        "model.json",
        "small-bert.graph",
    ]
    assert report["cost"]["constants_bytes"] == sum(
        array.nbytes for array in load_file(out / "constants.safetensors").values()
    )
    table = report_table(report)
    assert f"{report['cost']['macs']:,}" in table
    assert report["id"] in table


def test_the_folder_runs_and_checks_alone(compiled, tmp_path):
    out, report = compiled
    found = g.run(str(out), backend="numpy")
    assert len(found["output"]) == 64
    assert g.check(str(out)) == {key: report["fidelity"][key] for key in ("cosine_mean", "cosine_min", "n")}
    by_file = g.run(report["path"], backend="numpy")
    assert by_file["trace_root"] == found["trace_root"]
    ids = g.load_graph(str(out)).example()["ids"]
    for name, content in (
        ("list", json.dumps(ids.tolist()).encode()),
        ("object", json.dumps({"ids": ids.tolist()}).encode()),
        ("raw", ids.astype("<i4").tobytes()),
    ):
        (tmp_path / name).write_bytes(content)
        assert g.run(str(out), input_file=tmp_path / name, backend="numpy")["trace_root"] == found["trace_root"]


def test_the_commands_do_the_same(source, rows, tmp_path, capsys):
    arguments = ["graph", "compile", str(source), "--out", str(tmp_path / "m"), "--calibration", str(rows)]
    assert command([*arguments, "--name", "mine", "--mining", "all", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["name"] == "mine"
    assert command(["graph", "check", "--graph", str(tmp_path / "m"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cosine_min"] >= 0.98
    assert command(["graph", "compile", str(source), "--out", str(tmp_path / "m"), "--mining", "much"]) == 1
    assert "none, some or all" in capsys.readouterr().err


def test_compiling_twice_makes_one_graph(compiled, source, rows, tmp_path):
    _, report = compiled
    again = c.compile_source(c.Options(str(source), tmp_path / "again", rows))
    assert again["id"] == report["id"]


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu_new"])
def test_other_activations_and_sizes(activation, tmp_path, rows):
    changes = {"hidden_act": activation, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 80}
    source = write_bert(tmp_path / "m", prefix="bert.", **changes, num_hidden_layers=1)
    assert c.compile_source(c.Options(str(source), tmp_path / "out", rows))["fidelity"]["cosine_min"] >= 0.99


def test_cls_pooling_takes_the_first_row(tmp_path, rows):
    source = write_bert(tmp_path / "m")
    (source / "1_Pooling").mkdir()
    pooling = source / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    program = load_bert(source)
    assert "first" in {node.kind for node in program.nodes}
    assert c.compile_source(c.Options(str(source), tmp_path / "out", rows))["fidelity"]["cosine_min"] >= 0.99
    pooling.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(UnknownConfig, match="pooling_mode_max_tokens"):
        load_bert(source)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": 2**40}, "hidden_size"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_attention_heads": 5}, "does not divide"),
        ({"hidden_act": "mish"}, "mish"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "is_decoder"),
        ({"layer_norm_eps": 1.0}, "layer_norm_eps"),
        ({"model_type": "t5"}, "t5"),
    ],
)
def test_unknown_settings_are_named(changes, reason):
    with pytest.raises(UnknownConfig, match=reason):
        read_config({**CONFIG, **changes})


def test_weights_that_do_not_fit_the_settings_are_named(source, tmp_path):
    folder = write_bert(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 51}))
    with pytest.raises(UnknownConfig, match=r"word_embeddings.*50"):
        load_bert(folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 3}))
    with pytest.raises(TensorMissing, match=r"encoder\.layer\.2"):
        load_bert(folder)
    tensors = bert_tensors()
    tensors["encoder.layer.0.output.dense.bias"][3] = np.nan
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UnknownConfig, match="NaN"):
        load_bert(folder)
    data = (source / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(FileTruncated):
        load_bert(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(PickleRefused, match=r"pytorch_model\.bin"):
        load_bert(folder)


def test_sources_and_calibrations_that_do_not_fit_are_named(source, tmp_path):
    with pytest.raises(c.SourceUnknown, match="expected a Hugging Face folder"):
        c.compile_source(c.Options("nothing", tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(c.SourceUnknown, match="t5"):
        c.compile_source(c.Options(str(tmp_path), tmp_path / "out"))
    with pytest.raises(c.CalibrationUnreadable, match=r"no tokenizer\.json"):
        c.compile_source(c.Options(str(source), tmp_path / "out"))
    save_file({"0.ids": np.array([1, 50])}, tmp_path / "ids.safetensors")
    with pytest.raises(c.CalibrationUnreadable, match="0 to 49"):
        c.compile_source(c.Options(str(source), tmp_path / "out", tmp_path / "ids.safetensors"))


def linear(out, inside, seed=0):
    random = np.random.default_rng(seed)
    weight = (random.standard_normal((out, inside)) * inside**-0.5).astype(np.float32)
    return {"weight": weight, "bias": np.zeros(out, dtype=np.float32)}


def test_a_program_that_cannot_be_mapped_names_its_node():
    wide = np.ones(2048, dtype=np.float32)
    nodes = (
        Node("rows", "x", numbers={"width": 2048}),
        Node("norm", "n", (0,), {"gamma": wide, "beta": wide}, {"epsilon": 1e-5}, origin="model.py:7"),
    )
    program = Program(nodes, {"y": 1}, 16)
    largest = observe_columns(program, [{"x": np.random.default_rng(0).standard_normal((4, 2048))}])
    with pytest.raises(UnmappableOperator, match=r"2048.*model\.py:7"):
        quantise("m", program, largest)


def test_calibration_needs_finite_values():
    nodes = (Node("rows", "x", numbers={"width": 8}), Node("linear", "l", (0,), linear(4, 8)))
    program = Program(nodes, {"y": 1}, 16)
    with pytest.raises(CalibrationEmpty):
        observe_columns(program, [])
    with pytest.raises(NotFinite, match="x"):
        observe_columns(program, [{"x": np.full((2, 8), np.inf)}])


@pytest.mark.parametrize("size", [1e-4, 1.0, 300.0])
def test_products_of_any_size_stay_within_int64(size):
    """The triple product of `rescale` has its bound by construction, for every constant that comes out."""
    weights = {"weight": linear(32, 512)["weight"] * np.float32(size), "bias": np.zeros(32, dtype=np.float32)}
    nodes = (Node("rows", "x", numbers={"width": 512}), Node("linear", "l", (0,), weights))
    program = Program(nodes, {"y": 1}, 16)
    inputs = [{"x": np.random.default_rng(2).standard_normal((16, 512)).astype(np.float32)}]
    made = quantise("m", program, observe_columns(program, inputs))
    constants = made.built.constants
    for _, _, operator in made.built.graph.operators():
        if operator.rule is RULE_BY_NAME["matmul"]:
            matrix = constants[operator.tensors[1].root].astype(np.int64)
        if operator.rule is RULE_BY_NAME["row_maximum"]:
            factors = int(constants[operator.tensors[1].root].max())
        if operator.rule is RULE_BY_NAME["rescale"]:
            multipliers = int(np.abs(constants[operator.tensors[2].root].astype(np.int64)).max())
    assert int(np.abs(matrix).sum(axis=1).max()) * 127 * 2**15 * factors * multipliers < 2**63
    graph = made.built.graph
    x = f.to_integers("x", inputs[0]["x"], graph.inputs[0].type, made.input_scales["x"])
    backend = c._backend()
    got = c.measure_fidelity(graph, constants, [f.Evaluation({"x": x}, evaluate(program, inputs[0]))], backend)
    assert got.cosine_min > 0.999
    assert encode(decode(encode(graph))) == encode(graph)


def test_without_torch_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "find_spec", lambda _name: None)
    with pytest.raises(export.TorchMissing, match=r"pip install 'hyperdust\[compile\]'"):
        c.compile_source(c.Options("model.py:Classifier", tmp_path))


def write_vit(folder, labels=5, **changes):
    config = {
        "model_type": "vit",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "image_size": 32,
        "patch_size": 8,
        **changes,
    }
    random = np.random.default_rng(5)
    width, inner = 64, 128

    def some(*shape, scale=1.0):
        return (random.standard_normal(shape) * scale).astype(np.float32)

    tensors = {
        "vit.embeddings.cls_token": some(1, 1, width, scale=0.2),
        "vit.embeddings.position_embeddings": some(1, 17, width, scale=0.2),
        "vit.embeddings.patch_embeddings.projection.weight": some(width, 3, 8, 8, scale=192**-0.5),
        "vit.embeddings.patch_embeddings.projection.bias": some(width, scale=0.1),
    }
    places = {"vit.layernorm": None}
    for layer in range(2):
        name = f"vit.encoder.layer.{layer}."
        places |= {f"{name}attention.attention.{part}": (width, width) for part in ("query", "key", "value")}
        places |= {
            f"{name}attention.output.dense": (width, width),
            f"{name}intermediate.dense": (inner, width),
            f"{name}output.dense": (width, inner),
            f"{name}layernorm_before": None,
            f"{name}layernorm_after": None,
        }
    if labels:
        places["classifier"] = (labels, width)
    for name, shape in places.items():
        tensors[f"{name}.weight"] = (
            1 + some(width, scale=0.1) if shape is None else some(*shape, scale=shape[1] ** -0.5)
        )
        tensors[f"{name}.bias"] = some(width if shape is None else shape[0], scale=0.1)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("labels", [5, 0])
def test_a_vision_transformer_compiles_and_sees_a_png(tmp_path, labels):
    source = write_vit(tmp_path / "vit", labels)
    random = np.random.default_rng(3)
    images = tmp_path / "images"
    images.mkdir()
    for place in range(8):
        pixels = np.kron(random.integers(0, 256, (4, 4, 3)), np.ones((10, 10, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{place}.png")
    report = c.compile_source(c.Options(str(source), tmp_path / "out", images))
    assert report["fidelity"]["cosine_min"] >= 0.99
    found = g.run(str(tmp_path / "out"), input_file=images / "7.png", backend="numpy")
    assert np.array(found["output"]).shape == (1, labels or 64)
    assert (
        found["trace_root"]
        == g.run(str(tmp_path / "out"), backend=c._backend().name, input_file=images / "7.png")["trace_root"]
    )
    (tmp_path / "cut.png").write_bytes((images / "7.png").read_bytes()[:60])
    with pytest.raises(f.InputMisfit, match="no image"):
        g.run(str(tmp_path / "out"), input_file=tmp_path / "cut.png", backend="numpy")
    with pytest.raises(c.CalibrationUnreadable, match=r"uint8\[32, 32, 3\]"):
        c.compile_source(c.Options(str(source), tmp_path / "out"))


def test_vision_settings_are_checked(tmp_path):
    source = write_vit(tmp_path / "vit", patch_size=7)
    with pytest.raises(UnknownConfig, match="does not divide"):
        load_vit(source)
    (source / "config.json").write_text(
        (source / "config.json").read_text().replace('"patch_size": 7', '"patch_size": 16')
    )
    with pytest.raises(UnknownConfig, match="projection"):
        load_vit(source)
    (source / "preprocessor_config.json").write_text('{"image_std": [0, 0, 0]}')
    with pytest.raises(UnknownConfig, match="image_std"):
        load_vit(source)


def test_every_backend_makes_one_trace(compiled):
    out, _ = compiled
    usable = {*list_backends()[0], "numpy"}
    assert len({g.run(str(out), backend=backend)["trace_root"] for backend in usable}) == 1
