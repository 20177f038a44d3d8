"""The node's view of Bitcoin: followed, kept, reorganised, frozen; and blocks that build on it, or wait for it."""

import threading
import time
from dataclasses import replace

import httpx
import pytest

from bridge.checkpoint import check_checkpoint, genesis_checkpoint
from bridge.header_chain import HeaderChain
from bridge.headers import apply_header, check_header
from bridge.params import MAIN, REGTEST
from bridge.work import sha256d
from chain.engine import CallMessage, call
from consensus import errors
from consensus.validation import environment_of
from hyperdust.bitcoind import Bitcoind, ChainInfo, KnotsRefused, Login, Unreachable, WrongNetwork
from hyperdust.node.bitcoin import BitcoinChain, Follower, State, StoreFault, UnknownNetwork, open_bitcoin
from hyperdust.node.config import NodeConfig
from hyperdust.node.store import open_store
from precompiles.bitcoin import BITCOIN_ORIGIN
from precompiles.registry import precompiles_for
from tests.small_chain import SmallChain, small_network
from tests.unit.bridge.mining import NOW, extend, mine, start

DEPTH = 6
START = start(REGTEST)


def branch(context, count, root=bytes(32)):
    return extend(REGTEST, context, count, root=root)


class FakeBitcoind:
    """Answers from a list of headers; `fault` is raised instead of any answer."""

    url = "http://fake"

    def __init__(self, rows=()):
        self.rows = list(rows)
        self.fault = None

    @property
    def hashes(self):
        return [sha256d(REGTEST.genesis), *map(sha256d, self.rows)]

    def check_network(self, network):
        assert network == "regtest"
        return self.chain_info()

    def chain_info(self):
        if self.fault:
            raise self.fault
        return ChainInfo("regtest", len(self.rows), self.hashes[-1], len(self.rows), 0, 0, is_syncing=False)

    def best_block_hash(self):
        return self.chain_info().best_hash

    def block_hash(self, height):
        return self.hashes[height]

    def raw_headers(self, height, count):
        return b"".join(self.rows[height - 1 : height - 1 + min(count, 5)])

    def close(self):
        pass


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "db")
    yield store
    store.close()


def followed(store, rows):
    bitcoind = FakeBitcoind(rows)
    chain = BitcoinChain(store, REGTEST, DEPTH)
    follower = Follower(bitcoind, chain, lambda: NOW)
    follower.step()
    return bitcoind, chain, follower


def test_headers_are_followed_and_survive_a_restart(store):
    rows, context = branch(START, 12)
    bitcoind, chain, follower = followed(store, rows)
    assert (chain.state, chain.height, chain.tip) == (State.FOLLOWING, 12, sha256d(rows[-1]))
    more, _ = branch(context, 3)
    bitcoind.rows += more
    follower.step()
    again = BitcoinChain(store, REGTEST, DEPTH)
    assert (again.height, again.tip, again.frozen) == (15, sha256d(more[-1]), None)
    assert again.confirmations(sha256d(rows[-1])) == 4


@pytest.mark.parametrize(("depth", "is_frozen"), [(2, False), (6, False), (7, True), (8, True)])
def test_a_reorganisation_that_reaches_origins_freezes_the_peg_and_outlives_a_restart(store, depth, is_frozen):
    common, context = branch(START, 10)
    lost, _ = branch(context, depth)
    bitcoind, chain, follower = followed(store, common + lost)
    won, _ = branch(context, depth + 1, root=b"\1" * 32)
    bitcoind.rows = common + won
    follower.step()
    assert (chain.tip, chain.height) == (sha256d(won[-1]), 11 + depth)
    again = BitcoinChain(store, REGTEST, DEPTH)
    for one in (chain, again):
        assert (one.frozen is not None) is is_frozen
        assert one.confirmations(sha256d(lost[0])) == 0
        assert one.height_of(sha256d(lost[0])) == 11
    if is_frozen:
        assert (again.frozen.depth, again.frozen.fork_height) == (depth, 10)
        again.thaw()
        assert BitcoinChain(store, REGTEST, DEPTH).frozen is None


