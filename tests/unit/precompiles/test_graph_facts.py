"""0x…4809: what it says of a graph is true, and nothing else gets an answer."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eth_abi import decode as decode_abi

from chain.engine import BlockEnvironment, CallMessage, call
from pouw.graph_encoding import compute_graph_id, decode, encode, encode_operator, encode_top_layer
from pouw.hypergraph import (
    Constant,
    DuplicateName,
    GraphTooLarge,
    Hypergraph,
    Operator,
    Port,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
    UnknownTensor,
)
from pouw.operators.elements import LeafTooLarge
from pouw.operators.errors import WrongShape
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT8, INT16, INT32
from precompiles.graph_facts import (
    FILE_BYTES_MAX,
    TOP_LAYER_BYTES_MAX,
    TYPES,
    TooManyMacs,
    TooManyParts,
    check_polynomial,
    graph_facts,
    read_facts,
)
from precompiles.registry import GRAPH_FACTS, PRECOMPILES
from tests.unit.pouw.graphs_made import chain, deep_graph, scan_graph, wide_graph

ROOT = Path(__file__).resolve().parents[3]
FILES = {path.stem: path.read_bytes() for path in sorted((ROOT / "genesis" / "graphs").glob("*.graph"))}
ROW = TensorType(INT16, ("S",))


@pytest.mark.parametrize("name", FILES)
def test_facts_are_those_of_the_graph(name):
    graph = decode(FILES[name])
    facts = decode_abi(TYPES, graph_facts(bytes(2) + FILES[name]))
    identity, called, symbols, end, count, operands, macs, mining_macs = facts
    assert called == graph.name
    assert end == count == len(graph.subgraphs)
    assert identity == compute_graph_id(encode_top_layer(graph))
    assert symbols == tuple((symbol.low, symbol.high) for symbol in graph.symbols)
    assert operands == tuple((each.operator, each.root, each.k, each.n) for each in graph.mining_operands())
    assert (macs, mining_macs) == (graph.macs_terms(), graph.mining_macs_terms())


@pytest.mark.parametrize("name", FILES)
def test_bytes_that_are_no_graph_get_no_answer(name):
    file = FILES[name]
    assert graph_facts(b"") is None
    assert graph_facts(file) is None
    file = bytes(2) + file
    assert graph_facts(file[:-1]) is None
    assert graph_facts(file + b"\0") is None
    random = np.random.default_rng(7)
    for _ in range(150):
        wrong = bytearray(file)
        wrong[random.integers(len(file))] ^= 1 << random.integers(8)
        facts = graph_facts(bytes(wrong))  # another graph at most: never an exception
        assert facts is None or facts[:32] != graph_facts(file)[:32]
        graph_facts(random.bytes(int(random.integers(400))))


def test_a_file_has_a_largest_size_and_few_operators_for_it():
    label = "a" * 23
    most = encode(chain("rectify", 3900, ROW, ROW, label=label))
    assert 32 * 3900 <= len(most) < FILE_BYTES_MAX
    assert read_facts(most)
    with pytest.raises(GraphTooLarge):
        read_facts(encode(chain("rectify", 3900, ROW, ROW, label=label[1:])))
    with pytest.raises(TooManyParts):
        read_facts(bytes(FILE_BYTES_MAX + 1))


def test_an_element_is_bounded_at_the_largest_size_of_each_symbol():
    # a column is opened with the chunks that it lies in: of two int16 the whole tensor
    assert read_facts(encode(wide_graph(16_384)))
    with pytest.raises(LeafTooLarge):
        read_facts(encode(wide_graph(16_385)))


def test_within_a_scan_it_is_bounded_at_the_last_step():
    # a row of scores int32[H] and a table int16[1024], with H = 8 + T - 1
    assert read_facts(encode(scan_graph(15_865)))
    with pytest.raises(LeafTooLarge):
        read_facts(encode(scan_graph(15_866)))


def products(count, mining, n=4, k=32, high=4):
    """One product after the other, on the same rows."""
    steps = tuple(
        Operator(
            RULE_BY_NAME["matmul"],
            "product",
            (SubgraphInput(0), Constant(number.to_bytes(32, "big"), TensorType(INT8, (n, k)))),
            (int(number < mining),),
        )
        for number in range(count)
    )
    given = Port("x", TensorType(INT8, (high, k)))
    outputs = (SubgraphOutput(Port("y", TensorType(INT32, (high, n))), 0),)
    return encode(Hypergraph("products", (), (given,), ("y",), (Subgraph("s", ("x",), outputs, steps),)))


def part_of(graph, first, end):
    """A part of a graph file, as the registry gives it to the native call."""
    names = [symbol.name for symbol in graph.symbols]
    steps = [step for subgraph in graph.subgraphs[first:end] for step in subgraph.operators]
    layer = encode_top_layer(graph)
    return len(layer).to_bytes(4, "little") + layer + b"".join(encode_operator(step, names) for step in steps)


@pytest.mark.parametrize("name", FILES)
def test_parts_say_together_what_the_file_says(name):
    graph = decode(FILES[name])
    count = len(graph.subgraphs)
    operands, macs, mining_macs = [], Counter(), Counter()
    for first in range(count):
        part = part_of(graph, first, first + 1)
        facts = decode_abi(TYPES, graph_facts(first.to_bytes(2, "big") + part))
        assert facts[:3] == decode_abi(TYPES, read_facts(FILES[name]))[:3]
        assert facts[3:5] == (first + 1, count)
        operands += facts[5]
        for found, terms in ((macs, facts[6]), (mining_macs, facts[7])):
            for coefficient, exponents in terms:
                found[exponents] += coefficient
        alike = [part_of(graph, other, other + 1) == part for other in range(count)]
        for other in range(count + 2):
            if other >= count or not alike[other]:
                assert graph_facts(other.to_bytes(2, "big") + part) is None
    assert tuple(operands) == tuple((each.operator, each.root, each.k, each.n) for each in graph.mining_operands())
    assert sorted((exponents, value) for value, exponents in graph.macs_terms()) == sorted(macs.items())
    assert sorted((exponents, value) for value, exponents in graph.mining_macs_terms()) == sorted(mining_macs.items())


def test_a_top_layer_alone_is_checked_whatever_its_operators_are():
    graph = decode(FILES["minilm"])
    assert decode_abi(TYPES, read_facts(part_of(graph, 0, 0)))[3:] == (0, len(graph.subgraphs), (), (), ())
    first, *others = graph.subgraphs
    unknown = replace(first, inputs=("nothing",))
    with pytest.raises(UnknownTensor):
        read_facts(part_of(replace(graph, subgraphs=(unknown, *others)), 0, 0))
    twice = replace(graph, subgraphs=(first, *others, others[-1]))
    with pytest.raises(DuplicateName):
        read_facts(part_of(twice, 0, 0))
    read_facts(part_of(graph, 0, 1))
    last = others[-1]
    port = replace(last.outputs[0].port, type=TensorType(INT16, ("S", 77)))
    wrong = replace(
        graph, subgraphs=(first, *others[:-1], replace(last, outputs=(replace(last.outputs[0], port=port),)))
    )
    read_facts(part_of(wrong, 0, len(others)))
    with pytest.raises(WrongShape):
        read_facts(part_of(wrong, len(others), len(others) + 1), len(others))
    with pytest.raises(GraphTooLarge):
        read_facts(part_of(graph, 0, 0), len(others) + 2)


def test_a_top_layer_leaves_room_for_the_code_that_keeps_it():
    short = deep_graph(256, products=1, others=0)

    def long_graph(size):
        left, subgraphs = size - len(encode_top_layer(short)), []
        for subgraph in short.subgraphs:
            more = min(left, 40)
            subgraphs.append(replace(subgraph, name=subgraph.name + "x" * more))
            left -= more
        return replace(short, subgraphs=tuple(subgraphs))

    assert read_facts(part_of(long_graph(TOP_LAYER_BYTES_MAX), 0, 2))
    with pytest.raises(TooManyParts, match="top layer"):
        read_facts(part_of(long_graph(TOP_LAYER_BYTES_MAX + 1), 0, 2))


def test_mining_operands_are_bounded():
    assert len(decode_abi(TYPES, read_facts(products(520, 256)))[5]) == 256
    with pytest.raises(TooManyParts):
        read_facts(products(520, 257))


def test_macs_stay_below_2_to_the_128():
    check_polynomial(((2**128 - 1, (0, 0, 0, 0)),), [])
    for terms, error in (
        (((2**128 - 1, (0, 0, 0, 0)), (1, (0, 0, 0, 0))), TooManyMacs),
        (((2**126, (1, 0, 0, 0)),), TooManyMacs),
        (((1, (5, 0, 0, 0)),), TooManyParts),
        (((1, (0, 0, 0, 0)),) * 17, TooManyParts),
    ):
        with pytest.raises(error):
            check_polynomial(terms, [4])


def test_the_call_costs_what_the_table_says():
    environment = BlockEnvironment(
        chain_id=7, fork="Osaka", number=1, timestamp=1, coinbase=bytes(20), gas_limit=30_000_000, base_fee=0,
        prev_randao=bytes(32), parent_hash=None, parent_beacon_root=None,
    )  # fmt: skip

    def ask(data, gas):
        message = CallMessage(b"\x0a" * 20, GRAPH_FACTS, data, gas=gas)
        return call(environment, message, lambda keys: [None] * len(keys), precompiles=PRECOMPILES)

    file = bytes(2) + FILES["render_island"]
    price = 200_000 + 6_000 * -(-len(file) // 32)
    calldata = 21_000 + sum(16 if byte else 4 for byte in file)
    done = ask(file, 10_000_000)
    assert (done.success, done.output, done.gas_used) == (True, graph_facts(file), calldata + price)
    assert not ask(file, calldata + price - 1).success
    refused = ask(file[:-1], 10_000_000)
    assert (refused.success, refused.output, refused.gas_used) == (False, b"", 10_000_000)
