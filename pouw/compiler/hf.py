"""Hugging Face folders of encoders of BERT's kind -> float program. Sizes are config.json's; the weights must agree.

Which tensors stand where differs by `model_type`: a row of ENCODERS. A sequence classifier's folder gives its logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from chain.errors import Malformed
from pouw.compiler.loading import TensorEntry, TensorMissing, read_folder, read_settings
from pouw.compiler.program import Float, Node, Program

ROWS_MAX: Final = 512
ACTIVATION_NAMES: Final[Mapping[str, str]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "hidden_size": (1, 1024),
    "num_hidden_layers": (1, 128),
    "num_attention_heads": (1, 1024),
    "intermediate_size": (1, 2**17 - 1),
    "vocab_size": (1, 2**24),
    "max_position_embeddings": (1, 2**20),
    "type_vocab_size": (1, 2**16),
}


@dataclass(frozen=True, slots=True)
class Encoder:
    """How one `model_type` names what BERT has."""

    prefix: str
    layers: str = "encoder.layer"
    parts: tuple[str, str, str] = ("attention.self.query", "attention.self.key", "attention.self.value")
    out: str = "attention.output.dense"
    out_norm: str = "attention.output.LayerNorm"
    inner: str = "intermediate.dense"
    outer: str = "output.dense"
    outer_norm: str = "output.LayerNorm"
    types: bool = True
    after_padding: bool = False
    """Whether positions begin behind the padding token's number, and one more."""
    head: tuple[str, str, str] = ("bert.pooler.dense", "tanh", "classifier")
    """Of a sequence classifier: a layer on the first row, its activation, the layer of the logits; whole names."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Keys of config.json -> BERT's."""


ROBERTA: Final = Encoder("roberta.", after_padding=True, head=("classifier.dense", "tanh", "classifier.out_proj"))
ENCODERS: Final[Mapping[str, Encoder]] = {
    "bert": Encoder("bert."),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "electra": Encoder("electra.", head=("classifier.dense", "gelu", "classifier.out_proj")),
    "distilbert": Encoder(
        "distilbert.",
        layers="transformer.layer",
        parts=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        out="attention.out_lin",
        out_norm="sa_layer_norm",
        inner="ffn.lin1",
        outer="ffn.lin2",
        outer_norm="output_layer_norm",
        types=False,
        head=("pre_classifier", "relu", "classifier"),
        renamed={
            "dim": "hidden_size",
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
            "hidden_dim": "intermediate_size",
            "activation": "hidden_act",
        },
    ),
}


class UnknownConfig(Malformed):
    """A value in config.json says something that the compiler has no exact counterpart for."""


