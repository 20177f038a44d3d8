"""Fast paths equal the definition; openings equal BLAKE3."""

import hyperdust_core as core
import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import Invalid
from pouw import ticket as t

PATHS = {"portable": ["portable"], "avx2": ["portable", "avx2"], "vnni512": ["portable", "avx2", "vnni512"]}[
    core.matmul_path()
]


def tensor(seed, rows, k, bound, *, extreme):
    generator = np.random.default_rng(seed)
    if extreme:
        return generator.choice(np.array([-bound, bound - (bound == 128)], np.int8), (rows, k))
    return generator.integers(-bound, bound + (bound != 128), (rows, k), dtype=np.int8)


@settings(deadline=None, max_examples=60)
@given(
    length=st.one_of(st.integers(0, 20_000), st.sampled_from([1024, 2048, 4096, 65_536, 300_001])),
    data=st.data(),
)
def test_openings_follow_the_tree_of_blake3(length, data):
    content = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8)
    chunks = max(1, -(-length // 1024))
    first = data.draw(st.integers(0, chunks - 1))
    count = data.draw(st.integers(1, chunks - first))
    siblings = core.open_range(content, first, count)
    opened = content[first * 1024 : (first + count) * 1024].tobytes()
    digest = blake3(content.tobytes()).digest()
    assert core.blake3_root(content) == digest
    assert core.range_digest(length, first, opened, siblings) == digest
    assert core.verify_range(digest, length, first, opened, siblings)
    assert core.siblings_size(length, first, count) == len(siblings)
    assert not core.verify_range(digest, length, first, opened, siblings + bytes(32))
    assert not core.verify_range(digest, length, first, opened + b"\0", siblings)
    if first + count == chunks:  # a tree says its length by its last chunk; otherwise the tensor root does
        assert not core.verify_range(digest, length + 1, first, opened, siblings)
    assert not core.verify_range(digest, length, first + 1, opened, siblings)
    for part in (opened, siblings):
        if part:
            at = data.draw(st.integers(0, len(part) - 1))
            wrong = part[:at] + bytes([part[at] ^ 1]) + part[at + 1 :]
            pair = (wrong, siblings) if part is opened else (opened, wrong)
            assert not core.verify_range(digest, length, first, *pair)


@pytest.mark.parametrize("total", [0, 1, 1024, 2**60, 2**60 + 1, 2**64 - 1])
def test_hostile_lengths_are_refused_in_bounded_time(total):
    assert not core.verify_range(bytes(32), total, 0, b"x" * 1024, bytes(32 * 50))
    assert not core.verify_range(bytes(32), total, 2**54, b"", b"")


@settings(deadline=None, max_examples=80)
@given(
    m=st.integers(1, 35),
    n=st.integers(1, 120),
    k=st.integers(1, 300),
    seed=st.integers(0, 2**32),
    extreme=st.booleans(),
)
def test_products_are_exact_over_the_full_range(m, n, k, seed, extreme):
    a = tensor(seed, m, k, 128, extreme=extreme)
    b = tensor(seed + 1, n, k, 128, extreme=extreme)
    expected = a.astype(np.int64) @ b.astype(np.int64).T
    packed = core.PackedWeights(b)
    for path in PATHS:
        assert (core.matmul_i8(a, b, path) == expected).all()
        assert (packed.matmul(a, path) == expected).all()


@pytest.mark.parametrize("value_a", [-128, 127])
@pytest.mark.parametrize("value_b", [-128, 127])
def test_nothing_saturates(value_a, value_b):
    a, b = np.full((9, 8193), value_a, np.int8), np.full((50, 8193), value_b, np.int8)
    for path in PATHS:
        assert (core.matmul_i8(a, b, path) == value_a * value_b * 8193).all()


def test_empty_and_wrong_shapes():
    assert core.matmul_i8(np.zeros((0, 5), np.int8), np.zeros((3, 5), np.int8)).shape == (0, 3)
    assert core.matmul_i8(np.zeros((2, 5), np.int8), np.zeros((0, 5), np.int8)).shape == (2, 0)
    assert (core.matmul_i8(np.zeros((2, 0), np.int8), np.zeros((3, 0), np.int8)) == np.zeros((2, 3))).all()
    with pytest.raises(ValueError, match="k: got"):
        core.matmul_i8(np.zeros((2, 5), np.int8), np.zeros((3, 6), np.int8))


@settings(deadline=None, max_examples=12)
@given(
    m=st.integers(1, 3),
    n=st.integers(1, 5),
    k=st.one_of(st.integers(512, 700), st.sampled_from([1056, 1536, 2047, 2048, 2111, 2112])),
    seed=st.integers(0, 2**32),
    extreme=st.booleans(),
)
def test_mining_equals_its_definition(m, n, k, seed, extreme):
    a = tensor(seed, 16 * m, k, 64, extreme=extreme)
    b = tensor(seed + 1, 16 * n, k, 64, extreme=extreme)
    key_a, key_b = seed.to_bytes(32, "big"), (seed + 1).to_bytes(32, "big")
    limit = 2**255
    slow = t.reference_mine(a, b, key_b, key_a, limit)
    assert (slow.product == a.astype(np.int32) @ b.T.astype(np.int32)).all()
    prepared = t.prepare_weights(b, key_b)
    for path in PATHS:
        product, winners = prepared.native.mine(a, key_a, limit.to_bytes(32, "big"), path)
        assert (product == slow.product).all()
        assert tuple(winners) == slow.winners
        r = t.slice_width(k)
        for row, column, ticket in winners[:2]:
            rows, columns = a[16 * row : 16 * row + 16], b[16 * column : 16 * column + 16]
            replayed = core.replay_tile(rows, columns, row, column, key_a, key_b, r, path)
            assert replayed == t.reference_tile(rows, columns, row, column, key_a, key_b)
            assert replayed[1] == ticket


@pytest.mark.parametrize("k", [8191, 8192, 8300, 16_384])
def test_deep_products_equal_their_definition(k):
    for extreme in (False, True):
        a, b = tensor(k, 16, k, 64, extreme=extreme), tensor(k + 1, 32, k, 64, extreme=extreme)
        slow = t.reference_mine(a, b, b"b" * 32, b"a" * 32, 2**256 - 1)
        fast = t.mine(a, t.prepare_weights(b, b"b" * 32), b"a" * 32, 2**256 - 1)
        assert (fast.product == slow.product).all()
        assert fast.winners == slow.winners


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=400), cut=st.integers(1, 200))
def test_no_bytes_break_the_decoder(data, cut):
    with pytest.raises(Invalid):
        t.TicketProof.decode(data)
    a, b = np.zeros((32, 512), np.int8), np.zeros((16, 512), np.int8)
    encoded = t.open_ticket(a, b, 1, 0).encode()
    assert t.TicketProof.decode(encoded).encode() == encoded
    with pytest.raises(t.TruncatedProof):
        t.TicketProof.decode(encoded[:-cut])
    with pytest.raises(t.TrailingBytes):
        t.TicketProof.decode(encoded + bytes(cut))
