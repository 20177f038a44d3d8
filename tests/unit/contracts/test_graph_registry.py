import pytest

from chain.hashing import H
from tests.unit.contracts.harness import (
    MACS,
    MINING_MACS,
    OPERANDS,
    SYSTEM,
    Network,
    Reverted,
    register,
    reverts,
    top_layer,
)


@pytest.fixture
def network():
    return Network()


def test_genesis_registers_a_graph_that_mines(network):
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


def test_four_symbols_and_the_largest_top_layer(network):
    symbols = [(b"width", 2, 9), (b"height", 0, 2**32 - 1), (b"S", 7, 7), (b"T", 1, 300)]
    layer = top_layer("render", symbols, b"")
    layer += bytes(24_576 - len(layer))
    graph = register(network, layer, "render", (), ((5, (4, 1, 0, 2)), (11, (0, 0, 0, 0))), ())
    assert network.GraphRegistry.symbols_of(graph) == tuple((low, high) for _, low, high in symbols)
    assert network.GraphRegistry.macs(graph, [3, 10, 7, 2]) == 5 * 3**4 * 10 * 2**2 + 11
    assert network.GraphRegistry.top_layer(graph) == layer


def test_512_operands_fit_the_gas_of_a_genesis_call(network):
    operands = [(i, i.to_bytes(32, "big"), 1536, 384) for i in range(1, 513)]
    graph = register(network, operands=operands)
    assert network.gas_used < 30_000_000
    assert network.GraphRegistry.operand(graph, 512) == ((512).to_bytes(32, "big"), 1536, 384)


def test_anyone_registers_a_graph_that_earns_no_credit(network):
    owner = network.account("owner")
    graph = register(network, operands=(), mining=(), sender=owner)
    assert network.GraphRegistry.owner_of(graph) == owner
    assert network.GraphRegistry.mining_macs(graph, [5]) == 0


@pytest.mark.parametrize(("operands", "mining"), [(OPERANDS, ()), ((), MINING_MACS)])
def test_only_genesis_registers_what_mines(network, operands, mining):
    with reverts("GraphRegistry: mining graphs are genesis only"):
        register(network, operands=operands, mining=mining, sender=network.account("owner"))


def test_refuses_a_graph_twice(network):
    register(network)
    with reverts("GraphRegistry: already registered"):
        register(network)


def test_refuses_another_hash(network):
    with reverts("GraphRegistry: not the top layer's hash"):
        network.GraphRegistry.register(H("graph", top_layer()), "minilm", top_layer(), (), MACS, (), sender=SYSTEM)


def test_refuses_another_name(network):
    for name in ("minilx", "mini", "minilm2", ""):
        with reverts("GraphRegistry: not the top layer's name"):
            register(network, top_layer("minilm"), name)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (b"", "GraphRegistry: top layer too short"),
        (b"\3\6minilm\0", "GraphRegistry: unknown encoding"),
        (top_layer(symbols=[(b"S", 1, 2)] * 5), "GraphRegistry: too many symbols"),
        (top_layer(symbols=[(b"S", 3, 2)]), "GraphRegistry: empty range of a symbol"),
    ],
)
def test_refuses_a_malformed_top_layer(network, layer, reason):
    with reverts(reason):
        register(network, layer, mining=(), macs=((1, (0, 0, 0, 0)),))


def test_refuses_a_truncated_top_layer(network):
    layer = top_layer(tail=b"")
    register(network, layer)
    for size in range(2, len(layer)):
        with pytest.raises(Reverted):
            register(network, layer[:size])


@pytest.mark.parametrize(
    ("operands", "reason"),
    [
        (OPERANDS[::-1], "GraphRegistry: operands not ascending"),
        (OPERANDS[:1] * 2, "GraphRegistry: operands not ascending"),
        (((3, bytes(32), 1, 1),), "GraphRegistry: empty operand"),
        (((3, b"\1" * 32, 0, 1),), "GraphRegistry: empty operand"),
        (((3, b"\1" * 32, 1, 0),), "GraphRegistry: empty operand"),
    ],
)
def test_refuses_bad_operands(network, operands, reason):
    with reverts(reason):
        register(network, operands=operands)


def test_accepts_an_operand_at_operator_zero(network):
    graph = register(network, operands=((0, b"\1" * 32, 2, 3), (1, b"\2" * 32, 2, 3)))
    assert network.GraphRegistry.operand(graph, 0) == (b"\1" * 32, 2, 3)


@pytest.mark.parametrize(
    ("macs", "reason"),
    [
        ((), "GraphRegistry: no macs"),
        (((1, (5, 0, 0, 0)),), "GraphRegistry: exponent too large"),
        (((1, (0, 1, 0, 0)),), "GraphRegistry: exponent of no symbol"),
        (((2**128 - 1, (1, 0, 0, 0)),), "GraphRegistry: too many macs"),
    ],
)
def test_refuses_bad_polynomials(network, macs, reason):
    with reverts(reason):
        register(network, macs=macs)


def test_refuses_a_polynomial_that_overflows(network):
    with pytest.raises(Reverted):
        register(network, top_layer(symbols=[(b"S", 1, 2**32 - 1)]), macs=((2**128 - 1, (4, 0, 0, 0)),) * 16)


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
    graph = register(network)
    with reverts("GraphRegistry: unknown graph"):
        network.GraphRegistry.macs(b"\7" * 32, [1])
    for unknown in ((graph, 4), (b"\7" * 32, 3)):
        with reverts("GraphRegistry: unknown operand"):
            network.GraphRegistry.operand(*unknown)
    assert not network.GraphRegistry.is_registered(b"\7" * 32)
    assert network.GraphRegistry.top_layer(b"\7" * 32) == b""
