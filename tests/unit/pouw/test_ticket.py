"""The lottery inside a product: rules, one by one. Byte-exact cases: tests/vectors/tickets."""

from dataclasses import fields, replace

import numpy as np
import pytest

from chain.errors import Invalid
from pouw import ticket as t
from pouw.trace import tensor_root

PARENT, SEAL, NONCE = b"p" * 32, b"s" * 32, b"nonce..1"


@pytest.fixture(scope="module")
def operands():
    generator = np.random.default_rng(7)
    return tuple(generator.integers(-64, 65, (rows, 530), dtype=np.int8) for rows in (32, 48))


def keys(a, b):
    (m, k), n = a.shape, b.shape[0]
    root_a, root_b = tensor_root(a), tensor_root(b)
    key_b = t.compute_key_b(PARENT, root_b)
    return key_b, t.compute_key_a(key_b, SEAL, NONCE, root_a, root_b, m, n, k)


def test_slice_width():
    widths = [t.slice_width(k) for k in (512, 2047, 2048, 8191, 8192, 16_384)]
    assert widths == [32, 32, 64, 64, 128, 128]


@pytest.mark.parametrize("k", [512, 2047, 2048, 2111, 8191, 8192])
def test_noise_has_rank_one_below_its_width(k):
    r = t.slice_width(k)
    cycles = t.reference_cycles("E_R", b"k" * 32, k)
    assert not cycles[:, k - k % r :].any()
    for index in range(k // r)[:4]:
        part = cycles[:, index * r : (index + 1) * r]
        assert np.linalg.matrix_rank(part) == r - 1
        assert (np.abs(part).sum(axis=0) == 2).all()
        assert (np.abs(part).sum(axis=1) == 2).all()
    assert np.linalg.matrix_rank(cycles) == r - 1


def test_factors_stay_in_range_and_streams_are_seekable():
    rows = t.reference_uniform("E_L", b"k" * 32, 0, 400, 32)
    assert (rows.min(), rows.max()) == (-32, 31)
    assert (t.reference_uniform("E_L", b"k" * 32, 390, 10, 32) == rows[390:]).all()
    assert not (t.reference_uniform("F_R", b"k" * 32, 0, 400, 32) == rows).all()


def test_verify_accepts_every_tile_that_mine_found(operands):
    a, b = operands
    key_b, key_a = keys(a, b)
    difficulty = 4 * 256 * 512
    mined = t.mine(a, t.prepare_weights(b, key_b), key_a, t.threshold(difficulty, 530))
    everything = t.mine(a, t.prepare_weights(b, key_b), key_a, 2**256 - 1)
    assert (mined.product == a.astype(np.int32) @ b.T.astype(np.int32)).all()
    assert len(everything.winners) == 6
    for row_block, column_block, ticket in everything.winners:
        proof = t.TicketProof.decode(t.open_ticket(a, b, row_block, column_block).encode())
        if (row_block, column_block, ticket) in mined.winners:
            assert t.wins(ticket, difficulty, 530)
            assert t.verify(proof, PARENT, SEAL, NONCE, difficulty) == ticket
        else:
            with pytest.raises(t.TicketAboveTarget):
                t.verify(proof, PARENT, SEAL, NONCE, difficulty)


def test_ticket_depends_on_every_part_of_its_keys(operands):
    a, b = operands
    proof = t.open_ticket(a, b, 1, 2)
    tickets = {
        t.verify(proof, PARENT, SEAL, NONCE, 1),
        t.verify(proof, b"q" * 32, SEAL, NONCE, 1),
        t.verify(proof, PARENT, b"q" * 32, NONCE, 1),
        t.verify(proof, PARENT, SEAL, b"nonce..2", 1),
    }
    assert len(tickets) == 4


def test_every_field_of_a_proof_is_bound(operands):
    a, b = operands
    proof = t.open_ticket(a, b, 1, 1)
    t.verify(proof, PARENT, SEAL, NONCE, 1)
    for field in fields(proof):
        value = getattr(proof, field.name)
        others = [value + 16, value - 16, value + 1] if isinstance(value, int) else [value[:-1], value + b"\0"]
        if isinstance(value, bytes):
            others += [value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] for at in (0, len(value) - 1)]
        for other in others:
            with pytest.raises(Invalid):
                t.verify(replace(proof, **{field.name: other}), PARENT, SEAL, NONCE, 1)


def test_operands_are_seven_bits(operands):
    a, b = operands
    for value in (65, -65, 127, -128):
        wrong = a.copy()
        wrong[3, 3] = value
        with pytest.raises(t.OperandOutOfRange):
            t.mine(wrong, t.prepare_weights(b, b"k" * 32), b"k" * 32, 0)
        with pytest.raises(t.OperandOutOfRange):
            t.prepare_weights(wrong, b"k" * 32)
        with pytest.raises(t.OperandOutOfRange):
            t.verify(t.open_ticket(wrong, b, 0, 0), PARENT, SEAL, NONCE, 1)
        t.verify(t.open_ticket(wrong, b, 1, 0), PARENT, SEAL, NONCE, 1)  # only the opened tile is seen


@pytest.mark.parametrize(
    ("m", "n", "k"), [(15, 16, 512), (0, 16, 512), (16, 24, 512), (16, 16, 511), (4112, 16, 512), (16, 16, 16_385)]
)
def test_shapes_refused(m, n, k):
    with pytest.raises(t.ShapeRefused):
        t.check_shape(m, n, k)


@pytest.mark.parametrize(("m", "n", "k"), [(16, 16, 512), (4096, 32_768, 16_384), (16, 16, 2048), (16, 16, 8193)])
def test_shapes_accepted(m, n, k):
    t.check_shape(m, n, k)


def test_depths_below_sixteen_slices_are_refused():
    for k in (*range(480, 512), 2047 // 64):
        with pytest.raises(t.ShapeRefused):
            t.check_shape(16, 16, k)


def test_threshold_counts_whole_slices_and_is_clamped():
    assert t.threshold(2**200, 543) == 2**56 * 256 * 512
    assert t.threshold(1, 512) == 2**256 - 1
    for difficulty in (0, -1, 2**256):
        with pytest.raises(t.DifficultyRefused):
            t.threshold(difficulty, 512)
    assert t.wins(t.threshold(2**100, 512).to_bytes(32, "big"), 2**100, 512)
    assert not t.wins((t.threshold(2**100, 512) + 1).to_bytes(32, "big"), 2**100, 512)


def test_largest_proof_fits_its_bound():
    for block in (0, 1, 777, 2047):
        span = t.span_of_block(t.MAX_COLUMNS, t.MAX_DEPTH - 1, block)
        assert span.siblings_bytes <= 32 * t.MAX_SIBLINGS
        assert t.HEADER_BYTES + 2 * (span.size_bytes + span.siblings_bytes) <= t.MAX_PROOF_BYTES
    assert t.MAX_PROOF_BYTES < 600 * 1024
