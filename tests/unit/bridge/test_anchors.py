"""The 80 bytes of an anchor."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.anchors import ANCHOR_BYTES, NO_DATA, Anchor, AnchoredFacts, find_anchor
from bridge.peg_errors import AnchorMalformed, AnchorMismatch
from bridge.transactions import Input, Output, Transaction

FACTS = AnchoredFacts(b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, b"\x04" * 32, 5, bytes(32))
ANCHOR = Anchor(0x010203, 0x0A0B, FACTS.commitment, b"\x09" * 32)
HASHES = st.binary(min_size=32, max_size=32)


def carry(*outputs):
    return Transaction(2, (Input(bytes(32), 0, b"", 0),), outputs, 0)


def test_the_layout():
    raw = ANCHOR.encode()
    assert len(raw) == ANCHOR_BYTES
    assert raw[:16].hex() == "48595044" + "11" + "030201" + "0b0a000000000000"
    assert raw[16:48] == FACTS.commitment
    assert raw[48:] == b"\x09" * 32
    assert ANCHOR.script == b"\x6a\x4c\x50" + raw
    assert Anchor(0, 0, bytes(32)).data_root == NO_DATA


def test_the_commitment_is_pinned():
    assert FACTS.commitment.hex() == PINNED
    assert ANCHOR.id != FACTS.commitment


PINNED = "1f77db3b586b4542b426d65022dc508b18ada21a23b919718f4ab35c6103289e"


@given(st.builds(Anchor, st.integers(0, 2**24 - 1), st.integers(0, 2**64 - 1), HASHES, HASHES))
def test_anchors_round_trip(anchor):
    assert Anchor.decode(anchor.encode()) == anchor
    assert find_anchor(carry(Output(1, b"\x51"), Output(0, anchor.script))) == anchor


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (ANCHOR.encode()[:-1], "79 bytes"),
        (ANCHOR.encode() + b"\x00", "81 bytes"),
        (b"HYPE" + ANCHOR.encode()[4:], "starts with"),
        (b"HYPD\x21" + ANCHOR.encode()[5:], "version and type"),
        (b"HYPD\x12" + ANCHOR.encode()[5:], "version and type"),
    ],
)
def test_other_bytes_are_no_anchor(raw, reason):
    with pytest.raises(AnchorMalformed, match=reason):
        Anchor.decode(raw)


def test_an_anchor_stands_at_output_1():
    other = Output(1, b"\x51")
    assert find_anchor(carry(other)) is None
    assert find_anchor(carry(other, other)) is None
    assert find_anchor(carry(other, other, Output(0, ANCHOR.script))) is None
    for bad in (Output(1, ANCHOR.script), Output(0, b"\x6a\x05Hello"), Output(0, b"\x6a\x4c\x50" + bytes(80))):
        with pytest.raises(AnchorMalformed):
            find_anchor(carry(other, bad))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(AnchoredFacts)])
def test_every_fact_is_committed_to(field):
    ANCHOR.check_facts(FACTS)
    changed = dataclasses.replace(FACTS, **{field: 6 if field == "vault_sats" else b"\x08" * 32})
    with pytest.raises(AnchorMismatch):
        ANCHOR.check_facts(changed)
