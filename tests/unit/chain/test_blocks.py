"""Codecs: every header, body and block has one encoding; all other bytes are refused by name."""

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from chain.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_TRIE_ROOT,
    MAX_BLOCK_BYTES,
    MAX_CERTIFICATE_BYTES,
    Block,
    Body,
    Header,
    Withdrawal,
    decode_block,
    decode_body,
    decode_header,
    encode_body,
)
from chain.errors import Malformed

hashes = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, 2**64 - 1)
headers = st.builds(
    Header,
    parent_hash=hashes,
    ommers_hash=st.just(EMPTY_OMMERS_HASH),
    coinbase=st.binary(min_size=20, max_size=20),
    state_root=hashes,
    transactions_root=hashes,
    receipts_root=hashes,
    logs_bloom=st.binary(min_size=256, max_size=256),
    difficulty=st.integers(0, 2**256 - 1),
    number=numbers,
    gas_limit=numbers,
    gas_used=numbers,
    timestamp=numbers,
    extra_data=hashes,
    mix_hash=hashes,
    nonce=st.binary(min_size=8, max_size=8),
    base_fee_per_gas=st.integers(0, 2**256 - 1),
    withdrawals_root=st.just(EMPTY_TRIE_ROOT),
    blob_gas_used=numbers,
    excess_blob_gas=numbers,
    parent_beacon_block_root=hashes,
    requests_hash=hashes,
)
withdrawals = st.builds(Withdrawal, numbers, numbers, st.binary(min_size=20, max_size=20), numbers)
bodies = st.builds(
    Body,
    transactions=st.lists(st.binary(min_size=1, max_size=80), max_size=5).map(tuple),
    withdrawals=st.lists(withdrawals, max_size=3).map(tuple),
    certificate=st.binary(max_size=200),
)


@given(headers)
def test_header_round_trip(header: Header) -> None:
    assert decode_header(header.encode()) == header


@given(headers, bodies)
def test_block_round_trip(header: Header, body: Body) -> None:
    block = Block(header, body)
    assert decode_block(block.encode()) == block
    assert decode_body(encode_body(body)) == body


@given(headers, st.binary(min_size=1, max_size=4))
def test_trailing_bytes_are_refused(header: Header, tail: bytes) -> None:
    with pytest.raises(Malformed):
        decode_header(header.encode() + tail)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_decode_to_themselves(data: bytes) -> None:
    try:
        block = decode_block(data)
    except Malformed:
        return
    assert block.encode() == data


@given(headers)
def test_leading_zero_is_refused(header: Header) -> None:
    items = rlp.decode(header.encode())
    items[8] = b"\0" + items[8]
    with pytest.raises(Malformed, match=r"leading zero|bytes"):
        decode_header(rlp.encode(items))


def test_deeply_nested_lists_are_refused() -> None:
    with pytest.raises(Malformed):
        decode_header(b"\xc1" * 100_000)


def test_seal_hash_leaves_out_exactly_extra_data_and_nonce(header: Header) -> None:
    from dataclasses import fields, replace

    for field in fields(Header):
        value = getattr(header, field.name)
        changed = bytes(b ^ 1 for b in value) if isinstance(value, bytes) else value + 1
        differs = replace(header, **{field.name: changed}).seal_hash != header.seal_hash
        assert differs == (field.name not in {"extra_data", "nonce"}), field.name


@pytest.mark.parametrize("size", [MAX_CERTIFICATE_BYTES, MAX_CERTIFICATE_BYTES + 1])
def test_certificate_size_limit(header: Header, size: int) -> None:
    encoded = Block(header, Body((), (), bytes(size))).encode()
    if size <= MAX_CERTIFICATE_BYTES:
        assert len(decode_block(encoded).body.certificate) == size
    else:
        with pytest.raises(Malformed, match="certificate of"):
            decode_block(encoded)


def test_oversize_block_is_refused_before_decoding() -> None:
    with pytest.raises(Malformed, match="at most"):
        decode_block(bytes(MAX_BLOCK_BYTES + 1))


@pytest.fixture
def header() -> Header:
    zero = bytes(32)
    return Header(
        zero, EMPTY_OMMERS_HASH, bytes(20), zero, zero, zero, bytes(256), 1, 1, 30_000_000, 0, 1, zero, zero, bytes(8),
        10**6, EMPTY_TRIE_ROOT, 0, 0, zero, zero,
    )  # fmt: skip
