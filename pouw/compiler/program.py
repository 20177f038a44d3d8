"""The float program between a model and its graph: few kinds of nodes on matrices [rows, width], with their meaning.

Importers (`export.py`, `hf.py`) write it, `evaluate` is its float32 definition, `quantise.py` turns it into integers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import erf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chain.errors import Invalid

Float = NDArray[np.float32]
Array = NDArray[np.generic]
Observe = Callable[[int, Float], None]
INPUTS = ("ids", "rows", "image", "picture")
_erf = np.frompyfunc(erf, 1, 1)


@dataclass
class UnmappableOperator(Invalid):
    """A module uses an operator that has no exact counterpart. Nothing falls back to float."""

    operator: str
    reason: str
    origin: str

    def __str__(self) -> str:
        return f"UnmappableOperator: {self.operator}: {self.reason}; at {self.origin}"


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the program."""

    kind: str
    """Of: ids, rows, embedding, positions, linear, norm, activation, add, gate (a product of two), affine, attention
    (causal where `numbers` has kv_heads), rms (a norm without mean), rope (rotary positions), mean, first, last,
    normalize; concat (constant rows before others).
    For images, matrices with a row for each pixel: image (uint8) and pixels, picture (numbers), patches, max_pool,
    average_pool, flatten (one row of all). Where the number of rows is fixed: gather (rows by number), taps (patches of
    any form), depthwise (each column by itself), blend (weighted rows), group_norm, join and columns (side by
    side), turned (rows for columns)."""
    label: str
    sources: tuple[int, ...] = ()
    """Nodes read, by index; all earlier."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    function: str = ""
    """Name of an activation."""
    block: str = "main"
    """Name of the subgraph that the node belongs to."""
    origin: str = ""
    """Where the model says so."""


@dataclass(frozen=True, slots=True)
class Program:
    """Nodes in the order of execution. `rows` of every value is the symbol S, unless `fixed_rows` says a number."""

    nodes: tuple[Node, ...]
    outputs: Mapping[str, int]
    rows_max: int
    fixed_rows: int | None = None

    def inputs(self) -> dict[str, Node]:
        """Return the input nodes by label."""
        return {node.label: node for node in self.nodes if node.kind in INPUTS}

    def readers(self) -> dict[int, list[int]]:
        """Return for each node the nodes that read it, once for each reading."""
        found: dict[int, list[int]] = {index: [] for index in range(len(self.nodes))}
        for index, node in enumerate(self.nodes):
            for source in node.sources:
                found[source].append(index)
        return found


def gelu(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return x * Phi(x)."""
    wide = x.astype(np.float64)
    return np.asarray(wide * (1 + _erf(wide / np.sqrt(2)).astype(np.float64)) / 2, dtype=np.float64)


def gelu_tanh(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """The approximation of GELU through tanh."""
    wide = x.astype(np.float64)
    return np.asarray(wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))) / 2, dtype=np.float64)


