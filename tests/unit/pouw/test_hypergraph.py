"""The two-layer graph: encoding, commitments, and every way in which a stranger's bytes are refused."""

from dataclasses import replace

import numpy as np
import pytest

from chain.errors import Invalid
from pouw.backends.reference import NumpyBackend
from pouw.execution import (
    ConstantMissing,
    InputMissing,
    TensorBytesWrong,
    decode_tensors,
    encode_tensors,
    run,
    trace_root,
)
from pouw.graph_encoding import (
    BadName,
    GraphTruncated,
    OperatorsRootMismatch,
    TrailingBytes,
    UnknownOperator,
    UnknownTag,
    UnknownVersion,
    compute_graph_id,
    decode,
    encode,
    encode_operator,
    encode_top_layer,
    operators_root,
)
from pouw.hypergraph import (
    Constant,
    DuplicateName,
    GraphTooLarge,
    Hypergraph,
    MiningOperandNotConstant,
    Operator,
    OperatorOutput,
    Port,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
    Symbol,
    SymbolOutOfRange,
    UnknownSymbol,
    UnknownTensor,
    check_graph,
)
from pouw.operators.errors import WrongDtype, WrongShape
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT8, INT16, INT32, tensor_root

WEIGHTS = (np.arange(32 * 512).reshape(32, 512) % 127 - 63).astype(np.int8)
FACTORS = np.ones(512, dtype=np.int16)


def constant(array, dtype):
    return Constant(tensor_root(array), TensorType(dtype, array.shape))


def operator(name, label, *tensors, attributes=()):
    return Operator(RULE_BY_NAME[name], label, tensors, attributes)


def small_graph():
    factors, weights = constant(FACTORS, INT16), constant(WEIGHTS, INT8)
    first = Subgraph(
        "product",
        ("x",),
        (SubgraphOutput(Port("y", TensorType(INT32, ("S", 32))), 2),),
        (
            operator("row_maximum", "maximum", SubgraphInput(0), factors),
            operator("quantize", "quantize", SubgraphInput(0), OperatorOutput(0), factors, attributes=(63,)),
            operator("matmul", "matmul", OperatorOutput(1), weights, attributes=(1,)),
        ),
    )
    second = Subgraph(
        "sum",
        ("x", "x"),
        (SubgraphOutput(Port("z", TensorType(INT32, ("S", 512))), 0),),
        (operator("add", "add", SubgraphInput(0), SubgraphInput(1)),),
    )
    return Hypergraph(
        "small", (Symbol("S", 1, 64),), (Port("x", TensorType(INT16, ("S", 512))),), ("z", "y"), (first, second)
    )


CONSTANTS = {tensor_root(array): array for array in (WEIGHTS, FACTORS)}
X = (np.arange(3 * 512).reshape(3, 512) * 37 % 4001 - 2000).astype(np.int16)


def execute(graph=None, **options):
    return run(graph or small_graph(), CONSTANTS, {"x": X}, {"S": 3}, NumpyBackend(), **options)


def test_round_trip_and_id():
    graph = small_graph()
    assert decode(encode(graph)) == graph
    top = encode_top_layer(graph)
    assert compute_graph_id(top) != compute_graph_id(encode_top_layer(replace(graph, name="other")))
    assert encode(graph)[4 : 4 + len(top)] == top


def test_indices_macs_and_mining_operands():
    graph = small_graph()
    assert [index for index, _, _ in graph.operators()] == [0, 1, 2, 3]
    assert graph.macs_terms() == graph.mining_macs_terms() == ((32 * 512, (1, 0, 0, 0)),)
    assert graph.macs({"S": 5}) == 5 * 32 * 512
    (operand,) = graph.mining_operands()
    assert (operand.operator, operand.root, operand.k, operand.n) == (2, tensor_root(WEIGHTS), 512, 32)


def test_operators_root_binds_every_operator_and_its_place():
    subgraph = small_graph().subgraphs[0]
    root = operators_root(subgraph, ["S"])
    for i, one in enumerate(subgraph.operators):
        changed = (*subgraph.operators[:i], replace(one, label="changed"), *subgraph.operators[i + 1 :])
        assert operators_root(replace(subgraph, operators=changed), ["S"]) != root
    assert operators_root(replace(subgraph, operators=subgraph.operators[::-1]), ["S"]) != root
    assert len({encode_operator(one, ["S"]) for one in subgraph.operators}) == 3


def test_every_truncation_and_every_trailing_byte_is_refused():
    data = encode(small_graph())
    for size in range(len(data)):
        with pytest.raises(Invalid):
            decode(data[:size])
    with pytest.raises(TrailingBytes):
        decode(data + b"\0")
    longer = bytearray(data)
    longer[0] += 1
    with pytest.raises(Invalid):
        decode(bytes(longer))


def test_every_flipped_byte_is_refused_or_another_graph():
    data = encode(small_graph())
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        try:
            graph = decode(bytes(changed))
        except Invalid:
            continue
        assert encode(graph) == bytes(changed)
        assert compute_graph_id(encode_top_layer(graph)) != compute_graph_id(encode_top_layer(small_graph()))


