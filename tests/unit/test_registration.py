"""Putting a graph on the chain: announced, registered, its lineage said; what is refused before anything is sent."""

from types import SimpleNamespace

import pytest

from hyperdust.contracts_abi import encode_call
from hyperdust.graph import read_graph
from hyperdust.registration import Lineage, RegistrationError, register
from pouw.graph_encoding import compute_graph_id, encode_top_layer
from pouw.operators.elements import LeafTooLarge
from precompiles.registry import PRECOMPILES
from tests.small_chain import graph as small_graph
from tests.unit.contracts.harness import Network
from tests.unit.pouw.graphs_made import wide_graph


class Client:
    """The registry of a small chain, which makes a block whenever it is asked for its number."""

    def __init__(self):
        self.network = Network()
        self.network.precompiles = PRECOMPILES
        self.network.number = 1
        self.sent = 0

    def quantity(self, method, *_):
        assert method == "eth_blockNumber"
        self.network.number += 1
        return self.network.number

    def view(self, to, data):
        return self.network.look("0x" + to.hex(), data)

    def send_transaction(self, account, to, data):
        self.network.send("0x" + to.hex(), data, sender=account.address)
        self.sent += 1
        return {"transactionHash": f"0x{self.sent}", "blockNumber": hex(self.network.number), "gasUsed": "0x1"}


@pytest.fixture
def client():
    return Client()


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
