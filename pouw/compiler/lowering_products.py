"""Matrix products of a program: rows and columns quantised, their difficulty shared between both (smoothing)."""

import numpy as np

from pouw.compiler.assemble import Handle
from pouw.compiler.calibration import Float64, wanted_factors
from pouw.compiler.lowering import Lowering, find_multipliers, to_constant
from pouw.compiler.program import Float, Node
from pouw.operators.linear import FACTOR_MAX
from pouw.ticket import ShapeRefused, check_shape

SMOOTHING = 0.6  # MiniLM: 0.55 to 0.7 is a plateau
Q_MAX, Q_MAX_MINING = 127, 63


def lower_linear(work: Lowering, index: int, node: Node) -> None:
    """Add a linear layer; queries, keys and values of one value at once."""
    for reader in work.readers[index]:
        if _fused(work, reader) and index != work.program.nodes[reader].sources[0]:
            if index not in work.parts:
                _fuse(work, work.program.nodes[reader].sources)
            return
    if any(_fused(work, reader) for reader in work.readers[index]):
        if index not in work.parts:
            _fuse(work, work.program.nodes[work.readers[index][0]].sources)
        return
    form = work.formats[index]
    scale = np.full(len(node.arrays["weight"]), form.scale)
    work.narrow[index][form] = _product(work, node, node.arrays["weight"], node.arrays["bias"], scale, form.limit)


def _fused(work: Lowering, index: int) -> bool:
    """Whether an attention's queries, keys and values are one product: three linear layers of one value."""
    node = work.program.nodes[index]
    if node.kind != "attention" or "kv_heads" in node.numbers or len(set(node.sources)) != len(node.sources):
        return False
    sources = [work.program.nodes[source] for source in node.sources]
    return all(
        source.kind == "linear" and source.sources == sources[0].sources and work.readers[place] == [index]
        for source, place in zip(sources, node.sources, strict=True)
    )


def _fuse(work: Lowering, places: tuple[int, ...]) -> None:
    nodes = [work.program.nodes[place] for place in places]
    forms = [work.formats[place] for place in places]
    weight = np.concatenate([node.arrays["weight"] for node in nodes])
    bias = np.concatenate([node.arrays["bias"] for node in nodes])
    scale = np.concatenate([np.full(len(n.arrays["weight"]), f.scale) for n, f in zip(nodes, forms, strict=True)])
    handle = _product(work, nodes[0], weight, bias, scale, min(form.limit for form in forms))
    offset = 0
    for place, node in zip(places, nodes, strict=True):
        work.parts[place] = (handle, offset)
        offset += len(node.arrays["weight"])


def _product(work: Lowering, node: Node, weight: Float, bias: Float, scale: Float64, limit: int) -> Handle:
    """Quantise the rows, multiply, rescale: bias and scale for each column."""
    place = node.sources[0]
    source, source_scale = work.int16(place)
    matrix = weight.astype(np.float64)  # (n, k)
    mining = _mines(work, place, matrix)
    q_max = Q_MAX_MINING if mining else Q_MAX
    # layers that read one value share its factors, and with them its quantised rows
    beside = [work.program.nodes[reader] for reader in work.readers[place]]
    read = [np.abs(one.arrays["weight"]).max(axis=0) for one in beside if one.kind == "linear"]
    wanted = wanted_factors(work.largest[place], np.max(read, axis=0), SMOOTHING)
    factors = np.clip(np.rint(wanted), 1, FACTOR_MAX).astype(np.int16)
    smooth = work.assembly.constant(factors)
    maximum = work.assembly.add("row_maximum", source, smooth)
    q = work.assembly.add("quantize", source, maximum, smooth, attributes=(q_max,))
    shrunk = matrix / factors
    columns = np.maximum(np.abs(shrunk).max(axis=1), 1e-30)  # (n,)
    quantised = np.rint(shrunk * (q_max / columns)[:, None]).astype(np.int8)  # (n, k)
    product = work.assembly.add("matmul", q, work.assembly.constant(quantised), attributes=(int(mining),))
    # |sum| <= sum |w| * q_max and maximum <= 2^15 * factor: what is left of 2^63 is the multipliers'
    reach = int(np.abs(quantised.astype(np.int64)).sum(axis=1).max()) * q_max * 2**15 * int(factors.max())
    exact = columns / q_max / q_max * (scale / source_scale)
    multipliers, shift = find_multipliers(exact, max(2, 2**62 // max(reach, 1)))
    offsets = to_constant("bias", bias.astype(np.float64) * scale, np.int32)
    return work.assembly.add(
        "rescale",
        product,
        maximum,
        work.assembly.constant(multipliers),
        work.assembly.constant(offsets),
        attributes=(shift, limit),
    )


def _mines(work: Lowering, place: int, matrix: Float64) -> bool:
    source = work.program.nodes[place]
    while source.kind in {"patches", "max_pool", "average_pool", "flatten", "taps", "gather", "columns", "join"}:
        source = work.program.nodes[source.sources[0]]
    if work.mining == "none" or (work.mining == "some" and source.kind != "activation"):
        return False
    try:
        check_shape(16, *matrix.shape)
    except ShapeRefused:
        return False
    return True
