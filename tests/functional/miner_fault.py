"""A faulty miner, as disputes need one: its trace differs from what anybody else computes."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from eth_account import Account

from hyperdust.rpc_client import RpcClient

pytestmark = pytest.mark.functional

HYPERDUST: Final = Path(sys.executable).parent / "hyperdust"
OPERATORS: Final = 159


def hyperdust(*args: str) -> Any:
    run = subprocess.run([HYPERDUST, *args], capture_output=True, text=True, timeout=180, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_fault_shows_in_the_trace(devnet, tmp_path, eventually) -> None:
    operator = random.SystemRandom().randrange(OPERATORS)
    print(f"operator {operator}")
    key = Account.create()
    with RpcClient(devnet.rpc) as client:
        rich = Account.from_key(devnet.accounts[3].private_key)
        client.send_transaction(rich, bytes.fromhex(key.address[2:]), value=5 * 10**18)
    command = [
        HYPERDUST, "miner", "--rpc", devnet.rpc, "--work-grpc", devnet.ready["work_grpc"], "--key", key.key.hex(),
        "--graph", "minilm", "--data-dir", str(tmp_path), "--fault", str(operator),
    ]  # fmt: skip
    graph = devnet.ready["graphs"]["minilm"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wanted = key.address.lower()
            eventually(lambda: wanted in map(str.lower, devnet.request("hyperdust_getProviders", graph)), limit_s=60)
            text = f"is this right? {operator}"
            job = hyperdust(
                "job", "ask", "--graph", "minilm", "--text", text, "--provider", key.address, "--rpc", devnet.rpc,
                "--json",
            )  # fmt: skip
        finally:
            process.terminate()
            assert process.wait(timeout=10) == 0
    honest = hyperdust("graph", "run", "--graph", "minilm", "--text", text, "--backend", "numpy", "--json")
    assert job["trace_root"] is not None
    assert job["trace_root"] != honest["trace_root"]


def test_an_operator_that_does_not_exist_is_refused(devnet, tmp_path) -> None:
    command = [HYPERDUST, "miner", "--rpc", devnet.rpc, "--work-grpc", devnet.ready["work_grpc"]]
    command += ["--key", devnet.accounts[3].private_key, "--data-dir", str(tmp_path), "--fault", str(OPERATORS)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode != 0
    assert f"operators 0 to {OPERATORS - 1}" in run.stderr
    assert "Traceback" not in run.stderr
