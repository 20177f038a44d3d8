"""Reads every vector in tests/vectors/tickets: by definition and by the fast path."""

import json
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from chain.errors import Invalid
from pouw import ticket as t
from pouw.trace import dtype_by_name, root_of_bytes

FOLDER = Path(__file__).parents[2] / "vectors" / "tickets"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def encoded_proof(given):
    if "proof" in given:
        return bytes.fromhex(given["proof"])
    data = bytearray(encoded_proof(read(given["base"])["input"]))
    data = data[: given["size"]].ljust(given["size"], b"\0")
    for offset, text in given["edits"]:
        change = bytes.fromhex(text)
        data[offset : offset + len(change)] = change
    return bytes(data)


def run_proof(pre, given, post):
    proof = t.TicketProof.decode(encoded_proof(given))
    parent, seal, nonce = (bytes.fromhex(pre[name]) for name in ("parent_hash", "seal_hash", "nonce"))
    ticket = t.verify(proof, parent, seal, nonce, int(pre["difficulty"]))
    assert post is not None, "accepted"
    assert proof.encode() == encoded_proof(given)
    assert ticket.hex() == post["ticket"]
    key_b = t.compute_key_b(parent, proof.root_b)
    key_a = t.compute_key_a(key_b, seal, nonce, proof.root_a, proof.root_b, proof.m, proof.n, proof.k)
    assert (key_a.hex(), key_b.hex()) == (post["key_a"], post["key_b"])
    skipped = t.span_of_block(proof.m, proof.k, proof.row_block).skipped_bytes
    rows = np.frombuffer(proof.rows_a, np.int8, 16 * proof.k, skipped).reshape(16, -1)
    skipped = t.span_of_block(proof.n, proof.k, proof.column_block).skipped_bytes
    columns = np.frombuffer(proof.columns_b, np.int8, 16 * proof.k, skipped).reshape(16, -1)
    lanes, again = t.reference_tile(rows, columns, proof.row_block, proof.column_block, key_a, key_b)
    assert (lanes.hex(), again) == (post["lanes"], ticket)


def seeded(seed, rows, k):
    data = np.frombuffer(blake3(seed.encode()).digest(rows * k), np.uint8)
    return (data.astype(np.int16) % 129 - 64).astype(np.int8).reshape(rows, k)


def run_product(pre, given, post):
    a, b = seeded(given["seed_a"], given["m"], given["k"]), seeded(given["seed_b"], given["n"], given["k"])
    key_a, key_b = bytes.fromhex(pre["key_a"]), bytes.fromhex(pre["key_b"])
    fast = t.mine(a, t.prepare_weights(b, key_b), key_a, int(pre["limit"]))
    slow = t.reference_mine(a, b, key_b, key_a, int(pre["limit"]))
    for mined in (fast, slow):
        assert [[row, column, ticket.hex()] for row, column, ticket in mined.winners] == post["winners"]
        assert blake3(mined.product.astype("<i4").tobytes()).hexdigest() == post["product_blake3"]


def run_noise(pre, given, post):
    key = bytes.fromhex(pre["key"])
    uniform = t.reference_uniform("E_L", key, given["first_row"], given["rows"], given["r"])
    assert uniform.tolist() == post["uniform"]
    assert t.reference_permutation("E_R", key, given["slice"], given["r"]) == post["permutation"]


def run_root(_pre, given, post):
    root = root_of_bytes(dtype_by_name(given["dtype"]), given["shape"], bytes.fromhex(given["data"]))
    assert root.hex() == post["root"]


RUN = {"proof": run_proof, "product": run_product, "noise": run_noise, "root": run_root}


def test_vectors_are_there():
    assert len(NAMES) > 40


@pytest.mark.parametrize("name", NAMES)
def test_vector(name):
    vector = read(name)
    if "post" in vector:
        RUN[vector["kind"]](vector["pre"], vector["input"], vector["post"])
        return
    with pytest.raises(Invalid) as caught:
        RUN[vector["kind"]](vector["pre"], vector["input"], None)
    assert type(caught.value).__name__ == vector["error"]
