"""What a Hugging Face folder of a Llama or Qwen2 decoder says, from its bytes: sizes, options, weights. No pickle.

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
from pouw.compiler.loading import DEPTH_MAX

CONFIG_MAX = 2**20
HEADER_MAX = 2**24
WEIGHTS_MAX = 2**36
LAYERS_MAX, WIDTH_MAX, INNER_MAX, VOCABULARY_MAX, CONTEXT_MAX = 96, 2**13, 2**16, 2**20, 2**17
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
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
        "pretraining_tp",
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
        "sliding_window",
        "max_window_layers",
        "layer_types",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "is_encoder_decoder",
        "chunk_size_feed_forward",
        "id2label",
        "label2id",
        "problem_type",
    ]
)  # sliding_window and max_window_layers count only with use_sliding_window, which is refused


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


def parse_config(data: bytes) -> LlamaShape:
    """Return the sizes of config.json.

    Raises:
        FolderMalformed, OptionUnmappable, SizeOutOfRange.
    """
    config = _parse_object("config.json", data, CONFIG_MAX)
    _check_options(config)
    heads = _size(config, "num_attention_heads", 1024)
    width = _size(config, "hidden_size", WIDTH_MAX)
    kv_heads = _size(config, "num_key_value_heads", heads, heads)
    head_size = _size(config, "head_dim", WIDTH_MAX, width // heads)
    if heads % kv_heads or head_size % 2 or (config.get("head_dim") is None and width % heads):
        raise OptionUnmappable("heads", (heads, kv_heads, head_size), "whole groups of heads of even size")
    stop = config.get("eos_token_id")
    if isinstance(stop, list):
        stop = stop[0] if stop else None
    if stop is not None and (type(stop) is not int or not 0 <= stop < 2**31):
        raise OptionUnmappable("eos_token_id", stop, "a token")
    rope = config.get("rope_parameters") or {}
    return LlamaShape(
        layers=_size(config, "num_hidden_layers", LAYERS_MAX),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        inner=_size(config, "intermediate_size", INNER_MAX),
        vocabulary=_size(config, "vocab_size", VOCABULARY_MAX),
        context=_size(config, "max_position_embeddings", CONTEXT_MAX, 2048),
        theta=Decimal(_number(config.get("rope_theta") or rope.get("rope_theta"), "rope_theta", 1e4, 2, 1e9)),
        epsilon=_number(config.get("rms_norm_eps"), "rms_norm_eps", 1e-6, 0, 1),
        tied=bool(config.get("tie_word_embeddings", False)),
        stop=-1 if stop is None else stop,
    )


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
    for tensor, sizes in expected_tensors(shape).items():
        if tensor not in found:
            raise WeightMissing(tensor, "nothing", sizes)
        if found[tensor].shape != sizes:
            raise WeightMissing(tensor, found[tensor].shape, sizes)
        if not np.isfinite(found[tensor]).all():
            raise FolderMalformed(tensor, "holds a value that is not finite")
    return found


def expected_tensors(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of all tensors that every such model has; biases may come on top."""
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
            f"{name}mlp.gate_proj.weight": (shape.inner, shape.width),
            f"{name}mlp.up_proj.weight": (shape.inner, shape.width),
            f"{name}mlp.down_proj.weight": (shape.width, shape.inner),
        }
    expected["model.norm.weight"] = (shape.width,)
    if not shape.tied:
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
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise OptionUnmappable("model_type", kind, sorted(ARCHITECTURES))
    rope = config.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise OptionUnmappable("rope_parameters", rope, "an object")
    must = {
        "architectures": (config.get("architectures"), (None, [ARCHITECTURES[kind]])),
        "hidden_act": (config.get("hidden_act", "silu"), ("silu", "swish")),
        "rope_scaling": (config.get("rope_scaling"), (None,)),
        "rope_parameters": (rope.get("rope_type", "default"), ("default",)),
        "use_sliding_window": (config.get("use_sliding_window", False), (False, None)),
        "pretraining_tp": (config.get("pretraining_tp", 1), (1, None)),
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
