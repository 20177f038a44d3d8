"""What config.json of a decoder of Llama's kind says: sizes and options. Every size is bounded before it is used."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from chain.errors import Malformed
from chain.json_text import nests_deeper
from pouw.compiler.llama_families import FAMILIES
from pouw.compiler.llama_options import (
    ACTIVATIONS,
    GPT2_NAMES,
    ROPE_READ,
    WINDOWS,
    OptionUnmappable,
    check_options,
    read_number,
    read_size,
)
from pouw.compiler.llama_tables import RopeScaling
from pouw.compiler.loading import DEPTH_MAX

CONFIG_MAX = 2**20
LAYERS_MAX, WIDTH_MAX, INNER_MAX, VOCABULARY_MAX, CONTEXT_MAX = 96, 2**13, 2**16, 2**20, 2**17


class FolderMalformed(Malformed):
    """A file of a model folder is not what it should be."""


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Sizes and numbers of a decoder."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    context: int
    theta: Decimal
    epsilon: float
    tied: bool
    stop: int
    """Token that ends a text; -1 for none."""
    family: str = "llama"
    """`model_type`, a row of FAMILIES."""
    activation: str = "silu"
    turned: int | None = None
    """Entries of each head that rotary positions turn; None: all."""
    scaling: RopeScaling | None = None
    window: int | None = None
    """Positions that the attention sees back; no text may be longer."""

    @property
    def longest(self) -> int:
        """Positions that a compiled graph may have."""
        return min(self.context, self.window or self.context)


def parse_config(data: bytes) -> LlamaShape:
    """Return the sizes of config.json.

    Raises:
        FolderMalformed, OptionUnmappable, SizeOutOfRange.
    """
    config = parse_object("config.json", data, CONFIG_MAX)
    if config.get("model_type") == "gpt2":
        config = {GPT2_NAMES.get(name, name): value for name, value in config.items()}
    check_options(config)
    kind = config["model_type"]
    family = FAMILIES[kind]
    heads = read_size(config, "num_attention_heads", 1024)
    width = read_size(config, "hidden_size", WIDTH_MAX)
    kv_heads = read_size(config, "num_key_value_heads", heads, heads)
    head_size = read_size(config, "head_dim", WIDTH_MAX, width // heads)
    if heads % kv_heads or head_size % 2 or (config.get("head_dim") is None and width % heads):
        raise OptionUnmappable("heads", (heads, kv_heads, head_size), "whole groups of heads of even size")
    if family.positions and width % 2:
        raise OptionUnmappable("hidden_size", width, "an even number")
    stop = config.get("eos_token_id")
    if isinstance(stop, list):
        stop = stop[0] if stop else None
    if stop is not None and (type(stop) is not int or not 0 <= stop < 2**31):
        raise OptionUnmappable("eos_token_id", stop, "a token")
    rope = _rope_of(config)
    theta = config.get("rope_theta") or rope.get("rope_theta")
    tied = config.get("tie_word_embeddings")
    window = config.get("sliding_window") if kind in WINDOWS else None
    return LlamaShape(
        layers=read_size(config, "num_hidden_layers", LAYERS_MAX),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        inner=read_size(config, "intermediate_size", INNER_MAX, 4 * width if kind == "gpt2" else None),
        vocabulary=read_size(config, "vocab_size", VOCABULARY_MAX),
        context=read_size(config, "max_position_embeddings", CONTEXT_MAX, 2048),
        theta=Decimal(read_number(theta, "rope_theta", 1e4, 2, 1e9)),
        epsilon=read_number(config.get("rms_norm_eps"), "rms_norm_eps", 1e-6, 0, 1),
        tied=bool(family.tied if tied is None else tied),
        stop=-1 if stop is None else stop,
        family=kind,
        activation=_activation_of(config),
        turned=_turned(config, rope, head_size),
        scaling=_scaling(rope),
        window=None if window is None else read_size(config, "sliding_window", 2**31),
    )


def _activation_of(config: Mapping[str, Any]) -> str:
    default = FAMILIES[config["model_type"]].activation
    name = config.get("hidden_activation") or config.get("hidden_act") or default
    if config["model_type"] == "gemma" and not config.get("hidden_activation"):
        name = default  # its first folders say "gelu", and mean the approximation
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise OptionUnmappable("hidden_act", name, sorted(ACTIVATIONS))
    return ACTIVATIONS[name]


def _rope_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the configuration says of rotary positions, by its newer names."""
    found: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        said = config.get(name) or {}
        if not isinstance(said, dict):
            raise OptionUnmappable(name, said, "an object")
        for key, value in said.items():
            if key not in ROPE_READ and value is not None:
                raise OptionUnmappable(f"{name}: {key}", value, "an option that this compiler knows")
        found |= said
        kind = said.get("rope_type") or said.get("type") or "default"
        if kind not in ("default", "linear", "llama3"):
            raise OptionUnmappable(name, kind, ("default", "linear", "llama3"))
        found["rope_type"] = kind if kind != "default" else found.get("rope_type", "default")
    return found


def _scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope["rope_type"]
    if kind == "default":
        return None
    factor = Decimal(read_number(rope.get("factor"), "rope factor", 1.0, 1, 1e6))
    if kind == "linear":
        return RopeScaling(factor)
    low = read_number(rope.get("low_freq_factor"), "low_freq_factor", 1.0, 1e-3, 1e6)
    high = read_number(rope.get("high_freq_factor"), "high_freq_factor", 4.0, 1e-3, 1e6)
    original = read_size(rope, "original_max_position_embeddings", CONTEXT_MAX, 8192)
    if not low < high:
        raise OptionUnmappable("high_freq_factor", high, f"more than {low}")
    return RopeScaling(factor, Decimal(low), Decimal(high), original)


def _turned(config: Mapping[str, Any], rope: Mapping[str, Any], head_size: int) -> int | None:
    said = config.get("partial_rotary_factor")
    said = rope.get("partial_rotary_factor") if said is None else said
    share = read_number(said, "partial_rotary_factor", 1.0, 0, 1)
    turned = int(head_size * share)
    if turned < 2 or turned % 2:
        raise OptionUnmappable("partial_rotary_factor", share, "an even number of entries of each head")
    return None if turned == head_size else turned


def parse_json(what: str, data: bytes, most: int) -> Any:
    """Return what a JSON text says; bounded in size and depth, since the parser recurses as deep as the text nests.

    Raises:
        FolderMalformed.
    """
    if len(data) > most:
        raise FolderMalformed(what, f"{len(data)} bytes, at most {most}")
    if nests_deeper(data, DEPTH_MAX):
        raise FolderMalformed(what, f"nests deeper than {DEPTH_MAX}")
    try:
        return json.loads(data)
    except ValueError as error:
        raise FolderMalformed(what, f"no JSON: {error}") from error


def parse_object(what: str, data: bytes, most: int) -> dict[str, Any]:
    """As `parse_json`, for a text that says an object."""
    found = parse_json(what, data, most)
    if not isinstance(found, dict):
        raise FolderMalformed(what, "no JSON object")
    return found
