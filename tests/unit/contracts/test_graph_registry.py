from pathlib import Path

import pytest

from pouw.graph_encoding import compute_graph_id, decode, encode, encode_top_layer
from precompiles.graph_facts import TOP_LAYER_BYTES_MAX
from precompiles.registry import PRECOMPILES
from tests.unit.contracts.harness import (
    MACS,
    MINING_MACS,
    OPERANDS,
    SYSTEM,
    Network,
    announcement,
    file_of,
    register,
    reverts,
    top_layer,
)

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "genesis" / "graphs").glob("*.graph"))
TRANSACTION_GAS = 2**24  # EIP-7825


@pytest.fixture
def network():
    return Network()


def real_network():
    """With the price of the native call, which the harness leaves out."""
    network = Network()
    network.precompiles = PRECOMPILES
    return network


def announce(network, graph, owner):
    network.number += 1
    network.GraphRegistry.announce(announcement(graph, owner), sender=owner)
    network.number += 1


def test_genesis_registers_a_graph(network):
    layer = top_layer()
    graph = register(network, layer)
    registry = network.GraphRegistry
    assert network.events() == [("Registered", {"graph": graph, "owner": SYSTEM, "name": "minilm"})]
    assert registry.is_registered(graph)
    assert registry.top_layer(graph) == layer
    assert registry.name_of(graph) == "minilm"
    assert registry.graph_count() == 1
    assert registry.graph_at(0) == graph
    assert registry.operand(graph, 9) == (b"\2" * 32, 1536, 384)
    assert registry.symbols_of(graph) == ((1, 128),)


def test_macs_are_polynomials_in_the_symbols(network):
    graph = register(network)
    assert network.GraphRegistry.macs(graph, [100]) == 1_000_000 * 100 + 768 * 100**2
    assert network.GraphRegistry.mining_macs(graph, [100]) == 600_000 * 100


def test_a_scan_is_credited_for_the_tokens_that_it_made(network):
    symbols = ((b"S", 1, 64), (b"T", 1, 32))
    scan = b"\2" + top_layer("decoder", symbols, tail=b"rest, limit: \1")[1:]
    graph = register(network, scan, "decoder", mining=((7, (1, 1, 0, 0)), (5, (0, 1, 0, 0))))
    registry = network.GraphRegistry
    assert registry.mining_macs(graph, [10, 20]) == 7 * 200 + 5 * 20
    for tokens, steps in ((1, 1), (19, 19), (20, 20), (21, 20), (2048, 20)):
        assert registry.credited_macs(graph, [10, 20], 4 * tokens) == 7 * 10 * steps + 5 * steps
    assert registry.credited_macs(graph, [10, 20], 3) == 0
    plain = register(network)
    assert registry.credited_macs(plain, [100], 4) == registry.mining_macs(plain, [100])


def test_four_symbols_and_the_largest_top_layer(network):
    symbols = [(b"width", 2, 9), (b"height", 0, 2**32 - 1), (b"S", 7, 7), (b"T", 1, 300)]
    layer = top_layer("render", symbols, b"")
    layer += bytes(TOP_LAYER_BYTES_MAX - len(layer))
    graph = register(network, layer, "render", (), ((5, (4, 1, 0, 2)), (11, (0, 0, 0, 0))), ())
    assert network.GraphRegistry.symbols_of(graph) == tuple((low, high) for _, low, high in symbols)
    assert network.GraphRegistry.macs(graph, [3, 10, 7, 2]) == 5 * 3**4 * 10 * 2**2 + 11
    assert network.GraphRegistry.top_layer(graph) == layer


def test_256_operands_fit_a_transaction(network):
    operands = [(i, i.to_bytes(32, "big"), 1536, 384) for i in range(1, 257)]
    graph = register(network, operands=operands)
    assert network.gas_used < TRANSACTION_GAS
    assert network.GraphRegistry.operand(graph, 256) == ((256).to_bytes(32, "big"), 1536, 384)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_anyone_registers_a_graph_that_mines_within_one_transaction(path):
    network = real_network()
    owner = network.account("owner")
    file = path.read_bytes()
    graph = decode(file)
    identity = compute_graph_id(encode_top_layer(graph))
    announce(network, identity, owner)
    assert network.GraphRegistry.register(file, sender=owner, gas=TRANSACTION_GAS) == identity
    registry = network.GraphRegistry
    assert registry.owner_of(identity) == owner
    assert registry.name_of(identity) == graph.name
    assert registry.top_layer(identity) == encode_top_layer(graph)
    assert registry.symbols_of(identity) == tuple((symbol.low, symbol.high) for symbol in graph.symbols)
    values = {symbol.name: symbol.high for symbol in graph.symbols}
    assert registry.macs(identity, list(values.values())) == graph.macs(values)
    mining = sum(
        coefficient * values[graph.symbols[0].name] ** exponents[0]
        for coefficient, exponents in graph.mining_macs_terms()
        if not any(exponents[1:])
    )
    if len(graph.symbols) == 1:
        assert registry.mining_macs(identity, list(values.values())) == mining
    for operand in graph.mining_operands():
        assert registry.operand(identity, operand.operator) == (operand.root, operand.k, operand.n)
    with reverts("GraphRegistry: already registered"):
        network.GraphRegistry.register(file, sender=owner)


