"""forge works unchanged: create, and a script of five transactions; no fee flags, no --legacy."""

import json
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.functional


@pytest.fixture(scope="module")
def account(devnet):
    return devnet.accounts[1]


@pytest.fixture(scope="module")
def project(forge_project, tmp_path_factory):
    """A copy: forge writes beside its sources."""
    return shutil.copytree(forge_project, tmp_path_factory.mktemp("forge") / "project")


@pytest.fixture(scope="module")
def forge(tools, devnet, environment, project):
    program = tools.program("forge")

    def run(command, *arguments):
        command = [program, command, "--use", str(tools.solc), *arguments]
        given = environment | {"ETH_RPC_URL": devnet.rpc, "FOUNDRY_ETH_RPC_URL": devnet.rpc}
        done = subprocess.run(command, cwd=project, env=given, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="module")
def broadcast(forge, account, project, devnet):
    """What a script wrote down after all of its transactions were mined."""
    forge("script", "script/Deploy.s.sol", "--broadcast", "--private-key", account.private_key)
    run = project / "broadcast" / "Deploy.s.sol" / str(devnet.chain_id) / "run-latest.json"
    return json.loads(run.read_text())


def call(devnet, to, data):
    return int(devnet.request("eth_call", {"to": to, "data": data}, "latest"), 16)


NUMBER = "0x8381f58a"


def test_create(forge, account, devnet):
    options = ("--broadcast", "--json", "--private-key", account.private_key)
    created = json.loads(forge("create", "src/Counter.sol:Counter", *options, "--constructor-args", "9"))
    assert created["deployer"].lower() == account.address.lower()
    receipt = devnet.request("eth_getTransactionReceipt", created["transactionHash"])
    assert receipt["contractAddress"].lower() == created["deployedTo"].lower()
    assert call(devnet, created["deployedTo"], NUMBER) == 9


def test_create_without_broadcast_sends_nothing(forge, account, devnet):
    before = devnet.request("eth_getTransactionCount", account.address, "pending")
    forge("create", "src/Counter.sol:Counter", "--private-key", account.private_key, "--constructor-args", "9")
    assert devnet.request("eth_getTransactionCount", account.address, "pending") == before


def test_script_broadcast(broadcast, devnet, account):
    assert [one["transactionType"] for one in broadcast["transactions"]] == ["CREATE", "CALL", "CALL", "CALL", "CALL"]
    assert [int(receipt["status"], 16) for receipt in broadcast["receipts"]] == [1] * 5
    assert all(int(receipt["effectiveGasPrice"], 16) > 0 for receipt in broadcast["receipts"])
    nonces = [int(one["transaction"]["nonce"], 16) for one in broadcast["transactions"]]
    assert nonces == list(range(nonces[0], nonces[0] + 5))
    counter = broadcast["transactions"][0]["contractAddress"]
    assert call(devnet, counter, NUMBER) == 42
    assert int(devnet.request("eth_getBalance", counter, "latest"), 16) == 1000
    assert int(broadcast["receipts"][0]["type"], 16) == 2
    assert broadcast["receipts"][0]["from"].lower() == account.address.lower()


def test_script_legacy(forge, account, devnet, project):
    before = int(devnet.request("eth_getTransactionCount", account.address, "latest"), 16)
    forge("script", "script/Deploy.s.sol", "--broadcast", "--legacy", "--slow", "--private-key", account.private_key)
    assert int(devnet.request("eth_getTransactionCount", account.address, "latest"), 16) == before + 5
    run = project / "broadcast" / "Deploy.s.sol" / str(devnet.chain_id) / "run-latest.json"
    assert {int(receipt["type"], 16) for receipt in json.loads(run.read_text())["receipts"]} == {0}


def test_script_without_broadcast_simulates_on_the_node_state(forge, account, devnet):
    before = devnet.request("eth_getTransactionCount", account.address, "pending")
    said = forge("script", "script/Deploy.s.sol", "--private-key", account.private_key, "--rpc-url", devnet.rpc)
    assert "SIMULATION COMPLETE" in said
    assert devnet.request("eth_getTransactionCount", account.address, "pending") == before
