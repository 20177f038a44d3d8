"""Llama decoder -> hypergraph with one scan, and its constants.

As for BERT: structure and calibration give the graph; the float weights give the constants through element-wise float64
operations that IEEE fixes to the bit, so every machine makes the same roots.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.calibration import Float64, wanted_factors
from pouw.compiler.fp32 import Float, Weights
from pouw.compiler.llama_config import LlamaShape
from pouw.compiler.llama_families import FAMILIES
from pouw.compiler.llama_fp32 import head_weights, logits_of
from pouw.compiler.llama_options import SizeOutOfRange
from pouw.compiler.llama_rows import normed_heads, position_rows, self_weights
from pouw.compiler.llama_tables import activation_table, frequencies, rotation_table
from pouw.compiler.sampling import SAMPLE_MAX, choose_segment
from pouw.compiler.tables import power_table
from pouw.execution import Backend, run
from pouw.hypergraph import (
    Constant,
    Hypergraph,
    Operator,
    OperatorOutput,
    Port,
    Reference,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
    Symbol,
    check_graph,
)
from pouw.operators.arithmetic import Int16
from pouw.operators.linear import FACTOR_MAX
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor, TensorType
from pouw.scan import History, Scan
from pouw.trace import INT16, INT32, dtype_by_name, tensor_root

LOG2_E = 1.4426950408889634
GATE_BITS = 10  # the table of SiLU is Q.10
SCORE_BITS = 10
GAMMA_BITS = 12
STREAM_BITS_MAX = 16
WIDEN_MAX = 9
TOKENS_MAX = 2**20
CHOICES = frozenset({"argmax", "sample", "candidates"})
"""What reads the scores."""
PRODUCTS = ("qkv", "out", "inner", "outer")
Q_MAX = {"qkv": 127, "out": 127, "inner": 127, "outer": 63, "head": 127}
STRENGTHS = {"qkv": 0.5, "out": 0.5, "inner": 0.5, "outer": 0.6, "head": 0.5}
MARGIN = 1.6  # how far beyond the calibration texts a value may go before it is cut
STREAM_MARGIN = 4.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn, as the attributes of `sample`."""

    multiplier: int
    """round(2^16 / temperature); 0: always the most likely token."""
    top_k: int
    top_p: int
    """round(2^16 * share)."""


GREEDY = Sampling(0, 1, 2**16)


@dataclass(frozen=True, slots=True)
class LlamaCalibration:
    """What the float weights do not say."""

    factors: Mapping[str, Int16]
    """"<layer>.<product>" or "head" -> for each column of the product's input 1 .. 256."""
    bits: Mapping[str, int]
    """Fraction bits of "stream", "embedding", "norm" and "<layer>.<query, key, value, up, outer>"; "<layer>.raw" are
    queries and keys before a norm of their own."""


def calibrate(
    weights: Weights,
    shape: LlamaShape,
    texts: Iterable[NDArray[np.int32]],
    progress: Callable[[int], None] | None = None,
) -> LlamaCalibration:
    """Choose factors and fixed points from the largest values on the texts' token ids; `progress` counts the texts."""
    columns: dict[str, Float] = {}

    def see(name: str, x: Float) -> None:
        largest = np.abs(x).max(axis=0)
        columns[name] = np.maximum(columns.get(name, largest), largest)

    for done, ids in enumerate(texts, 1):
        logits_of(weights, shape, ids, see)
        if progress is not None:
            progress(done)
    factors = {}
    for name in (*(f"{layer}.{product}" for layer in range(shape.layers) for product in PRODUCTS), "head"):
        product = name.rpartition(".")[2]
        matrix = np.abs(np.concatenate(_matrices(weights, shape, name))).max(axis=0)
        wanted = wanted_factors(columns[name], matrix, STRENGTHS[product])
        factors[name] = np.clip(np.rint(wanted), 1, FACTOR_MAX).astype(np.int16)
    stream = _bits(columns["stream"], 2.0**24, STREAM_MARGIN, STREAM_BITS_MAX)
    read = ("embed_tokens", "positions") if FAMILIES[shape.family].positions else ("embed_tokens",)
    tables = [weights[f"model.{table}.weight"] for table in read]
    embedding = min(_bits(np.abs(table), 2.0**15, 1.0, stream) for table in tables)
    stream = min(stream, embedding + WIDEN_MAX)
    norms = [value for name, value in columns.items() if name.endswith(("qkv", "inner", "head"))]
    bits = {"stream": stream, "embedding": embedding, "norm": _bits(np.concatenate(norms), 2.0**15, MARGIN, 14)}
    parts = ("query", "key", "value", "up", "outer", *(["raw"] if FAMILIES[shape.family].qk_norm else []))
    for layer in range(shape.layers):
        for part in parts:
            found = columns[f"{layer}.{part}"]
            scale = LOG2_E / np.sqrt(shape.head_size) if part == "query" else 1.0
            bits[f"{layer}.{part}"] = _bits(found * scale, 2.0**15, MARGIN, 14)
        if not FAMILIES[shape.family].gated:
            bits[f"{layer}.up"] = bits[f"{layer}.outer"] = GATE_BITS  # what the table takes and gives
    return LlamaCalibration(factors, bits)


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
    builder = _Builder(weights, shape, calibration, positions=prompt_max + limit_max)
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


