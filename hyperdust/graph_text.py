"""Text generation on this machine: a decoder's folder, its tokens, its fidelity. No chain.

`python -m hyperdust.graph_text NAME FOLDER TEXTS` compiles a Hugging Face folder of a Llama or Qwen2 decoder, with a
file of calibration texts (one a line), into genesis/graphs/NAME.* (a new graph id: an ADR).
"""

import argparse
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from chain.errors import NodeFault
from pouw.compiler import llama, llama_fp32
from pouw.compiler.fp32 import Weights
from pouw.compiler.llama_calibration import LlamaCalibration, calibrate
from pouw.compiler.llama_config import CONFIG_MAX, FolderMalformed, LlamaShape, parse_config, parse_json
from pouw.compiler.llama_folder import WEIGHTS_MAX, parse_weights
from pouw.compiler.llama_options import SizeOutOfRange
from pouw.execution import Backend
from pouw.graph_encoding import encode
from pouw.hypergraph import Hypergraph
from pouw.operators.types import Tensor

NEW_TOKENS: Final = 48
EXAMPLE_TEXT: Final = "A miner"
DEFAULT_SAMPLING: Final = llama.Sampling(round(2**16 / 0.6), 40, round(2**16 * 0.95))
TOKENIZER_MAX: Final = 2**26
INPUT_MAX: Final = 2**20


class FolderUnreadable(NodeFault):
    """A file of a model folder cannot be read."""


class PromptUnreadable(NodeFault):
    """An input file is no prompt."""


def is_text(graph: Hypergraph) -> bool:
    """Whether a graph makes tokens from tokens."""
    return graph.scan is not None


def read_model(folder: Path) -> tuple[LlamaShape, Weights]:
    """Read config.json and *.safetensors of a Hugging Face folder.

    Raises:
        FolderUnreadable, and all that `parse_config` and `parse_weights` raise.
    """
    shape = parse_config(_read(folder / "config.json", CONFIG_MAX))
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise FolderUnreadable(f"{folder.name}: no *.safetensors")
    return shape, parse_weights([(path.name, _read(path, WEIGHTS_MAX)) for path in paths], shape)


def build(folder: Path, name: str) -> tuple[Hypergraph, dict[bytes, Tensor]]:
    """Make the graph and its constants again from the committed weights and calibration.

    Raises:
        FolderUnreadable, and all that `read_model` raises.
    """
    shape, weights = read_model(folder / name)
    stored = load_file(folder / f"{name}.calibration.safetensors")
    bits = {key.removeprefix("bits."): int(value[0]) for key, value in stored.items() if key.startswith("bits.")}
    factors = {key.removeprefix("factors."): value for key, value in stored.items() if key.startswith("factors.")}
    sampling = llama.Sampling(*(int(value) for value in stored["sampling"]))
    prompt, limit = (int(value) for value in stored["sizes"])
    return llama.build(name, weights, shape, LlamaCalibration(factors, bits), sampling, (prompt, limit))


def encode_text(folder: Path, graph: Hypergraph, text: str) -> dict[str, Tensor]:
    """Return the input tensors of a prompt: its last tokens, as many as the graph takes, and seed 0."""
    ids = _tokenizer(folder / graph.name).encode(text).ids
    return _inputs(graph, ids[-graph.symbols[0].high :], 0)


def parse_input(graph: Hypergraph, raw: bytes, what: str) -> dict[str, Tensor]:
    """Return the input tensors of a file: `{"ids": [..], "seed": 0, "tokens": 48}`, a JSON list or raw int32 ids.

    Raises:
        PromptUnreadable: says what does not fit.
    """
    found = _parse(raw, what)
    return _inputs(graph, found["ids"], found.get("seed", 0))


def limit_of(graph: Hypergraph, raw: bytes | None) -> int:
    """Return the largest number of new tokens: what a JSON input says, else 48 or as many as the graph makes.

    Raises:
        PromptUnreadable: says what does not fit.
    """
    if graph.scan is None:
        raise AssertionError(graph.name)
    limit = next(symbol.high for symbol in graph.symbols if symbol.name == graph.scan.limit)
    asked = None if raw is None else _parse(raw, "input").get("tokens")
    return min(NEW_TOKENS, limit) if asked is None else asked


def decode_text(folder: Path, graph: Hypergraph, tokens: list[int]) -> str:
    """Return the text of tokens, a lying provider's too: special tokens and what is no token are left out."""
    return str(_tokenizer(folder / graph.name).decode([token for token in tokens if token >= 0]))


def streamer(folder: Path, graph: Hypergraph, show: Callable[[str], None]) -> Callable[[int], None]:
    """Return a function of tokens that shows the text as soon as its characters are whole."""
    tokens: list[int] = []
    shown = 0

    def take(token: int) -> None:
        nonlocal shown
        tokens.append(token)
        text = decode_text(folder, graph, tokens)
        if not text.endswith("\ufffd"):
            show(text[shown:])
            shown = len(text)

    return take


