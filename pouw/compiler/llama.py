"""Llama decoder -> hypergraph with one scan, and its constants.

As for BERT: structure and calibration give the graph; the float weights give the constants through element-wise float64
operations that IEEE fixes to the bit, so every machine makes the same roots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.fp32 import Float, Weights
from pouw.compiler.llama_builder import Builder, to_fixed
from pouw.compiler.llama_calibration import GATE_BITS, LOG2_E, LlamaCalibration, matrices_of
from pouw.compiler.llama_config import LlamaShape
from pouw.compiler.llama_families import FAMILIES
from pouw.compiler.llama_fp32 import head_weights
from pouw.compiler.llama_options import SizeOutOfRange
from pouw.compiler.llama_rows import normed_heads, position_rows, self_weights
from pouw.compiler.llama_tables import activation_table, frequencies, rotation_table
from pouw.compiler.sampling import SAMPLE_MAX, choose_segment
from pouw.compiler.tables import power_table
from pouw.execution import Backend, run
from pouw.hypergraph import (
    Constant,
    Hypergraph,
    OperatorOutput,
    Port,
    Reference,
    Subgraph,
    SubgraphInput,
    Symbol,
    check_graph,
)
from pouw.operators.types import Tensor, TensorType
from pouw.scan import History, Scan
from pouw.trace import INT16, INT32

SCORE_BITS = 10
CHOICES = frozenset({"argmax", "sample", "candidates"})
"""What reads the scores."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn, as the attributes of `sample`."""

    multiplier: int
    """round(2^16 / temperature); 0: always the most likely token."""
    top_k: int
    top_p: int
    """round(2^16 * share)."""


GREEDY = Sampling(0, 1, 2**16)


