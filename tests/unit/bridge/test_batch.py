"""Batches of blocks: exact, small, bounded; whatever a stranger sends has a name."""

import random
from dataclasses import replace

import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import batch as batches
from bridge.batch import (
    MAX_PARTS,
    NO_PAYLOAD,
    WINDOW_BLOCKS,
    BatchHead,
    apply_header_difference,
    build_payloads,
    encode_header_difference,
    guess_header,
    read_batch,
    read_head,
    rebuild_block,
)
from bridge.data import MAX_PAYLOAD_BYTES, data_root, pack_batch
from bridge.peg_errors import BatchMalformed, DataTooLarge, EnvelopeMalformed
from chain.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_TRIE_ROOT,
    MAX_BLOCK_BYTES,
    MAX_CERTIFICATE_BYTES,
    ZERO_HASH,
    Block,
    Body,
    Header,
    Withdrawal,
    encode_body,
)
from chain.errors import Malformed
from tests.small_chain import SmallChain

START = Header(
    ZERO_HASH, EMPTY_OMMERS_HASH, bytes(20), b"\x01" * 32, EMPTY_TRIE_ROOT, EMPTY_TRIE_ROOT, bytes(256), 4_096, 7,
    30_000_000, 0, 1_800_000_000, ZERO_HASH, ZERO_HASH, bytes(8), 10**6, EMPTY_TRIE_ROOT, 0, 0, ZERO_HASH, ZERO_HASH,
)  # fmt: skip
HASHES = st.binary(min_size=32, max_size=32)
WITHDRAWALS = st.builds(
    Withdrawal, st.integers(0, 99), st.just(0), st.binary(min_size=20, max_size=20), st.integers(0, 2**60)
)
BODIES = st.builds(
    Body,
    st.lists(st.binary(min_size=1, max_size=400), max_size=3).map(tuple),
    st.lists(WITHDRAWALS, max_size=2).map(tuple),
    st.integers(0, 3).map(lambda seed: random.Random(seed).randbytes(2_000)),
    evidence=st.lists(st.binary(min_size=1, max_size=400), max_size=2).map(tuple),
)
HEADERS = st.builds(
    Header, HASHES, HASHES, st.binary(min_size=20, max_size=20), HASHES, HASHES, HASHES,
    st.binary(min_size=256, max_size=256), st.integers(0, 2**255), st.integers(0, 2**63), st.integers(0, 2**63),
    st.integers(0, 2**63), st.integers(0, 2**63), HASHES, HASHES, st.binary(min_size=8, max_size=8),
    st.integers(0, 2**255), HASHES, st.integers(0, 2**63), st.integers(0, 2**63), HASHES, HASHES,
)  # fmt: skip


def make_chain(bodies):
    """Blocks after START whose fields are nothing that any rule allows; batches do not care."""
    blocks, parent = [], START
    for body in bodies:
        header = replace(guess_header(parent, body), timestamp=parent.timestamp + 6, state_root=parent.hash)
        blocks.append(Block(header, body))
        parent = header
    return blocks


def bodies_of(blocks):
    known = {block.header.number: encode_body(block.body) for block in blocks}
    return known.get


def rebuild(payloads, parent, load_body):
    batch, blocks = read_batch(payloads), []
    for index in range(batch.head.count):
        blocks.append(rebuild_block(batch, index, parent, load_body))
        parent = blocks[-1].header
    return blocks


def random_body(size, seed=0):
    return Body((random.Random(seed).randbytes(size),), (), b"certificate")


@settings(deadline=None, max_examples=50)
@given(st.lists(BODIES, min_size=1, max_size=5))
def test_blocks_come_back_exactly(bodies):
    blocks = make_chain(bodies)
    payloads, count = build_payloads(blocks, START, b"\x05" * 32, bodies_of(blocks))
    assert count == len(blocks)
    assert rebuild(payloads, START, bodies_of(blocks)) == blocks
    head = read_head(payloads[0])
    assert head == BatchHead(8, count, 0, 1, START.hash, b"\x05" * 32)
    assert head.last == 7 + count


@settings(deadline=None, max_examples=100)
@given(HEADERS, HEADERS, BODIES)
def test_any_header_is_a_difference_to_any_other(header, parent, body):
    mask, *items = encode_header_difference(Block(header, body), parent)
    difference = int.from_bytes(mask), tuple(items)
    assert apply_header_difference(difference, guess_header(parent, body)) == header


