"""Miners as processes of their own: killed at any moment they lose no job and pay nothing twice; a second one joins."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from eth_account import Account

from hyperdust.contracts_abi import ADDRESSES, encode_call, event_topic
from hyperdust.graph import input_bytes
from hyperdust.job import find_graph
from hyperdust.rpc_client import RpcClient

pytestmark = pytest.mark.functional

HYPERDUST: Final = Path(sys.executable).parent / "hyperdust"
TEXTS: Final = tuple(f"killed at moment {moment}" for moment in range(6))


def transactions_from(devnet, address: str) -> int:
    return int(devnet.request("eth_getTransactionCount", address, "latest"), 16)


def status(devnet, job: int) -> str:
    return devnet.request("hyperdust_getJob", job)["status"]


def ask(devnet, text: str, provider: str | None = None) -> int:
    """Request without waiting for the answer; the job's id."""
    with RpcClient(devnet.rpc) as client:
        wanted = input_bytes("minilm", text, None)
        call = encode_call(
            "JobMarket",
            "request",
            find_graph(client, "minilm"),
            wanted.data,
            list(wanted.symbols),
            client.quantity("eth_blockNumber") + 300,
            bytes.fromhex(provider[2:]) if provider else bytes(20),
        )
        account = Account.from_key(devnet.accounts[5].private_key)
        receipt = client.send_transaction(account, ADDRESSES["JobMarket"], call, 10**13)
    requested = "0x" + event_topic("JobMarket", "Requested").hex()
    return int(next(log["topics"][1] for log in receipt["logs"] if log["topics"][0] == requested), 16)


@contextmanager
def extra_miner(devnet, data_dir: Path, key: str) -> Iterator[subprocess.Popen[Any]]:
    command = [
        HYPERDUST, "miner", "--rpc", devnet.rpc, "--work-grpc", devnet.ready["work_grpc"], "--key", key,
        "--graph", "minilm", "--data-dir", str(data_dir), "--log-format", "json",
    ]  # fmt: skip
    with (data_dir / "log").open("ab") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture(scope="module")
def newcomer(devnet) -> Any:
    """A funded key that no role uses."""
    fresh = Account.create()
    with RpcClient(devnet.rpc) as client:
        account = Account.from_key(devnet.accounts[4].private_key)
        client.send_transaction(account, bytes.fromhex(fresh.address[2:]), value=5 * 10**18)
    return fresh


def test_a_second_miner_joins_bonds_and_answers(devnet, newcomer, tmp_path, eventually) -> None:
    graph = devnet.ready["graphs"]["minilm"]
    address = newcomer.address.lower()
    with extra_miner(devnet, tmp_path, newcomer.key.hex()) as process:
        eventually(lambda: address in map(str.lower, devnet.request("hyperdust_getProviders", graph)), limit_s=60)
        job = ask(devnet, "to the newcomer", newcomer.address)
        eventually(lambda: status(devnet, job) == "final", limit_s=90)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert any(line["event"] == "bonded" for line in lines)
    assert not any(line["event"] == "ticket refused" for line in lines)


def test_kill_9_at_any_moment_loses_no_job_and_pays_nothing_twice(devnet, newcomer, tmp_path, eventually) -> None:
    """Six jobs; the provider is killed after ever longer lives until all are final."""
    jobs = [ask(devnet, text, newcomer.address) for text in TEXTS]
    before = transactions_from(devnet, newcomer.address)
    life_s, end = 2.0, time.monotonic() + 240
    while not all(status(devnet, job) == "final" for job in jobs):
        assert time.monotonic() < end, [status(devnet, job) for job in jobs]
        with extra_miner(devnet, tmp_path, newcomer.key.hex()) as process:
            deadline = time.monotonic() + life_s
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.1)
            process.kill()
            process.wait()
        life_s = min(life_s * 1.25, 20.0)
    assert transactions_from(devnet, newcomer.address) - before == 3 * len(jobs)


def test_the_supervisors_miner_is_killed_and_blocks_go_on(devnet, eventually) -> None:
    (pid, *_) = devnet.ready["pids"]["miner"]
    head = int(devnet.request("eth_blockNumber"), 16)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: int(devnet.request("eth_blockNumber"), 16) > head + 3, limit_s=60)


def test_the_node_is_killed_and_miners_find_it_again(devnet, newcomer, tmp_path, eventually) -> None:
    def height() -> int:
        try:
            return int(devnet.request("eth_blockNumber"), 16)
        except httpx.HTTPError:
            return -1

    with extra_miner(devnet, tmp_path, newcomer.key.hex()) as process:
        eventually(lambda: "bonded" in (tmp_path / "log").read_text(), limit_s=60)
        head = height()
        os.kill(devnet.ready["pids"]["node"][0], signal.SIGKILL)
        eventually(lambda: height() > head + 3, limit_s=60)
        job = ask(devnet, "after the fall", newcomer.address)
        eventually(lambda: status(devnet, job) in {"revealed", "final"}, limit_s=60)
        assert process.poll() is None
