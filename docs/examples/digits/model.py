"""The digit network as a hypergraph: 64 pixels -> 32 -> 10 scores, all integers.

A layer is: largest value of the row, quantise by it, product, rescale. The hidden layer's bend is the rescale's clamp.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from pouw.graph_encoding import compute_graph_id, encode, encode_top_layer
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
from pouw.operators.types import Tensor, TensorType
from pouw.trace import INT16, dtype_by_name, tensor_root
from precompiles.calls import encode_model

WEIGHTS = Path(__file__).parent / "digits.safetensors"
EXAMPLES = Path(__file__).parent / "examples.json"  # one unseen image of each digit
Q_MAX = 127
SHIFT = 20
HIDDEN_LIMIT = 4096  # 1.0 in the hidden layer: the clamp is its activation
SCORE_LIMIT = 32_767
LAYERS = (("hidden", HIDDEN_LIMIT), ("scores", SCORE_LIMIT))


def load_weights() -> dict[str, Tensor]:
    """Return the network's constants by name."""
    return load_file(WEIGHTS)


def build(weights: dict[str, Tensor]) -> tuple[Hypergraph, dict[bytes, Tensor]]:
    """Return the checked graph and its constants by root."""
    constants: dict[bytes, Tensor] = {}

    def constant(name: str) -> Constant:
        array = weights[name]
        root = tensor_root(array)
        constants[root] = array
        return Constant(root, TensorType(dtype_by_name(array.dtype.name), array.shape))

    def operator(name: str, label: str, tensors: tuple, attributes: tuple[int, ...] = ()) -> Operator:
        return Operator(RULE_BY_NAME[name], f"{label}.{name}", tensors, attributes)

    operators: list[Operator] = []
    x: SubgraphInput | OperatorOutput = SubgraphInput(0)
    for layer, limit in LAYERS:
        at = len(operators)
        factors = constant(f"{layer}.factors")
        maximum, quantized, product = (OperatorOutput(at + number) for number in range(3))
        operators += [
            operator("row_maximum", layer, (x, factors)),
            operator("quantize", layer, (x, maximum, factors), (Q_MAX,)),
            operator("matmul", layer, (quantized, constant(f"{layer}.weight")), (0,)),
            operator(
                "rescale",
                layer,
                (product, maximum, constant(f"{layer}.multipliers"), constant(f"{layer}.bias")),
                (SHIFT, limit),
            ),
        ]
        x = OperatorOutput(at + 3)
    scores = Port("scores", TensorType(INT16, (1, 10)))
    graph = Hypergraph(
        name="digits",
        symbols=(),
        inputs=(Port("image", TensorType(INT16, (1, 64))),),
        outputs=("scores",),
        subgraphs=(Subgraph("network", ("image",), (SubgraphOutput(scores, len(operators) - 1),), tuple(operators)),),
    )
    check_graph(graph)
    return graph, constants


def graph_id(graph: Hypergraph) -> bytes:
    """Return the id that contracts name the network by."""
    return compute_graph_id(encode_top_layer(graph))


def model_bytes(graph: Hypergraph, constants: dict[bytes, Tensor]) -> bytes:
    """Return what a contract keeps: the graph and its constants, as `run_graph` reads them."""
    return encode_model((), encode(graph), [constants[root] for root in graph.constants()])


def data_contract(model: bytes) -> bytes:
    """Return initcode that leaves STOP and the model as the code of a contract, where others read it."""
    code = b"\0" + model
    # PUSH2 size, DUP1, PUSH1 offset, PUSH0, CODECOPY, PUSH0, RETURN
    return b"\x61" + len(code).to_bytes(2, "big") + bytes.fromhex("80600a5f395ff3") + code


def image_tensor(pixels: np.ndarray) -> Tensor:
    """Return 64 pixels of 0 to 16 as the graph's input."""
    return np.asarray(pixels, dtype=np.int16).reshape(1, 64)