def test_the_chain_with_less_work_is_not_followed(store):
    rows, _ = branch(START, 9)
    bitcoind, chain, follower = followed(store, rows)
    bitcoind.rows = rows[:4]
    follower.step()
    assert (chain.tip, chain.state) == (sha256d(rows[-1]), State.FOLLOWING)


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ((Unreachable, "http://fake", "refused"), State.UNREACHABLE),
        ((WrongNetwork, "main", "regtest"), State.REFUSED),
        ((KnotsRefused, "/Knots:29/"), State.REFUSED),
    ],
)
def test_a_fault_is_named_and_passes(store, fault, state):
    rows, _ = branch(START, 3)
    bitcoind, chain, follower = followed(store, rows)
    bitcoind.fault = fault[0](*fault[1:])
    waits = [follower.step() for _ in range(8)]
    assert waits == sorted(waits)
    assert waits[-1] == 10
    assert (chain.state, chain.reason, chain.height) == (state, str(fault[0](*fault[1:])), 3)
    bitcoind.fault = None
    follower.step()
    assert (chain.state, chain.reason) == (State.FOLLOWING, "")


def test_headers_that_break_a_rule_change_nothing(store):
    rows, context = branch(START, 3)
    bitcoind, chain, follower = followed(store, rows)
    bitcoind.rows = [*rows, mine(REGTEST, context, wins=False)]
    follower.step()
    assert (chain.state, chain.height) == (State.INVALID, 3)
    assert "InsufficientWork" in chain.reason
    bitcoind.rows = [*rows, bytes(80)]
    follower.step()
    assert (chain.state, BitcoinChain(store, REGTEST, DEPTH).height) == (State.INVALID, 3)


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"<html>", b"{", b"\xff", b'{"result": null}', b'{"result": {"chain": "regtest"}}',
                b'{"result": 7, "error": 3}', b'{"error": {"code": "x"}}', b"9" * 5_000, b"[" * 2_000]
)  # fmt: skip
def test_garbage_is_named_and_ends_nothing(store, content):
    def answer(request):
        return httpx.Response(200, content=content)

    client = Bitcoind("http://fake", Login("a", "b"), backoff_s=(), transport=httpx.MockTransport(answer))
    chain = BitcoinChain(store, REGTEST, DEPTH)
    follower = Follower(client, chain, lambda: NOW, poll_s=0.01)
    follower.start()
    wait_for(lambda: chain.state is not State.CONNECTING)
    follower.stop()
    assert chain.state in {State.INVALID, State.UNREACHABLE}
    assert chain.reason
    assert chain.height == 0


def test_a_bitcoind_that_leads_in_circles_is_named(store, monkeypatch):
    """It claims a height that no chain has, and gives what is known already for ever."""
    rows, _ = branch(START, 9)
    bitcoind, chain, follower = followed(store, rows)
    asked = []

    def again(_height, _count):
        asked.append(_height)
        assert len(asked) < 10
        return b"".join(rows[5:])

    monkeypatch.setattr(bitcoind, "raw_headers", again)
    monkeypatch.setattr(bitcoind, "best_block_hash", lambda: bytes(32))
    monkeypatch.setattr(bitcoind, "chain_info", lambda: ChainInfo("regtest", 10**12, b"", 0, 0, 0, is_syncing=False))
    follower.step()
    assert (chain.state, chain.height) == (State.INVALID, 9)
    assert "a block of height 9 for height" in chain.reason


def wait_for(done):
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_another_first_block_is_refused(store, monkeypatch):
    _, chain, follower = followed(store, branch(START, 2)[0])
    monkeypatch.setattr(FakeBitcoind, "hashes", [b"\1" * 32] * 3)
    follower.step()
    assert chain.state is State.REFUSED
    assert "first block" in chain.reason


def test_damaged_headers_in_the_database_are_named(store):
    store.write_records({b"Oh" + bytes(8): b"\1" * 80})
    with pytest.raises(StoreFault, match="Bitcoin headers"):
        BitcoinChain(store, REGTEST, DEPTH)


def test_what_a_nodes_options_ask_for(store, tmp_path):
    params = small_network().params
    without = NodeConfig(data_dir=tmp_path)
    assert open_bitcoin(without, params, store) == (None, None)
    given = NodeConfig(data_dir=tmp_path, bitcoin_rpc="http://127.0.0.1:1", bitcoin_user="a")
    chain, follower = open_bitcoin(given, params, store)
    assert (chain.params, chain.state) == (REGTEST, State.CONNECTING)
    chain.extend(b"".join(branch(START, 2)[0]), NOW)
    follower.stop()
    kept, none = open_bitcoin(without, params, store)
    assert (kept.height, kept.state, none) == (2, State.OFF, None)
    with pytest.raises(UnknownNetwork, match="none of main"):
        open_bitcoin(given, replace(params, bitcoin_network="litecoin"), store)
    assert params.bitcoin_network != MAIN.name