def sigmoid(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 / (1 + e^-x), without overflow."""
    return np.asarray((1 + np.tanh(x.astype(np.float64) / 2)) / 2, dtype=np.float64)


ACTIVATIONS: Mapping[str, Callable[[NDArray[np.floating]], NDArray[np.float64]]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": lambda x: np.maximum(x.astype(np.float64), 0),
    "silu": lambda x: x.astype(np.float64) * sigmoid(x),
    "tanh": lambda x: np.tanh(x.astype(np.float64)),
    "sigmoid": sigmoid,
    "relu6": lambda x: np.clip(x.astype(np.float64), 0, 6),
    "hardswish": lambda x: x.astype(np.float64) * np.clip(x.astype(np.float64) / 6 + 0.5, 0, 1),
    "hardsigmoid": lambda x: np.clip(x.astype(np.float64) / 6 + 0.5, 0, 1),
    "softplus": lambda x: np.logaddexp(0.0, x.astype(np.float64)),
    "mish": lambda x: x.astype(np.float64) * np.tanh(np.logaddexp(0.0, x.astype(np.float64))),
    "abs": lambda x: np.abs(x.astype(np.float64)),
    "square": lambda x: x.astype(np.float64) ** 2,
    "exp": lambda x: np.exp(x.astype(np.float64)),
    "sin": lambda x: np.sin(x.astype(np.float64)),
    "cos": lambda x: np.cos(x.astype(np.float64)),
    "softsign": lambda x: x.astype(np.float64) / (1 + np.abs(x.astype(np.float64))),
}
PARAMETRISED: Mapping[str, Callable[[NDArray[np.floating], float, float], NDArray[np.float64]]] = {
    "leaky_relu": lambda x, slope, _: np.where(x > 0, x, x.astype(np.float64) * slope),
    "elu": lambda x, alpha, scale: scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x.astype(np.float64), 0))),
    "pow": lambda x, power, _: x.astype(np.float64) ** power,
    "clamp": lambda x, low, high: np.clip(x.astype(np.float64), low, high),
}


def activate(function: str, x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a function of each entry by its name: "relu", or with two parameters "clamp:-1:1"."""
    name, *parameters = function.split(":")
    if not parameters:
        return ACTIVATIONS[name](x)
    return np.asarray(PARAMETRISED[name](x, float(parameters[0]), float(parameters[1])), dtype=np.float64)


def evaluate(program: Program, inputs: Mapping[str, Array], observe: Observe | None = None) -> dict[str, Float]:
    """Return the program's outputs in float32. `observe(node, value)` sees every value but ids.

    inputs: ids int[rows], rows float[rows, width].
    """
    values: list[NDArray[np.floating]] = []
    for index, node in enumerate(program.nodes):
        if node.kind == "ids":
            value = inputs[node.label].astype(np.float64)  # as exact as int32; every other value is float32
        elif node.kind in INPUTS:
            value = inputs[node.label].astype(np.float32)
            value = value.reshape(-1, value.shape[-1]) if node.kind == "picture" else value
        else:
            value = _evaluate(node, [values[source] for source in node.sources]).astype(np.float32)
        values.append(value)
        if observe is not None and node.kind != "ids":
            observe(index, value.astype(np.float32, copy=False))
    return {name: values[index].astype(np.float32) for name, index in program.outputs.items()}


def _evaluate(node: Node, sources: list[NDArray[np.floating]]) -> NDArray[np.floating]:  # noqa: C901, PLR0911, PLR0912  # one table
    x = sources[0]
    match node.kind:
        case "embedding":
            return np.asarray(node.arrays["table"][x.astype(np.int64)])
        case "positions":
            return np.asarray(x + node.arrays["table"][: len(x)])
        case "linear":
            return np.asarray(x @ node.arrays["weight"].T + node.arrays["bias"])  # (m, k) @ (k, n) -> (m, n)
        case "norm":
            centered = x - x.mean(axis=1, keepdims=True)
            deviation = np.sqrt((centered * centered).mean(axis=1, keepdims=True) + np.float32(node.numbers["epsilon"]))
            return np.asarray(centered / deviation * node.arrays["gamma"] + node.arrays["beta"])
        case "activation":
            return activate(node.function, x)
        case "add":
            return np.asarray(x + sources[1])
        case "gate":
            return np.asarray(x * sources[1])
        case "affine":
            return np.asarray(x * node.arrays["factor"] + node.arrays["offset"])
        case "attention":
            return _attention(node, *(source.astype(np.float32) for source in sources))
        case "pixels":
            return np.asarray((x / np.float32(255) - node.arrays["mean"]) / node.arrays["deviation"])
        case "patches":
            squares = _squares(node, x)  # (oh, ow, c, size, size)
            return squares.transpose(0, 1, 3, 4, 2).reshape(squares.shape[0] * squares.shape[1], -1)
        case "max_pool":
            return np.asarray(_squares(node, x).max(axis=(3, 4)).reshape(-1, x.shape[1]))
        case "average_pool":
            return np.asarray(_squares(node, x).mean(axis=(3, 4)).reshape(-1, x.shape[1]))
        case "flatten":
            return x.reshape(1, -1)
        case "gather":
            return _rows_at(x, node.arrays["ids"])
        case "taps":
            ids = node.arrays["ids"]  # (rows, taps)
            return _rows_at(x, ids.reshape(-1)).reshape(len(ids), -1)
        case "depthwise":
            ids, weight = node.arrays["ids"], node.arrays["weight"]  # (rows, taps), (columns, taps)
            seen = _rows_at(x, ids.reshape(-1)).reshape(*ids.shape, -1)  # (rows, taps, columns)
            return np.asarray((seen * weight.T).sum(axis=1) + node.arrays["bias"])
        case "blend":
            ids, weight = node.arrays["ids"], node.arrays["weight"]  # (rows, taps) each
            seen = _rows_at(x, ids.reshape(-1)).reshape(*ids.shape, -1)
            return np.asarray((seen * weight[:, :, None]).sum(axis=1))
        case "group_norm":
            groups = x.T.reshape(int(node.numbers["groups"]), -1)
            centered = groups - groups.mean(axis=1, keepdims=True)
            deviation = np.sqrt((centered * centered).mean(axis=1, keepdims=True) + np.float32(node.numbers["epsilon"]))
            normed = (centered / deviation).reshape(x.shape[1], x.shape[0]).T
            return np.asarray(normed * node.arrays["gamma"] + node.arrays["beta"])
        case "turned":
            return np.ascontiguousarray(x.T)
        case "rms":
            mean = (x * x).mean(axis=1, keepdims=True) + np.float32(node.numbers["epsilon"])
            return np.asarray(x / np.sqrt(mean) * node.arrays["gamma"])
        case "rope":
            return _rope(node, x)
        case "join":
            return np.concatenate(sources, axis=1)
        case "columns":
            first = int(node.numbers["first"])
            return x[:, first : first + int(node.numbers["count"])]
        case "concat":
            return np.concatenate([node.arrays["row"], x])
        case "mean":
            return np.asarray(x.mean(axis=0, keepdims=True))
        case "first":
            return x[:1]
        case "last":
            return x[-1:]
        case "normalize":
            return np.asarray(x / np.sqrt((x * x).sum(axis=1, keepdims=True)))
    raise UnmappableOperator(node.kind, "the program has no such node", node.origin)


def _rope(node: Node, x: NDArray[np.floating]) -> NDArray[np.floating]:
    heads, size = int(node.numbers["heads"]), int(node.numbers["head_size"])
    cosines, sines = np.split(node.arrays["table"][: len(x), None], 2, axis=2)  # (rows, 1, size / 2)
    first, second = np.split(x.reshape(len(x), heads, size), 2, axis=2)
    turned = np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=2)
    return turned.reshape(len(x), heads * size)


