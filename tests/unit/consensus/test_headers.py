"""Every header rule accepts the right header and refuses each wrong one by its own name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chain.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, Header, decode_header
from chain.params import ChainParams
from consensus import errors
from consensus.difficulty import compute_difficulty
from consensus.headers import check_header, compute_base_fee, compute_beacon

PARAMS = ChainParams(
    network="test",
    chain_id=1,
    genesis_timestamp=1_000_000,
    gas_limit=30_000_000,
    genesis_base_fee=10**6,
    spacing_s=6,
    asert_half_life_s=3600,
    difficulty_floor=6_291_456,
    max_future_s=12,
    final_window_blocks=20,
)
ZERO = bytes(32)
TICKET = b"\x07" * 32
PARENT = Header(
    parent_hash=ZERO,
    ommers_hash=EMPTY_OMMERS_HASH,
    coinbase=bytes(20),
    state_root=ZERO,
    transactions_root=EMPTY_TRIE_ROOT,
    receipts_root=EMPTY_TRIE_ROOT,
    logs_bloom=bytes(256),
    difficulty=6_291_456,
    number=10,
    gas_limit=30_000_000,
    gas_used=20_000_000,
    timestamp=1_000_060,
    extra_data=ZERO,
    mix_hash=ZERO,
    nonce=bytes(8),
    base_fee_per_gas=10**6,
    withdrawals_root=EMPTY_TRIE_ROOT,
    blob_gas_used=0,
    excess_blob_gas=0,
    parent_beacon_block_root=ZERO,
    requests_hash=ZERO,
)
CHILD = replace(
    PARENT,
    parent_hash=PARENT.hash,
    number=11,
    timestamp=1_000_066,
    mix_hash=compute_beacon(TICKET),
    base_fee_per_gas=compute_base_fee(PARENT),
    difficulty=compute_difficulty(PARAMS, 10, 1_000_060),
)
NOW = 1_000_066


def test_right_header_is_accepted() -> None:
    check_header(CHILD, PARENT, TICKET, PARAMS, NOW)


REJECTED: list[tuple[dict[str, object], type[Exception]]] = [
    ({"parent_hash": ZERO}, errors.WrongParent),
    ({"number": 12}, errors.WrongNumber),
    ({"timestamp": 1_000_060}, errors.TimestampNotAfterParent),
    ({"timestamp": 1_000_079}, errors.FromTheFuture),
    ({"ommers_hash": ZERO}, errors.OmmersRefused),
    ({"blob_gas_used": 131_072}, errors.BlobsRefused),
    ({"excess_blob_gas": 1}, errors.BlobsRefused),
    ({"gas_limit": 30_000_001}, errors.WrongGasLimit),
    ({"gas_used": 30_000_001}, errors.GasAboveLimit),
    ({"base_fee_per_gas": 10**6}, errors.WrongBaseFee),
    ({"difficulty": 6_291_457}, errors.WrongDifficulty),
    ({"mix_hash": compute_beacon(ZERO)}, errors.WrongBeacon),
]


@pytest.mark.parametrize(("change", "rule"), REJECTED)
def test_wrong_header_is_refused_by_name(change: dict[str, object], rule: type[Exception]) -> None:
    with pytest.raises(rule) as caught:
        check_header(replace(CHILD, **change), PARENT, TICKET, PARAMS, NOW)
    assert type(caught.value) is rule


def test_timestamp_at_the_edge_of_the_future_is_accepted() -> None:
    check_header(replace(CHILD, timestamp=NOW + 12), PARENT, TICKET, PARAMS, NOW)


@pytest.mark.parametrize(
    ("gas_used", "expected"),
    [(15_000_000, 10**6), (30_000_000, 1_125_000), (0, 875_000), (15_000_001, 10**6 + 1), (14_999_999, 10**6)],
)
def test_base_fee_moves_by_at_most_an_eighth(gas_used: int, expected: int) -> None:
    assert compute_base_fee(replace(PARENT, gas_used=gas_used)) == expected


VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "headers").glob("*.json"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_vector_on_disk(path: Path) -> None:
    vector = json.loads(path.read_text())
    pre, header = vector["pre"], decode_header(bytes.fromhex(vector["input"]))
    given = (decode_header(bytes.fromhex(pre["parent"])), bytes.fromhex(pre["parent_ticket"]))
    if "post" in vector:
        check_header(header, *given, ChainParams(**pre["params"]), pre["now"])
        assert (header.hash.hex(), header.seal_hash.hex()) == (vector["post"]["hash"], vector["post"]["seal_hash"])
    else:
        with pytest.raises(getattr(errors, vector["error"])):
            check_header(header, *given, ChainParams(**pre["params"]), pre["now"])


def test_the_vectors_are_those_of_the_rules() -> None:
    assert len(VECTORS) == len(REJECTED) + 2
