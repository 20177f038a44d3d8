"""A graph that is too large for a transaction comes in parts: what is refused, who owns it, what it costs."""

from itertools import pairwise

import pytest
from eth_abi import encode as encode_abi

from chain.hashing import H
from hyperdust.registration_parts import TRANSACTION_GAS, SubgraphTooLarge, check_parts, cut
from pouw.graph_encoding import compute_graph_id, encode, encode_top_layer
from precompiles.graph_facts import TYPES
from precompiles.registry import PRECOMPILES
from tests.unit.contracts.harness import INVENTED, NOBODY, Network, Reverted, announcement, file_of, reverts, top_layer
from tests.unit.pouw.graphs_made import deep_graph

LAYERS = 56
DEEP = deep_graph(LAYERS)
IDENTITY = compute_graph_id(encode_top_layer(DEEP))
PARTS = cut(DEEP)


def network_with(*owners, identity=IDENTITY):
    """With the price of the native call; the graph was announced by each of the owners."""
    network = Network()
    network.precompiles = PRECOMPILES
    network.number = 1
    for owner in owners:
        network.GraphRegistry.announce(announcement(identity, owner), sender=owner)
    network.number = 2
    return network


def bring(network, part, sender, identity=IDENTITY):
    """Send one part with the gas that its plan says; how much of it was used."""
    registry = network.GraphRegistry
    if part.first == 0:
        assert registry.register(part.data, sender=sender, gas=part.gas) == identity
    else:
        registry.add(identity, part.first, part.data, sender=sender, gas=part.gas)
    return network.gas_used


@pytest.fixture
def network():
    return network_with(Network().account("me"))


@pytest.fixture
def me(network):
    return network.account("me")


@pytest.mark.parametrize("layers", [32, 80])
def test_a_deep_graph_is_registered_whatever_it_takes(layers):
    graph = deep_graph(layers)
    identity = compute_graph_id(encode_top_layer(graph))
    me = Network().account("me")
    network = network_with(me, identity=identity)
    registry = network.GraphRegistry
    parts = cut(graph)
    assert len(parts) > 1
    for part in parts:
        assert not registry.is_registered(identity)
        used = bring(network, part, me, identity)
        assert 0.85 * part.gas < used <= part.gas <= TRANSACTION_GAS
    assert network.events() == [("Registered", {"graph": identity, "owner": me, "name": "deep"})]
    assert registry.owner_of(identity) == me
    assert (registry.graph_count(), registry.graph_at(0)) == (1, identity)
    assert registry.top_layer(identity) == encode_top_layer(graph)
    assert len(graph.mining_operands()) == 7 * layers
    for operand in graph.mining_operands():
        assert registry.operand(identity, operand.operator) == (operand.root, operand.k, operand.n)
    for size in (1, 77, 128):
        assert registry.macs(identity, [size]) == graph.macs({"S": size})
        assert registry.mining_macs(identity, [size]) == graph.macs({"S": size})
    registry.set_lineage(identity, bytes(32), 100, sender=me)
    assert registry.royalties(identity) == ((me,), (100,))


def test_the_parts_are_the_file():
    beginning, *rest = [part.data for part in PARTS]
    assert beginning + b"".join(rest) == encode(DEEP)
    assert [part.first for part in PARTS[1:]] == [part.end for part in PARTS[:-1]]
    assert PARTS[-1].end == LAYERS
    check_parts(DEEP, PARTS)
    assert cut(DEEP, PARTS[1].first) == PARTS[1:]


def test_a_subgraph_is_never_cut():
    with pytest.raises(SubgraphTooLarge, match="subgraph layer0 does not fit"):
        cut(deep_graph(1, others=1500))
    with pytest.raises(SubgraphTooLarge, match="257 mining operands"):
        cut(deep_graph(2, products=257, others=1, label="a"))


