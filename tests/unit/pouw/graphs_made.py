"""Small graphs that tests register or refuse."""

from pouw.hypergraph import (
    Constant,
    Hypergraph,
    Operator,
    OperatorOutput,
    Port,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
    Symbol,
)
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.scan import History, Scan
from pouw.trace import INT8, INT16, INT32


def chain(name, count, given, made, attributes=(), arity=1, high=4, label="a"):
    """One operator, `count` times, always on the subgraph's input."""
    operator = Operator(RULE_BY_NAME[name], label, (SubgraphInput(0),) * arity, attributes)
    outputs = (SubgraphOutput(Port("y", made), count - 1),)
    subgraph = Subgraph("s", ("x",), outputs, (operator,) * count)
    return Hypergraph("g", (Symbol("S", 1, high),), (Port("x", given),), ("y",), (subgraph,))


def wide_graph(high=32_769):
    """Of which one element depends on more than 64 KiB at the largest S."""
    given, made = TensorType(INT16, ("S", 2)), TensorType(INT32, (2,))
    return chain("mean_pool", 1, given, made, (8,), high=high, label="a" * 40)


def scan_graph(limit):
    """A decoding loop of 2 columns; the attention of its last step reads S + T - 1 rows."""
    rule = RULE_BY_NAME
    table = Constant(bytes(32), TensorType(INT16, (5, 2)))
    scores = rule["causal_softmax"]
    weights = Constant(bytes([1]) * 32, TensorType(INT16, (1024,)))
    first = Subgraph(
        "embedding",
        ("ids",),
        (SubgraphOutput(Port("k", TensorType(INT16, ("R", 2))), 0),),
        (Operator(rule["embedding"], "a" * 40, (SubgraphInput(0), table), ()),),
    )
    second = Subgraph(
        "attention",
        ("k", History("k")),
        (SubgraphOutput(Port("next", TensorType(INT32, (1,))), 4),),
        (
            Operator(rule["causal_scores"], "scores", (SubgraphInput(0), SubgraphInput(1)), (1, 1, 2, 1)),
            Operator(scores, "softmax", (OperatorOutput(0), weights), ()),
            Operator(rule["widen"], "widen", (SubgraphInput(0),), (1,)),
            Operator(rule["last_row"], "last", (OperatorOutput(2),), ()),
            Operator(rule["argmax"], "argmax", (OperatorOutput(3),), ()),
        ),
    )
    symbols = (Symbol("S", 1, 8), Symbol("T", 1, limit))
    inputs = (Port("ids", TensorType(INT32, ("S",))),)
    return Hypergraph("loop", symbols, inputs, ("next",), (first, second), Scan("ids", "next", -1, "T"))


def deep_graph(layers, name="deep", products=7, others=23, label="a" * 44):
    """As many parts and bytes as a decoder of so many layers: what each layer reads is the graph's input."""
    rule = RULE_BY_NAME
    given, row = TensorType(INT8, ("S", 64)), TensorType(INT32, ("S", 32))
    subgraphs = []
    for layer in range(layers):
        roots = [(1 + layer * products + place).to_bytes(32, "big") for place in range(products)]
        weights = [Constant(root, TensorType(INT8, (32, 64))) for root in roots]
        steps = [Operator(rule["matmul"], label, (SubgraphInput(0), constant), (1,)) for constant in weights]
        steps += [Operator(rule["rectify"], label, (SubgraphInput(1),), ())] * others
        outputs = (SubgraphOutput(Port(f"y{layer}", row), products - 1),)
        subgraphs.append(Subgraph(f"layer{layer}", ("x", "z"), outputs, tuple(steps)))
    symbols = (Symbol("S", 1, 128),)
    inputs = (Port("x", given), Port("z", TensorType(INT16, ("S",))))
    return Hypergraph(name, symbols, inputs, (f"y{layers - 1}",), tuple(subgraphs))
