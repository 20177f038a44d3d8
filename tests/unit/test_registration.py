"""Putting a graph on the chain: announced, registered, its lineage said; what is refused before anything is sent."""

from types import SimpleNamespace

import pytest

from hyperdust.contracts_abi import encode_call
from hyperdust.graph import read_graph
from hyperdust.registration import Lineage, RegistrationError, plan, register
from hyperdust.registration_parts import TRANSACTION_GAS, SubgraphTooLarge, cut
from hyperdust.rpc_client import TransactionFailed, Unreachable
from pouw.graph_encoding import compute_graph_id, encode_top_layer
from pouw.operators.elements import LeafTooLarge
from precompiles.registry import PRECOMPILES
from tests.small_chain import graph as small_graph
from tests.unit.contracts.harness import Network, Reverted
from tests.unit.pouw.graphs_made import deep_graph, wide_graph


class Client:
    """The registry of a small chain, which makes a block whenever it is asked for its number."""

    def __init__(self):
        self.network = Network()
        self.network.precompiles = PRECOMPILES
        self.network.number = 1
        self.sent = 0
        self.broken_after = None
        self.before_each = lambda: None

    def quantity(self, method, *_):
        assert method == "eth_blockNumber"
        self.network.number += 1
        return self.network.number

    def view(self, to, data):
        return self.network.look("0x" + to.hex(), data)

    def send_transaction(self, account, to, data, *, gas=None, **_):
        assert gas is None or gas <= TRANSACTION_GAS
        if self.sent == self.broken_after:
            raise Unreachable("http://x", "gone")
        self.before_each()
        try:
            self.network.send("0x" + to.hex(), data, sender=account.address, gas=gas or TRANSACTION_GAS)
        except Reverted as error:
            raise TransactionFailed(str(error), self.network.number) from error
        self.sent += 1
        return {"transactionHash": f"0x{self.sent}", "blockNumber": hex(self.network.number), "gasUsed": "0x1"}


@pytest.fixture
def client():
    return Client()


DEEP = deep_graph(56)
PARTS = cut(DEEP)


def owner(label):
    return SimpleNamespace(address=Network().account(label))


def test_a_graph_is_announced_and_registered_with_its_lineage(client):
    me, graph = owner("me"), small_graph()
    found = register(client, me, graph, None)
    identity = compute_graph_id(encode_top_layer(graph))
    assert found["graph"] == "0x" + identity.hex()
    assert (found["owner"], client.sent, found["gas"]) == (me.address, 2, 2)
    child = read_graph("render_island")
    register(client, me, child, Lineage(identity, 300))
    assert client.sent == 5
    royalties = client.view(bytes.fromhex("5001".zfill(40)), encode_call("GraphRegistry", "royalties", identity))
    assert int.from_bytes(royalties[64:96], "big") == 0  # the parent's own was never said


def test_registering_again_only_adds_the_lineage(client):
    me, graph = owner("me"), small_graph()
    register(client, me, graph, None)
    register(client, me, graph, Lineage(bytes(32), 1500))
    assert client.sent == 3


def test_somebody_elses_graph_is_named(client):
    register(client, owner("me"), small_graph(), None)
    with pytest.raises(RegistrationError, match="registered already"):
        register(client, owner("you"), small_graph(), None)


def test_a_graph_that_the_court_could_not_judge_is_refused_before_it_costs_anything(client):
    with pytest.raises(LeafTooLarge):
        register(client, owner("me"), wide_graph(), None)
    assert client.sent == 0


def test_a_deep_graph_comes_in_parts_and_says_so_before(client):
    me = owner("me")
    planned = plan(client, me.address, DEEP, Lineage(bytes(32), 1))
    assert planned.transactions == 1 + len(PARTS) + 1
    assert sum(part.gas for part in PARTS) < planned.gas < sum(part.gas for part in PARTS) + 300_000
    costs = planned.as_json(1000)
    assert costs["wei_at_most"] == str(planned.gas * 1000)
    assert (costs["transactions_left"], costs["owner"], client.sent) == (2 + len(PARTS), me.address, 0)
    steps = []
    found = register(client, me, DEEP, Lineage(bytes(32), 1), tick=lambda *step: steps.append(step))
    assert len(found["transactions"]) == planned.transactions
    assert steps == [
        ("announcing", 0, 56),
        *(("registering", part.first, 56) for part in PARTS),
        ("lineage", 56, 56),
    ]
    assert plan(client, me.address, DEEP).transactions == 0


@pytest.mark.parametrize("sent", range(1 + len(PARTS)))
def test_stopped_anywhere_it_goes_on_where_it_was(client, sent):
    me = owner("me")
    client.broken_after = sent
    with pytest.raises(Unreachable):
        register(client, me, DEEP, None)
    client.broken_after = None
    assert plan(client, me.address, DEEP).transactions == 1 + len(PARTS) - sent
    found = register(client, me, DEEP, None)
    assert (client.sent, found["owner"]) == (1 + len(PARTS), me.address)


def test_what_somebody_else_began_is_finished_for_him_or_not_at_all(client):
    me, you = owner("me"), owner("you")
    client.broken_after = 2
    with pytest.raises(Unreachable):
        register(client, me, DEEP, None)
    client.broken_after = None
    for finish, lineage in ((False, None), (True, Lineage(bytes(32), 1))):
        with pytest.raises(RegistrationError, match="was begun by"):
            register(client, you, DEEP, lineage, finish=finish)
    assert client.sent == 2
    found = register(client, you, DEEP, None, finish=True)
    assert found["owner"].lower() == me.address.lower()
    assert plan(client, me.address, DEEP).transactions == 0


def test_somebody_who_adds_a_part_first_stops_nobody(client):
    me, you = owner("me"), owner("you")
    identity = compute_graph_id(encode_top_layer(DEEP))

    def add_first():
        registry = client.network.GraphRegistry
        if client.sent == 2 and registry.next_subgraph(identity) == PARTS[1].first:
            registry.add(identity, PARTS[1].first, PARTS[1].data, sender=you.address)

    client.before_each = add_first
    register(client, me, DEEP, None)
    assert client.network.GraphRegistry.owner_of(identity) == me.address.lower()


def test_a_part_that_fails_for_another_reason_is_said(client):
    def forget():
        client.network.number = 1  # nothing was announced before

    client.before_each = lambda: forget() if client.sent == 1 else None
    with pytest.raises(TransactionFailed):
        register(client, owner("me"), DEEP, None)


def test_a_subgraph_that_no_transaction_takes_is_said_before_it_costs_anything(client):
    with pytest.raises(SubgraphTooLarge, match="compile it as more, smaller blocks"):
        register(client, owner("me"), deep_graph(1, others=1500), None)
    assert client.sent == 0
