"""Writes the ticket vectors from the definition, when a rule changes: python -m tests.vectors.tickets.make."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from blake3 import blake3

from pouw import ticket as t
from pouw.trace import INT8, UINT8, root_of_bytes, tensor_root

HERE = Path(__file__).parent
PARENT, SEAL = bytes(range(32)), bytes(range(32, 64))


def operands(seed, rows, k):
    data = np.frombuffer(blake3(seed.encode()).digest(rows * k), np.uint8)
    return (data.astype(np.int16) % 129 - 64).astype(np.int8).reshape(rows, k)


def write(name, kind, pre, given, post=None, error=None):
    vector = {"kind": kind, "pre": pre, "input": given}
    if post is not None:
        vector["post"] = post
    if error is not None:
        vector["error"] = error
    (HERE / f"{name}.json").write_text(json.dumps(vector, indent=1) + "\n")


def header(nonce, difficulty, parent=PARENT, seal=SEAL):
    return {
        "parent_hash": parent.hex(),
        "seal_hash": seal.hex(),
        "nonce": nonce.hex(),
        "difficulty": str(difficulty),
    }


def keys(a, b, nonce):
    (m, k), n = a.shape, b.shape[0]
    root_a, root_b = tensor_root(a), tensor_root(b)
    key_b = t.compute_key_b(PARENT, root_b)
    return key_b, t.compute_key_a(key_b, SEAL, nonce, root_a, root_b, m, n, k)


def search(a, b, wanted):
    """The first nonce and tile whose ticket is wanted."""
    for count in range(100_000):
        nonce = count.to_bytes(8, "big")
        key_b, key_a = keys(a, b, nonce)
        mined = t.mine(a, t.prepare_weights(b, key_b), key_a, 2**256 - 1)
        for row_block, column_block, ticket in mined.winners:
            if wanted(int.from_bytes(ticket, "big")):
                return nonce, row_block, column_block
    raise LookupError


def edits_between(base, changed):
    """Where `changed` differs from `base`, as [offset, hex], and its size."""
    edits, at = [], 0
    while at < len(changed):
        if at < len(base) and base[at] == changed[at]:
            at += 1
            continue
        end = at
        while end < len(changed) and (end >= len(base) or base[end] != changed[end]):
            end += 1
        edits.append([at, changed[at:end].hex()])
        at = end
    return edits


def flipped(data, at=0):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def with_operand(a, row, value):
    changed = a.copy()
    changed[row, 7] = value
    return changed


def write_proofs():  # noqa: PLR0915 - a list of cases
    a, b = operands("A", 48, 512), operands("B", 64, 512)
    difficulty = 16 * 256 * 512
    nonce, row_block, column_block = search(a, b, lambda ticket: ticket <= t.threshold(difficulty, 512))
    proof = t.open_ticket(a, b, row_block, column_block)
    base = proof.encode()
    pre = header(nonce, difficulty)
    key_b, key_a = keys(a, b, nonce)
    rows = a[row_block * 16 : (row_block + 1) * 16]
    columns = b[column_block * 16 : (column_block + 1) * 16]
    lanes, ticket = t.reference_tile(rows, columns, row_block, column_block, key_a, key_b)
    post = {"ticket": ticket.hex(), "lanes": lanes.hex(), "key_a": key_a.hex(), "key_b": key_b.hex()}
    write("proof_accepted", "proof", pre, {"proof": base.hex()}, post)

    def refuse(name, error, changed=proof, given=pre, base_name="proof_accepted", against=base):
        encoded = changed if isinstance(changed, bytes) else changed.encode()
        edits = {"base": base_name, "edits": edits_between(against, encoded), "size": len(encoded)}
        write(f"proof_refused_{name}", "proof", given, edits, error=error)

    refuse("other_parent", "TicketAboveTarget", given=header(nonce, difficulty, parent=flipped(PARENT)))
    refuse("other_seal_hash", "TicketAboveTarget", given=header(nonce, difficulty, seal=flipped(SEAL)))
    refuse("other_nonce", "TicketAboveTarget", given=header(flipped(nonce), difficulty))
    refuse("above_target", "TicketAboveTarget", given=header(nonce, 2**255))
    refuse("difficulty_zero", "DifficultyRefused", given=header(nonce, 0))
    refuse("other_root_a", "WrongRootA", replace(proof, root_a=flipped(proof.root_a)))
    refuse("other_root_b", "WrongRootB", replace(proof, root_b=flipped(proof.root_b)))
    at = next(at for at, byte in enumerate(proof.rows_a) if byte < 60)
    refuse("rows_a_byte", "WrongRootA", replace(proof, rows_a=flipped(proof.rows_a, at)))
    at = next(at for at, byte in enumerate(proof.columns_b) if byte < 60)
    refuse("columns_b_byte", "WrongRootB", replace(proof, columns_b=flipped(proof.columns_b, at)))
    refuse("path_a_byte", "WrongRootA", replace(proof, path_a=flipped(proof.path_a, 40)))
    refuse("path_b_byte", "WrongRootB", replace(proof, path_b=flipped(proof.path_b)))
    refuse("row_block_off_lattice", "TileOffLattice", replace(proof, row_block=3))
    refuse("column_block_off_lattice", "TileOffLattice", replace(proof, column_block=4))
    refuse("row_block_other", "TrailingBytes", replace(proof, row_block=(row_block + 1) % 3))  # fewer siblings
    refuse("column_block_other", "WrongRootB", replace(proof, column_block=(column_block + 1) % 4))
    refuse("m_not_whole_tiles", "ShapeRefused", replace(proof, m=47))
    refuse("m_zero", "ShapeRefused", replace(proof, m=0))
    refuse("m_above_bound", "ShapeRefused", replace(proof, m=4112))
    refuse("n_not_whole_tiles", "ShapeRefused", replace(proof, n=72))
    refuse("n_above_bound", "ShapeRefused", replace(proof, n=32_784))
    refuse("k_too_small", "ShapeRefused", replace(proof, k=511))
    refuse("k_too_large", "ShapeRefused", replace(proof, k=16_385))
    refuse("k_needs_wider_slices", "TruncatedProof", replace(proof, k=2048))
    refuse("trailing_byte", "TrailingBytes", base + b"\0")
    refuse("truncated", "TruncatedProof", base[:-1])
    refuse("header_only_half", "TruncatedProof", base[:40])
    row, column = row_block * 16, column_block * 16
    for name, value in (("65", 65), ("minus_65", -65), ("minus_128", -128)):
        changed = t.open_ticket(with_operand(a, row, value), b, row_block, column_block)
        refuse(f"operand_a_{name}", "OperandOutOfRange", changed)
    changed = t.open_ticket(a, with_operand(b, column, 65), row_block, column_block)
    refuse("operand_b_65", "OperandOutOfRange", changed)
    as_uint8 = root_of_bytes(UINT8, a.shape, a.tobytes())
    refuse("root_a_of_other_dtype", "WrongRootA", replace(proof, root_a=as_uint8))
    as_shape = root_of_bytes(INT8, (96, 256), a.tobytes())
    refuse("root_a_of_other_shape", "WrongRootA", replace(proof, root_a=as_shape))
    as_shape = root_of_bytes(INT8, (512, 64), b.tobytes())
    refuse("root_b_of_other_shape", "WrongRootB", replace(proof, root_b=as_shape))

    a, b = operands("A tail", 32, 543), operands("B tail", 48, 543)
    difficulty = 16 * 256 * 512
    limit, wrong = t.threshold(difficulty, 543), 2**256 // difficulty * 256 * 543
    nonce, row_block, column_block = search(a, b, lambda ticket: ticket <= limit)
    proof = t.open_ticket(a, b, row_block, column_block)
    base = proof.encode()
    key_b, key_a = keys(a, b, nonce)
    rows, columns = a[row_block * 16 :][:16], b[column_block * 16 :][:16]
    lanes, ticket = t.reference_tile(rows, columns, row_block, column_block, key_a, key_b)
    post = {"ticket": ticket.hex(), "lanes": lanes.hex(), "key_a": key_a.hex(), "key_b": key_b.hex()}
    write("proof_accepted_tail", "proof", header(nonce, difficulty), {"proof": base.hex()}, post)
    nonce, row_block, column_block = search(a, b, lambda ticket: limit < ticket <= wrong)
    changed = t.open_ticket(a, b, row_block, column_block)
    refuse("tail_of_k_counted", "TicketAboveTarget", changed, header(nonce, difficulty), "proof_accepted_tail", base)
    outside = flipped(proof.rows_a, 0 if row_block or proof.row_block else -1 % len(proof.rows_a))
    refuse(
        "byte_beside_the_rows",
        "WrongRootA",
        replace(proof, rows_a=outside),
        header(nonce, difficulty),
        "proof_accepted_tail",
        base,
    )


def write_products():
    for m, n, k in ((16, 16, 512), (32, 48, 1536), (16, 32, 2047), (16, 32, 2100), (16, 16, 8191), (16, 16, 8200)):
        a, b = operands("A", m, k), operands("B", n, k)
        key_b, key_a = keys(a, b, bytes(8))
        limit = 2**255
        mined = t.reference_mine(a, b, key_b, key_a, limit)
        post = {
            "winners": [[row, column, ticket.hex()] for row, column, ticket in mined.winners],
            "product_blake3": blake3(mined.product.astype("<i4").tobytes()).hexdigest(),
        }
        pre = {"key_a": key_a.hex(), "key_b": key_b.hex(), "limit": str(limit)}
        write(f"product_{m}_{n}_{k}", "product", pre, {"seed_a": "A", "seed_b": "B", "m": m, "n": n, "k": k}, post)


def write_noise():
    key = bytes(range(32))
    for r in (32, 64, 128):
        post = {
            "uniform": t.reference_uniform("E_L", key, 5, 2, r).tolist(),
            "permutation": t.reference_permutation("E_R", key, 3, r),
        }
        write(f"noise_{r}", "noise", {"key": key.hex()}, {"r": r, "first_row": 5, "rows": 2, "slice": 3}, post)


def write_roots():
    for name, array in (
        ("int8", operands("A", 3, 700)),
        ("empty", np.zeros((0, 3), np.int16)),
        ("scalar", np.array(-5, np.int32)),
        ("int64", np.arange(-300, 300, dtype=np.int64).reshape(2, 3, 100)),
        ("uint8", np.arange(256, dtype=np.uint8)),
    ):
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        given = {"dtype": array.dtype.name, "shape": list(array.shape), "data": data.hex()}
        write(f"root_{name}", "root", {}, given, {"root": tensor_root(array).hex()})
    write("root_refused_dtype", "root", {}, {"dtype": "float32", "shape": [1], "data": "00" * 4}, error="UnknownDType")
    refused = {"dtype": "int8", "shape": [2, 2], "data": "00" * 5}
    write("root_refused_size", "root", {}, refused, error="ShapeRefusedByRoot")
    refused = {"dtype": "int8", "shape": [1] * 9, "data": "00"}
    write("root_refused_rank", "root", {}, refused, error="ShapeRefusedByRoot")


for old in HERE.glob("*.json"):
    old.unlink()
write_proofs()
write_products()
write_noise()
write_roots()
