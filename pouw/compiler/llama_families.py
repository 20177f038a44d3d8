"""Decoders that are Llama's in other words: their tensors renamed, split, scaled and centred into Llama's.

What another family does to its weights (Gemma's 1 + gamma, Phi-3's packed layers, GPT-2's layer norms) is done here,
by element-wise operations that IEEE fixes to the bit, in a fixed order: every machine makes the same numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.fp32 import Float

Float64 = NDArray[np.float64]
Tensors = dict[str, Float]


@dataclass(frozen=True, slots=True)
class HeadSizes:
    """What a family needs to take tensors apart."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    turned: int
    """Entries of each head that rotary positions turn."""
    tied: bool


@dataclass(frozen=True, slots=True)
class Family:
    """How one `model_type` differs from Llama."""

    architecture: str
    activation: str = "silu"
    """Default of `hidden_act`."""
    gated: bool = True
    tied: bool = False
    """Default of `tie_word_embeddings`."""
    qk_norm: bool = False
    positions: bool = False
    """Whether positions are learned instead of turned."""
    own_head: bool = False
    """Whether the scores' matrix is another than the embedding's even where the file has one for both."""
    convert: Callable[[Tensors, HeadSizes], Tensors] = lambda tensors, _sizes: tensors


def _gemma(tensors: Tensors, sizes: HeadSizes) -> Tensors:
    """1 + gamma in each norm; the embedding is scaled by the root of the width where it is read, not in the head."""
    made = {name: array + np.float32(1) if name.endswith("norm.weight") else array for name, array in tensors.items()}
    table = tensors.get("model.embed_tokens.weight")
    if table is not None:
        made["lm_head.weight"] = table if sizes.tied else tensors.get("lm_head.weight", table)
        made["model.embed_tokens.weight"] = table * np.sqrt(np.float32(sizes.width))
    return made


def _phi3(tensors: Tensors, sizes: HeadSizes) -> Tensors:
    """Packed layers apart; heads of which a part is turned in the order that rotary positions pair."""
    made: Tensors = {}
    queries, keys = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size
    for name, array in tensors.items():
        place, _, rest = name.rpartition(".qkv_proj.")
        if place:
            q, k, v = np.split(array, [queries, queries + keys])
            made |= {f"{place}.{part}_proj.{rest}": rows for part, rows in (("q", q), ("k", k), ("v", v))}
            continue
        place, _, rest = name.rpartition(".gate_up_proj.")
        if place:
            gate, up = np.split(array, 2)
            made |= {f"{place}.gate_proj.{rest}": gate, f"{place}.up_proj.{rest}": up}
            continue
        made[name] = array
    return made


def pair_heads(tensors: Tensors, sizes: HeadSizes) -> Tensors:
    """Return queries and keys with each head's entries so ordered that entry d pairs with d + head_size / 2.

    A model that turns the first entries only pairs d with d + turned / 2; scores do not see the order.
    """
    if sizes.turned == sizes.head_size:
        return tensors
    half = sizes.turned // 2
    rest = np.arange(sizes.turned, sizes.head_size)
    first, second = np.split(rest, 2)
    order = np.concatenate([np.arange(half), first, np.arange(half, sizes.turned), second])
    made = dict(tensors)
    for name, array in tensors.items():
        if ".q_proj." in name or ".k_proj." in name:
            shaped = array.reshape(-1, sizes.head_size, *array.shape[1:])
            made[name] = np.ascontiguousarray(shaped[:, order]).reshape(array.shape)
    return made


_GPT2_NORMS = {"ln_1": "input_layernorm", "ln_2": "post_attention_layernorm"}
_GPT2_PLACES = {"attn.c_proj": "self_attn.o_proj", "mlp.c_fc": "mlp.up_proj", "mlp.c_proj": "mlp.down_proj"}


def _gpt2(tensors: Tensors, sizes: HeadSizes) -> Tensors:
    """A layer norm of rows whose mean is 0 is an RMS norm: all that is written to the stream is centred beforehand.

    An offset behind a norm is added to the biases of the layers that read it.
    """
    own = {name.removeprefix("transformer."): array for name, array in tensors.items()}
    made: Tensors = {}
    table = own["wte.weight"]
    made["model.embed_tokens.weight"] = _centred(table)
    made["model.positions.weight"] = _centred(own["wpe.weight"])
    for layer in range(sizes.layers):
        old, new = f"h.{layer}.", f"model.layers.{layer}."
        for norm, renamed in _GPT2_NORMS.items():
            made[f"{new}{renamed}.weight"] = own[f"{old}{norm}.weight"]
        qkv = np.ascontiguousarray(own[f"{old}attn.c_attn.weight"].T)
        bias = _with_offset(qkv, own[f"{old}attn.c_attn.bias"], own[f"{old}ln_1.bias"])
        for part, rows, offsets in zip("qkv", np.split(qkv, 3), np.split(bias, 3), strict=True):
            made[f"{new}self_attn.{part}_proj.weight"], made[f"{new}self_attn.{part}_proj.bias"] = rows, offsets
        for place, renamed in _GPT2_PLACES.items():
            matrix, bias = np.ascontiguousarray(own[f"{old}{place}.weight"].T), own[f"{old}{place}.bias"]
            if place == "mlp.c_fc":
                bias = _with_offset(matrix, bias, own[f"{old}ln_2.bias"])
            else:
                matrix, bias = np.ascontiguousarray(_centred(matrix.T).T), _centred(bias[None])[0]
            made[f"{new}{renamed}.weight"], made[f"{new}{renamed}.bias"] = matrix, bias
    made["model.norm.weight"] = own["ln_f.weight"]
    made["lm_head.weight"] = table if sizes.tied else tensors["lm_head.weight"]
    made["lm_head.bias"] = _with_offset(made["lm_head.weight"], None, own["ln_f.bias"])
    return made


def _centred(rows: Float) -> Float:
    """Return rows less their mean. rows: float32[m, n]."""
    total = np.zeros(len(rows), dtype=np.float64)
    for column in rows.T:  # one after the other: no machine adds in another order
        total += column
    made: Float = (rows - (total / rows.shape[1])[:, None]).astype(np.float32)
    return made


def _with_offset(matrix: Float, bias: Float | None, offset: Float) -> Float:
    """Return bias + matrix @ offset, summed in the order of the columns. matrix: float32[n, k], offset: float32[k]."""
    total: Float64 = np.zeros(len(matrix)) if bias is None else bias.astype(np.float64)
    for column, factor in zip(matrix.T, offset.astype(np.float64), strict=True):
        total = total + column * factor
    return total.astype(np.float32)


FAMILIES: Final[Mapping[str, Family]] = {
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM"),
    "qwen2": Family("Qwen2ForCausalLM"),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True),
    "gemma": Family("GemmaForCausalLM", activation="gelu_pytorch_tanh", tied=True, own_head=True, convert=_gemma),
    "phi3": Family("Phi3ForCausalLM", convert=_phi3),
    "gpt2": Family(
        "GPT2LMHeadModel",
        activation="gelu_new",
        gated=False,
        tied=True,
        positions=True,
        own_head=True,
        convert=_gpt2,
    ),
}