def edited(old, new, graph=None):
    data = encode(graph or small_graph())
    assert data.count(old) >= 1
    return data.replace(old, new, 1)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", GraphTruncated),
        (b"\1\0\0\0\3", UnknownVersion),
        (b"\xff\xff\xff\xff", GraphTooLarge),
        (edited(b"\5small", b"\5sm\0ll"), BadName),
        (edited(b"\5small", b"\5SMALL"), BadName),
        (edited(b"\7maximum", b"\7maximus"), OperatorsRootMismatch),
        (edited(b"\3\7maximum", b"\xee\7maximum"), UnknownOperator),
        (edited(b"\1x\2\2", b"\1x\x09\2"), UnknownTag),
        (edited(b"\1x\2\2\1\0", b"\1x\2\2\7\0"), UnknownTag),
        (bytes(2**22 + 1), GraphTooLarge),
    ],
)
def test_bytes_that_are_no_graph(data, error):
    with pytest.raises(error):
        decode(data)


def with_operators(*operators):
    graph = small_graph()
    return replace(graph, subgraphs=(replace(graph.subgraphs[0], operators=operators), graph.subgraphs[1]))


ADD = operator("add", "a", SubgraphInput(0), SubgraphInput(0))
OUT = small_graph().subgraphs[0].outputs[0]


@pytest.mark.parametrize(
    ("graph", "error"),
    [
        (replace(small_graph(), symbols=(Symbol("S", 0, 5),)), SymbolOutOfRange),
        (replace(small_graph(), symbols=(Symbol("S", 1, 2**32 - 1),)), GraphTooLarge),
        (replace(small_graph(), symbols=(Symbol("T", 1, 5),)), UnknownSymbol),
        (replace(small_graph(), symbols=(Symbol("S", 1, 5),) * 2), DuplicateName),
        (replace(small_graph(), symbols=tuple(Symbol(f"s{i}", 1, 5) for i in range(5))), GraphTooLarge),
        (replace(small_graph(), inputs=()), UnknownTensor),
        (replace(small_graph(), outputs=("nothing",)), UnknownTensor),
        (replace(small_graph(), outputs=("y", "y")), DuplicateName),
        (replace(small_graph(), subgraphs=small_graph().subgraphs[:1] * 2), DuplicateName),
        (
            replace(
                small_graph(),
                subgraphs=small_graph().subgraphs[::-1],
                inputs=(Port("q", TensorType(INT16, ("S", 512))),),
            ),
            UnknownTensor,
        ),
        (with_operators(), GraphTooLarge),
        (with_operators(replace(ADD, tensors=(OperatorOutput(0), SubgraphInput(0)))), UnknownTensor),
        (with_operators(replace(ADD, tensors=(SubgraphInput(1), SubgraphInput(0)))), UnknownTensor),
        (with_operators(ADD), UnknownTensor),
        (with_operators(ADD, ADD, ADD), WrongShape),
        (with_operators(ADD, replace(ADD, tensors=(OperatorOutput(0), SubgraphInput(0)))), WrongDtype),
        (
            with_operators(
                operator("row_maximum", "m", SubgraphInput(0), constant(FACTORS, INT16)),
                operator(
                    "quantize", "q", SubgraphInput(0), OperatorOutput(0), constant(FACTORS, INT16), attributes=(63,)
                ),
                operator("matmul", "p", OperatorOutput(1), OperatorOutput(1), attributes=(1,)),
            ),
            MiningOperandNotConstant,
        ),
    ],
)
def test_graphs_that_are_not_well_formed(graph, error):
    if error is MiningOperandNotConstant:
        shape = TensorType(INT32, ("S", "S"))
        subgraph = replace(graph.subgraphs[0], outputs=(SubgraphOutput(Port("y", shape), 2),))
        graph = replace(graph, subgraphs=(subgraph, graph.subgraphs[1]))
    with pytest.raises(error):
        check_graph(graph)


def test_execution_keeps_what_is_asked():
    found = execute(keep="all")
    assert list(found.outputs) == ["z", "y"]
    assert len(found.operator_outputs) == 4
    assert execute().operator_outputs is None
    assert trace_root(found) == trace_root(execute())
    assert found.outputs["z"].tolist() == (2 * X.astype(np.int32)).tolist()


def test_the_hooks_see_and_replace():
    seen = []

    def hook(index, a, b_transposed):
        seen.append((index, a.shape, b_transposed is CONSTANTS[tensor_root(WEIGHTS)]))
        return a.astype(np.int32) @ b_transposed.astype(np.int32).T

    assert trace_root(execute(matmul_hook=hook)) == trace_root(execute())
    assert seen == [(2, (3, 512), True)]

    def fault(index, array):
        if index != 3:
            return array
        array = array.copy()
        array.reshape(-1)[0] ^= 1
        return array

    assert trace_root(execute(on_output=fault)) != trace_root(execute())


def test_what_does_not_fit_is_named():
    graph = small_graph()
    for inputs, symbols, constants, error in (
        ({}, {"S": 3}, CONSTANTS, InputMissing),
        ({"x": X, "w": X}, {"S": 3}, CONSTANTS, InputMissing),
        ({"x": X}, {"S": 4}, CONSTANTS, WrongShape),
        ({"x": X.astype(np.int32)}, {"S": 3}, CONSTANTS, WrongDtype),
        ({"x": X}, {}, CONSTANTS, UnknownSymbol),
        ({"x": X}, {"S": 65}, CONSTANTS, SymbolOutOfRange),
        ({"x": X}, {"S": 3}, {}, ConstantMissing),
    ):
        with pytest.raises(error):
            run(graph, constants, inputs, symbols, NumpyBackend())


def test_job_bytes_round_trip():
    types = [TensorType(INT16, ("S", 512)), TensorType(INT8, (32, 512))]
    data = encode_tensors([X, WEIGHTS])
    decoded = decode_tensors(types, {"S": 3}, data)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, (X, WEIGHTS), strict=True))
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(TensorBytesWrong):
            decode_tensors(types, {"S": 3}, wrong)