@dataclass(frozen=True, slots=True)
class BertConfig:
    """What config.json says, checked."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    activation: str
    epsilon: float
    first_position: int = 0


def read_config(settings: Mapping[str, Any]) -> BertConfig:
    """Return the sizes of an encoder.

    Raises:
        UnknownConfig: names the key, its value and what is known.
    """
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise UnknownConfig("config.json: model_type", f"{str(kind)[:40]!r}, not one of {sorted(ENCODERS)}")
    encoder = ENCODERS[kind]
    settings = {encoder.renamed.get(name, name): value for name, value in settings.items()}
    sizes = read_sizes(settings, kind, BOUNDS, {"type_vocab_size": 2, "max_position_embeddings": 512})
    if settings.get("embedding_size", sizes["hidden_size"]) != sizes["hidden_size"]:
        raise UnknownConfig("config.json: embedding_size", "is not hidden_size: a projection between them is not known")
    for key, wanted in (("position_embedding_type", "absolute"), ("is_decoder", False), ("add_cross_attention", False)):
        if settings.get(key, wanted) != wanted:
            raise UnknownConfig(f"config.json: {key}", f"{str(settings[key])[:40]!r}, not {wanted!r}")
    return BertConfig(
        width=sizes["hidden_size"],
        layers=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        inner=sizes["intermediate_size"],
        vocabulary=sizes["vocab_size"],
        positions=sizes["max_position_embeddings"],
        types=sizes["type_vocab_size"],
        activation=read_activation(settings),
        epsilon=read_epsilon(settings),
        first_position=_padding(settings) + 1 if encoder.after_padding else 0,
    )


def _padding(settings: Mapping[str, Any]) -> int:
    padding = settings.get("pad_token_id", 1)
    if type(padding) is not int or not 0 <= padding < 2**16:
        raise UnknownConfig("config.json: pad_token_id", f"{str(padding)[:40]}, not a token")
    return padding


@dataclass(frozen=True, slots=True)
class FloatWeights:
    """The tensors of a folder, read one by one."""

    entries: Mapping[str, TensorEntry]
    prefix: str

    def read(self, name: str, *shape: int) -> Float:
        """Return one tensor in float32.

        Raises:
            TensorMissing, UnknownConfig: another shape or dtype, or values that are not finite.
        """
        entry = self.entries.get(self.prefix + name)
        if entry is None:
            raise TensorMissing(f"tensor {self.prefix + name}", "not in the weights")
        if entry.shape != shape or entry.dtype not in {"F32", "F16", "BF16", "F64"}:
            raise UnknownConfig(
                f"tensor {self.prefix + name}", f"{entry.dtype}{list(entry.shape)}, config.json says float{list(shape)}"
            )
        array = entry.read().astype(np.float32)
        if not np.isfinite(array).all():
            raise UnknownConfig(f"tensor {self.prefix + name}", "holds infinities or NaN")
        return array


def read_sizes(
    settings: Mapping[str, Any], kind: str, bounds: Mapping[str, tuple[int, int]], defaults: Mapping[str, int]
) -> dict[str, int]:
    """Return the numbers of config.json, each within its bounds.

    Raises:
        UnknownConfig.
    """
    if settings.get("model_type") != kind:
        raise UnknownConfig("config.json: model_type", f"{str(settings.get('model_type'))[:40]!r}, not {kind!r}")
    sizes: dict[str, int] = {}
    for key, (low, high) in bounds.items():
        value = settings.get(key, defaults.get(key))
        if type(value) is not int or not low <= value <= high:
            raise UnknownConfig(f"config.json: {key}", f"{str(value)[:40]}, not a number from {low} to {high}")
        sizes[key] = value
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise UnknownConfig("config.json: num_attention_heads", "does not divide hidden_size")
    return sizes


def read_activation(settings: Mapping[str, Any]) -> str:
    """Return the activation's name in a program.

    Raises:
        UnknownConfig.
    """
    activation = settings.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATION_NAMES:
        raise UnknownConfig("config.json: hidden_act", f"{str(activation)[:40]!r}, not {sorted(ACTIVATION_NAMES)}")
    return ACTIVATION_NAMES[activation]


def read_epsilon(settings: Mapping[str, Any]) -> float:
    """Return what layer norm adds to the variance.

    Raises:
        UnknownConfig.
    """
    epsilon = settings.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1e-2:
        raise UnknownConfig("config.json: layer_norm_eps", f"{str(epsilon)[:40]}, not between 0 and 0.01")
    return epsilon


def load_bert(folder: Path) -> Program:
    """Return the program of a folder: `ids -> logits` of a sequence classifier, else `ids -> embedding`.

    An embedding is pooled as 1_Pooling/config.json says (else the mean).

    Raises:
        UnknownConfig, TensorMissing, and all that `loading.py` names.
    """
    settings = read_settings(folder / "config.json")
    config = read_config(settings)
    entries = read_folder(folder)
    encoder = ENCODERS[settings["model_type"]]
    prefix = encoder.prefix if f"{encoder.prefix}embeddings.word_embeddings.weight" in entries else ""
    named = settings.get("architectures")
    classifies = isinstance(named, list) and len(named) == 1 and str(named[0]).endswith("ForSequenceClassification")
    weights = FloatWeights(entries, prefix)
    if not classifies:
        return build_bert(config, weights, _pooling(folder), encoder)
    return build_bert(config, weights, "classifier", encoder)


def _pooling(folder: Path) -> str:
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    modes = [key for key, value in read_settings(path).items() if key.startswith("pooling_mode") and value is True]
    if modes == ["pooling_mode_mean_tokens"]:
        return "mean"
    if modes == ["pooling_mode_cls_token"]:
        return "first"
    raise UnknownConfig("1_Pooling/config.json", f"{', '.join(modes)[:80] or 'no mode'}: only mean or cls are known")


def build_bert(config: BertConfig, weights: FloatWeights, pooling: str, encoder: Encoder = ENCODERS["bert"]) -> Program:
    """Write the encoder as a program. pooling: mean, first or classifier."""
    nodes: list[Node] = [Node("ids", "ids", block="embed")]
    rows_max = min(config.positions - config.first_position, ROWS_MAX)
    width = config.width

    def add(kind: str, label: str, *sources: int, block: str, **rest: Any) -> int:
        nodes.append(Node(kind, label, sources, block=block, **rest))
        return len(nodes) - 1

    def linear(label: str, source: int, name: str, out: int, inside: int, block: str) -> int:
        arrays = {"weight": weights.read(f"{name}.weight", out, inside), "bias": weights.read(f"{name}.bias", out)}
        return add("linear", label, source, block=block, arrays=arrays, origin=name)

    def norm(label: str, source: int, name: str, block: str) -> int:
        arrays = {"gamma": weights.read(f"{name}.weight", width), "beta": weights.read(f"{name}.bias", width)}
        numbers = {"epsilon": config.epsilon}
        return add("norm", label, source, block=block, arrays=arrays, numbers=numbers, origin=name)

    words = weights.read("embeddings.word_embeddings.weight", config.vocabulary, width)
    places = weights.read("embeddings.position_embeddings.weight", config.positions, width)
    places = places[config.first_position : config.first_position + rows_max]
    if encoder.types:
        places = places + weights.read("embeddings.token_type_embeddings.weight", config.types, width)[0]
    x = add("embedding", "words", 0, block="embed", arrays={"table": words})
    x = add("positions", "positions", x, block="embed", arrays={"table": places})
    x = norm("norm", x, "embeddings.LayerNorm", "embed")
    for layer in range(config.layers):
        block, name = f"layer.{layer}", f"{encoder.layers}.{layer}"
        parts = [
            linear(part, x, f"{name}.{place}", width, width, block)
            for part, place in zip(("query", "key", "value"), encoder.parts, strict=True)
        ]
        size = width // config.heads
        numbers = {"heads": config.heads, "head_size": size, "scale": size**-0.5}
        mixed = add("attention", "attention", *parts, block=block, numbers=numbers, origin=name)
        y = linear("out", mixed, f"{name}.{encoder.out}", width, width, block)
        y = add("add", "out.residual", x, y, block=block)
        x = norm("out.norm", y, f"{name}.{encoder.out_norm}", block)
        y = linear("inner", x, f"{name}.{encoder.inner}", config.inner, width, block)
        y = add("activation", "inner.activation", y, block=block, function=config.activation, origin=name)
        y = linear("outer", y, f"{name}.{encoder.outer}", width, config.inner, block)
        y = add("add", "outer.residual", x, y, block=block)
        x = norm("outer.norm", y, f"{name}.{encoder.outer_norm}", block)
    if pooling == "classifier":
        weights = FloatWeights(weights.entries, "")
        dense, function, last = encoder.head
        y = add("first", "pool.first", x, block="pool")
        y = linear("pool.dense", y, dense, width, width, "pool")
        y = add("activation", "pool.activation", y, block="pool", function=function, origin=dense)
        entry = weights.entries.get(f"{last}.weight")
        labels = entry.shape[0] if entry is not None and entry.shape else 0
        logits = linear("logits", y, last, labels, width, "pool")
        return Program(tuple(nodes), {"logits": logits}, rows_max)
    pooled = add(pooling, f"pool.{pooling}", x, block="pool")
    last_node = add("normalize", "normalize", pooled, block="pool")
    return Program(tuple(nodes), {"embedding": last_node}, rows_max)