def test_a_mined_chain_in_several_batches(tmp_path):
    chain = SmallChain(tmp_path)
    chain.extend(60)
    view = chain.store.latest
    hashes = [view.canonical_hash(number) for number in range(61)]
    blocks = [Block(view.require_header(one), view.load_body(one)) for one in hashes[1:]]
    parent, previous, left, sizes = view.require_header(hashes[0]), NO_PAYLOAD, blocks, []
    known = {}
    while left:
        payloads, count = build_payloads(left, parent, previous, known.get)
        sizes += map(len, payloads)
        for block in left[:count]:
            known[block.header.number] = encode_body(block.body)
        assert rebuild(payloads, parent, known.get) == left[:count]
        parent, previous, left = left[count - 1].header, data_root(payloads[-1]), left[count:]
    chain.close()
    assert max(sizes) <= MAX_PAYLOAD_BYTES
    plain = sum(len(block.encode()) for block in blocks)
    print(f"{plain / 60:.0f} bytes a block, {sum(sizes) / 60:.0f} in {len(sizes)} payloads")
    assert sum(sizes) < plain / 2


def test_what_an_earlier_body_has_is_left_out():
    weights = random.Random(3).randbytes(20_000)
    first, second = (Body((bytes([tag]) * 9,), (), bytes([tag]) + weights) for tag in (1, 2))
    blocks = make_chain([first, second])
    alone, _ = build_payloads(blocks[:1], START, NO_PAYLOAD, lambda _: None)
    both, _ = build_payloads(blocks, START, NO_PAYLOAD, lambda _: None)
    assert len(both[0]) < len(alone[0]) + 300
    later, _ = build_payloads(blocks[1:], blocks[0].header, data_root(alone[0]), bodies_of(blocks))
    assert len(later[0]) < 400
    assert rebuild(later, blocks[0].header, bodies_of(blocks)) == blocks[1:]
    with pytest.raises(BatchMalformed, match="repeats what block 8 does not have"):
        rebuild(later, blocks[0].header, lambda _: None)


def test_repetitions_end_at_the_window():
    body = random_body(5_000)
    blocks = make_chain([body, *[Body((), (), b"x")] * WINDOW_BLOCKS, body])
    payloads, count = build_payloads(blocks, START, NO_PAYLOAD, lambda _: None)
    assert count == len(blocks)
    assert len(payloads[0]) > 10_000
    assert rebuild(payloads, START, bodies_of(blocks)) == blocks


def test_a_batch_ends_where_the_payload_is_full():
    blocks = make_chain([random_body(100_000, seed) for seed in range(6)])
    payloads, count = build_payloads(blocks, START, NO_PAYLOAD, lambda _: None)
    assert (len(payloads), count) == (1, 3)


def test_a_block_too_large_for_one_payload_gets_several():
    blocks = make_chain([random_body(900_000), random_body(10)])
    payloads, count = build_payloads(blocks, START, NO_PAYLOAD, lambda _: None)
    assert (len(payloads), count) == (3, 1)
    assert [read_head(payload).part for payload in payloads] == [0, 1, 2]
    assert read_head(payloads[1]).previous == data_root(payloads[0])
    assert rebuild(payloads, START, lambda _: None) == blocks[:1]
    for wrong in (payloads[:2], payloads[1:], payloads[::-1], ()):
        with pytest.raises(BatchMalformed):
            read_batch(wrong)
    other, _ = build_payloads(blocks, START, b"\x01" * 32, lambda _: None)
    with pytest.raises(BatchMalformed, match="another batch"):
        read_batch((other[0], *payloads[1:]))


def test_the_largest_block_fits():
    transactions = (random.Random(1).randbytes(MAX_BLOCK_BYTES - MAX_CERTIFICATE_BYTES - 2_000),)
    body = Body(transactions, (), random.Random(2).randbytes(MAX_CERTIFICATE_BYTES))
    (block,) = make_chain([body])
    payloads, _ = build_payloads([block], START, NO_PAYLOAD, lambda _: None)
    assert len(payloads) < MAX_PARTS
    assert rebuild(payloads, START, lambda _: None) == [block]


def piece(data):
    return len(data).to_bytes(4, "little") + data


def again(size, below=1, offset=0):
    return (size | 1 << 31).to_bytes(4, "little") + below.to_bytes(2, "little") + offset.to_bytes(4, "little")


