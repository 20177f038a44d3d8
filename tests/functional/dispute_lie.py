"""Liars on a running devnet: every lie is proven by one transaction, the asker is whole, who checks may be killed."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from eth_account import Account

from hyperdust.contracts_abi import ADDRESSES, decode_event, decode_output, encode_call, event_topic
from hyperdust.graph import input_bytes
from hyperdust.job import find_graph
from hyperdust.rpc_client import RpcClient

pytestmark = pytest.mark.functional

HYPERDUST: Final = Path(sys.executable).parent / "hyperdust"
OPERATORS: Final = 159
FEE: Final = 10**13
BTC: Final = 10**18


@dataclass
class Court:
    """A devnet with the roles that a test adds to it."""

    devnet: Any
    folder: Path
    processes: ExitStack

    def view(self, contract: str, function: str, *args: object) -> Any:
        with RpcClient(self.devnet.rpc) as client:
            raw = client.view(ADDRESSES[contract], encode_call(contract, function, *args))
        return decode_output(contract, function, raw)[0]

    @staticmethod
    def fund(devnet: Any) -> Any:
        """A fresh key with some coins."""
        key = Account.create()
        with RpcClient(devnet.rpc) as client:
            rich = Account.from_key(devnet.accounts[2].private_key)
            client.send_transaction(rich, bytes.fromhex(key.address[2:]), value=5 * BTC)
        return key

    @contextmanager
    def role(self, name: str, key: Any, *options: str) -> Iterator[subprocess.Popen[Any]]:
        folder = self.folder / f"{name}-{key.address[2:8]}"
        folder.mkdir(exist_ok=True)
        command = [
            HYPERDUST, name, "--rpc", self.devnet.rpc, "--work-grpc", self.devnet.ready["work_grpc"],
            "--key", key.key.hex(), "--graph", "minilm", "--data-dir", str(folder), "--log-format", "json", *options,
        ]  # fmt: skip
        with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def run(self, name: str, key: Any, *options: str) -> subprocess.Popen[Any]:
        return self.processes.enter_context(self.role(name, key, *options))

    def log(self, name: str, key: Any) -> str:
        return (self.folder / f"{name}-{key.address[2:8]}" / "log").read_text(errors="replace")

    def is_bonded(self, key: Any, role: str = "serves") -> bool:
        graph = bytes.fromhex(self.devnet.ready["graphs"]["minilm"][2:])
        return bool(self.view("Bonds", role, graph, key.address))

    def ask(self, text: str, provider: Any, asker: Any) -> int:
        """Request without waiting for the answer; the job's id."""
        with RpcClient(self.devnet.rpc) as client:
            wanted = input_bytes("minilm", text, None)
            graph = find_graph(client, "minilm")
            until = client.quantity("eth_blockNumber") + 300
            named = bytes.fromhex(provider.address[2:])
            call = encode_call("JobMarket", "request", graph, wanted.data, list(wanted.symbols), until, named)
            receipt = client.send_transaction(asker, ADDRESSES["JobMarket"], call, FEE)
        requested = "0x" + event_topic("JobMarket", "Requested").hex()
        return int(next(log["topics"][1] for log in receipt["logs"] if log["topics"][0] == requested), 16)

    def status(self, job: int) -> str:
        return str(self.devnet.request("hyperdust_getJob", job)["status"])

    def event(self, name: str, job: int) -> tuple[dict[str, Any], int, int]:
        """Fields, block and time of the market's only log of this kind about a job."""
        topics = ["0x" + event_topic("JobMarket", name).hex(), "0x" + job.to_bytes(32, "big").hex()]
        address = "0x" + ADDRESSES["JobMarket"].hex()
        (log,) = self.devnet.request("eth_getLogs", {"fromBlock": "0x1", "address": address, "topics": topics})
        values = decode_event(
            "JobMarket", name, [bytes.fromhex(t[2:]) for t in log["topics"]], bytes.fromhex(log["data"][2:])
        )
        block = self.devnet.request("eth_getBlockByNumber", log["blockNumber"], False)
        return values, int(log["blockNumber"], 16), int(block["timestamp"], 16)


@pytest.fixture(scope="module")
def checker(devnet) -> Any:
    """The key of the one companion here: a second one would be drawn for jobs after its process is gone."""
    return Court.fund(devnet)


@pytest.fixture
def court(devnet, tmp_path_factory) -> Iterator[Court]:
    with ExitStack() as processes:
        yield Court(devnet, tmp_path_factory.mktemp("roles"), processes)


@pytest.fixture
def companion(court, checker, eventually) -> Any:
    court.run("companion", checker, "--backend", "numpy")
    eventually(lambda: court.is_bonded(checker, "is_companion"), limit_s=60)
    return checker


def start_liar(court: Court, eventually: Any, operator: int) -> tuple[Any, subprocess.Popen[Any]]:
    key = Court.fund(court.devnet)
    process = court.run("miner", key, "--fault", str(operator))
    eventually(lambda: court.is_bonded(key), limit_s=60)
    return key, process


