"""A job's way to final on the real engine, and vector 1: credit is spent once, and only by its owner's blocks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from eth_abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount

from chain.hashing import keccak256
from chain.params import BONDS, JOB_MARKET
from hyperdust.contracts_abi import encode_call
from hyperdust.node.contracts import view
from tests.small_chain import MINER, OTHER_MINER, K, N, SmallChain, graph_id

RICH = Account.from_key(
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
)  # the test mnemonic's first
ROWS = 64
TRACE_ROOT = b"\x05" * 32


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[SmallChain]:
    chain = SmallChain(tmp_path / "chain")
    for miner in (MINER, OTHER_MINER):
        send(chain, RICH, bytes.fromhex(miner.address[2:]), value=5 * 10**18)
    chain.extend()
    yield chain
    chain.close()


def send(chain: SmallChain, sender: LocalAccount, to: bytes, data: bytes = b"", value: int = 0) -> None:
    nonce = chain.mempool.pending_nonce(bytes.fromhex(sender.address[2:]))
    fields = {
        "chainId": chain.params.chain_id,
        "nonce": nonce,
        "to": to,
        "data": data,
        "value": value,
        "gas": 2_000_000,
    }
    signed = sender.sign_transaction(fields | {"maxFeePerGas": 10**9, "maxPriorityFeePerGas": 1, "type": 2})
    chain.mempool.add(bytes(signed.raw_transaction))


def run_job(chain: SmallChain) -> int:
    """One job of the provider MINER, from the bond to final; other coinbases make the blocks."""
    provider = bytes.fromhex(MINER.address[2:])
    send(chain, MINER, BONDS, encode_call("Bonds", "deposit"), value=10**18)
    send(chain, MINER, BONDS, encode_call("Bonds", "serve", graph_id()))
    chain.extend(1, OTHER_MINER)
    number = chain.store.latest.head.number
    job_input = np.zeros((ROWS, K), np.int8).tobytes()[:16_384]
    request = encode_call("JobMarket", "request", graph_id(), job_input, [ROWS], number + 40, provider)
    send(chain, RICH, JOB_MARKET, request, value=10**15)
    chain.extend(1, OTHER_MINER)
    commitment = keccak256(encode(["bytes32", "address"], [TRACE_ROOT, provider]))
    send(chain, MINER, JOB_MARKET, encode_call("JobMarket", "submit", 1, b"answer", commitment))
    chain.extend(3, OTHER_MINER)  # a companion would be drawn by the second
    send(chain, MINER, JOB_MARKET, encode_call("JobMarket", "reveal", 1, TRACE_ROOT))
    chain.extend(chain.params.final_window_blocks + 1, OTHER_MINER)
    send(chain, RICH, JOB_MARKET, encode_call("JobMarket", "settle", 1))
    chain.extend(1, OTHER_MINER)
    assert look(chain, "JobMarket", "status", 1) == (4,)
    return ROWS * K * N


def look(chain: SmallChain, contract: str, function: str, *args: object) -> tuple[object, ...]:
    return view(chain.state, chain.params, contract, function, *args)


def test_credit_is_spent_once_and_only_by_its_owner(chain: SmallChain) -> None:
    macs = run_job(chain)
    provider = bytes.fromhex(MINER.address[2:])
    assert look(chain, "Dust", "credit_of", provider) == (macs, 0, 0)
    difficulty = chain.params.difficulty_floor
    affordable = macs // difficulty
    assert affordable >= 1

    stranger = chain.extend(1, OTHER_MINER).header.number
    owned = [chain.extend(1, MINER).header.number for _ in range(affordable + 1)]
    chain.extend(1, OTHER_MINER)

    (subsidy,) = look(chain, "Dust", "subsidy_of", stranger)
    assert look(chain, "Dust", "reward_of", stranger)[1:3] == (subsidy // 10, 0)
    for number in owned[:affordable]:
        assert look(chain, "Dust", "reward_of", number)[1:3] == (subsidy, difficulty)
    assert look(chain, "Dust", "reward_of", owned[-1])[1:3] == (subsidy // 10, 0)
    assert look(chain, "Dust", "credit_of", provider) == (macs - affordable * difficulty, affordable * difficulty, 0)


def test_the_fee_reaches_the_provider_and_the_answer_stays(chain: SmallChain) -> None:
    run_job(chain)
    assert look(chain, "JobMarket", "output_of", 1) == (b"answer",)
    assert look(chain, "JobMarket", "escrow") == (0,)