def build(
    name: str,
    weights: Weights,
    shape: LlamaShape,
    calibration: LlamaCalibration,
    sampling: Sampling = GREEDY,
    sizes: tuple[int, int] | None = None,
) -> tuple[Hypergraph, dict[bytes, Tensor]]:
    """Return the graph `ids: int32[S], seed: int32[1] -> token: int32[<= T]` and its constants by root.

    `sizes`: largest S and T; by default half of the model's context each.

    Raises:
        SizeOutOfRange: S + T - 1 positions are more than the model has, or top_k is more than can be proven.
    """
    prompt_max, limit_max = sizes or (shape.longest // 2, shape.longest // 2)
    if prompt_max + limit_max - 1 > shape.longest:
        raise SizeOutOfRange("S + T - 1", prompt_max + limit_max - 1, f"at most {shape.longest}")
    builder = Builder(weights, shape, calibration, positions=prompt_max + limit_max)
    still = [Decimal(0)] * (shape.head_size // 2)
    learned = FAMILIES[shape.family].positions
    angles = still if learned else frequencies(shape.head_size, shape.theta, shape.scaling, shape.turned)
    builder.tables = {
        "activation": builder.constant(activation_table(shape.activation)),
        "power": builder.constant(power_table()),
        "rotation": builder.constant(rotation_table(builder.positions, angles)),
    }
    if FAMILIES[shape.family].qk_norm:
        builder.tables["still"] = builder.constant(rotation_table(builder.positions, still))
    subgraphs = [_embed(builder)]
    for layer in range(shape.layers):
        subgraphs.append(_read_layer(builder, layer))
        subgraphs.append(_write_layer(builder, layer))
    subgraphs.append(_head(builder, sampling))
    seed = (Port("seed", TensorType(INT32, (1,))),) if sampling.multiplier else ()
    graph = Hypergraph(
        name=name,
        symbols=(Symbol("S", 1, prompt_max), Symbol("T", 1, limit_max)),
        inputs=(Port("ids", TensorType(INT32, ("S",))), *seed),
        outputs=("token",),
        subgraphs=tuple(subgraphs),
        scan=Scan("ids", "token", shape.stop, "T"),
    )
    check_graph(graph)
    return graph, builder.constants


def _embed(builder: Builder) -> Subgraph:
    """The tokens' rows, with what is added to them at their positions."""
    family, bits = FAMILIES[builder.shape.family], builder.calibration.bits
    table = to_fixed(builder.weights["model.embed_tokens.weight"], bits["embedding"], np.int16)
    words = builder.add("embedding", "embed.words", SubgraphInput(0), builder.constant(table))
    shift = (bits["stream"] - bits["embedding"],)
    x = builder.add("widen", "embed.widen", words, attributes=shift)
    names: tuple[str | History, ...] = ("ids",)
    stream = TensorType(INT32, ("R", builder.shape.width))
    if family.positions or family.qk_norm:
        names = ("ids", History("ids"))
    if family.positions:
        places = to_fixed(builder.weights["model.positions.weight"], bits["embedding"], np.int16)[: builder.positions]
        found = position_rows(builder, words, SubgraphInput(1), places)
        found = builder.add("widen", "embed.positions.widen", found, attributes=shift)
        x = builder.add("accumulate", "embed.positions.add", x, found)
    outputs = [("stream.0", stream, x)]
    if family.qk_norm:
        outputs.append(("self", TensorType(INT16, (1, "R", "R")), self_weights(builder, words, SubgraphInput(1))))
    return builder.subgraph("embed", names, outputs)


def all_logits(
    graph: Hypergraph, constants: Mapping[bytes, Tensor], ids: NDArray[np.int32], backend: Backend
) -> NDArray[np.int32]:
    """Return the scores after each token of a text, log2-domain Q.10: the head without its `last_row`. For fidelity."""
    inputs = {port.name: np.zeros(1, dtype=np.int32) for port in graph.inputs} | {"ids": ids}
    execution = run(graph, constants, inputs, {"S": len(ids), "T": 1}, backend)
    made: list[Tensor] = []
    for operator in graph.subgraphs[-1].operators:
        if operator.rule.name in CHOICES:
            break
        if operator.rule.name == "last_row":
            made.append(execution.subgraph_outputs[-2][0])
            continue
        tensors = tuple(
            constants[part.root] if isinstance(part, Constant) else made[part.index] for part in operator.tensors
        )
        made.append(backend.compute(operator.rule, tensors, operator.attributes))
    return made[-1].astype(np.int32)


def _read_layer(builder: Builder, layer: int) -> Subgraph:
    """Queries, keys and values of this step's rows; values transposed."""
    shape, bits = builder.shape, builder.calibration.bits
    name, product = f"model.layers.{layer}.", f"{layer}.qkv"
    x = builder.norm("attention.norm", SubgraphInput(0), f"{name}input_layernorm")
    matrix = np.concatenate(matrices_of(builder.weights, shape, product))
    heads = (("query", shape.heads), ("key", shape.kv_heads), ("value", shape.kv_heads))
    factor = {"query": LOG2_E / float(np.sqrt(np.float64(shape.head_size)))}
    if FAMILIES[shape.family].qk_norm:
        heads, factor = (("raw", shape.heads), ("raw", shape.kv_heads), ("value", shape.kv_heads)), {}
    scale = np.concatenate(
        [
            np.full(count * shape.head_size, factor.get(part, 1.0) * 2.0 ** bits[f"{layer}.{part}"])
            for part, count in heads
        ]
    )
    rows = builder.quantize(product, "attention.qkv", x)
    bias = _bias(builder.weights, [f"{name}self_attn.{part}_proj" for part in "qkv"], matrix.shape[0])
    qkv = builder.linear(product, "attention.qkv", rows, matrix, bias, scale, bits["norm"], wide=False)
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    names: tuple[str | History, ...] = (f"stream.{layer}", History("ids"))
    source = qkv
    if FAMILIES[shape.family].qk_norm:
        names, source = (*names, "self"), normed_heads(builder, layer, qkv, SubgraphInput(1), SubgraphInput(2))

    def turned(label: str, count: int, offset: int) -> OperatorOutput:
        tensors = (source, SubgraphInput(1), builder.tables["rotation"])
        return builder.add("rope", f"attention.rope.{label}", *tensors, attributes=(count, shape.head_size, offset))

    q, k = turned("queries", shape.heads, 0), turned("keys", shape.kv_heads, queries)
    v = builder.add("transpose_columns", "attention.values", qkv, attributes=(queries + keys, keys))
    outputs = (
        (f"queries.{layer}", TensorType(INT16, ("R", queries)), q),
        (f"keys.{layer}", TensorType(INT16, ("R", keys)), k),
        (f"values.{layer}", TensorType(INT16, (keys, "R")), v),
    )
    return builder.subgraph(f"layer.{layer}.read", names, outputs)


def _write_layer(builder: Builder, layer: int) -> Subgraph:
    """Attention over all rows so far and the feed-forward part, each added to the stream."""
    shape, bits, weights = builder.shape, builder.calibration.bits, builder.weights
    name = f"model.layers.{layer}."
    units = np.full(shape.width, 2.0 ** bits["stream"])
    shift = bits[f"{layer}.query"] + bits[f"{layer}.key"] - SCORE_BITS
    scores = builder.add(
        "causal_scores",
        "attention.scores",
        SubgraphInput(1),
        SubgraphInput(2),
        attributes=(shape.heads, shape.kv_heads, shape.head_size, shift),
    )
    powers = builder.add("causal_softmax", "attention.softmax", scores, builder.tables["power"])
    mixed = builder.add("grouped_mix", "attention.mix", powers, SubgraphInput(3), attributes=(shape.kv_heads,))

    def branch(
        part: str, label: str, source: Reference, place: str, input_bits: int, base: Reference
    ) -> OperatorOutput:
        product = f"{layer}.{part}"
        rows = builder.quantize(product, label, source)
        bias = _bias(weights, [place], shape.width)
        matrix = weights[f"{place}.weight"]
        y = builder.linear(product, label, rows, matrix, bias, units, input_bits, wide=True)
        return builder.add("accumulate", f"{label}.residual", base, y)

    x = branch("out", "attention.out", mixed, f"{name}self_attn.o_proj", bits[f"{layer}.value"], SubgraphInput(0))
    normed = builder.norm("feed.norm", x, f"{name}post_attention_layernorm")
    rows = builder.quantize(f"{layer}.inner", "feed.inner", normed)

    def inner(part: str, out_bits: int) -> OperatorOutput:
        place = f"{name}mlp.{part}_proj"
        units = np.full(shape.inner, 2.0**out_bits)
        bias = _bias(weights, [place], shape.inner)
        matrix = weights[f"{place}.weight"]
        return builder.linear(f"{layer}.inner", f"feed.{part}", rows, matrix, bias, units, bits["norm"], wide=False)

    gated, up_bits, out_bits = FAMILIES[shape.family].gated, bits[f"{layer}.up"], bits[f"{layer}.outer"]
    source = inner("gate" if gated else "up", GATE_BITS)
    product = builder.add("lookup", f"feed.{shape.activation}", source, builder.tables["activation"])
    if gated:
        attributes = (GATE_BITS + up_bits - out_bits,)
        product = builder.add("gated_product", "feed.product", product, inner("up", up_bits), attributes=attributes)
    x = branch("outer", "feed.outer", product, f"{name}mlp.down_proj", out_bits, x)
    inputs = (f"stream.{layer}", f"queries.{layer}", History(f"keys.{layer}"), History(f"values.{layer}"))
    kind = TensorType(INT32, ("R", shape.width))
    return builder.subgraph(f"layer.{layer}.write", inputs, ((f"stream.{layer + 1}", kind, x),))


def _head(builder: Builder, sampling: Sampling) -> Subgraph:
    """The next token from the last row."""
    shape, bits = builder.shape, builder.calibration.bits
    last = builder.add("last_row", "head.last", SubgraphInput(0))
    normed = builder.norm("head.norm", last, "model.norm")
    rows = builder.quantize("head", "head", normed)
    matrix = head_weights(builder.weights, shape)
    units = np.full(shape.vocabulary, LOG2_E * 2.0**SCORE_BITS)
    bias = builder.weights.get("lm_head.bias")
    logits = builder.linear("head", "head", rows, matrix, bias, units, bits["norm"], wide=True)
    kind = TensorType(INT32, (1,))
    inputs: tuple[str | History, ...] = (f"stream.{shape.layers}",)
    if sampling.multiplier == 0:
        return builder.subgraph("head", inputs, (("token", kind, builder.add("argmax", "head.argmax", logits)),))
    top_k = min(sampling.top_k, shape.vocabulary)
    others = (SubgraphInput(1), SubgraphInput(2), builder.tables["power"])
    if shape.vocabulary <= SAMPLE_MAX:
        attributes: tuple[int, ...] = (sampling.multiplier, top_k, sampling.top_p)
        token = builder.add("sample", "head.sample", logits, *others, attributes=attributes)
    else:
        attributes = (sampling.multiplier, choose_segment(shape.vocabulary, top_k), top_k)
        keys = builder.add("candidates", "head.candidates", logits, attributes=attributes)
        token = builder.add("draw", "head.draw", keys, *others, attributes=(top_k, sampling.top_p))
    return builder.subgraph("head", (*inputs, "seed", History("ids")), (("token", kind, token),))


def _bias(weights: Weights, places: Sequence[str], width: int) -> Float | None:
    """Return the biases side by side; None where the model has none."""
    parts = [weights[f"{place}.bias"] for place in places if f"{place}.bias" in weights]
    if not parts:
        return None
    bias = np.concatenate(parts)
    if bias.shape != (width,):
        raise SizeOutOfRange("bias", bias.shape, (width,))
    return bias
