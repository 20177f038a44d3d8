"""What a decoder does with rows besides Llama's own: learned positions, a norm of each head.

Nothing here is an operator of its own. The turn of a row whose first half is 1 and whose second is 0 gives the row of a
table that stands at its position; heads turned into columns stand side by side again behind an attention in which a
row sees itself alone.
"""

import numpy as np

from pouw.compiler.calibration import Float64
from pouw.compiler.llama_builder import GAMMA_BITS, Builder
from pouw.compiler.llama_calibration import LOG2_E
from pouw.hypergraph import OperatorOutput, Reference
from pouw.operators.arithmetic import INT16_MAX, Int16
from pouw.operators.decoder import ROTATION_BITS


def constant_rows(builder: Builder, label: str, like: Reference, width: int, row: Int16) -> OperatorOutput:
    """Return int16[R, n] with `row` in each of the rows of `like`, int16[R, width].

    An operator's rows come from an operand: here from a product with nothing, to which the row is added.
    """
    nothing = builder.constant(np.zeros((len(row), width), dtype=np.int8))
    factors = builder.constant(np.ones(width, dtype=np.int16))
    maximum = builder.add("row_maximum", f"{label}.maximum", like, factors)
    q = builder.add("quantize", f"{label}.quantize", like, maximum, factors, attributes=(1,))
    zeros = builder.add("matmul", f"{label}.zeros", q, nothing, attributes=(0,))
    none = builder.constant(np.zeros(len(row), dtype=np.int32))
    bias = builder.constant(row.astype(np.int32))
    return builder.add("rescale", f"{label}.rows", zeros, maximum, none, bias, attributes=(1, INT16_MAX))


def position_rows(builder: Builder, like: Reference, so_far: Reference, table: Int16) -> OperatorOutput:
    """Return the rows of a table at the positions of the rows in work. table: int16[positions, n], n even."""
    width = table.shape[1]
    one = np.repeat(np.array([1 << ROTATION_BITS, 0], dtype=np.int16), width // 2)
    rows = constant_rows(builder, "positions", like, builder.shape.width, one)
    return builder.add("rope", "positions.rows", rows, so_far, builder.constant(table), attributes=(1, width, 0))


def self_weights(builder: Builder, like: Reference, so_far: Reference) -> OperatorOutput:
    """Return int16[1, R, R]: the weights of an attention in which each row sees itself alone.

    Keys grow with their position by so much that all but the last one that a row may see weigh 2^-15: nothing.
    """
    ramp = np.zeros((builder.positions, 2), dtype=np.int16)
    ramp[:, 0] = np.arange(builder.positions)
    width = builder.shape.width
    one = constant_rows(builder, "self.one", like, width, np.array([1 << ROTATION_BITS, 0], dtype=np.int16))
    keys = builder.add("rope", "self.keys", one, so_far, builder.constant(ramp), attributes=(1, 2, 0))
    queries = constant_rows(builder, "self.queries", like, width, np.array([INT16_MAX, 0], dtype=np.int16))
    scores = builder.add("causal_scores", "self.scores", queries, keys, attributes=(1, 1, 2, 1))
    return builder.add("causal_softmax", "self.softmax", scores, builder.tables["power"])


def normed_heads(
    builder: Builder, layer: int, qkv: OperatorOutput, so_far: Reference, alone: Reference
) -> OperatorOutput:
    """Return queries and keys, int16[R, (heads + kv_heads) * head_size], with the RMS norm of each head taken."""
    shape, bits = builder.shape, builder.calibration.bits
    size = shape.head_size
    raw = bits[f"{layer}.raw"]
    epsilon = round(shape.epsilon * size * 4.0**raw)
    joined: OperatorOutput | None = None
    for head in range(shape.heads + shape.kv_heads):
        part = "query" if head < shape.heads else "key"
        gamma = builder.weights[f"model.layers.{layer}.self_attn.{part[0]}_norm.weight"].astype(np.float64)
        if part == "query":
            gamma = gamma * (LOG2_E / float(np.sqrt(np.float64(size))))
        label = f"attention.head.{head}"
        # turned by nothing: the columns of this head
        own = builder.add(
            "rope", f"{label}.own", qkv, so_far, builder.tables["still"], attributes=(1, size, head * size)
        )
        wide = builder.add("widen", f"{label}.widen", own, attributes=(0,))
        fixed: Float64 = np.rint(gamma * 2**GAMMA_BITS)
        constant = builder.constant(fixed.astype(np.int32))
        attributes = (epsilon, 14 + GAMMA_BITS - bits[f"{layer}.{part}"])
        normed = builder.add("rms_norm", f"{label}.norm", wide, constant, attributes=attributes)
        column = builder.add("transpose_columns", f"{label}.turned", normed, attributes=(0, size))
        joined = column if joined is None else builder.add("concat_rows", f"{label}.joined", joined, column)
    assert joined is not None  # noqa: S101  # a model has heads
    return builder.add("grouped_mix", "attention.heads", alone, joined, attributes=(1,))
