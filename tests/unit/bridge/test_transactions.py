"""Transactions in their one encoding."""

from dataclasses import replace

import pytest

from bridge.errors import TransactionMalformed
from bridge.transactions import MAX_SATS, Input, Output, Reader, Transaction, encode_size
from bridge.work import sha256d, show_hash
from tests.unit.bridge.merkle import transaction

GENESIS_COINBASE = bytes.fromhex(
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d0104455468652054"
    "696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420"
    "666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61"
    "deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)
BIP143 = bytes.fromhex(  # the signed P2WPKH example
    "01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830450221008b9d1dc26ba6"
    "a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f9281a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc"
    "618ef3ed01eeffffffef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb20600"
    "0000001976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0"
    "167faa815988ac000247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c4518331561"
    "406f90300e8f3358f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee63"
    "5711000000"
)


def test_the_first_transaction():
    made = Transaction.decode(GENESIS_COINBASE)
    assert made.encode() == GENESIS_COINBASE
    assert show_hash(made.txid) == "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
    assert made.is_coinbase
    assert [coin.sats for coin in made.outputs] == [50 * 10**8]


def test_a_witness_stays_out_of_the_id():
    made = Transaction.decode(BIP143)
    assert made.encode() == BIP143
    assert [len(spent.witness) for spent in made.inputs] == [0, 2]
    assert [coin.sats for coin in made.outputs] == [112_340_000, 223_450_000]
    assert made.lock_time == 17
    stripped = made.encode_stripped()
    assert sha256d(stripped) == made.txid
    assert stripped[4:6] != b"\x00\x01"
    assert Transaction.decode(stripped).txid == made.txid
    assert not made.is_coinbase


def test_every_cut_is_refused():
    for raw in (GENESIS_COINBASE, BIP143):
        for size in range(len(raw)):
            with pytest.raises(TransactionMalformed):
                Transaction.decode(raw[:size])
        with pytest.raises(TransactionMalformed):
            Transaction.decode(raw + b"\x00")


def test_what_is_no_transaction():
    made = transaction(1)
    signed = transaction(1, witness=(b"x",))
    empty = signed.encode()[:-7] + b"\x00" + bytes(4)
    assert len(empty) == len(made.encode()) + 3
    wrong = {
        "no inputs": replace(made, inputs=()).encode_stripped(),
        "no outputs": replace(made, outputs=()).encode(),
        "a witness that is empty": empty,
        "an unknown flag": signed.encode()[:5] + b"\x02" + signed.encode()[6:],
        "more than there is": replace(made, outputs=(Output(MAX_SATS, b""), Output(1, b""))).encode(),
        "a long count": made.encode()[:4] + b"\xfd\x01\x00" + made.encode()[5:],
        "a huge count": made.encode()[:4] + b"\xff" * 9 + made.encode()[5:],
        "a huge size": bytes(4_000_001),
    }
    for what, raw in wrong.items():
        with pytest.raises(TransactionMalformed):
            print(what, Transaction.decode(raw))
    most = replace(made, outputs=(Output(MAX_SATS - 1, b""), Output(1, b"")))
    assert Transaction.decode(most.encode()) == most


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (0, "00"),
        (0xFC, "fc"),
        (0xFD, "fdfd00"),
        (0xFFFF, "fdffff"),
        (0x10000, "fe00000100"),
        (0xFFFFFFFF, "feffffffff"),
        (0x100000000, "ff0000000001000000"),
    ],
)
def test_compact_sizes(value, raw):
    assert encode_size(value).hex() == raw
    assert Reader(bytes.fromhex(raw)).size() == value


@pytest.mark.parametrize("raw", ["fdfc00", "fd0000", "feffff0000", "ffffffffff00000000", "fd00", "fe000001", "ff", ""])
def test_compact_sizes_have_one_form(raw):
    with pytest.raises(TransactionMalformed):
        Reader(bytes.fromhex(raw)).size()


def test_a_coinbase_has_one_input_and_it_is_null():
    null = Input(bytes(32), 0xFFFFFFFF, b"", 0)
    base = transaction(1)
    assert replace(base, inputs=(null,)).is_coinbase
    assert not replace(base, inputs=(null, null)).is_coinbase
    assert not replace(base, inputs=(replace(null, index=0),)).is_coinbase