HEAD = BatchHead(8, 1, 0, 1, START.hash, NO_PAYLOAD)
HEADER_ITEMS = bytes(rlp.encode([[b""]]))
BODY = encode_body(Body((), (), b"c", evidence=()))


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ((), "0 items"),
        ((HEAD.encode(), HEADER_ITEMS), "2 items"),
        ((HEAD.encode()[:-1], HEADER_ITEMS, piece(BODY)), "batch head"),
        ((b"\x02" + HEAD.encode()[1:], HEADER_ITEMS, piece(BODY)), "version 2"),
        ((replace(HEAD, first=0).encode(), HEADER_ITEMS, piece(BODY)), "blocks 0"),
        ((replace(HEAD, count=0).encode(), HEADER_ITEMS, piece(BODY)), "blocks 8 to 7"),
        ((replace(HEAD, count=5_000).encode(), HEADER_ITEMS, piece(BODY)), "blocks 8 to 5007"),
        ((replace(HEAD, part=1, parts=1).encode(), HEADER_ITEMS, piece(BODY)), "part 1 of 1"),
        ((replace(HEAD, parts=255).encode(), HEADER_ITEMS, piece(BODY)), "part 0 of 255"),
        ((replace(HEAD, count=2).encode(), HEADER_ITEMS, piece(BODY)), "1 bodies, 2 blocks"),
        ((HEAD.encode(), rlp.encode([]), piece(BODY)), "not a list of 1"),
        ((HEAD.encode(), b"\xff", piece(BODY)), "not RLP"),
        ((HEAD.encode(), rlp.encode([[b"\x01"]]), piece(BODY)), "mask 0x1 with 0 fields"),
        ((HEAD.encode(), rlp.encode([[b"\x20\0\0"]]), piece(BODY)), "mask"),
        ((HEAD.encode(), rlp.encode([[[]]]), piece(BODY)), "no mask"),
        ((HEAD.encode(), bytes(3_000), piece(BODY)), "3000 bytes for 1"),
    ],
)
def test_what_is_no_batch_is_refused(items, reason):
    with pytest.raises(Malformed, match=reason):
        read_batch([pack_batch(items)])


def test_blocks_that_do_not_decode_are_refused():
    def take(headers, *pieces):
        batch = read_batch([pack_batch((HEAD.encode(), bytes(rlp.encode([headers])), b"".join(pieces)))])
        return rebuild_block(batch, 0, START, lambda _: bytes(1 << 20))

    assert take([b""], piece(BODY)).header.number == 8
    with pytest.raises(BatchMalformed, match="needs not be"):
        take([b"\x01\0", (8).to_bytes(1)], piece(BODY))  # bit 8: number
    with pytest.raises(Malformed, match="parent_hash has 3 bytes"):
        take([b"\x01", b"abc"], piece(BODY))
    with pytest.raises(Malformed):
        take([b""], piece(BODY[:-1]))


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ((piece(BODY[:3]), piece(BODY[3:])), "needs not be one"),
        ((piece(b""), piece(BODY)), "needs not be one"),
        ((piece(BODY)[:-1],), "early"),
        ((b"\x01\0\0",), "early"),
        ((again(300)[:-1],), "early"),
        ((again(255),), "repeats 255 bytes of 1 blocks below"),
        ((again(300, 0),), "repeats 300 bytes of 0 blocks below"),
        ((again(300, 257),), "repeats 300 bytes of 257 blocks below"),
        ((again(300, 8),), "repeats what block 0 does not have"),
        ((again(300, 1, (1 << 20) - 299),), "repeats what block 7 does not have"),
        (tuple(again(1 << 20) for _ in range(11)), "more than"),
        (((1 << 31) - 1).to_bytes(4, "little"), "more than"),
    ],
)
def test_pieces_that_make_no_body_are_refused(pieces, reason):
    joined = pieces if isinstance(pieces, bytes) else b"".join(pieces)
    batch = read_batch([pack_batch((HEAD.encode(), HEADER_ITEMS, joined))])
    with pytest.raises(BatchMalformed, match=reason):
        rebuild_block(batch, 0, START, lambda number: bytes(1 << 20) if number else None)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 2**32))
def test_hostile_bytes_have_a_name(raw, seed):
    (payload,), _ = build_payloads(make_chain([random_body(300)] * 2), START, NO_PAYLOAD, lambda _: None)
    at = seed % len(payload)
    for hostile in (raw, payload[:at] + raw, payload[:at] + bytes([payload[at] ^ 1 + seed % 255]) + payload[at + 1 :]):
        for read in (read_head, lambda one: rebuild([one], START, lambda _: None)):
            try:
                read(hostile)
            except (Malformed, EnvelopeMalformed, DataTooLarge):
                continue


def test_building_stops_at_the_bounds(monkeypatch):
    monkeypatch.setattr(batches, "MAX_BLOCKS", 3)
    blocks = make_chain([random_body(10)] * 5)
    assert build_payloads(blocks, START, NO_PAYLOAD, lambda _: None)[1] == 3
