"""Data in anchors: which payloads a leader names, which ones a signer refuses, and that no anchor waits for any."""

from dataclasses import replace

import pytest

from bridge.anchors import NO_DATA, Anchor, find_anchor
from bridge.batch import BatchHead, build_payloads
from bridge.data import data_root, envelope_script
from bridge.params import REGTEST
from bridge.scripts import deposit_output
from bridge.transactions import Output
from chain.blocks import Block, Body, encode_body
from hyperdust.signer import data_watch
from hyperdust.signer.data import Known, find_base
from hyperdust.signer.errors import DataDiffers, DataUnknown, PeerRefused, ProposalMalformed
from hyperdust.signer.proposal import MAX_PAYLOADS, PayloadPlace, Proposal
from hyperdust.signer.rebuild import Sources
from hyperdust.signer.role import Signer
from tests.unit.bridge.keys import make_binding, make_key
from tests.unit.bridge.test_batch import START, make_chain
from tests.unit.signer.signer_world import PAY_TO, RULES, World
from tests.unit.signer.test_together import Others, Peer, take_turn

GENESIS = Block(replace(START, number=0), Body((), (), b""))


def make_blocks(count, salt=0):
    from unittest.mock import patch

    bodies = [Body((bytes([salt, at]) * 40,), (), bytes([at]) * 500) for at in range(count)]
    with patch("tests.unit.bridge.test_batch.START", GENESIS.header):
        return [GENESIS, *make_chain(bodies)]


class Published(World):
    """A vault, two sessions, an L2 of twelve blocks whose last is final."""

    def begin(self):
        self.node.blocks = make_blocks(12)
        self.leader, self.other = self.open_vault()
        self.burn(400_000)
        while self.node.head < 12:
            self.burn(1)
        return self

    def payload(self, first, last, previous=NO_DATA, blocks=None):
        blocks = blocks or self.node.blocks

        def load_body(number):
            return encode_body(blocks[number].body) if 0 <= number < len(blocks) else None

        made, count = build_payloads(blocks[first : last + 1], blocks[first - 1].header, previous, load_body)
        assert (len(made), count) == (1, last - first + 1)
        return made[0]

    def post(self, payload, *, depth=6):
        made = self.chain.pay(Output(1_000, PAY_TO))
        witness = (bytes(64), envelope_script(payload, make_key(40)), b"\xc0" + bytes(32))
        made = replace(made, inputs=(replace(made.inputs[0], witness=witness),))
        self.bitcoin.pool.append(made)
        self.bitcoin.mine(depth)
        return PayloadPlace(data_root(payload), made.txid)

    def prepare(self):
        while self.leader.data._height != self.chain.height:
            self.leader.data.advance(self.state, self.sources.data)
        return self.propose(self.leader)

    def sign(self, prepared, session=None, **changes):
        raw, signature = prepared.raw, prepared.signature
        if changes:
            raw, signature = self.resign(self.leader, replace(prepared.proposal, **changes))
        return (session or self.other).sign(raw, signature)


@pytest.fixture
def world(tmp_path):
    made = Published(tmp_path)
    try:
        yield made.begin()
    finally:
        made.close()


def go_on(world):
    """The round that is due, mined and applied; gives its proposal."""
    prepared = world.prepare()
    world.sign(prepared)
    world.apply(world.complete(world.leader, world.other, prepared))
    world.burn(1)
    world.node.blocks = make_blocks(world.node.head)
    return prepared.proposal


def test_an_anchor_names_the_last_payload_and_the_next_one_goes_on(world):
    first = world.post(world.payload(1, 4))
    second = world.post(world.payload(5, 6, first.root))
    proposal = go_on(world)
    assert (proposal.data_root, proposal.data) == (second.root, (first, second))
    assert find_base(world.state, world.sources.data) == (second.root, world.state.vault.txid)
    anchored = world.state.vault.txid
    assert go_on(world).data_root == NO_DATA, "nothing new: nothing named"
    assert find_base(world.state, world.sources.data) == (second.root, anchored)
    third = world.post(world.payload(7, 9, second.root))
    proposal = go_on(world)
    assert (proposal.data_root, proposal.data) == (third.root, (second, third))


def test_no_data_is_always_signed(world):
    assert world.prepare().proposal.data_root == NO_DATA
    world.post(world.payload(1, 4))
    prepared = world.propose(world.leader)
    assert prepared.proposal.data == (), "not seen yet"
    world.sign(prepared)


