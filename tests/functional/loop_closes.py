"""The whole mission once, on a running devnet: a paid job makes a block, its answer stands on chain, it counts."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from eth_abi import decode, encode
from eth_account import Account
from vyper import compile_code

from chain.hashing import keccak256
from consensus.certificate import decode_certificate
from hyperdust.graph import load_graph
from hyperdust.rpc_client import RpcClient
from pouw.backends.reference import NumpyBackend
from pouw.execution import run

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
    source = (Path(__file__).parents[2] / "contracts" / "demo" / "AnswerReader.vy").read_text()
    answer = np.asarray(job["output"], np.int16).ravel()
    with RpcClient(devnet.rpc) as client:
        account = Account.from_key(devnet.accounts[4].private_key)
        receipt = client.send_transaction(account, None, bytes.fromhex(compile_code(source)["bytecode"][2:]))
        reader = bytes.fromhex(receipt["contractAddress"][2:])

        def call(element: int) -> bytes:
            return keccak256(b"read(uint256,uint8,uint256)")[:4] + encode(
                ["uint256"] * 3, [int(job["job"]), 4, element]
            )

        for element in range(0, 384, 29):
            read = decode(["(bytes32,uint256,int16)"], client.view(reader, call(element)))[0]
            assert read == (keccak256(answer.tobytes()), 768, int(answer[element]))
        client.send_transaction(account, reader, call(383))
        kept = client.view(reader, keccak256(b"answer_of(uint256)")[:4] + encode(["uint256"], [int(job["job"])]))
        assert decode(["bytes32", "uint256", "int16"], kept) == (keccak256(answer.tobytes()), 768, int(answer[383]))


def test_forty_blocks_later_every_certificate_verifies_and_work_was_credited(devnet, job, eventually) -> None:
    first = int(job["block"])
    since = max(1, first - 40)  # the devnet may be old
    eventually(lambda: int(devnet.request("eth_blockNumber"), 16) > first + 40, limit_s=120)
    numbers = range(since, first + 41)
    certificates = [devnet.request("hyperdust_getCertificate", hex(number)) for number in numbers]
    assert all(certificate is not None for certificate in certificates)
    for number, certificate in zip(numbers, certificates, strict=True):
        target = 2**256 // int(devnet.request("eth_getBlockByNumber", hex(number), False)["difficulty"], 16)
        k, r = certificate["k"], certificate["r"]
        assert int(certificate["ticket"], 16) <= target * 256 * (k - k % r)
    assert any(certificate["creditSpent"] for certificate in certificates)
    usefulness = devnet.request("hyperdust_usefulness", hex(since), hex(first + 40))
    spent = sum(certificate["creditSpent"] or 0 for certificate in certificates)
    assert usefulness["credit_spent_macs"] == spent
    assert 0 < usefulness["ratio"] <= 1


def test_a_labelled_block_holds_the_jobs_own_rows(devnet, sentence, job) -> None:
    """Recompute the job with plain products and find its rows in what the certificate opens of A."""
    labelled = find_labelled(devnet, int(job["job"]))
    assert labelled is not None, "no block is labelled with the job"
    certificate = decode_certificate(labelled)
    loaded = load_graph("minilm")
    products: dict[int, np.ndarray] = {}

    def keep(operator: int, a: np.ndarray, b_transposed: np.ndarray) -> np.ndarray:
        products[operator] = a
        return a.astype(np.int32) @ b_transposed.astype(np.int32).T

    inputs = loaded.encode_text(sentence)
    symbols = {"S": len(inputs["ids"])}
    run(loaded.graph, loaded.constants, inputs, symbols, NumpyBackend(), matmul_hook=keep)
    proof = certificate.proof
    start = proof.row_block * 16 * proof.k % 1024
    opened = np.frombuffer(proof.rows_a, np.int8)[start : start + 16 * proof.k].reshape(16, proof.k)
    jobs_rows = products[certificate.operator][proof.row_block * 16 :][:16]
    assert len(jobs_rows) > 0
    assert np.array_equal(opened[: len(jobs_rows)], jobs_rows)


def find_labelled(devnet, job: int) -> bytes | None:
    requested = devnet.request("hyperdust_getJob", job)["transitions"][0]["block"]
    for number in range(requested, int(devnet.request("eth_blockNumber"), 16) + 1):
        certificate = devnet.request("hyperdust_getCertificate", hex(number))
        if certificate["label"] == job:
            return bytes.fromhex(certificate["raw"][2:])
    return None
