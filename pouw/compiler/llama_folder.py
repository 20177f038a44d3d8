"""What a Hugging Face folder of a decoder of Llama's kind says, from its bytes: sizes, options, weights. No pickle.

Every option that would change a value is either mapped or refused by name; every size is bounded before it is used.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeGuard

import numpy as np

from chain.errors import Malformed, Mismatch, OutOfRange
from chain.json_text import nests_deeper
from pouw.compiler.fp32 import Float, Weights
from pouw.compiler.llama_families import FAMILIES, HeadSizes, pair_heads
from pouw.compiler.llama_tables import RopeScaling
from pouw.compiler.loading import DEPTH_MAX

CONFIG_MAX = 2**20
HEADER_MAX = 2**24
WEIGHTS_MAX = 2**36
LAYERS_MAX, WIDTH_MAX, INNER_MAX, VOCABULARY_MAX, CONTEXT_MAX = 96, 2**13, 2**16, 2**20, 2**17
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
GPT2_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "activation_function": "hidden_act",
    "layer_norm_epsilon": "rms_norm_eps",
}
WINDOWS = ("mistral", "phi3")  # see the last positions of a longer text only, where the configuration says so
ROPE_READ = frozenset(
    [
        "rope_type",
        "type",
        "rope_theta",
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
        "partial_rotary_factor",
    ]
)
READ = frozenset(
    [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "tie_word_embeddings",
        "eos_token_id",
        "bos_token_id",
        "model_type",
        "architectures",
        "hidden_act",
        "attention_bias",
        "mlp_bias",
        "rope_scaling",
        "rope_parameters",
        "use_sliding_window",
        "sliding_window",
        "pretraining_tp",
        "hidden_activation",
        "partial_rotary_factor",
        "scale_attn_weights",
        "rope_interleaved",
    ]
)
WITHOUT_EFFECT = frozenset(
    [
        "_name_or_path",
        "attention_dropout",
        "initializer_range",
        "torch_dtype",
        "dtype",
        "transformers_version",
        "use_cache",
        "pad_token_id",
        "max_window_layers",
        "layer_types",
        "original_max_position_embeddings",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "n_ctx",
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_proj_to_labels",
        "summary_first_dropout",
        "task_specific_params",
        "reorder_and_upcast_attn",
        "is_llama_config",
        "auto_map",
        "transformers.js_config",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "is_encoder_decoder",
        "chunk_size_feed_forward",
        "id2label",
        "label2id",
        "problem_type",
    ]
)  # max_window_layers and layer_types say which layers have a window: texts are held shorter than it


class OptionUnmappable(Mismatch):
    """An option of config.json has no exact counterpart."""


class FolderMalformed(Malformed):
    """A file of a model folder is not what it should be."""


class WeightMissing(Mismatch):
    """A tensor is not there, or has another shape than the configuration says."""


class SizeOutOfRange(OutOfRange):
    """A size is beyond what is compiled."""


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
    config = _parse_object("config.json", data, CONFIG_MAX)
    if config.get("model_type") == "gpt2":
        config = {GPT2_NAMES.get(name, name): value for name, value in config.items()}
    _check_options(config)
    kind = config["model_type"]
    family = FAMILIES[kind]
    heads = _size(config, "num_attention_heads", 1024)
    width = _size(config, "hidden_size", WIDTH_MAX)
    kv_heads = _size(config, "num_key_value_heads", heads, heads)
    head_size = _size(config, "head_dim", WIDTH_MAX, width // heads)
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
        layers=_size(config, "num_hidden_layers", LAYERS_MAX),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        inner=_size(config, "intermediate_size", INNER_MAX, 4 * width if kind == "gpt2" else None),
        vocabulary=_size(config, "vocab_size", VOCABULARY_MAX),
        context=_size(config, "max_position_embeddings", CONTEXT_MAX, 2048),
        theta=Decimal(_number(theta, "rope_theta", 1e4, 2, 1e9)),
        epsilon=_number(config.get("rms_norm_eps"), "rms_norm_eps", 1e-6, 0, 1),
        tied=bool(family.tied if tied is None else tied),
        stop=-1 if stop is None else stop,
        family=kind,
        activation=_activation_of(config),
        turned=_turned(config, rope, head_size),
        scaling=_scaling(rope),
        window=None if window is None else _size(config, "sliding_window", 2**31),
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
    factor = Decimal(_number(rope.get("factor"), "rope factor", 1.0, 1, 1e6))
    if kind == "linear":
        return RopeScaling(factor)
    low = _number(rope.get("low_freq_factor"), "low_freq_factor", 1.0, 1e-3, 1e6)
    high = _number(rope.get("high_freq_factor"), "high_freq_factor", 4.0, 1e-3, 1e6)
    original = _size(rope, "original_max_position_embeddings", CONTEXT_MAX, 8192)
    if not low < high:
        raise OptionUnmappable("high_freq_factor", high, f"more than {low}")
    return RopeScaling(factor, Decimal(low), Decimal(high), original)


def _turned(config: Mapping[str, Any], rope: Mapping[str, Any], head_size: int) -> int | None:
    share = config.get("partial_rotary_factor")
    share = _number(rope.get("partial_rotary_factor") if share is None else share, "partial_rotary_factor", 1.0, 0, 1)
    turned = int(head_size * share)
    if turned < 2 or turned % 2:
        raise OptionUnmappable("partial_rotary_factor", share, "an even number of entries of each head")
    return None if turned == head_size else turned


def parse_weights(files: Sequence[tuple[str, bytes]], shape: LlamaShape) -> Weights:
    """Return the float32 tensors that the shape needs, from *.safetensors files.

    Raises:
        FolderMalformed, WeightMissing, SizeOutOfRange.
    """
    found: dict[str, Float] = {}
    for name, data in files:
        for tensor, values in parse_safetensors(name, data).items():
            if tensor in found:
                raise FolderMalformed(name, f"{tensor} is in two files")
            found[tensor] = values
    found = _in_llamas_words(found, shape)
    for tensor, sizes in expected_tensors(shape).items():
        if tensor not in found:
            raise WeightMissing(tensor, "nothing", sizes)
        if found[tensor].shape != sizes:
            raise WeightMissing(tensor, found[tensor].shape, sizes)
        if not np.isfinite(found[tensor]).all():
            raise FolderMalformed(tensor, "holds a value that is not finite")
    return found


def _in_llamas_words(found: dict[str, Float], shape: LlamaShape) -> dict[str, Float]:
    turned = shape.head_size if shape.turned is None else shape.turned
    sizes = HeadSizes(shape.layers, shape.width, shape.heads, shape.kv_heads, shape.head_size, turned, shape.tied)
    try:
        return pair_heads(FAMILIES[shape.family].convert(found, sizes), sizes)
    except KeyError as error:
        raise WeightMissing(str(error.args[0]), "nothing", f"in every {shape.family}") from error
    except (ValueError, IndexError) as error:
        raise WeightMissing("shapes", str(error)[:100], f"those of a {shape.family} of these sizes") from error


def expected_tensors(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of all tensors that every such model has; biases may come on top."""
    family = FAMILIES[shape.family]
    rows, columns = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    expected: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, shape.width)}
    for layer in range(shape.layers):
        name = f"model.layers.{layer}."
        expected |= {
            f"{name}input_layernorm.weight": (shape.width,),
            f"{name}self_attn.q_proj.weight": (rows, shape.width),
            f"{name}self_attn.k_proj.weight": (columns, shape.width),
            f"{name}self_attn.v_proj.weight": (columns, shape.width),
            f"{name}self_attn.o_proj.weight": (shape.width, rows),
            f"{name}post_attention_layernorm.weight": (shape.width,),
            f"{name}mlp.up_proj.weight": (shape.inner, shape.width),
            f"{name}mlp.down_proj.weight": (shape.width, shape.inner),
        }
        if family.gated:
            expected[f"{name}mlp.gate_proj.weight"] = (shape.inner, shape.width)
        if family.qk_norm:
            expected |= {f"{name}self_attn.{part}_norm.weight": (shape.head_size,) for part in "qk"}
    expected["model.norm.weight"] = (shape.width,)
    if family.positions:
        expected["model.positions.weight"] = (shape.context, shape.width)
    if not shape.tied or family.own_head:
        expected["lm_head.weight"] = (shape.vocabulary, shape.width)
    return expected