def test_what_is_not_deep_waits(world):
    place = world.post(world.payload(1, 4), depth=5)
    assert world.prepare().proposal.data_root == NO_DATA
    world.bitcoin.mine(1)
    prepared = world.prepare()
    assert prepared.proposal.data == (place,)
    strict = Sources(world.node, world.bitcoin, RULES, replace(world.limits, data_depth=7))
    with pytest.raises(DataUnknown):
        world.sign(prepared, world.session(2, sources=strict))
    world.sign(prepared)


def test_a_payload_that_is_nowhere(world):
    place = world.post(world.payload(1, 4))
    prepared = world.prepare()
    for missing in (replace(place, txid=b"\x07" * 32), replace(place, txid=world.state.vault.txid)):
        with pytest.raises(DataUnknown):
            world.sign(prepared, data=(missing,))
    world.sign(prepared)


def lie(world, place):
    """What an honest signer answers a leader who names that payload."""
    prepared = world.prepare()
    root = place[-1].root if isinstance(place, tuple) else place.root
    places = place if isinstance(place, tuple) else (place,)
    with pytest.raises(DataDiffers) as error:
        world.sign(prepared, data_root=root, data=places)
    return error.value


def test_other_blocks(world):
    others = make_blocks(12, salt=9)
    blocks = [*world.node.blocks[:3], others[3], *world.node.blocks[4:]]
    bad = world.post(world.payload(1, 2, blocks=others))
    assert "block 1" in str(lie(world, bad))
    altered = world.post(world.payload(1, 3, blocks=blocks))
    assert "block 3" in str(lie(world, altered))
    assert world.prepare().proposal.data_root == NO_DATA, "no leader names them"
    good = world.post(world.payload(1, 3))
    assert world.prepare().proposal.data == (good,), "and another one of the same blocks is taken"


def test_gaps_and_other_ways(world):
    first = world.post(world.payload(1, 4))
    gap = world.post(world.payload(6, 7, first.root))
    elsewhere = world.post(world.payload(5, 6, b"\x03" * 32))
    middle = world.post(world.payload(5, 6))
    beyond = world.post(world.payload(5, 12, first.root))
    world.node.held_final = 11
    for places in ((first, gap), (first, elsewhere), (first, middle), (middle,), (first, beyond), (elsewhere,)):
        lie(world, places)
    assert world.prepare().proposal.data == (first,)
    world.node.held_final = None
    assert world.prepare().proposal.data == (first, beyond)


def test_roots_and_places_belong_together(world):
    first = world.post(world.payload(1, 4))
    prepared = world.prepare()
    for changes in ({"data_root": NO_DATA}, {"data": ()}, {"data_root": b"\x01" * 32}):
        with pytest.raises(DataDiffers):
            world.sign(prepared, **changes)
    many = (first,) * (MAX_PAYLOADS + 1)
    for data in (many, (replace(first, root=bytes(31)),), (replace(first, txid=b""),)):
        with pytest.raises(ProposalMalformed):
            world.sign(prepared, data=data)
    world.sign(prepared)


def test_garbage_with_a_good_head(world):
    from bridge.data import pack_batch

    head = BatchHead(1, 2, 0, 1, GENESIS.header.hash, NO_DATA)
    assert "DataDiffers" in str(lie(world, world.post(pack_batch((head.encode(), b"\xc0", b"")))))
    assert world.prepare().proposal.data_root == NO_DATA


def test_a_block_in_parts(world, monkeypatch):
    import random

    import bridge.batch
    import bridge.data

    monkeypatch.setattr(bridge.data, "MAX_PAYLOAD_BYTES", 3_000)
    monkeypatch.setattr(bridge.batch, "MAX_PAYLOAD_BYTES", 3_000)
    body = Body((), (), random.Random(3).randbytes(7_000))
    from unittest.mock import patch

    with patch("tests.unit.bridge.test_batch.START", GENESIS.header):
        world.node.blocks = [GENESIS, *make_chain([body] * 12)]
    payloads, _ = build_payloads(world.node.blocks[1:2], GENESIS.header, NO_DATA, lambda _: None)
    assert len(payloads) > 2
    places = tuple(world.post(one) for one in payloads)
    prepared = world.prepare()
    assert prepared.proposal.data == places
    world.sign(prepared)
    lie(world, places[:-1])


def test_one_anchor_takes_some_and_the_next_goes_on(world, monkeypatch):
    monkeypatch.setattr(data_watch, "MAX_PAYLOADS", 2)
    places, before = [], NO_DATA
    for number in range(1, 6):
        places.append(world.post(world.payload(number, number, before)))
        before = places[-1].root
    assert go_on(world).data == tuple(places[:2])
    assert go_on(world).data == (places[1], places[2])


