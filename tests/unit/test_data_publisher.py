"""The publisher: nothing is sent that it could forget, one payload at a time, again after a reorganisation."""

import os
from dataclasses import replace

import pytest
from btclib.b32 import witness_from_address

from bridge.batch import NO_PAYLOAD, read_batch, read_head
from bridge.data import data_root, parse_envelope
from bridge.taproot import Leaf, check_signature, compute_sighashes, vsize_of
from bridge.transactions import Input, Output, Transaction
from bridge.work import show_hash
from chain.blocks import Block, Body
from hyperdust.bitcoind import ChainInfo, RpcFault, Unreachable
from hyperdust.data_publisher import Journal, JournalFault, Publisher, WalletFault
from tests.unit.bridge.test_batch import START, make_chain, random_body

BACK = "5120" + "07" * 32


class Bitcoin:
    """bitcoind and wallet in one; `mine` confirms what was sent."""

    url = "here"

    def __init__(self):
        self.sent, self.confirmed, self.rate, self.complete, self.is_down = {}, {}, None, True, False

    def chain_info(self):
        return ChainInfo("regtest", 1, bytes(32), 1, 1, 0, is_syncing=False)

    def fee_rate(self, _blocks):
        return self.rate

    def send_raw_transaction(self, raw):
        if self.is_down:
            raise Unreachable(self.url, "down")
        made = Transaction.decode(raw)
        if made.txid in self.confirmed:
            raise RpcFault("sendrawtransaction", -27, "Transaction already in block chain")
        self.sent[made.txid] = made

    def new_address(self):
        return "back"

    def mine(self, blocks=1):
        self.confirmed = {txid: depth + blocks for txid, depth in self.confirmed.items()}
        self.confirmed |= {txid: blocks for txid in self.sent if txid not in self.confirmed}

    def reorganise(self):
        self.sent, self.confirmed = {}, {}

    def call(self, method, *params):
        return getattr(self, method)(*params)

    def getaddressinfo(self, _address):
        return {"scriptPubKey": BACK}

    def createrawtransaction(self, _inputs, outputs):
        ((address, amount),) = outputs[0].items()
        version, program, _network = witness_from_address(address)
        assert version == 1
        sats = int(amount.replace(".", ""))
        place = Input(bytes([len(self.sent)]) * 32, 0, b"", 0xFFFFFFFD)
        return Transaction(2, (place,), (Output(5, b"\x51"), Output(sats, b"\x51\x20" + program)), 0).encode().hex()

    def fundrawtransaction(self, raw, options):
        self.fee_asked = options["fee_rate"]
        return {"hex": raw}

    def signrawtransactionwithwallet(self, raw):
        made = Transaction.decode(bytes.fromhex(raw))
        signed = replace(made, inputs=tuple(replace(one, witness=(bytes(64),)) for one in made.inputs))
        return {"hex": signed.encode().hex(), "complete": self.complete}

    def gettransaction(self, txid):
        inner = bytes.fromhex(txid)[::-1]
        if inner not in self.sent and inner not in self.confirmed:
            raise RpcFault("gettransaction", -5, "Invalid or non-wallet transaction id")
        return {"confirmations": self.confirmed.get(inner, 0)}


class Chain:
    """As `Blocks`: genesis is START moved to height 0."""

    def __init__(self, bodies):
        start = replace(START, number=0)
        self.blocks = [Block(start, Body((), (), b""))]
        for block in make_chain(bodies):
            header = replace(block.header, number=len(self.blocks), parent_hash=self.blocks[-1].header.hash)
            self.blocks.append(Block(header, block.body))
        self.final = len(self.blocks) - 1

    def final_height(self):
        return self.final

    def block(self, number):
        return self.blocks[number]


@pytest.fixture
def bitcoin():
    return Bitcoin()


def open_publisher(bitcoin, chain, folder, **given):
    return Publisher(chain, bitcoin, bitcoin, Journal(folder / "publisher"), **given)


def payloads_of(bitcoin):
    reveals = [one for one in bitcoin.sent.values() if len(one.inputs[0].witness) == 3]
    return [parse_envelope(one.inputs[0].witness[1])[0] for one in reveals]


def test_a_payload_is_two_transactions_that_fit(bitcoin, tmp_path):
    publisher = open_publisher(bitcoin, Chain([random_body(500)] * 3), tmp_path)
    entry = publisher.step()
    commit, reveal = bitcoin.sent.values()
    assert (entry.first, entry.last, entry.commit, entry.reveal) == (
        1,
        3,
        show_hash(commit.txid),
        show_hash(reveal.txid),
    )
    spent = commit.outputs[reveal.inputs[0].index]
    signature, script, control = reveal.inputs[0].witness
    payload, key = parse_envelope(script)
    (message,) = compute_sighashes(reveal, (spent,), (Leaf(script, control),))
    check_signature(key, message, signature)
    assert reveal.outputs == (Output(1_000, bytes.fromhex(BACK)),)
    assert bitcoin.fee_asked == "2.000", "where bitcoind cannot tell"
    assert spent.sats - 1_000 == 2 * vsize_of(reveal), "the coin pays for what spends it"
    assert (entry.vsize, entry.fee) == (vsize_of(commit) + vsize_of(reveal), 2 * entry.vsize)
    assert entry.root == data_root(payload).hex()
    assert read_batch([payload]).head.previous == NO_PAYLOAD
    assert (tmp_path / "publisher" / "publisher.key").stat().st_mode & 0o077 == 0