def test_a_lie_is_proven_by_one_transaction_and_the_asker_is_whole(court, companion, eventually) -> None:
    operator = random.SystemRandom().randrange(OPERATORS)
    print(f"operator {operator}")
    liar, _ = start_liar(court, eventually, operator)
    asker = Court.fund(court.devnet)
    job = court.ask(f"is this right? {operator}", liar, asker)
    asked = int(court.devnet.request("eth_getBalance", asker.address, "latest"), 16)
    eventually(lambda: court.status(job) == "slashed", limit_s=120)

    dispute = court.devnet.request("hyperdust_getDispute", job)
    assert (dispute["accused"], dispute["verdict"]) == (liar.address.lower(), "guilty")
    assert dispute["operator"] == operator
    transaction = court.devnet.request("eth_getTransactionByHash", dispute["transaction"])
    assert transaction["input"][10:74] == job.to_bytes(32, "big").hex()
    assert int(transaction["blockNumber"], 16) == dispute["block"]

    assert int(court.devnet.request("eth_getBalance", asker.address, "latest"), 16) == asked + FEE
    assert court.view("Bonds", "bond_of", liar.address) == 0
    credit = court.devnet.request("hyperdust_getCredit", liar.address)
    assert credit["held"] == credit["spent"] == 0
    convicted, verdict_block, verdict_time = court.event("Convicted", job)
    assert convicted["slashed"] == BTC
    _, mismatch_block, mismatch_time = court.event("Mismatch", job)
    receipt = court.devnet.request("eth_getTransactionReceipt", dispute["transaction"])
    print(
        f"mismatch to verdict: {verdict_block - mismatch_block} blocks, {verdict_time - mismatch_time} s; "
        f"prove: {int(receipt['gasUsed'], 16)} gas, {len(transaction['input']) // 2 - 1} bytes"
    )
    found = court.devnet.request("hyperdust_getJob", job)
    assert found["companion"] == dispute["challenger"]
    assert [step["state"] for step in found["transitions"]] == ["requested", "claimed", "revealed", "slashed"]


def test_an_honest_job_ends_final_and_a_challenge_finds_it_right(court, companion, eventually) -> None:
    provider = Account.from_key(court.devnet.accounts[0].private_key)  # never the provider: only pays
    (bonded, *_) = court.devnet.request("hyperdust_getProviders", court.devnet.ready["graphs"]["minilm"])
    named = type("Named", (), {"address": bonded})
    job = court.ask("nothing but the truth", named, provider)
    eventually(lambda: court.status(job) == "revealed", limit_s=60)
    command = [
        HYPERDUST, "challenge", "--job", str(job), "--rpc", court.devnet.rpc, "--work-grpc",
        court.devnet.ready["work_grpc"], "--key", court.devnet.accounts[1].private_key,
        "--data-dir", str(court.folder / "challenge"), "--json",
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"job": job, "verdict": "right"}
    eventually(lambda: court.status(job) == "final", limit_s=90)
    assert court.devnet.request("hyperdust_getJob", job)["check"] in {"agrees", "committed", None}
    assert court.devnet.request("hyperdust_getDispute", job) is None


def test_a_companion_killed_at_any_moment_proves_every_lie_once(court, checker, eventually) -> None:
    operators = random.SystemRandom().sample(range(OPERATORS), 3)
    print(f"operators {operators}")
    asker = Court.fund(court.devnet)
    with court.role("companion", checker, "--backend", "numpy"):
        eventually(lambda: court.is_bonded(checker, "is_companion"), limit_s=60)
    liars = [start_liar(court, eventually, operator)[0] for operator in operators]
    jobs = [court.ask(f"killed while checking {liar.address}", liar, asker) for liar in liars]
    life_s, end = 6.0, time.monotonic() + 180
    while not all(court.status(job) == "slashed" for job in jobs):
        assert time.monotonic() < end, [court.status(job) for job in jobs]
        with court.role("companion", checker, "--backend", "numpy") as process:
            deadline = time.monotonic() + life_s
            while time.monotonic() < deadline and not all(court.status(job) == "slashed" for job in jobs):
                time.sleep(0.1)
            process.kill()
            process.wait()
        life_s = min(life_s * 1.25, 20.0)
    for job, operator in zip(jobs, operators, strict=True):
        assert court.devnet.request("hyperdust_getDispute", job)["operator"] == operator


def test_who_reveals_and_falls_silent_is_convicted_by_time(court, companion, eventually) -> None:
    liar, process = start_liar(court, eventually, random.SystemRandom().randrange(OPERATORS))
    job = court.ask("and then there was silence", liar, Court.fund(court.devnet))
    eventually(lambda: court.status(job) in {"revealed", "slashed"}, limit_s=60)
    process.kill()
    process.wait()
    eventually(lambda: court.status(job) == "slashed", limit_s=150)
    dispute = court.devnet.request("hyperdust_getDispute", job)
    print(f"convicted for: {dispute['kind']}")
    assert dispute["verdict"] == "guilty"
    assert court.view("Bonds", "bond_of", liar.address) == 0