@dataclass(slots=True)
class _Builder:
    """Operators of the subgraph in work, and all constants so far."""

    weights: Weights
    shape: LlamaShape
    calibration: LlamaCalibration
    positions: int
    """Rows of the tables that a position chooses from."""
    tables: dict[str, Constant] = field(default_factory=dict)
    constants: dict[bytes, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)

    def constant(self, array: Tensor) -> Constant:
        root = tensor_root(array)
        self.constants[root] = array
        return Constant(root, TensorType(dtype_by_name(array.dtype.name), array.shape))

    def add(self, name: str, label: str, *tensors: Reference, attributes: tuple[int, ...] = ()) -> OperatorOutput:
        self.operators.append(Operator(RULE_BY_NAME[name], label, tensors, attributes))
        return OperatorOutput(len(self.operators) - 1)

    def subgraph(
        self, name: str, inputs: tuple[str | History, ...], outputs: Sequence[tuple[str, TensorType, OperatorOutput]]
    ) -> Subgraph:
        ports = tuple(SubgraphOutput(Port(output, kind), made.index) for output, kind, made in outputs)
        subgraph = Subgraph(name, inputs, ports, tuple(self.operators))
        self.operators = []
        return subgraph

    def norm(self, label: str, x: Reference, name: str) -> OperatorOutput:
        """RMS norm of the stream, in Q.norm."""
        bits = self.calibration.bits
        gamma = self.constant(_fixed(self.weights[f"{name}.weight"], GAMMA_BITS, np.int32))
        epsilon = round(self.shape.epsilon * self.shape.width * 4.0 ** bits["stream"])
        return self.add("rms_norm", label, x, gamma, attributes=(epsilon, 14 + GAMMA_BITS - bits["norm"]))

    def quantize(self, product: str, label: str, source: Reference) -> tuple[OperatorOutput, OperatorOutput]:
        """Return (rows as int8, their maxima)."""
        smooth = self.constant(self.calibration.factors[product])
        maximum = self.add("row_maximum", f"{label}.maximum", source, smooth)
        q_max = Q_MAX[product.rpartition(".")[2]]
        return self.add("quantize", f"{label}.quantize", source, maximum, smooth, attributes=(q_max,)), maximum

    def linear(
        self,
        product: str,
        label: str,
        rows: tuple[OperatorOutput, OperatorOutput],
        matrix: Float,
        bias: Float | None,
        scale: Float64,
        input_bits: int,
        *,
        wide: bool,
    ) -> OperatorOutput:
        """Multiply quantised rows; `scale` says the units of each column of the output."""
        q_max = Q_MAX[product.rpartition(".")[2]]
        shrunk = matrix.astype(np.float64) / self.calibration.factors[product].astype(np.float64)  # (n, k)
        largest = np.maximum(np.abs(shrunk).max(axis=1), 1e-30)  # (n,)
        quantised = np.rint(shrunk * (q_max / largest)[:, None]).astype(np.int8)
        weights = self.constant(quantised)
        raw = self.add("matmul", f"{label}.matmul", rows[0], weights, attributes=(int(q_max < 64),))
        exact = largest / q_max / q_max * (scale * 0.5**input_bits)  # (n,)
        # |product| <= k * q_max^2 and maximum <= 2^23: their product with the multipliers stays below 2^62
        most = 2.0 ** min(17, 62 - 23 - (matrix.shape[1] * q_max * q_max).bit_length())
        shift = 1
        while float(exact.max()) * 2 ** (shift + 1) < most and shift < 62:
            shift += 1
        multipliers = self.constant(np.rint(exact * 2**shift).astype(np.int32))
        offset = np.zeros(len(scale)) if bias is None else bias.astype(np.float64) * scale
        offsets = self.constant(np.rint(offset).astype(np.int32))
        tensors = (raw, rows[1], multipliers, offsets)
        if wide:
            return self.add("rescale_wide", f"{label}.rescale", *tensors, attributes=(shift,))
        return self.add("rescale", f"{label}.rescale", *tensors, attributes=(shift, 2**15 - 1))