def parse_safetensors(name: str, data: bytes) -> dict[str, Float]:
    """Return the tensors of a safetensors file as float32; F32, F16 and BF16 are read.

    Raises:
        FolderMalformed: cut short, overlapping, or not of these types.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > HEADER_MAX or 8 + size > len(data):
        raise FolderMalformed(name, f"a header of {size} bytes in a file of {len(data)}")
    header = _parse_object(name, data[8 : 8 + size], HEADER_MAX)
    body = memoryview(data)[8 + size :]
    found: dict[str, Float] = {}
    places = []
    for tensor, entry in header.items():
        if tensor == "__metadata__":
            continue
        found[tensor], place = _parse_tensor(f"{name}: {tensor}", entry, body)
        places.append(place)
    end = 0
    for start, stop in sorted(places):
        if start != end:
            raise FolderMalformed(name, f"bytes {end} .. {start} are of no tensor, or of two")
        end = stop
    if end != len(body):
        raise FolderMalformed(name, f"{len(body) - end} bytes after the last tensor")
    return found


def _parse_tensor(what: str, entry: object, body: memoryview) -> tuple[Float, tuple[int, int]]:
    if not isinstance(entry, dict):
        raise FolderMalformed(what, "no description")
    sizes, offsets, kind = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    if kind not in ("F32", "F16", "BF16"):  # a list cannot be hashed
        raise FolderMalformed(what, f"dtype {kind!r}, not F32, F16 or BF16")
    if not _naturals(sizes) or not _naturals(offsets) or len(offsets) != 2:
        raise FolderMalformed(what, "shape and data_offsets are no lists of sizes")
    count = 1
    for size in sizes:
        count *= size
    start, stop = offsets
    if stop > len(body) or stop - start != count * (4 if kind == "F32" else 2):
        raise FolderMalformed(what, f"bytes {start} .. {stop} of {len(body)} for {sizes} of {kind}")
    raw = body[start:stop]
    if kind == "BF16":
        values = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, dtype="<f4" if kind == "F32" else "<f2").astype(np.float32)
    return values.reshape(sizes), (start, stop)


def _naturals(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < WEIGHTS_MAX for value in values)


def _check_options(config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise OptionUnmappable("model_type", kind, sorted(FAMILIES))
    family = FAMILIES[kind]
    must = {
        "architectures": (config.get("architectures"), (None, [family.architecture])),
        "use_sliding_window": (config.get("use_sliding_window", False), (False, None)),
        "pretraining_tp": (config.get("pretraining_tp", 1), (1, None)),
        "scale_attn_weights": (config.get("scale_attn_weights", True), (True,)),
        "rope_interleaved": (config.get("rope_interleaved", False), (False, None)),
    }
    for name, (got, allowed) in must.items():
        if got not in allowed:
            raise OptionUnmappable(name, got, allowed)
    for name, value in config.items():
        if name not in READ and name not in WITHOUT_EFFECT and value not in (None, False, [], {}):
            raise OptionUnmappable(name, value, "an option that this compiler knows")


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


def _parse_object(what: str, data: bytes, most: int) -> dict[str, Any]:
    found = parse_json(what, data, most)
    if not isinstance(found, dict):
        raise FolderMalformed(what, "no JSON object")
    return found


def _size(config: Mapping[str, Any], name: str, most: int, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if type(value) is not int or not 1 <= value <= most:
        raise SizeOutOfRange(name, value, f"1 .. {most}")
    return value


def _number(value: Any, name: str, default: float, low: float, high: float) -> float:
    value = default if value is None else value
    if type(value) not in {int, float} or not low <= value <= high:
        raise SizeOutOfRange(name, value, f"{low} .. {high}")
    return float(value)
