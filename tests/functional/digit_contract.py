"""A contract runs a neural network inside a transaction: with cast, from Vyper and from Solidity."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from docs.examples.digits import model
from pouw.backends.reference import NumpyBackend
from pouw.execution import run
from pouw.graph_encoding import encode

pytestmark = pytest.mark.functional

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = json.loads(model.EXAMPLES.read_text(encoding="utf-8"))
REGISTRY = "0x0000000000000000000000000000000000005001"


@pytest.fixture(scope="module")
def account(devnet):
    return devnet.accounts[1]


@pytest.fixture(scope="module")
def send(cast, account):
    def call(*arguments):
        receipt = json.loads(cast("send", "--json", "--private-key", account.private_key, *arguments))
        assert int(receipt["status"], 16) == 1
        return receipt

    return call


@pytest.fixture(scope="module")
def network():
    return model.build(model.load_weights())


@pytest.fixture(scope="module")
def stored(send, network):
    """Address of the data contract that holds the model."""
    initcode = model.data_contract(model.model_bytes(*network))
    return send("--create", "0x" + initcode.hex())["contractAddress"]


@pytest.fixture(scope="module")
def reader(send, stored):
    compiler = Path(sys.executable).parent / "vyper"
    source = ROOT / "contracts" / "demo" / "DigitReader.vy"
    done = subprocess.run([compiler, "-f", "bytecode", source], capture_output=True, text=True, timeout=90, check=True)
    return send("--create", done.stdout.strip(), "constructor(address)", stored)["contractAddress"]


@pytest.fixture(scope="module")
def gate(send, stored, tools, network):
    """DigitGate.sol, which opens to a seven."""
    names = ("contracts/demo/DigitGate.sol", "contracts/interfaces/IOperators.sol")
    sources = {name: {"content": (ROOT / name).read_text(encoding="utf-8")} for name in names}
    settings = {"outputSelection": {"*": {"*": ["evm.bytecode.object"]}}}
    job = json.dumps({"language": "Solidity", "sources": sources, "settings": settings})
    done = subprocess.run(
        [tools.solc, "--standard-json"], input=job, capture_output=True, text=True, timeout=90, check=True
    )
    output = json.loads(done.stdout)
    assert not output.get("errors"), output["errors"]
    code = output["contracts"][names[0]]["DigitGate"]["evm"]["bytecode"]["object"]
    graph = "0x" + model.graph_id(network[0]).hex()
    return send("--create", "0x" + code, "constructor(bytes32,address,uint256)", graph, stored, 7)["contractAddress"]


def image_of(digit):
    return "0x" + bytes(EXAMPLES[digit]["pixels"]).hex()


def test_the_graph_can_be_registered_for_jobs_too(cast, devnet, account, network, tmp_path):
    graph, _ = network
    file = tmp_path / f"{graph.name}.graph"
    file.write_bytes(encode(graph))
    command = [Path(sys.executable).parent / "hyperdust", "graph", "register", "--graph", file, "--json"]
    command += ["--rpc", devnet.rpc, "--key", account.private_key]
    for _ in range(2):  # again it costs nothing
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["graph"] == "0x" + model.graph_id(graph).hex()
    assert found["transactions"] == []
    assert cast("call", REGISTRY, "owner_of(bytes32)(address)", found["graph"]) == account.address
    macs = cast("call", REGISTRY, "macs(bytes32,uint32[])(uint256)", found["graph"], "[]")
    assert macs.split()[0] == str(64 * 32 + 32 * 10)


def test_the_contract_gives_the_scores_of_every_backend(cast, reader, network):
    for example in EXAMPLES:
        image = model.image_tensor(np.array(example["pixels"]))
        expected = run(network[0], network[1], {"image": image}, {}, NumpyBackend()).outputs["scores"][0]
        words = bytes.fromhex(cast("call", reader, "scores(bytes)", image_of(example["digit"]))[2:])
        scores = [int.from_bytes(words[start : start + 32], "big", signed=True) for start in range(0, 320, 32)]
        assert scores == expected.tolist()
        assert int(cast("call", reader, "classify(bytes)(uint256)", image_of(example["digit"]))) == expected.argmax()


def test_a_transaction_requires_the_digit(cast, send, try_cast, reader, account):
    receipt = send(reader, "claim(bytes,uint256)", image_of(7), 7)
    assert cast("call", reader, "read_count(uint256)(uint256)", 7) == "1"
    assert int(receipt["logs"][0]["topics"][2], 16) == 7
    assert int(receipt["gasUsed"], 16) < 150_000
    refused = try_cast("send", "--private-key", account.private_key, reader, "claim(bytes,uint256)", image_of(7), 1)
    assert refused.returncode != 0
    assert "another digit" in refused.stderr


def test_solidity_requires_the_digit(cast, send, try_cast, gate, account):
    send(gate, "enter(bytes)", image_of(7))
    assert cast("call", gate, "lastVisitor()(address)").lower() == account.address.lower()
    refused = try_cast("call", gate, "enter(bytes)", image_of(3))
    assert refused.returncode != 0
    assert "wrong digit" in refused.stderr


def test_one_operator_from_solidity(cast, gate):
    a, b = np.arange(-6, 6, dtype=np.int8).reshape(3, 4), np.arange(8, dtype=np.int8).reshape(2, 4)
    arguments = (3, 2, 4, "0x" + a.tobytes().hex(), "0x" + b.tobytes().hex())
    output = cast("call", gate, "multiply(uint32,uint32,uint32,bytes,bytes)(bytes)", *arguments)
    expected = a.astype(np.int32) @ b.astype(np.int32).T
    assert bytes.fromhex(output[2:]) == expected.astype("<i4").tobytes()


def test_a_native_call_from_cast_alone(cast, try_cast):
    blake3 = cast("call", "0x0000000000000000000000000000000000004801", "--data", "0x")
    assert blake3.startswith("0xaf1349b9f5f9a1a6")
    assert try_cast("call", "0x0000000000000000000000000000000000004807", "--data", "0x1234").returncode != 0