def test_after_a_restart_it_is_looked_for_again(world):
    first = world.post(world.payload(1, 4))
    go_on(world)
    second = world.post(world.payload(5, 6, first.root))
    world.leader.close()
    world.sessions.remove(world.leader)
    world.leader = world.session(0)
    assert go_on(world).data == (first, second)


def test_blocks_are_read_once_some_at_a_time_and_again_after_a_reorganisation(world, monkeypatch):
    monkeypatch.setattr(data_watch, "_AT_ONCE", 4)
    monkeypatch.setattr(data_watch, "_REREAD", 3)
    read = []
    load = world.bitcoin.load_block
    world.bitcoin.load_block = lambda block_hash: read.append(block_hash) or load(block_hash)
    watch = world.leader.data
    for _ in range(50):
        watch.advance(world.state, world.sources.data)
        assert len(read) <= 4
        if not read:
            break
        read.clear()
    assert watch._height == world.chain.height
    world.chain.drop(2)
    world.bitcoin.mine(3)
    watch.advance(world.state, world.sources.data)
    assert len(read) == 4
    assert (watch._height, watch._hash) == (world.chain.height, world.chain.hash_at(world.chain.height))


def test_a_payload_that_is_reorganised_away_is_not_named(world):
    place = world.post(world.payload(1, 4))
    assert world.prepare().proposal.data == (place,)
    world.chain.drop(6)
    world.bitcoin.mine(7)
    assert world.prepare().proposal.data_root == NO_DATA


def test_anchors_go_without_data_for_a_while_where_others_refuse_it(world):
    place = world.post(world.payload(1, 4))
    assert world.prepare().proposal.data == (place,)
    world.leader.data.pause(world.chain.height)
    prepared = world.prepare()
    assert (prepared.proposal.data_root, prepared.proposal.data) == (NO_DATA, ())
    assert prepared.draft.round.anchor is not None
    world.bitcoin.mine(12)
    assert world.prepare().proposal.data == (place,)


def test_a_bump_names_the_same(world):
    place = world.post(world.payload(1, 4))
    prepared = world.prepare()
    bumped = world.bump(world.leader, prepared)
    assert (bumped.proposal.data_root, bumped.proposal.data) == (place.root, (place,))
    world.sign(bumped)


def test_a_bitcoind_that_does_not_know_the_list_yet_is_asked_again(world):
    first = world.post(world.payload(1, 4))
    go_on(world)
    view = replace(world.sources, known_data=Known()).data
    load, world.bitcoin.load_transaction = world.bitcoin.load_transaction, lambda _: None
    assert find_base(world.state, view) == (NO_DATA, NO_DATA)
    world.bitcoin.load_transaction = load
    assert find_base(world.state, view) == (first.root, world.state.vault.txid)


def test_memory_is_bounded(world, monkeypatch):
    monkeypatch.setattr(data_watch, "_KEPT", 2)
    for number in range(1, 5):
        world.post(world.payload(number, number), depth=1)
    world.prepare()
    assert len(world.leader.data._seen) == 2


def test_what_a_deposit_was_made_by_is_no_anchor(tmp_path):
    """The list of vault transactions ends where it began: nobody else's transaction says what was anchored."""
    world = World(tmp_path)
    try:
        binding = make_binding(1, 10_000, 0)
        fake = Anchor(0, 1, bytes(32), b"\x09" * 32)
        output = Output(1_000_000, deposit_output(world.custody, binding, RULES).script)
        made = world.chain.pay(output, Output(0, fake.script))
        world.bitcoin.pool.append(made)
        world.node.announced.append(binding)
        world.bitcoin.mine(2)
        leader, other = world.session(0), world.session(1)
        prepared = world.propose(leader)
        from bridge.deposits import Claim

        world.apply(
            world.complete(leader, other, prepared),
            [Claim(prepared.proposal.deposits[0].outpoint, binding)],
        )
        assert find_base(world.state, world.sources.data) == (NO_DATA, NO_DATA)
    finally:
        world.close()


class WithoutData(Peer):
    """Refuses any data."""

    def sign(self, raw, signature):
        if Proposal.decode(raw, RULES).data:
            raise PeerRefused("DataUnknown", "DataUnknown: confirmations of payload: got 0, expected at least 6")
        return super().sign(raw, signature)


def test_no_anchor_waits_for_data_that_others_refuse(world):
    place = world.post(world.payload(1, 4))
    assert world.prepare().proposal.data == (place,)
    second, third = WithoutData(world.other), WithoutData(world.session(2))
    signer = Signer(world.leader, Others(world, world.leader, second, third), REGTEST)
    made = take_turn(world, signer)
    anchor = find_anchor(made)
    assert anchor is not None
    assert anchor.data_root == NO_DATA