# --- blocks


@pytest.fixture
def headers():
    chain = HeaderChain(REGTEST)
    chain.extend(b"".join(branch(START, 10)[0]), NOW)
    return chain


@pytest.fixture
def chain(tmp_path, headers):
    chain = SmallChain(tmp_path / "chain", headers)
    yield chain
    chain.close()


def grow(headers, count=1, root=bytes(32)):
    rows, _ = branch(headers.context_after(headers.tip), count, root)
    headers.extend(b"".join(rows), NOW)


def with_origin(chain, origin):
    return chain.mine(
        change=lambda template: replace(template, header=replace(template.header, parent_beacon_block_root=origin))
    )


def test_origins_move_with_bitcoin_and_stay_without_it(chain, headers, tmp_path):
    assert chain.extend(1).header.parent_beacon_block_root == headers.hash_at(4)
    grow(headers, 3)
    assert chain.extend(1).header.parent_beacon_block_root == headers.hash_at(7)
    assert chain.extend(1).header.parent_beacon_block_root == headers.hash_at(7)
    chain.close()
    alone = SmallChain(tmp_path / "chain")
    assert alone.extend(1).header.parent_beacon_block_root == headers.hash_at(7)
    with pytest.raises(errors.OriginNotFollowed):
        alone.importer.import_block(with_origin(alone, headers.hash_at(8)))
    with pytest.raises(errors.OriginDropped):
        alone.importer.import_block(with_origin(alone, bytes(32)))
    alone.close()


@pytest.mark.parametrize(
    ("height", "rule"), [(5, errors.OriginTooShallow), (10, errors.OriginTooShallow), (3, errors.OriginBelowParents)]
)
def test_a_block_with_another_origin_is_refused_by_name_and_changes_nothing(chain, headers, height, rule):
    head = chain.extend(1).header.hash
    with pytest.raises(rule):
        chain.importer.import_block(with_origin(chain, headers.hash_at(height)))
    assert chain.store.latest.head.hash == head


def test_what_was_not_yet_valid_becomes_so(chain, headers):
    chain.extend(1)
    origin = headers.hash_at(5)
    block = with_origin(chain, origin)
    with pytest.raises(errors.OriginTooShallow):
        chain.importer.import_block(block)
    with pytest.raises(errors.OriginUnknown):
        chain.importer.import_block(with_origin(chain, b"\1" * 32))
    grow(headers)
    with pytest.raises(errors.WrongStateRoot):  # the state that EIP-4788 writes was the old origin's
        chain.importer.import_block(block)
    assert chain.extend(1).header.parent_beacon_block_root == origin


def test_blocks_go_on_after_a_deep_reorganisation(chain, headers):
    chain.extend(1)
    grow(headers, 8)
    stale = chain.extend(1).header.parent_beacon_block_root
    assert stale == headers.hash_at(12)
    lost = headers.hash_at(14)
    context = headers.context_after(headers.hash_at(10))
    rows, _ = branch(context, 9, root=b"\1" * 32)
    update = headers.extend(b"".join(rows), NOW)
    assert (update.reorganisation.depth, headers.confirmations(stale)) == (8, 0)
    adopted = chain.extend(1).header.parent_beacon_block_root
    assert (headers.confirmations(adopted), headers.height_of(adopted)) == (7, 13)
    with pytest.raises(errors.OriginStale):
        chain.importer.import_block(with_origin(chain, lost))


def test_contracts_read_the_origin_and_the_calls_see_the_same(chain, headers):
    header = chain.extend(1).header
    state = chain.state
    ring = CallMessage(
        bytes(20), bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02"), header.timestamp.to_bytes(32, "big")
    )
    table = precompiles_for(headers, header.parent_beacon_block_root)
    answer = call(environment_of(header, chain.params), ring, state.read_many, precompiles=table)
    assert answer.output == headers.hash_at(4)
    ask = CallMessage(bytes(20), BITCOIN_ORIGIN)
    answer = call(environment_of(header, chain.params), ask, state.read_many, precompiles=table)
    assert answer.output == headers.hash_at(4) + (4).to_bytes(32, "big")


def test_the_fixture_keeps_the_rules():
    context = check_checkpoint(REGTEST, genesis_checkpoint(REGTEST))
    for raw in branch(START, 3)[0]:
        context = apply_header(REGTEST, context, *check_header(REGTEST, context, raw, NOW))
    assert context.height == 4
