"""llama-tiny on this machine: committed roots, text, a job's bytes; folders and prompts that are refused."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save

from chain.errors import HyperdustError, Malformed
from hyperdust import graph as g
from hyperdust import graph_text
from pouw.compiler import llama_folder as folder
from pouw.compiler.llama_config import FolderMalformed, parse_config
from pouw.compiler.llama_options import OptionUnmappable, SizeOutOfRange
from pouw.execution import encode_tensors
from pouw.graph_encoding import encode
from pouw.ticket import check_shape

NAME = "llama-tiny"
SOURCE = g.GRAPHS_DIR / NAME
CONFIG = json.loads((SOURCE / "config.json").read_bytes())


def test_the_constants_are_those_that_the_graph_commits_to():
    built, constants = graph_text.build(g.GRAPHS_DIR, NAME)
    g.check_constants(g.read_graph(NAME), built)
    assert encode(built) == (g.GRAPHS_DIR / f"{NAME}.graph").read_bytes()
    assert set(constants) == set(built.constants())


def test_run_prints_the_text_as_it_grows():
    parts = []
    found = g.run(NAME, text="Every block", backend="numpy", on_text=parts.append)
    assert "".join(parts).rstrip("\ufffd") == found["text"].rstrip("\ufffd")
    assert len(parts) > 5
    assert 1 <= len(found["output"]) <= graph_text.NEW_TOKENS
    assert found["operators"] == 99


def test_a_job_carries_prompt_seed_and_limit(tmp_path):
    asked = g.input_bytes(NAME, "Every block", None)
    loaded = g.load_graph(NAME)
    assert len(asked.data) == 4 * asked.symbols[0] + 4
    assert asked.symbols[1] == graph_text.NEW_TOKENS
    path = tmp_path / "prompt.json"
    path.write_text(json.dumps({"ids": [0, 300, 5], "seed": -7, "tokens": 4}))
    other = g.input_bytes(NAME, None, path)
    assert other.symbols == (3, 4)
    assert other.data == struct.pack("<4i", 0, 300, 5, -7)
    found = g.run(NAME, input_file=path, backend="numpy")
    assert len(found["output"]) <= 4
    data = encode_tensors([np.array(found["output"], dtype=np.int32)])
    assert g.decode_outputs(NAME, other.symbols, data) == found["output"]
    assert len(data) <= 8192
    assert loaded.graph.mining_operands()


def test_what_is_no_token_has_no_text():
    graph = g.read_graph(NAME)
    assert graph_text.decode_text(g.GRAPHS_DIR, graph, [-1, 2**31 - 1, -(2**31), 0, 1]) == ""


def test_another_seed_is_another_text(tmp_path):
    outputs = []
    for seed in range(3):
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps({"ids": [0, 300, 5], "seed": seed, "tokens": 12}))
        outputs.append(g.run(NAME, input_file=path, backend="numpy")["output"])
    assert outputs[0] != outputs[1] or outputs[1] != outputs[2]


def test_its_products_can_be_mined():
    for operand in g.load_graph(NAME).graph.mining_operands():
        check_shape(16, operand.n, operand.k)


def test_fidelity():
    found = g.check(NAME)
    assert found["perplexity_ratio"] < 1.02
    assert found["agreement"] > 0.9
    assert found["n"] > 1000


def test_a_long_text_keeps_its_end():
    inputs = g.load_graph(NAME).encode_text("block " * 500)
    assert inputs["ids"].shape == (96,)


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[1, 2",
        b'["a"]',
        b"[true]",
        b"[-1]",
        b'{"seed": 1}',
        b'{"ids": [1], "seed": 1.5}',
        b'{"ids": [1], "seed": 4294967296}',
        b'{"ids": [1], "tokens": 0}',
        b"\1\2\3",
        b"[" * 100_000,
        b" " * (2**20 + 1),
    ],
)
def test_prompts_that_are_refused(raw, tmp_path):
    path = tmp_path / "prompt"
    path.write_bytes(raw)
    with pytest.raises(graph_text.PromptUnreadable):
        g.input_bytes(NAME, None, path)


@pytest.mark.parametrize("content", [b"[]", json.dumps([5] * 97).encode(), b'{"ids": [1], "tokens": 97}', b""])
def test_prompts_beyond_the_bounds(content, tmp_path):
    path = tmp_path / "prompt"
    path.write_bytes(content)
    with pytest.raises(HyperdustError):
        g.input_bytes(NAME, None, path)


def changed(**options):
    return json.dumps(CONFIG | options).encode()


@pytest.mark.parametrize(
    ("data", "error", "named"),
    [
        (changed(model_type=["llama"]), OptionUnmappable, "model_type"),
        (changed(rope_parameters="default"), OptionUnmappable, "rope_parameters"),
        (changed(model_type="mamba"), OptionUnmappable, "model_type"),
        (changed(model_type="gemma"), OptionUnmappable, "architectures"),
        (changed(hidden_act="xielu"), OptionUnmappable, "hidden_act"),
        (changed(rope_scaling={"type": "linear", "factor": 0}), SizeOutOfRange, "factor"),
        (changed(rope_scaling={"rope_type": "llama3", "high_freq_factor": 1}), OptionUnmappable, "high_freq"),
        (changed(rope_scaling={"rope_type": "default", "mscale": 2}), OptionUnmappable, "mscale"),
        (changed(partial_rotary_factor=0.05), OptionUnmappable, "partial_rotary"),
        (changed(rope_interleaved=True), OptionUnmappable, "rope_interleaved"),
        (changed(rope_scaling={"type": "dynamic", "factor": 2}), OptionUnmappable, "rope_scaling"),
        (changed(rope_parameters={"rope_type": "yarn"}), OptionUnmappable, "rope_parameters"),
        (changed(rope_parameters=5), OptionUnmappable, "rope_parameters"),
        (changed(use_sliding_window=True), OptionUnmappable, "use_sliding_window"),
        (changed(quantization_config={"bits": 4}), OptionUnmappable, "quantization_config"),
        (changed(final_logit_softcapping=30.0), OptionUnmappable, "final_logit_softcapping"),
        (changed(architectures=["Other"]), OptionUnmappable, "architectures"),
        (changed(num_key_value_heads=3), OptionUnmappable, "heads"),
        (changed(head_dim=31), OptionUnmappable, "heads"),
        (changed(eos_token_id="end"), OptionUnmappable, "eos_token_id"),
        (changed(hidden_size=10**9), SizeOutOfRange, "hidden_size"),
        (changed(num_hidden_layers=-1), SizeOutOfRange, "num_hidden_layers"),
        (changed(num_attention_heads=True), SizeOutOfRange, "num_attention_heads"),
        (changed(vocab_size=None), SizeOutOfRange, "vocab_size"),
        (changed(rms_norm_eps="small"), SizeOutOfRange, "rms_norm_eps"),
        (changed(rope_theta=-3), SizeOutOfRange, "rope_theta"),
        (b"{", FolderMalformed, "config.json"),
        (b"[]", FolderMalformed, "config.json"),
        (b"[" * 100_000, FolderMalformed, "config.json"),
        (b" " * (2**20 + 1), FolderMalformed, "config.json"),
    ],
)
def test_configurations_that_are_refused(data, error, named):
    with pytest.raises(error, match=named):
        parse_config(data)


def test_weights_cut_short_are_refused():
    data = save({"a": np.ones((4, 3), dtype=np.float16), "b": np.zeros(5, dtype=np.float32)})
    found = folder.parse_safetensors("m", data)
    assert found["a"].shape == (4, 3)
    assert found["a"].dtype == np.float32
    for size in range(len(data)):
        with pytest.raises(FolderMalformed):
            folder.parse_safetensors("m", data[:size])
    with pytest.raises(FolderMalformed):
        folder.parse_safetensors("m", data + b"\0")


def header(entries, body):
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        {"dtype": "I64", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        [],
        None,
    ],
)
def test_headers_that_lie_are_refused(entry):
    with pytest.raises(FolderMalformed):
        folder.parse_safetensors("m", header({"a": entry}, bytes(4)))


def test_bfloat16_is_read():
    body = np.array([1.5, -2.0], dtype="<f4").view("<u2")[1::2].tobytes()
    data = header({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, body)
    assert folder.parse_safetensors("m", data)["a"].tolist() == [1.5, -2.0]


def test_missing_and_infinite_weights_are_named():
    shape = parse_config((SOURCE / "config.json").read_bytes())
    good = (SOURCE / "model.safetensors").read_bytes()
    with pytest.raises(folder.WeightMissing, match="embed_tokens"):
        folder.parse_weights([("m", save({"a": np.ones(1, dtype=np.float32)}))], shape)
    with pytest.raises(FolderMalformed, match="two files"):
        folder.parse_weights([("m", good), ("n", good)], shape)
    tensors = dict(folder.parse_safetensors("m", good))
    tensors["model.norm.weight"] = np.full(128, np.inf, dtype=np.float32)
    with pytest.raises(FolderMalformed, match="not finite"):
        folder.parse_weights([("m", save(tensors))], shape)
    with pytest.raises(folder.WeightMissing, match="model.norm"):
        folder.parse_weights([("m", save(tensors | {"model.norm.weight": np.ones(64, dtype=np.float32)}))], shape)


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(graph_text.FolderUnreadable, match=r"config\.json"):
        graph_text.read_model(tmp_path)
    (tmp_path / "config.json").write_bytes((SOURCE / "config.json").read_bytes())
    with pytest.raises(graph_text.FolderUnreadable, match="safetensors"):
        graph_text.read_model(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    (tmp_path / "model.safetensors").write_bytes((SOURCE / "model.safetensors").read_bytes())
    with pytest.raises(Malformed, match="tokenizer"):
        graph_text.compile_folder(tmp_path, "x", tmp_path, ["text"], (8, 8), graph_text.DEFAULT_SAMPLING)


def test_a_folder_compiles_to_the_committed_graph(tmp_path):
    texts = (SOURCE / "calibration.txt").read_text(encoding="utf-8").splitlines()
    graph = graph_text.compile_folder(tmp_path, NAME, SOURCE, texts, (96, 96), graph_text.DEFAULT_SAMPLING)
    assert graph.macs_terms() == g.read_graph(NAME).macs_terms()
    assert (tmp_path / f"{NAME}.graph").stat().st_size == (g.GRAPHS_DIR / f"{NAME}.graph").stat().st_size