def test_before_its_last_part_a_graph_is_not_there(network, me):
    registry = network.GraphRegistry
    for part in PARTS[:-1]:
        bring(network, part, me)
        events = network.events()
        assert events == [("Added", {"graph": IDENTITY, "end": part.end, "subgraphs": LAYERS})]
        assert (registry.next_subgraph(IDENTITY), registry.begun_by(IDENTITY)) == (part.end, me)
        assert (registry.owner_of(IDENTITY), registry.graph_count()) == (NOBODY, 0)
        for view in (registry.macs, registry.mining_macs):
            with reverts("GraphRegistry: unknown graph"):
                view(IDENTITY, [1])
        with reverts("GraphRegistry: unknown operand"):
            registry.operand(IDENTITY, 0)
        with reverts("GraphRegistry: not the owner"):
            registry.set_lineage(IDENTITY, bytes(32), 1, sender=me)
    bring(network, PARTS[-1], me)
    assert registry.operand(IDENTITY, 0) == ((1).to_bytes(32, "big"), 64, 32)


def test_parts_come_once_and_in_order(network, me):
    registry = network.GraphRegistry
    with reverts("GraphRegistry: not begun"):
        registry.add(IDENTITY, 0, PARTS[1].data, sender=me)
    bring(network, PARTS[0], me)
    for again in (PARTS[2], PARTS[0]):
        with reverts("GraphRegistry: not the next part"):
            registry.add(IDENTITY, again.first, again.data, sender=me)
    with reverts("GraphRegistry: not a graph that can be registered"):
        registry.add(IDENTITY, PARTS[1].first, PARTS[2].data, sender=me)
    with reverts("GraphRegistry: already begun"):
        registry.register(PARTS[0].data, sender=me)
    bring(network, PARTS[1], me)
    with reverts("GraphRegistry: not the next part"):
        registry.add(IDENTITY, PARTS[1].first, PARTS[1].data, sender=me)
    for part in PARTS[2:]:
        bring(network, part, me)
    with reverts("GraphRegistry: already registered"):
        registry.add(IDENTITY, LAYERS, b"", sender=me)
    with reverts("GraphRegistry: already registered"):
        registry.register(PARTS[0].data, sender=me)