def check(folder: Path, graph: Hypergraph, constants: Any, backend: Backend) -> dict[str, float | int]:
    """Compare the integers with the float32 model on held-out texts.

    -> perplexity of both and their ratio, share of positions with the same most likely token, `n` positions.
    """
    shape, weights = read_model(folder / graph.name)
    texts = (folder / graph.name / "heldout.txt").read_text(encoding="utf-8").splitlines()
    rows = [encode_text(folder, graph, text)["ids"] for text in texts]
    exact, floats, agreed = [], [], 0
    for ids in rows:
        ours = llama.all_logits(graph, constants, ids, backend)
        theirs = llama_fp32.logits_of(weights, shape, ids)
        agreed += int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
        exact.append((ours * (math.log(2) / 2**llama.SCORE_BITS), ids))
        floats.append((theirs, ids))
    (ours_sum, count), (theirs_sum, _) = llama_fp32.score_texts(exact), llama_fp32.score_texts(floats)
    return {
        "perplexity": math.exp(ours_sum / count),
        "perplexity_fp32": math.exp(theirs_sum / count),
        "perplexity_ratio": math.exp((ours_sum - theirs_sum) / count),
        "agreement": agreed / sum(len(ids) for ids in rows),
        "n": count,
    }


def compile_folder(
    target: Path, name: str, folder: Path, texts: list[str], sizes: tuple[int, int], sampling: llama.Sampling
) -> Hypergraph:
    """Calibrate on texts and write NAME.graph and NAME.calibration.safetensors into the target folder.

    Raises:
        FolderUnreadable, OptionUnmappable and all that `read_model` raises.
    """
    shape, weights = read_model(folder)
    tokenizer = _tokenizer(folder)
    rows = [np.array(tokenizer.encode(text).ids[: shape.context], dtype=np.int32) for text in texts if text]
    _check_ids(rows, shape)
    calibration = calibrate(weights, shape, rows, lambda done: _say(f"calibrating: {done} of {len(rows)} texts"))
    _say("\n")
    graph, _ = llama.build(name, weights, shape, calibration, sampling, sizes)
    stored: dict[str, Tensor] = {f"factors.{key}": value for key, value in calibration.factors.items()}
    stored |= {f"bits.{key}": np.array([value], dtype=np.int16) for key, value in calibration.bits.items()}
    stored["sampling"] = np.array([sampling.multiplier, sampling.top_k, sampling.top_p], dtype=np.int32)
    stored["sizes"] = np.array(sizes, dtype=np.int32)
    save_file(stored, target / f"{name}.calibration.safetensors")
    (target / f"{name}.graph").write_bytes(encode(graph))
    return graph


def _check_ids(rows: list[NDArray[np.int32]], shape: LlamaShape) -> None:
    for ids in rows:
        if not len(ids) or int(ids.max()) >= shape.vocabulary:
            raise SizeOutOfRange("token of a calibration text", ids.tolist()[:4], f"below {shape.vocabulary}")


def _inputs(graph: Hypergraph, ids: list[int], seed: int) -> dict[str, Tensor]:
    given: dict[str, Tensor] = {"ids": np.array(ids, dtype=np.int32)}
    if any(port.name == "seed" for port in graph.inputs):
        given["seed"] = np.array([seed], dtype=np.int32)
    return given


def _parse(raw: bytes, what: str) -> dict[str, Any]:
    if len(raw) > INPUT_MAX:
        raise PromptUnreadable(f"{what}: {len(raw)} bytes, at most {INPUT_MAX}")
    if raw.lstrip()[:1] not in {b"[", b"{"}:
        if len(raw) % 4:
            raise PromptUnreadable(f"{what}: {len(raw)} bytes are no whole number of int32")
        return {"ids": np.frombuffer(raw, dtype="<i4").tolist()}
    try:
        found = parse_json(what, raw, INPUT_MAX)
    except FolderMalformed as error:
        raise PromptUnreadable(str(error)) from error
    found = found if isinstance(found, dict) else {"ids": found}
    ids = found.get("ids")
    if not isinstance(ids, list) or not all(type(token) is int and 0 <= token < 2**31 for token in ids):
        raise PromptUnreadable(f"{what}: expected a list of token ids")
    for name, low in (("seed", -(2**31)), ("tokens", 1)):
        value = found.get(name, low)
        if type(value) is not int or not low <= value < 2**31:
            raise PromptUnreadable(f"{what}: {name} is no int32")
    return found


def _read(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise FolderMalformed(path.name, f"{path.stat().st_size} bytes, at most {most}")
        return path.read_bytes()
    except OSError as error:
        raise FolderUnreadable(f"cannot read {path}: {error.strerror}") from error


@cache
def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(_read(folder / "tokenizer.json", TOKENIZER_MAX).decode("utf-8"))
    except Exception as error:  # the library raises Exception itself
        if isinstance(error, NodeFault | FolderMalformed):
            raise
        raise FolderMalformed("tokenizer.json", str(error)[:200]) from error


def _say(text: str) -> None:
    print(f"\r{text}", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Compile a folder from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--sizes", type=int, nargs=2, default=(96, 96), metavar=("S", "T"))
    parser.add_argument("--target", type=Path, default=Path(__file__).resolve().parent.parent / "genesis" / "graphs")
    options = parser.parse_args()
    texts = options.texts.read_text(encoding="utf-8").splitlines()
    sizes = (options.sizes[0], options.sizes[1])
    graph = compile_folder(options.target, options.name, options.folder, texts, sizes, DEFAULT_SAMPLING)
    print(f"{graph.name}: {graph.operator_count()} operators, MACs {graph.macs_terms()}")


if __name__ == "__main__":
    main()
