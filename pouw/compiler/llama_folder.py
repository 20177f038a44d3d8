"""The weights of a Hugging Face folder of a decoder of Llama's kind, from its bytes, by Llama's names. No pickle."""

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from chain.errors import Mismatch
from pouw.compiler.fp32 import Float, Weights
from pouw.compiler.llama_config import FolderMalformed, LlamaShape, parse_object
from pouw.compiler.llama_families import FAMILIES, HeadSizes, pair_heads

HEADER_MAX = 2**24
WEIGHTS_MAX = 2**36


class WeightMissing(Mismatch):
    """A tensor is not there, or has another shape than the configuration says."""


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
    header = parse_object(name, data[8 : 8 + size], HEADER_MAX)
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
