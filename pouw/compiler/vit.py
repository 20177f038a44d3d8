"""Hugging Face folders of vision transformers -> float program: an image in, logits or an embedding out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pouw.compiler.hf import BOUNDS, FloatWeights, UnknownConfig, read_activation, read_epsilon, read_sizes
from pouw.compiler.loading import read_folder, read_settings
from pouw.compiler.program import Float, Node, Program

_SHARED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
VIT_BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    **{key: BOUNDS[key] for key in _SHARED},
    "image_size": (1, 1024),
    "patch_size": (1, 64),
    "num_channels": (1, 4),
}
DEFAULTS: Final = {"image_size": 224, "patch_size": 16, "num_channels": 3}
LABELS_MAX: Final = 2**20


@dataclass(slots=True)
class _Writer:
    """The program in work."""

    weights: FloatWeights
    width: int
    epsilon: float
    nodes: list[Node]

    def add(self, kind: str, label: str, *sources: int, block: str, **rest: Any) -> int:
        self.nodes.append(Node(kind, label, sources, block=block, **rest))
        return len(self.nodes) - 1

    def linear(self, label: str, source: int, name: str, sizes: tuple[int, int], block: str) -> int:
        bias = f"{name}.bias"
        zero = np.zeros(sizes[0], dtype=np.float32)
        has_bias = self.weights.prefix + bias in self.weights.entries
        arrays = {
            "weight": self.weights.read(f"{name}.weight", *sizes),
            "bias": self.weights.read(bias, sizes[0]) if has_bias else zero,
        }
        return self.add("linear", label, source, block=block, arrays=arrays, origin=name)

    def norm(self, label: str, source: int, name: str, block: str) -> int:
        arrays = {
            "gamma": self.weights.read(f"{name}.weight", self.width),
            "beta": self.weights.read(f"{name}.bias", self.width),
        }
        numbers = {"epsilon": self.epsilon}
        return self.add("norm", label, source, block=block, arrays=arrays, numbers=numbers, origin=name)


def load_vit(folder: Path) -> Program:
    """Return the program `image: uint8[h, w, c] -> logits`, or `-> embedding` where there is no classifier.

    Raises:
        UnknownConfig, TensorMissing, and all that `loading.py` names.
    """
    settings = read_settings(folder / "config.json")
    sizes = read_sizes(settings, "vit", VIT_BOUNDS, DEFAULTS)
    if sizes["image_size"] % sizes["patch_size"]:
        raise UnknownConfig("config.json: patch_size", "does not divide image_size")
    entries = read_folder(folder)
    prefix = "vit." if "vit.embeddings.cls_token" in entries else ""
    width = sizes["hidden_size"]
    work = _Writer(FloatWeights(entries, prefix), width, read_epsilon(settings), [])
    x = _embed(work, sizes, *_pixel_range(folder, sizes["num_channels"]))
    for layer in range(sizes["num_hidden_layers"]):
        x = _layer(work, sizes, x, layer, read_activation(settings))
    x = work.norm("norm", x, "layernorm", "head")
    x = work.add("first", "class", x, block="head")
    rows = (sizes["image_size"] // sizes["patch_size"]) ** 2 + 1
    classifier = entries.get("classifier.weight")
    if classifier is None:
        return Program(tuple(work.nodes), {"embedding": x}, rows, rows)
    labels = classifier.shape[0] if classifier.shape else 0
    if not 1 <= labels <= LABELS_MAX:
        raise UnknownConfig("tensor classifier.weight", f"{labels} labels")
    work.weights = FloatWeights(entries, "")
    logits = work.linear("classifier", x, "classifier", (labels, width), "head")
    return Program(tuple(work.nodes), {"logits": logits}, rows, rows)


def _pixel_range(folder: Path, channels: int) -> tuple[Float, Float]:
    path = folder / "preprocessor_config.json"
    said = read_settings(path) if path.is_file() else {}
    found = []
    for key in ("image_mean", "image_std"):
        values = said.get(key, [0.5] * channels)
        fits = isinstance(values, list) and len(values) == channels
        if not fits or not all(type(value) in {int, float} and 0 <= value <= 1 for value in values):
            raise UnknownConfig(f"preprocessor_config.json: {key}", f"not {channels} numbers from 0 to 1")
        found.append(np.array(values, dtype=np.float32))
    if not (found[1] >= 1e-3).all():
        raise UnknownConfig("preprocessor_config.json: image_std", "below 0.001")
    return found[0], found[1]


def _embed(work: _Writer, sizes: Mapping[str, int], mean: Float, deviation: Float) -> int:
    side, patch, channels = sizes["image_size"], sizes["patch_size"], sizes["num_channels"]
    width, squares = work.width, (side // patch) ** 2
    image = {"height": side, "width": side, "channels": channels}
    x = work.add("image", "image", block="embed", numbers=image)
    x = work.add("pixels", "pixels", x, block="embed", arrays={"mean": mean, "deviation": deviation})
    x = work.add("patches", "patches", x, block="embed", numbers={**image, "size": patch, "stride": patch})
    name = "embeddings.patch_embeddings.projection"
    kernel = work.weights.read(f"{name}.weight", width, channels, patch, patch)
    matrix = np.ascontiguousarray(kernel.transpose(0, 2, 3, 1)).reshape(width, -1)  # the order of `patches`
    arrays = {"weight": matrix, "bias": work.weights.read(f"{name}.bias", width)}
    x = work.add("linear", "projection", x, block="embed", arrays=arrays, origin=name)
    row = work.weights.read("embeddings.cls_token", 1, 1, width).reshape(1, width)
    x = work.add("concat", "class_token", x, block="embed", arrays={"row": row})
    places = work.weights.read("embeddings.position_embeddings", 1, squares + 1, width).reshape(squares + 1, width)
    return work.add("positions", "positions", x, block="embed", arrays={"table": places})


def _layer(work: _Writer, sizes: Mapping[str, int], x: int, layer: int, activation: str) -> int:
    block, name = f"layer.{layer}", f"encoder.layer.{layer}"
    width, inner, heads = work.width, sizes["intermediate_size"], sizes["num_attention_heads"]
    before = work.norm("attention.norm", x, f"{name}.layernorm_before", block)
    parts = [
        work.linear(part, before, f"{name}.attention.attention.{part}", (width, width), block)
        for part in ("query", "key", "value")
    ]
    size = width // heads
    numbers = {"heads": heads, "head_size": size, "scale": size**-0.5}
    mixed = work.add("attention", "attention", *parts, block=block, numbers=numbers, origin=name)
    y = work.linear("out", mixed, f"{name}.attention.output.dense", (width, width), block)
    x = work.add("add", "out.residual", x, y, block=block)
    y = work.norm("inner.norm", x, f"{name}.layernorm_after", block)
    y = work.linear("inner", y, f"{name}.intermediate.dense", (inner, width), block)
    y = work.add("activation", "inner.activation", y, block=block, function=activation, origin=name)
    y = work.linear("outer", y, f"{name}.output.dense", (width, inner), block)
    return work.add("add", "outer.residual", x, y, block=block)