def _rows_at(x: NDArray[np.floating], ids: NDArray[np.int32]) -> NDArray[np.floating]:
    """Return rows by number; -1 is a row of zeros."""
    return np.concatenate([x, np.zeros_like(x[:1])])[ids]


def _squares(node: Node, x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the squares that a node cuts of an image, [h, w, c] or with a row for each pixel."""
    numbers = {name: int(number) for name, number in node.numbers.items()}
    padding, size, stride = numbers.get("padding", 0), numbers["size"], numbers["stride"]
    image = x.reshape(numbers["height"], numbers["width"], -1)
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))[::stride, ::stride]


def _attention(node: Node, q: Float, k: Float, v: Float) -> Float:
    heads, size = int(node.numbers["heads"]), int(node.numbers["head_size"])
    kv_heads = int(node.numbers.get("kv_heads", heads))
    mixed = np.empty((len(q), heads * size), dtype=np.float32)
    for head in range(heads):
        columns = slice(head * size, (head + 1) * size)
        group = head * kv_heads // heads
        shared = slice(group * size, (group + 1) * size)
        scores = q[:, columns] @ k[:, shared].T * np.float32(node.numbers["scale"])
        if "kv_heads" in node.numbers:
            scores = np.where(np.tri(len(q), dtype=np.bool_), scores, -np.inf)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        mixed[:, columns] = powers @ v[:, shared] / powers.sum(axis=1, keepdims=True)
    return mixed