def test_one_payload_is_on_its_way_at_a_time(bitcoin, tmp_path):
    chain = Chain([random_body(200_000, seed) for seed in range(3)])
    publisher = open_publisher(bitcoin, chain, tmp_path)
    first = publisher.step()
    assert (first.first, first.last) == (1, 1)
    assert publisher.step() is None
    assert not publisher.is_settled()
    assert publisher.find_root(3) == NO_PAYLOAD, "nobody can find it yet"
    bitcoin.mine()
    assert publisher.find_root(3).hex() == first.root
    assert publisher.find_root(0) == NO_PAYLOAD
    second = publisher.step()
    assert (second.first, read_head(payloads_of(bitcoin)[1]).previous.hex()) == (2, first.root)
    bitcoin.mine()
    publisher.step()
    bitcoin.mine()
    assert publisher.step() is None
    assert publisher.is_settled()
    assert [entry.last for entry in publisher.entries] == [1, 2, 3]


def test_only_final_blocks_and_enough_of_them(bitcoin, tmp_path):
    chain = Chain([random_body(10)] * 5)
    chain.final = 2
    publisher = open_publisher(bitcoin, chain, tmp_path)
    assert publisher.step(least_blocks=3) is None
    assert publisher.step(least_blocks=2).last == 2


def test_it_waits_for_lower_fees(bitcoin, tmp_path):
    publisher = open_publisher(bitcoin, Chain([random_body(10)]), tmp_path, max_rate=9_999)
    bitcoin.rate = 10_000
    assert publisher.step() is None
    bitcoin.rate = 1
    assert publisher.step() is not None
    assert bitcoin.fee_asked == "1.000"


def test_what_was_journalled_is_sent_again_even_by_another_process(bitcoin, tmp_path):
    chain = Chain([random_body(300)])
    bitcoin.is_down = True
    with pytest.raises(Unreachable):
        open_publisher(bitcoin, chain, tmp_path).step()
    bitcoin.is_down = False
    publisher = open_publisher(bitcoin, chain, tmp_path)
    assert [entry.last for entry in publisher.entries] == [1]
    assert publisher.step() is None
    assert len(bitcoin.sent) == 2
    bitcoin.mine()
    assert publisher.is_settled()
    bitcoin.reorganise()
    assert not publisher.is_settled()
    assert publisher.step() is None
    assert len(bitcoin.sent) == 2
    bitcoin.mine(100)
    publisher.step()
    assert list((tmp_path / "publisher").glob("*.sent")) == [], "too deep to come back"


def test_a_block_that_is_too_large_takes_several(bitcoin, tmp_path):
    chain = Chain([random_body(900_000), random_body(10)])
    publisher = open_publisher(bitcoin, chain, tmp_path)
    for part in range(3):
        entry = open_publisher(bitcoin, chain, tmp_path).step()
        assert (entry.first, entry.last, entry.part, entry.parts) == (1, 1, part, 3)
        assert publisher.find_root(1) == NO_PAYLOAD
        bitcoin.mine()
        publisher = open_publisher(bitcoin, chain, tmp_path)
    assert publisher.find_root(1).hex() == entry.root
    assert read_batch(payloads_of(bitcoin)).head.part == 2
    assert publisher.step().first == 2


def test_another_chain_in_the_middle_of_a_block_is_refused(bitcoin, tmp_path):
    open_publisher(bitcoin, Chain([random_body(900_000)]), tmp_path).step()
    bitcoin.mine()
    with pytest.raises(JournalFault, match="is not the one whose first parts were sent"):
        open_publisher(bitcoin, Chain([random_body(900_000, 1)]), tmp_path).step()


def test_a_wallet_that_does_not_sign_is_named_and_nothing_is_kept(bitcoin, tmp_path):
    bitcoin.complete = False
    publisher = open_publisher(bitcoin, Chain([random_body(10)]), tmp_path)
    with pytest.raises(WalletFault, match="does not sign"):
        publisher.step()
    assert publisher.entries == ()
    assert bitcoin.sent == {}


def test_nothing_is_sent_that_the_disk_did_not_take(bitcoin, tmp_path, monkeypatch):
    publisher = open_publisher(bitcoin, Chain([random_body(10)]), tmp_path)
    on_disk = os.fsync

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JournalFault, match="No space left"):
        publisher.step()
    assert (publisher.entries, bitcoin.sent) == ((), {})
    monkeypatch.setattr(os, "fsync", on_disk)
    entry = publisher.step()
    assert entry is not None
    assert Journal(tmp_path / "publisher").entries == [entry]


@pytest.mark.parametrize("text", ["{", "[{}]", '[{"first": 1}]', "[3]"])
def test_a_damaged_journal_is_named(tmp_path, text):
    Journal(tmp_path)
    (tmp_path / "published.json").write_text(text)
    with pytest.raises(JournalFault, match="cannot be used"):
        Journal(tmp_path)
