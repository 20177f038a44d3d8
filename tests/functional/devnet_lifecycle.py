"""The devnet as a person runs it: start, resume, ordered stop, taken ports, kill -9 of its processes, many times."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

import psutil
import pytest

from hyperdust import job
from hyperdust.graph import input_bytes
from hyperdust.rpc_client import RpcClient, Unreachable
from hyperdust.wallet import user_key
from tests.functional.ports import free_port_block

pytestmark = pytest.mark.functional

KILLS = int(os.environ.get("HYPERDUST_TEST_KILLS", "9"))
READY_S = 240
FIELDS = {
    "rpc", "ws", "explorer", "metrics", "work_grpc", "chain_id", "accounts", "nodes", "bitcoin", "graphs", "contracts",
    "pids", "first_job",
}  # fmt: skip


def command(folder, port, *more):
    return [
        sys.executable, "-m", "hyperdust.cli", "devnet", "--data-dir", str(folder / "data"), "--rpc-port", str(port),
        "--ready-file", str(folder / "ready.json"), "--block-time", "1", "--no-bitcoin", *more,
    ]  # fmt: skip


def wait_for(what, done, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not (found := done()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.1)
    return found


@contextmanager
def devnet(folder, port, *more):
    ready = folder / "ready.json"
    with (folder / "devnet.log").open("ab") as log:
        process = subprocess.Popen(command(folder, port, *more), stdout=log, stderr=log)
    try:
        wait_for("the ready file", lambda: ready.exists() or process.poll() is not None, READY_S)
        assert process.poll() is None, (folder / "devnet.log").read_text()
        yield process, ready
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def stop(process, number=signal.SIGTERM):
    started = time.monotonic()
    process.send_signal(number)
    code = process.wait(15)
    assert code == 0
    assert time.monotonic() - started < 10


def read(ready):
    return json.loads(ready.read_text())


def kill_9(ready, kind):
    """Kill a role; one that ended by itself is started again, so that there is something to kill."""
    for _ in range(100):
        for pid in read(ready)["pids"][kind]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            return pid
        time.sleep(0.1)
    raise AssertionError(f"no {kind} to kill")


def replaced(ready, kind, pid):
    return read(ready)["pids"][kind] not in ([], [pid])


def block(client, number):
    found = client.call("eth_getBlockByNumber", hex(number), False)
    return found and found["hash"]


def ask(client):
    question = input_bytes("minilm", "Does it answer after a crash?", None)
    return job.ask(client, user_key(3), job.Question("minilm", question.data, question.symbols, 10**13), timeout_s=120)


def test_start_ready_file_resume_and_stop(tmp_path):
    port = free_port_block()
    with devnet(tmp_path, port, "--seed", "11") as (process, ready):
        found = read(ready)
        assert set(found) == FIELDS
        assert found["chain_id"] == 48_000_011
        assert found["rpc"] == f"http://127.0.0.1:{port}"
        assert len(found["accounts"]) >= 6
        assert found["first_job"]["status"] in {"claimed", "final"}
        assert len(found["first_job"]["output"]) == 384
        assert found["bitcoin"] is None
        assert len(found["pids"]["companion"]) == 1
        pids = [*found["pids"]["node"], *found["pids"]["miner"], *found["pids"]["companion"]]
        assert [node["pid"] for node in found["nodes"]] == found["pids"]["node"]
        assert all(psutil.pid_exists(pid) for pid in pids)
        with RpcClient(found["rpc"]) as client:
            assert client.quantity("eth_chainId") == 48_000_011
            for account in found["accounts"]:
                assert client.quantity("eth_getBalance", account["address"], "latest") > 10**18
            head = client.quantity("eth_blockNumber")
            hashes = {number: block(client, number) for number in range(head + 1)}
        # A second devnet on the same ports names the port; on the same folder, the folder.
        (tmp_path / "other").mkdir()
        refused = subprocess.run(
            command(tmp_path / "other", port), capture_output=True, text=True, timeout=60, check=False
        )
        assert refused.returncode == 1
        assert f"port {port} (rpc) is taken" in refused.stderr
        assert "--rpc-port" in refused.stderr
        assert "Traceback" not in refused.stderr
        stop(process, signal.SIGINT)
        assert not ready.exists()
        wait_for("the roles to end", lambda: not any(map(psutil.pid_exists, pids)), 5)
    with devnet(tmp_path, port, "--no-demo") as (process, ready):
        assert read(ready)["chain_id"] == 48_000_011
        assert read(ready)["first_job"] is None
        with RpcClient(read(ready)["rpc"]) as client:
            assert {number: block(client, number) for number in hashes} == hashes
            wait_for("the chain to go on", lambda: client.quantity("eth_blockNumber") > head + 2)
        stop(process)


def test_a_role_that_cannot_start_is_named_with_its_last_words(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "genesis.json").write_text('{"chain_id": 48000001, "spacing_s": 1}')
    refused = subprocess.run(
        command(tmp_path, free_port_block()), capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 1
    assert "node0 does not start" in refused.stderr
    assert "Field required" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "ready.json").exists()


def test_roles_do_not_outlive_their_supervisor(tmp_path):
    with devnet(tmp_path, free_port_block(), "--no-demo") as (process, ready):
        pids = [pid for kind in ("node", "miner", "companion") for pid in read(ready)["pids"][kind]]
        process.kill()
        process.wait()
        wait_for("the roles to end", lambda: not any(map(psutil.pid_exists, pids)), 15)


def test_kill_9_of_any_role_at_random_moments_loses_nothing(tmp_path):
    seed = int(os.environ.get("HYPERDUST_TEST_SEED", str(time.time_ns() % 10**9)))
    print(f"seed {seed}, {KILLS} kills")
    draw = random.Random(seed)
    seen = {}
    with (
        devnet(tmp_path, free_port_block(), "--no-demo") as (process, ready),
        RpcClient(read(ready)["rpc"], 10) as client,
    ):

        def head():
            try:
                return client.quantity("eth_blockNumber")
            except Unreachable:
                return None

        def check_history():
            for number, expected in seen.items():
                assert block(client, number) == expected, f"block {number} changed, seed {seed}"

        kinds = ["node", "miner", "companion"] * -(-KILLS // 3)  # each as often, in any order
        draw.shuffle(kinds)
        for kill, kind in enumerate(kinds[:KILLS]):
            time.sleep(draw.uniform(0, 2))
            if (number := head()) is not None:
                seen |= {n: block(client, n) for n in range(max(seen, default=-1) + 1, number + 1)}
            pid = kill_9(ready, kind)
            wait_for(f"a new {kind} (kill {kill})", partial(replaced, ready, kind, pid), 30)
            wait_for(f"the node (kill {kill})", lambda: head() is not None, 30)
            assert head() >= max(seen, default=0), f"the head went back, seed {seed}"
            check_history()
        before = head()
        wait_for("the chain to go on", lambda: (head() or 0) > before + 2, 60)
        check_history()
        assert ask(client).status == "claimed"
        stop(process)
