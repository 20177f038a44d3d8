"""The whole mission once, on a running devnet: a paid job makes a block, its answer stands on chain, its work is credited."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import rlp
from eth_account import Account

from consensus.certificate import decode_certificate
from hyperdust.contracts_abi import ADDRESSES, encode_call
from hyperdust.rpc_client import RpcClient

pytestmark = pytest.mark.functional

HYPERDUST: Final = Path(sys.executable).parent / "hyperdust"
WORDS: Final = ("river", "ledger", "copper", "evening", "proof", "violin", "harvest", "signal", "granite", "market")


def hyperdust(*args: str) -> Any:
    run = subprocess.run([HYPERDUST, *args], capture_output=True, text=True, timeout=180, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def sentence() -> str:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return " ".join(random.Random(seed).choices(WORDS, k=9))


@pytest.fixture(scope="module")
def job(devnet, sentence) -> dict[str, Any]:
    return hyperdust(
        "job", "ask", "--graph", "minilm", "--text", sentence, "--wait", "final", "--rpc", devnet.rpc, "--json"
    )


@pytest.fixture(scope="module")
def local(sentence) -> dict[str, Any]:
    return hyperdust("graph", "run", "--graph", "minilm", "--text", sentence, "--backend", "numpy", "--json")


def test_the_answer_equals_anyones_own_execution(job, local) -> None:
    assert job["status"] == "final"
    assert job["trace_root"] == local["trace_root"]
    assert np.array_equal(np.asarray(job["output"]).ravel(), np.asarray(local["output"]).ravel())


def test_a_contract_reads_the_whole_answer(devnet, job) -> None:
    artifact = json.loads((Path(__file__).parents[2] / "genesis" / "artifacts" / "AnswerReader.json").read_text())
    with RpcClient(devnet.rpc) as client:
        account = Account.from_key(devnet.accounts[4].private_key)
        receipt = client.send_transaction(account, None, bytes.fromhex(artifact["initcode"][2:]))
        reader = bytes.fromhex(receipt["contractAddress"][2:])
        client.send_transaction(account, reader, selector("read(uint256)") + int(job["job"]).to_bytes(32, "big"))
        element = selector("element(uint256)")
        answer = np.asarray(job["output"]).ravel()
        read = [
            int.from_bytes(client.view(reader, element + i.to_bytes(32, "big")), "big", signed=True) for i in range(384)
        ]
        assert read == answer.tolist()


def selector(signature: str) -> bytes:
    from chain.hashing import keccak256

    return keccak256(signature.encode())[:4]


def test_forty_blocks_later_every_certificate_verifies_and_work_was_credited(devnet, job, eventually) -> None:
    first = int(job["block"])
    eventually(lambda: int(devnet.request("eth_blockNumber"), 16) > first + 40, limit_s=120)
    certificates = [devnet.request("hyperdust_getCertificate", hex(number)) for number in range(1, first + 41)]
    assert all(certificate is not None for certificate in certificates)
    for certificate in certificates:
        target = 2**256 // int(
            devnet.request("eth_getBlockByNumber", hex(certificates.index(certificate) + 1), False)["difficulty"], 16
        )
        k, r = certificate["k"], certificate["r"]
        assert int(certificate["ticket"], 16) <= target * 256 * (k - k % r)
    assert any(certificate["creditSpent"] for certificate in certificates)
    usefulness = devnet.request("hyperdust_usefulness", "0x1", hex(first + 40))
    spent = sum(certificate["creditSpent"] or 0 for certificate in certificates)
    assert usefulness["credit_spent_macs"] == spent
    assert 0 < usefulness["ratio"] <= 1


def test_a_labelled_block_holds_the_jobs_own_rows(devnet, sentence, job, eventually) -> None:
    """Recompute the job, find its rows in what the certificate opens of A."""
    from hyperdust.graph import load_graph
    from pouw.backends.reference import REFERENCE
    from pouw.execution import run

    labelled = eventually(lambda: find_labelled(devnet, int(job["job"])), limit_s=30)
    certificate = decode_certificate(labelled)
    loaded = load_graph("minilm")
    products: dict[int, np.ndarray] = {}

    def keep(operator: int, a: np.ndarray, b_transposed: np.ndarray) -> np.ndarray:
        products[operator] = a
        return a.astype(np.int32) @ b_transposed.astype(np.int32).T

    inputs, symbols = loaded.encode_text(sentence)
    run(loaded.graph, loaded.constants, inputs, symbols, REFERENCE, matmul_hook=keep)
    proof = certificate.proof
    start = proof.row_block * 16 * proof.k % 1024
    opened = np.frombuffer(proof.rows_a, np.int8)[start : start + 16 * proof.k].reshape(16, proof.k)
    own = {row.tobytes() for row in products[certificate.operator]}
    assert sum(row.tobytes() in own for row in opened) >= min(16, len(own)) - 15
    assert any(row.tobytes() in own for row in opened)


def find_labelled(devnet, job: int) -> bytes | None:
    head = int(devnet.request("eth_blockNumber"), 16)
    for number in range(1, head + 1):
        certificate = devnet.request("hyperdust_getCertificate", hex(number))
        if certificate["label"] == job:
            return bytes.fromhex(certificate["raw"][2:])
    return None