@pytest.mark.parametrize("path", SHIPPED[:1], ids=lambda path: path.stem)
def test_refuses_what_is_no_graph(path):
    network = real_network()
    file = path.read_bytes()
    for wrong in (b"", b"\0" * 64, file[:-1], file + b"\0", encode(decode(file))[::-1]):
        with reverts("GraphRegistry: not a graph that can be registered"):
            network.GraphRegistry.register(wrong, sender=SYSTEM)


def test_refuses_a_graph_twice(network):
    register(network)
    with reverts("GraphRegistry: already registered"):
        register(network)


def test_refuses_a_graph_without_macs(network):
    with reverts("GraphRegistry: no macs"):
        register(network, macs=())


def test_whoever_sees_a_registration_cannot_come_first(network):
    owner, thief = network.account("owner"), network.account("thief")
    layer = top_layer()
    register(network, layer)  # makes its facts known to the harness
    network = Network()
    graph = compute_graph_id(layer)
    announce(network, graph, owner)
    network.GraphRegistry.announce(announcement(graph, thief), sender=thief)
    for _ in range(2):
        assert network.GraphRegistry.announced_at(announcement(graph, thief)) == network.number
        with reverts("GraphRegistry: not announced in an earlier block"):
            network.GraphRegistry.register(file_of(layer), sender=thief)
        # nor does an announcement of the owner's by somebody else make it younger
        network.GraphRegistry.announce(announcement(graph, owner), sender=thief)
    network.GraphRegistry.register(file_of(layer), sender=owner)
    assert network.GraphRegistry.owner_of(graph) == owner
    assert network.GraphRegistry.announced_at(announcement(graph, owner)) == network.number - 1


def made(network, label, parent=None, bps=None, owner=None):
    owner = owner or network.account(label)
    graph = register(network, top_layer(label), label, (), MACS, (), sender=owner)
    if bps is not None:
        network.GraphRegistry.set_lineage(graph, parent or bytes(32), bps, sender=owner)
    return graph


def test_royalties_reach_three_generations_and_three_tenths(network):
    graphs = [made(network, "a", None, 1500)]
    for label in "bcd":
        graphs.append(made(network, label, graphs[-1], 1500))
    owners = [network.account(label) for label in "abcd"]
    royalties = network.GraphRegistry.royalties
    assert royalties(graphs[0]) == ((owners[0],), (1500,))
    assert royalties(graphs[1]) == ((owners[1], owners[0]), (1500, 1500))
    assert royalties(graphs[3]) == ((owners[3], owners[2]), (1500, 1500))
    cheap = made(network, "e", graphs[3], 100)
    assert royalties(cheap) == ((network.account("e"), owners[3], owners[2]), (100, 1500, 1400))
    free = made(network, "f", cheap, 0)
    assert royalties(free) == ((network.account("e"), owners[3]), (100, 1500))


def test_a_graph_without_a_lineage_pays_nobody(network):
    graph = register(network)
    assert network.GraphRegistry.royalties(graph) == ((), ())
    assert network.GraphRegistry.royalties(b"\7" * 32) == ((), ())


def test_lineage_is_said_once_by_the_owner_of_something_earlier(network):
    owner = network.account("b")
    parent, graph = made(network, "a"), made(network, "b")
    later = made(network, "c")
    set_lineage = network.GraphRegistry.set_lineage
    with reverts("GraphRegistry: not the owner"):
        set_lineage(graph, parent, 1, sender=network.account("a"))
    with reverts("GraphRegistry: royalty too high"):
        set_lineage(graph, parent, 1501, sender=owner)
    for wrong in (later, graph, b"\7" * 32):
        with reverts("GraphRegistry: parent not registered earlier"):
            set_lineage(graph, wrong, 1, sender=owner)
    set_lineage(graph, parent, 7, sender=owner)
    assert network.events() == [("LineageSet", {"graph": graph, "parent": parent, "bps": 7})]
    assert network.GraphRegistry.parent_of(graph) == parent
    with reverts("GraphRegistry: lineage is set"):
        set_lineage(graph, parent, 8, sender=owner)


@pytest.mark.parametrize(
    ("symbols", "reason"),
    [
        ([], "GraphRegistry: wrong number of symbols"),
        ([1, 1], "GraphRegistry: wrong number of symbols"),
        ([0], "GraphRegistry: symbol out of bounds"),
        ([129], "GraphRegistry: symbol out of bounds"),
    ],
)
def test_refuses_symbols_that_the_graph_does_not_take(network, symbols, reason):
    graph = register(network)
    for view in (network.GraphRegistry.macs, network.GraphRegistry.mining_macs):
        with reverts(reason):
            view(graph, symbols)


def test_unknown_graphs_and_operands(network):
    graph = register(network, operands=OPERANDS, mining=MINING_MACS)
    with reverts("GraphRegistry: unknown graph"):
        network.GraphRegistry.macs(b"\7" * 32, [1])
    for unknown in ((graph, 4), (b"\7" * 32, 3)):
        with reverts("GraphRegistry: unknown operand"):
            network.GraphRegistry.operand(*unknown)
    assert not network.GraphRegistry.is_registered(b"\7" * 32)
    assert network.GraphRegistry.top_layer(b"\7" * 32) == b""
