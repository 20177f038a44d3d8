"""Data envelopes: one encoding, bounded, found by their root."""

import random
import zlib

import pytest
from btclib.script.engine import verify_transaction
from btclib.tx.tx import Tx
from btclib.tx.tx_out import TxOut
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import data
from bridge.data import (
    MAX_PAYLOAD_BYTES,
    data_root,
    envelope_output,
    envelope_script,
    find_envelopes,
    find_payload,
    pack_batch,
    parse_envelope,
    unpack_batch,
)
from bridge.peg_errors import DataTooLarge, EnvelopeMalformed
from bridge.taproot import compute_sighashes, vsize_of
from bridge.transactions import Input, Output, Transaction
from tests.unit.bridge.keys import make_key, sign

KEY = make_key(40)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_batches_round_trip(items):
    assert unpack_batch(pack_batch(items)) == tuple(items)


@settings(deadline=None)
@given(st.integers(0, 2_000) | st.sampled_from([501, 502, 503, 504, 505, 1011, 1012]))
def test_envelopes_round_trip(size):
    payload = random.Random(size).randbytes(size)
    script = envelope_script(payload, KEY)
    assert parse_envelope(script) == (payload, KEY)
    with pytest.raises(EnvelopeMalformed):
        parse_envelope(script + b"\x51")
    with pytest.raises(EnvelopeMalformed):
        parse_envelope(script[:-1])


def test_pushes_are_short_and_minimal():
    script = envelope_script(bytes(1000), KEY)
    assert script.startswith(b"\x4c\xff" + b"HYPD\x12" + (1000).to_bytes(4, "little"))
    assert script.endswith(b"\x6d\x20" + KEY + b"\xac")
    for size in range(490, 520):
        pair = envelope_script(bytes(size), KEY)[:-34]
        assert pair[-1:] == b"\x6d"


def test_a_spend_reveals_it():
    payload = random.Random(1).randbytes(20_000)
    script, leaf = envelope_output(payload, KEY)
    transaction = Transaction(2, (Input(bytes(32), 0, b"", 0xFFFFFFFD),), (Output(330, script),), 0)
    coins = (Output(10_000, script),)
    (message,) = compute_sighashes(transaction, coins, (leaf,))
    spent = Input(bytes(32), 0, b"", 0xFFFFFFFD, (sign(KEY, message), leaf.script, leaf.control))
    transaction = Transaction(2, (spent,), transaction.outputs, 0)
    verify_transaction([TxOut(coins[0].sats, script)], Tx.parse(transaction.encode()))
    assert find_payload(transaction, data_root(payload)) == payload
    assert find_payload(transaction, bytes(32)) is None
    assert vsize_of(transaction) * 1000 // len(payload) < 260


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\x51",
        b"\x20" + KEY + b"\xac",
        envelope_script(b"x", KEY).replace(b"HYPD", b"HYPE"),
        envelope_script(b"x" * 100, KEY).replace(b"\x12\x64", b"\x12\x65"),
        envelope_script(b"x" * 100, KEY).replace(b"\x6d\x20", b"\x75\x20"),
        envelope_script(b"x" * 100, KEY[:31]),
    ],
)
def test_other_scripts_are_no_envelope(wrong):
    with pytest.raises(EnvelopeMalformed):
        parse_envelope(wrong)


def test_envelopes_are_found_between_other_witnesses():
    shown = [envelope_script(payload, KEY) for payload in (b"one", b"two")]
    witnesses = ((bytes(64),), (bytes(64), shown[0], bytes(33)), (bytes(64), b"\x51", bytes(33)), ())
    witnesses += ((bytes(64), shown[1], bytes(33)), (shown[0], bytes(33)))
    inputs = tuple(Input(bytes(32), at, b"", 0, witness) for at, witness in enumerate(witnesses))
    found = list(find_envelopes(Transaction(2, inputs, (), 0)))
    assert found == [(b"one", KEY), (b"two", KEY)]


def test_bounds(monkeypatch):
    assert len(envelope_script(bytes(MAX_PAYLOAD_BYTES), KEY)) < 397_000
    with pytest.raises(DataTooLarge):
        envelope_script(bytes(MAX_PAYLOAD_BYTES + 1), KEY)
    monkeypatch.setattr(data, "MAX_BATCH_BYTES", 1_000)
    with pytest.raises(DataTooLarge):
        pack_batch([bytes(1_000)])
    with pytest.raises(DataTooLarge):
        unpack_batch(zlib.compress(bytes(1_001)))
    with pytest.raises(DataTooLarge, match="items"):
        unpack_batch(zlib.compress(b"\x01\x00\x01\x00"))
    monkeypatch.setattr(data, "MAX_PAYLOAD_BYTES", 500)
    with pytest.raises(DataTooLarge):
        pack_batch([random.Random(2).randbytes(900)])


@pytest.mark.parametrize(
    "wrong",
    [
        b"no zlib",
        zlib.compress(bytes(4))[:-1],
        zlib.compress(bytes(4)) + b"\x00",
        zlib.compress(b"\x01\x00\x00\x00"),
        zlib.compress(b"\x00\x00\x00\x00\x00"),
        zlib.compress(b"\xff\xff\x00\x00"),
    ],
)
def test_other_payloads_do_not_unpack(wrong):
    with pytest.raises(EnvelopeMalformed):
        unpack_batch(wrong)