def test_a_part_is_whole_subgraphs_and_nothing_else(network, me):
    registry, part = network.GraphRegistry, PARTS[1]
    one = len(part.data) // (part.end - part.first)  # layers have one size
    with reverts("GraphRegistry: not a graph that can be registered"):
        registry.register(PARTS[0].data[:-1], sender=me)
    bring(network, PARTS[0], me)
    changed = bytearray(part.data)
    changed[10] ^= 1
    for wrong in (part.data[:-1], part.data[1:], part.data + b"\0", part.data[: one + one // 2], bytes(changed)):
        with reverts("GraphRegistry: not a graph that can be registered"):
            registry.add(IDENTITY, part.first, wrong, sender=me)
    with reverts("GraphRegistry: an empty part"):
        registry.add(IDENTITY, part.first, b"", sender=me)
    with pytest.raises(Reverted):
        registry.add(IDENTITY, part.first, bytes(65_537), sender=me)
    registry.add(IDENTITY, part.first, part.data[:one], sender=me)  # smaller parts are parts
    assert registry.next_subgraph(IDENTITY) == part.first + 1


def test_it_may_begin_with_its_top_layer_alone(network, me):
    registry, layer = network.GraphRegistry, encode_top_layer(DEEP)
    registry.register(file_of(layer), sender=me)
    assert (registry.next_subgraph(IDENTITY), registry.top_layer(IDENTITY)) == (0, layer)
    for part in cut(DEEP):
        registry.add(IDENTITY, part.first, part.data[4 + len(layer) :] if part.first == 0 else part.data, sender=me)
    assert registry.owner_of(IDENTITY) == me


def test_anybody_brings_the_rest_and_who_began_it_owns_it():
    me, you, thief = (Network().account(label) for label in ("me", "you", "thief"))
    network = network_with(me, thief)
    bring(network, PARTS[0], me)
    with reverts("GraphRegistry: already begun"):
        network.GraphRegistry.register(PARTS[0].data, sender=thief)
    for part, sender in zip(PARTS[1:], (you, thief, me) * len(PARTS), strict=False):
        bring(network, part, sender)
    assert network.GraphRegistry.owner_of(IDENTITY) == me


def test_nobody_begins_what_he_did_not_announce():
    me, thief = (Network().account(label) for label in ("me", "thief"))
    network = network_with(me)
    network.GraphRegistry.announce(announcement(IDENTITY, thief), sender=thief)
    with reverts("GraphRegistry: not announced in an earlier block"):
        network.GraphRegistry.register(PARTS[0].data, sender=thief)
    bring(network, PARTS[0], me)


def test_one_graph_left_unfinished_is_in_nobodys_way(network, me):
    bring(network, PARTS[0], me)
    other = deep_graph(2, name="other")
    identity = compute_graph_id(encode_top_layer(other))
    network.GraphRegistry.announce(announcement(identity, me), sender=me)
    network.number += 1
    (part,) = cut(other)
    bring(network, part, me, identity)
    assert network.GraphRegistry.graph_at(0) == identity


def invented(network, parts):
    """Bring parts of which the native call says what a test wants: (MACs of the part), one subgraph each."""
    network.number = 1
    layer = top_layer("invented")
    graph = H("hypergraph", layer)
    for number, macs in enumerate(parts):
        first = number.to_bytes(2, "big") + file_of(layer)
        facts = (graph, "invented", ((1, 128),), number + 1, len(parts), (), macs, macs)
        INVENTED[first + bytes([number] * (number > 0))] = encode_abi(TYPES, facts)
    sender = network.account("inventor")
    network.GraphRegistry.announce(announcement(graph, sender), sender=sender)
    network.number += 1
    network.GraphRegistry.register(file_of(layer), sender=sender)
    for number in range(1, len(parts)):
        network.GraphRegistry.add(graph, number, bytes([number]), sender=sender)
    return graph


def test_macs_of_all_parts_are_one_sum():
    network = Network()
    first, second = ((5, (1, 0, 0, 0)), (7, (0, 0, 0, 0))), ((11, (0, 0, 0, 0)), (1, (2, 0, 0, 0)))
    graph = invented(network, [first, (), second, ((2, (1, 0, 0, 0)),)])
    assert network.GraphRegistry.macs(graph, [10]) == (5 + 2) * 10 + 7 + 11 + 100
    assert network.GraphRegistry.mining_macs(graph, [10]) == (5 + 2) * 10 + 7 + 11 + 100


def test_their_sum_is_bounded_and_not_nothing():
    half = ((2**127 // 128, (1, 0, 0, 0)),)
    with reverts("GraphRegistry: too many macs"):
        invented(Network(), [half, half])
    most = ((2**127 // 128 - 1, (1, 0, 0, 0)),)
    assert invented(Network(), [half, most])
    terms = [(1, (a, b, 0, 0)) for a in range(4) for b in range(5)]
    assert invented(Network(), [terms[:10], terms[10:16], terms[3:9]])
    with reverts("GraphRegistry: too many terms"):
        invented(Network(), [terms[:10], terms[10:17]])
    with reverts("GraphRegistry: no macs"):
        invented(Network(), [(), ()])


def test_parts_of_one_graph_say_the_same_of_it():
    """The top layer is the graph's, whichever part stands behind it: a part of another graph is refused."""
    me = Network().account("me")
    network = network_with(me)
    bring(network, PARTS[0], me)
    other = cut(deep_graph(LAYERS, name="deeq", label="b" * 44))
    for one, two in pairwise(other):
        assert one.end == two.first
    with reverts("GraphRegistry: not a graph that can be registered"):
        network.GraphRegistry.add(IDENTITY, PARTS[1].first, other[1].data, sender=me)
