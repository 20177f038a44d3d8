"""Ethereum's own vectors: the state tests, and a chain that passes through every fork from Frontier to BPO2."""

import json
import tarfile
from pathlib import Path

import pytest
import rlp

from chain.engine import AccountOverride, BlockEnvironment, decode_transactions, execute, genesis_state
from chain.hashing import keccak256
from chain.state import block_hash_key
from hyperdust.statetest import run_files

VECTORS = Path(__file__).parents[2] / ".." / "shared" / "vectors"
CASES = 2252
ETHER_IN_GWEI = 10**9
BLOCK_NUMBERS = [(0, "Homestead"), (3, "TangerineWhistle"), (6, "SpuriousDragon"), (9, "Byzantium"),
                 (12, "Constantinople"), (18, "Istanbul"), (24, "Berlin"), (27, "London"), (36, "Paris")]  # fmt: skip
TIMES = [(390, "Shanghai"), (420, "Cancun"), (450, "Prague"), (480, "Osaka"), (510, "BPO1"), (540, "BPO2")]


def extract(name, folder):
    if not (VECTORS / name).exists():
        pytest.skip(f"../shared/vectors/{name} is absent")
    with tarfile.open(VECTORS / name) as archive:
        archive.extractall(folder, filter="data")


def test_all_state_tests(tmp_path):
    extract("state_tests.tar.xz", tmp_path)
    results = list(run_files(sorted(tmp_path.rglob("*.json"))))
    assert [result for result in results if not result["pass"]] == []
    assert len(results) == CASES


def fork_at(number, timestamp):
    named = [fork for start, fork in BLOCK_NUMBERS if number >= start] + [
        fork for start, fork in TIMES if timestamp >= start
    ]
    return named[-1]


def rewards_of(number, difficulty, coinbase, ommers):
    """Proof-of-work rewards as credits in Gwei."""
    if not difficulty:
        return []
    base = (5 if number < 9 else 3 if number < 12 else 2) * ETHER_IN_GWEI
    credits_ = [(0, 0, coinbase, base + len(ommers) * base // 32)]
    return credits_ + [(0, 0, ommer[2], base * (8 - number + number_of(ommer[8])) // 8) for ommer in ommers]


def blocks_of(data):
    while data:
        size = rlp.codec.consume_length_prefix(data, 0)
        end = size[3] + size[2]
        yield rlp.decode(data[:end])
        data = data[end:]


def number_of(item):
    return int.from_bytes(item, "big")


def environment_of(header, chain_id):
    number, timestamp = number_of(header[8]), number_of(header[11])
    return BlockEnvironment(
        chain_id=chain_id,
        fork=fork_at(number, timestamp),
        number=number,
        timestamp=timestamp,
        coinbase=header[2],
        gas_limit=number_of(header[9]),
        base_fee=number_of(header[15]) if len(header) > 15 else 0,
        prev_randao=header[13],
        parent_hash=header[0],
        parent_beacon_root=header[19] if len(header) > 19 else None,
        difficulty=number_of(header[7]),
        excess_blob_gas=number_of(header[18]) if len(header) > 18 else 0,
        allow_blobs=True,
    )


def test_a_chain_through_all_forks(tmp_path):
    extract("execution_apis.tar.xz", tmp_path)
    genesis = json.loads((tmp_path / "genesis.json").read_text())
    alloc = {
        bytes.fromhex(address): AccountOverride(
            balance=int(account["balance"], 16),
            nonce=int(account.get("nonce", "0x0"), 16),
            code=bytes.fromhex(account.get("code", "0x")[2:]),
            state_diff={int(slot, 16): int(value, 16) for slot, value in account.get("storage", {}).items()},
        )
        for address, account in genesis["alloc"].items()
    }
    writes, _ = genesis_state(alloc, "Homestead")
    state = dict(writes)
    count = 0
    for block in blocks_of((tmp_path / "chain.rlp").read_bytes()):
        header, raws = block[0], block[1]
        environment = environment_of(header, genesis["config"]["chainId"])
        number = environment.number
        state[block_hash_key(number - 1)] = header[0]
        transactions = decode_transactions([raw if isinstance(raw, bytes) else rlp.encode(raw) for raw in raws])
        credits_ = [
            (number_of(w[0]), number_of(w[1]), w[2], number_of(w[3])) for w in (block[3] if len(block) > 3 else [])
        ]
        credits_ += rewards_of(number, environment.difficulty, environment.coinbase, block[2])
        done = execute(
            environment,
            transactions,
            lambda keys: [state.get(key) for key in keys],
            withdrawals=credits_,
        )
        assert done.transactions_root == header[4], number
        assert done.gas_used == number_of(header[10]), number
        assert done.receipts_root == header[5], number
        assert done.logs_bloom == header[6], number
        assert done.state_root == header[3], number
        if len(header) > 16:
            assert done.withdrawals_root == header[16], number
        if len(header) > 17:
            assert done.blob_gas_used == number_of(header[17]), number
        if len(header) > 20:
            assert done.requests_hash == header[20], number
        state.update(done.writes)
        count += 1
    assert count == 54
    assert keccak256(state[b"n"]) == header[3]