def _embed(builder: _Builder) -> Subgraph:
    """The tokens' rows, with what is added to them at their positions."""
    family, bits = FAMILIES[builder.shape.family], builder.calibration.bits
    table = _fixed(builder.weights["model.embed_tokens.weight"], bits["embedding"], np.int16)
    words = builder.add("embedding", "embed.words", SubgraphInput(0), builder.constant(table))
    shift = (bits["stream"] - bits["embedding"],)
    x = builder.add("widen", "embed.widen", words, attributes=shift)
    names: tuple[str | History, ...] = ("ids",)
    stream = TensorType(INT32, ("R", builder.shape.width))
    if family.positions or family.qk_norm:
        names = ("ids", History("ids"))
    if family.positions:
        places = _fixed(builder.weights["model.positions.weight"], bits["embedding"], np.int16)[: builder.positions]
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


def _read_layer(builder: _Builder, layer: int) -> Subgraph:
    """Queries, keys and values of this step's rows; values transposed."""
    shape, bits = builder.shape, builder.calibration.bits
    name, product = f"model.layers.{layer}.", f"{layer}.qkv"
    x = builder.norm("attention.norm", SubgraphInput(0), f"{name}input_layernorm")
    matrix = np.concatenate(_matrices(builder.weights, shape, product))
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


def _write_layer(builder: _Builder, layer: int) -> Subgraph:
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


def _head(builder: _Builder, sampling: Sampling) -> Subgraph:
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


def _matrices(weights: Weights, shape: LlamaShape, product: str) -> list[Float]:
    """Return the weights that read one quantised input."""
    layer, _, part = product.rpartition(".")
    if part == "head":
        return [head_weights(weights, shape)]
    places = {
        "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "out": ("self_attn.o_proj",),
        "inner": ("mlp.gate_proj", "mlp.up_proj") if FAMILIES[shape.family].gated else ("mlp.up_proj",),
        "outer": ("mlp.down_proj",),
    }
    return [weights[f"model.layers.{layer}.{place}.weight"] for place in places[part]]


def _bias(weights: Weights, places: Sequence[str], width: int) -> Float | None:
    """Return the biases side by side; None where the model has none."""
    parts = [weights[f"{place}.bias"] for place in places if f"{place}.bias" in weights]
    if not parts:
        return None
    bias = np.concatenate(parts)
    if bias.shape != (width,):
        raise SizeOutOfRange("bias", bias.shape, (width,))
    return bias


def _bits(values: Float, bound: float, margin: float, most: int) -> int:
    """Return the most fraction bits with which the largest value times the margin stays below the bound."""
    bits = most
    while float(np.abs(values).max()) * margin * 2.0**bits >= bound and bits > 0:
        bits -= 1
    return bits


def _fixed(x: NDArray[np.floating], bits: int, dtype: type[np.signedinteger]) -> Tensor:
    """Return x in fixed point. Scaling by a power of two is exact, rounding is IEEE's."""
    bounds = np.iinfo(dtype)
    fixed: Tensor = np.clip(np.rint(x.astype(np.float64) * 2**bits), bounds.min, bounds.max).astype(dtype)
    return fixed
