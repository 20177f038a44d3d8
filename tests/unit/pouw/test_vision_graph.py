"""A small convolution network as a hypergraph: operators of three families in one graph, equal on all backends."""

import numpy as np
import pytest

from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.execution import run, trace_root
from pouw.graph_encoding import decode, encode
from pouw.hypergraph import (
    Constant,
    Hypergraph,
    Operator,
    OperatorOutput,
    Port,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
    check_graph,
)
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT16, UINT8, dtype_by_name, tensor_root

SIDE, KERNELS, CLASSES = 12, 8, 5


def build(seed=1):
    """uint8[12, 12, 1] -> 3 x 3 convolution, ReLU, 2 x 2 maximum, fully connected -> int16[1, 5]."""
    random = np.random.default_rng(seed)
    constants, operators = {}, []

    def constant(array):
        root = tensor_root(array)
        constants[root] = array
        return Constant(root, TensorType(dtype_by_name(array.dtype.name), array.shape))

    def add(name, *tensors, attributes=()):
        operators.append(Operator(RULE_BY_NAME[name], f"{name}.{len(operators)}", tensors, attributes))
        return OperatorOutput(len(operators) - 1)

    def linear(x, width, count):
        factors = constant(np.ones(width, dtype=np.int16))
        maximum = add("row_maximum", x, factors)
        q = add("quantize", x, maximum, factors, attributes=(127,))
        weights = constant(random.integers(-127, 128, (count, width)).astype(np.int8))
        product = add("matmul", q, weights, attributes=(0,))
        multipliers = constant(np.full(count, 1500, dtype=np.int32))
        bias = constant(random.integers(-200, 200, count).astype(np.int32))
        return add("rescale", product, maximum, multipliers, bias, attributes=(28, 2**15 - 1))

    one = np.ones(1, dtype=np.int32)
    pixels = add("normalize_pixels", SubgraphInput(0), constant(one * 4096), constant(one * -(2**19)), attributes=(10,))
    squares = add("patches", pixels, attributes=(3, 1, 1))
    features = add("rectify", linear(squares, 9, KERNELS))
    grid = add("reshape", features, attributes=(SIDE, SIDE, KERNELS))
    pooled = add("max_pool", grid, attributes=(2, 2))
    flat = add("reshape", pooled, attributes=(1, SIDE * SIDE // 4 * KERNELS, 0))
    scores = linear(flat, SIDE * SIDE // 4 * KERNELS, CLASSES)
    output = SubgraphOutput(Port("scores", TensorType(INT16, (1, CLASSES))), scores.index)
    image = Port("image", TensorType(UINT8, (SIDE, SIDE, 1)))
    subgraph = Subgraph("network", ("image",), (output,), tuple(operators))
    graph = Hypergraph("tiny-cnn", (), (image,), ("scores",), (subgraph,))
    check_graph(graph)
    return graph, constants


def test_a_convolution_network_runs_alike_on_all_backends():
    graph, constants = build()
    assert decode(encode(graph)) == graph
    roots, scores = set(), set()
    for seed in range(3):
        image = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 1)).astype(np.uint8)
        found = set()
        for name in ("numpy", "native"):
            try:
                backend = load_backend(name)
            except BackendUnavailable:
                continue
            execution = run(graph, constants, {"image": image}, {}, backend)
            found.add(trace_root(execution))
        assert len(found) == 1
        roots |= found
        scores.add(execution.outputs["scores"].tobytes())
    assert len(roots) == len(scores) == 3


def test_the_convolution_is_close_to_floats():
    graph, constants = build()
    arrays = list(constants.values())
    weights = next(array for array in arrays if array.dtype == np.int8 and array.shape == (KERNELS, 9))
    bias = next(array for array in arrays if array.dtype == np.int32 and array.shape == (KERNELS,) and array.min() < 0)
    image = np.random.default_rng(9).integers(0, 256, (SIDE, SIDE, 1)).astype(np.uint8)
    execution = run(graph, constants, {"image": image}, {}, load_backend("numpy"), keep="all")
    grid = next(output for output in execution.operator_outputs if output.shape == (SIDE, SIDE, KERNELS))
    padded = np.pad((image[:, :, 0].astype(float) * 4 - 512), 1)
    for i, j in ((0, 0), (5, 7), (11, 11)):
        window = padded[i : i + 3, j : j + 3].reshape(-1)
        expected = np.maximum(0, weights @ window * 127 * 1500 / 2**28 + bias)
        # 8 bits of a row's largest entry, over nine products
        assert grid[i, j] == pytest.approx(expected, abs=2 + np.abs(window).max() * 9 * 127 * 1500 / 2**28)
