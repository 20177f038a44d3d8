"""A stranger's graph: registered, bonded for, served by a miner and asked for, from its folder alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from pouw.compiler.folder import Evaluation, ModelFolder, write_model
from pouw.graph_encoding import encode
from pouw.hypergraph import Hypergraph
from pouw.trace import tensor_root
from tests.small_chain import graph, weights
from tests.unit.pouw.graphs_made import deep_graph

pytestmark = pytest.mark.functional

HYPERDUST: Final = Path(sys.executable).parent / "hyperdust"
ROYALTY: Final = 300


def hyperdust(*args: str) -> Any:
    run = subprocess.run([HYPERDUST, *args, "--json"], capture_output=True, text=True, timeout=180, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = graph()
    stranger = Hypergraph("stranger", made.symbols, made.inputs, made.outputs, made.subgraphs)
    example = Evaluation({"x": np.ones((3, 512), np.int8)}, {"y": np.zeros((3, 64), np.float32)})
    model = ModelFolder(stranger, {tensor_root(weights()): weights()}, {"x": 1.0}, {"y": 1.0}, (example,))
    path = tmp_path_factory.mktemp("graphs") / "stranger"
    write_model(path, model, {}, None)
    return path


@pytest.fixture(scope="module")
def registered(devnet, folder) -> Any:
    arguments = ["--royalty-bps", str(ROYALTY), "--rpc", devnet.rpc, "--key", devnet.accounts[2].private_key]
    return hyperdust("graph", "register", "--graph", str(folder), *arguments)


@pytest.fixture
def miner(devnet, folder, tmp_path):
    """A second miner on the devnet's node, which has a key and coins of its own."""
    work = devnet.rpc.rpartition(":")[2]
    command = [HYPERDUST, "miner", "--graph", folder, "--rpc", devnet.rpc, "--work-grpc", f"127.0.0.1:{int(work) + 2}"]
    command += ["--key", devnet.accounts[3].private_key, "--data-dir", tmp_path]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield process
    print((tmp_path / "log").read_text(encoding="utf-8"))
    process.terminate()
    process.wait(20)


def test_it_belongs_to_who_registered_it(registered, devnet) -> None:
    assert registered["owner"] == devnet.accounts[2].address
    assert len(registered["transactions"]) == 3  # announced, registered, lineage


def test_nobody_else_can_register_it(registered, devnet, folder) -> None:
    command = [HYPERDUST, "graph", "register", "--graph", folder, "--rpc", devnet.rpc]
    command += ["--key", devnet.accounts[4].private_key]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "registered already" in run.stderr


def test_a_deep_graph_takes_two_transactions_and_says_so_before(devnet, tmp_path) -> None:
    file = tmp_path / "deep.graph"
    file.write_bytes(encode(deep_graph(32)))
    command = ["graph", "register", "--graph", str(file), "--rpc", devnet.rpc, "--key", devnet.accounts[6].private_key]
    costs = hyperdust(*command, "--dry-run")
    assert costs["transactions_left"] == 3  # announced, begun, the rest
    found = hyperdust(*command, "--yes")
    assert (len(found["transactions"]), found["owner"]) == (3, devnet.accounts[6].address)
    assert 2**24 < found["gas"] <= costs["gas_at_most"]
    assert hyperdust(*command, "--dry-run")["transactions_left"] == 0


def test_a_miner_serves_it_and_is_asked(registered, devnet, folder, miner, eventually) -> None:
    def served() -> bool:
        return bool(devnet.request("hyperdust_getProviders", registered["graph"]))

    assert eventually(served)
    ask = ["--graph", str(folder), "--rpc", devnet.rpc, "--key", devnet.accounts[5].private_key]
    job = hyperdust("job", "ask", *ask)
    assert job["provider"].lower() == devnet.accounts[3].address.lower()
    assert job["trace_root"] == hyperdust("graph", "run", "--graph", str(folder))["trace_root"]
