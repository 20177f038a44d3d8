"""What is read out of Bitcoin's blocks: the vault's list, payloads, and nothing that is not under a header."""

import pytest

from bridge.anchors import Anchor
from bridge.batch import NO_PAYLOAD, build_payloads
from bridge.data import MAX_PAYLOAD_BYTES, data_root, envelope_script
from bridge.deposits import Outpoint
from bridge.rules import MAIN_RULES
from bridge.scripts import data_script, vault_output
from bridge.transactions import Input, Output, Transaction, encode_size
from hyperdust.bitcoin_scan import BitcoinScan, BlockNotTheHeaders
from tests.unit.bridge.fake_bitcoin import FakeBitcoin
from tests.unit.bridge.keys import make_custody, make_key
from tests.unit.bridge.test_batch import START, make_chain, random_body

VAULT = vault_output(make_custody(), MAIN_RULES).script
ANYONE = b"\x51"
FIRST, SECOND = Anchor(0, 5, b"\x01" * 32), Anchor(0, 9, b"\x02" * 32, b"\x03" * 32)


class Client:
    """A bitcoind that gives a `FakeBitcoin`'s blocks, unless told otherwise."""

    def __init__(self, bitcoin):
        self.bitcoin = bitcoin
        self.instead = {}
        self.asked = []

    def raw_blocks(self, hashes):
        self.asked.append(len(hashes))
        return tuple(self.instead.get(one) or self.block(one) for one in hashes)

    def block(self, block_hash):
        block = self.bitcoin.blocks[block_hash]
        return block.raw + encode_size(len(block.transactions)) + b"".join(one.encode() for one in block.transactions)

    def raw_transaction(self, txid, block_hash):
        if txid in self.instead:
            return self.instead[txid]
        return next(one.encode() for one in self.bitcoin.blocks[block_hash].transactions if one.txid == txid)


class World:
    def __init__(self):
        self.bitcoin = FakeBitcoin()
        self.client = Client(self.bitcoin)
        self.scan = BitcoinScan(self.client, self.bitcoin, VAULT, 0)
        self.coins = [Outpoint(self.bitcoin.mine([]).transactions[0].txid, 0) for _ in range(12)]

    def spend(self, *places, outputs, witness=(b"\x01",)):
        inputs = tuple(Input(place.txid, place.index, b"", 0x80000000, witness) for place in places)
        return Transaction(2, inputs, tuple(Output(sats, script) for sats, script in outputs), 0)

    def pay(self, *outputs, witness=(b"\x01",)):
        """Anyone's transaction, mined."""
        made = self.spend(self.coins.pop(), outputs=outputs, witness=witness)
        return self.mine(made)

    def vault(self, before, *outputs, script=VAULT):
        return self.spend(Outpoint(before.txid, 0), outputs=((1_000, script), *outputs))

    def mine(self, *transactions):
        block = self.bitcoin.mine(list(transactions))
        assert len(block.transactions) == 1 + len(transactions), "all of them are possible"
        return transactions[-1]


def anchored(anchor):
    return 0, anchor.script


@pytest.fixture
def world():
    return World()


def test_the_list_starts_where_a_vault_output_is_spent(world):
    world.pay((1_000, VAULT), anchored(FIRST))  # a gift with an anchor: nobody signed for it
    world.pay((0, FIRST.script), (1_000, VAULT))
    start = world.pay((9_000, VAULT), (1, ANYONE))
    world.pay((9_000, ANYONE), anchored(FIRST))
    one = world.mine(world.vault(start, anchored(FIRST)))
    two = world.mine(world.vault(one))
    world.mine(world.vault(two, anchored(SECOND)))
    world.scan.advance()
    assert [found.anchor for found in world.scan.anchors] == [FIRST, SECOND]
    assert [found.vault_script for found in world.scan.anchors] == [VAULT, VAULT]
    assert world.scan.anchors[0].place.txid == one.txid
    assert world.scan.anchors[1].place.height == world.bitcoin.height


def test_the_list_goes_on_where_it_was_left_and_says_whose_the_vault_is(world):
    one = world.vault(world.pay((9_000, VAULT)), anchored(FIRST))
    world.mine(one)
    world.scan.advance()
    other = world.mine(world.vault(one, anchored(SECOND), script=ANYONE))
    world.mine(world.spend(Outpoint(one.txid, 1), outputs=((0, SECOND.script),)))
    seen = []
    world.scan.advance(lambda height, of: seen.append((height, of)))
    assert seen == [(world.bitcoin.height - 1, world.bitcoin.height), (world.bitcoin.height, world.bitcoin.height)]
    assert [(found.place.txid, found.vault_script) for found in world.scan.anchors] == [
        (one.txid, VAULT),
        (other.txid, ANYONE),
    ]


