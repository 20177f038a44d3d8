"""What a client learns of Bitcoin: pegStatus, calls on the block's own origin, status, metrics."""

import json
from types import SimpleNamespace

import pytest

from bridge.params import REGTEST
from bridge.work import show_hash
from hyperdust.node.bitcoin import BitcoinChain, State
from hyperdust.node.metrics import MetricsServer
from hyperdust.node.rpc.backend import Backend
from hyperdust.node.rpc.dispatcher import Dispatcher
from hyperdust.node.store import open_store
from hyperdust.node.votes import Votes
from hyperdust.status import read_status, show_status
from tests.small_chain import SmallChain
from tests.unit.bridge.mining import NOW, extend, start

TIP_CALL = {"to": "0x" + "480a".zfill(40)}


@pytest.fixture
def bitcoin(tmp_path):
    store = open_store(tmp_path / "bitcoin")
    chain = BitcoinChain(store, REGTEST, 6)
    grow(chain, 10)
    yield chain
    store.close()


def grow(bitcoin, count, root=bytes(32), height=None):
    """Headers on the best chain's block at a height, the tip by default."""
    chain = bitcoin._chain
    on = chain.tip if height is None else chain.hash_at(height)
    context = start(REGTEST) if chain.height == 0 else chain.context_after(on)
    bitcoin.extend(b"".join(extend(REGTEST, context, count, root=root)[0]), NOW)


@pytest.fixture
def chain(tmp_path, bitcoin):
    chain = SmallChain(tmp_path / "chain", bitcoin)
    yield chain
    chain.close()


@pytest.fixture
def client(chain, bitcoin):
    backend = Backend(
        params=chain.params,
        store=chain.store,
        importer=chain.importer,
        mempool=chain.mempool,
        builder=chain.builder,
        version="hyperdust/test",
        debug=True,
        bitcoin=bitcoin,
    )
    dispatcher = Dispatcher(backend)

    def call(method, *params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        answer = json.loads(dispatcher.answer(body))
        assert "error" not in answer, answer
        return answer["result"]

    return SimpleNamespace(url="here", call=call, quantity=lambda method: int(call(method), 16), view=lambda *_: b"")


def test_status_before_and_after_the_first_origin(client, chain, bitcoin):
    status = client.call("hyperdust_pegStatus")
    assert (
        status
        | {
            "bitcoin": {
                "network": "regtest",
                "state": "off",
                "reason": None,
                "height": 10,
                "tip": show_hash(bitcoin.tip),
            },
            "origin": None,
            "origin_depth_blocks": 6,
            "frozen": False,
            "frozen_reason": None,
            "vault_sats": 0,
            "surplus_sats": 0,
            "supply_sats": 10_200 * 10**8,
            "vault": None,
        }
        == status
    )
    chain.extend(1)
    origin = {"height": 4, "hash": show_hash(bitcoin.hash_at(4)), "confirmations": 7}
    assert client.call("hyperdust_pegStatus")["origin"] == origin
    block = client.call("eth_getBlockByNumber", "latest", False)
    assert block["parentBeaconBlockRoot"] == "0x" + bitcoin.hash_at(4).hex(), "in the order in which it is hashed"


def test_a_freeze_shows_everywhere(client, chain, bitcoin):
    chain.extend(1)
    grow(bitcoin, 8, b"\1" * 32, height=3)
    status = client.call("hyperdust_pegStatus")
    assert status["frozen"] is True
    assert "abandoned 7 blocks above height 3" in status["frozen_reason"]
    assert status["origin"] == {"height": 4, "hash": status["origin"]["hash"], "confirmations": 0}
    bitcoin.state, bitcoin.reason = State.UNREACHABLE, "nobody answers"
    shown = show_status(read_status(client))
    assert "bitcoin   regtest block 11, unreachable; origin 4, 0 confirmations" in shown
    assert "warning   bitcoind: nobody answers" in shown
    assert "the peg is frozen, blocks go on" in shown
    chain.extend(1)
    assert client.call("hyperdust_pegStatus")["origin"]["height"] == 5


def test_a_call_sees_bitcoin_as_its_block_does(client, chain, bitcoin):
    chain.extend(1)
    grow(bitcoin, 5)
    chain.extend(1)
    for block, height in (("0x1", 4), ("0x2", 9), ("latest", 9)):
        answer = client.call("eth_call", TIP_CALL, block)
        assert answer == "0x" + bitcoin.hash_at(height).hex() + height.to_bytes(32, "big").hex()
    (simulated,) = client.call("eth_simulateV1", {"blockStateCalls": [{"calls": [TIP_CALL]}]}, "latest")
    assert simulated["calls"][0]["returnData"][:66] == "0x" + bitcoin.hash_at(9).hex()
    named = client.call("eth_config")["current"]["precompiles"]
    assert {"BITCOIN_ORIGIN", "BITCOIN_HEADER", "BITCOIN_TRANSACTION", "BIP340"} <= set(named)


def test_metrics(chain, bitcoin):
    votes = Votes(chain.params, chain.store, chain.importer)
    registry = MetricsServer(chain.store, chain.importer, chain.mempool, votes, bitcoin)._registry
    value = registry.get_sample_value
    assert value("hyperdust_origin_height") == -1
    chain.extend(1)
    bitcoin.state = State.FOLLOWING
    assert (value("hyperdust_bitcoin_height"), value("hyperdust_origin_height")) == (10, 4)
    assert value("hyperdust_peg_frozen") == 0
    states = {state.value: value("hyperdust_bitcoin_follower", {"state": state.value}) for state in State}
    assert states == dict.fromkeys(states, 0) | {"following": 1}