def test_data_that_is_no_anchor_is_passed_over(world):
    one = world.vault(world.pay((9_000, VAULT)), (0, data_script(b"HYPD")))
    world.mine(one)
    world.mine(world.vault(one, anchored(SECOND)))
    world.scan.advance()
    assert [found.anchor for found in world.scan.anchors] == [SECOND]


def make_payload(size=300, previous=NO_PAYLOAD):
    (payload,), _ = build_payloads(make_chain([random_body(size)]), START, previous, lambda _: None)
    return payload


def test_payloads_are_found_once_wherever_they_stand(world):
    payload, key = make_payload(), make_key(70)
    script = envelope_script(payload, key)
    place = world.bitcoin.height + 1
    made = world.pay((1, ANYONE), witness=(b"sig", script, b"control"))
    world.pay((1, ANYONE), witness=(b"sig", script, b"control"))
    world.pay((1, ANYONE), witness=(b"sig", script[:-1], b"control"))
    world.pay((1, ANYONE), witness=(b"sig", envelope_script(b"no batch", key), b"control"))
    world.pay((1, ANYONE), witness=(b"sig", script))
    world.scan.advance()
    (found,) = world.scan.payloads.values()
    assert (found.root, found.key, found.place.txid, found.place.height) == (data_root(payload), key, made.txid, place)
    assert (found.head.first, found.head.last, found.head.parent) == (8, 8, START.hash)
    assert world.scan.load_payload(found.root) == payload


def test_small_blocks_are_read_together_large_ones_alone(world):
    for _ in range(400):
        world.bitcoin.mine([])
    world.scan.advance()
    assert world.client.asked[:2] == [1, 128]
    payload, _ = make_payload(MAX_PAYLOAD_BYTES - 3_000), world.client.asked.clear()
    for _ in range(6):
        world.pay((1, ANYONE), witness=(b"sig", envelope_script(payload, make_key(70)), b"control"))
    world.scan.advance()
    assert max(world.client.asked) <= 6


def test_blocks_that_are_not_the_headers_are_refused(world):
    start = world.pay((9_000, VAULT), (1, ANYONE))
    one = world.mine(world.vault(start, anchored(FIRST)))
    at = world.bitcoin.height
    block_hash = world.bitcoin.hash_at(at)
    true = world.client.block(block_hash)
    position = true.index(FIRST.encode())
    lies = {
        "its hash is": world.client.block(world.bitcoin.hash_at(at - 1)),
        "Merkle root": true[:position] + SECOND.encode() + true[position + 80 :],
        "early": true[:-1],
        "left over": true + b"\x00",
    }
    for reason, lie in lies.items():
        world.client.instead = {block_hash: lie}
        scan = BitcoinScan(world.client, world.bitcoin, VAULT, 0)
        with pytest.raises(BlockNotTheHeaders, match=f"at height {at} is not the one of our headers: .*{reason}"):
            scan.advance()
        assert (scan.height, scan.anchors) == (at - 1, [])
    world.client.instead = {}
    scan.advance()
    assert [found.place.txid for found in scan.anchors] == [one.txid]


def test_a_payload_that_is_no_longer_there_is_a_fault(world):
    payload = make_payload()
    made = world.pay((1, ANYONE), witness=(b"sig", envelope_script(payload, make_key(70)), b"control"))
    world.scan.advance()
    for instead in (world.pay((1, ANYONE)).encode(), b"\x00"):
        world.client.instead = {made.txid: instead}
        with pytest.raises(BlockNotTheHeaders):
            world.scan.load_payload(data_root(payload))


def test_a_chain_without_a_peg_has_payloads_alone(world):
    world.mine(world.vault(world.pay((9_000, VAULT)), anchored(FIRST)))
    world.pay((1, ANYONE), witness=(b"sig", envelope_script(make_payload(), make_key(70)), b"control"))
    scan = BitcoinScan(world.client, world.bitcoin, None, 5)
    scan.advance()
    assert (scan.anchors, len(scan.payloads)) == ([], 1)
