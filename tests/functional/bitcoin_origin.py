"""A devnet on a real bitcoind: origins move, reorganisations shallow and deep, a bitcoind killed, hung, the wrong one.

One devnet for all: the tests build on each other, in this order.
"""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from bridge.work import show_hash
from hyperdust.bitcoind import Bitcoind, Login
from hyperdust.devnet_bitcoin import INITIAL_BLOCKS, WALLET
from hyperdust.rpc_client import RpcClient, Unreachable
from tests.functional.devnet_lifecycle import devnet, read, stop, wait_for
from tests.functional.ports import free_port_block

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

DEPTH = 6


class Network:
    """The devnet, its chain, and its Bitcoin."""

    def __init__(self, process, ready, client):
        self.process, self.ready, self.client = process, ready, client
        self.access = read(ready)["bitcoin"]
        self.bitcoind = Bitcoind(self.access["rpc"], Login(self.access["user"], self.access["password"]))

    @property
    def peg(self):
        return self.client.call("hyperdust_pegStatus")

    @property
    def head(self):
        return self.client.quantity("eth_blockNumber")

    def origin(self, number):
        """As bitcoind writes it; None while there is none."""
        root = self.client.call("eth_getBlockByNumber", hex(number), False)["parentBeaconBlockRoot"]
        return None if int(root, 16) == 0 else show_hash(bytes.fromhex(root[2:]))

    def height_of(self, shown):
        return self.bitcoind.call("getblockheader", shown)["height"]

    def mine(self, blocks):
        with self.bitcoind.wallet(WALLET) as wallet:
            return self.bitcoind.generate_to_address(blocks, wallet.new_address())

    @property
    def log(self):
        """What the node has written, without colours."""
        (path,) = self.ready.parent.glob("**/logs/node0.log")
        return re.sub(r"\x1b\[[0-9;]*m", "", path.read_text(encoding="utf-8"))

    def goes_on(self, blocks=3):
        start = self.head
        wait_for(f"{blocks} more blocks", lambda: self.head >= start + blocks, 30)

    def reorganise(self, depth):
        """Replace the last `depth` blocks by more of others; the hash of a lost one."""
        tip = self.bitcoind.chain_info().height
        lost = self.bitcoind.block_hash(tip - depth + 1)
        wait_for("the node to have seen the tip", lambda: self.peg["bitcoin"]["height"] >= tip)
        self.bitcoind.invalidate_block(lost)
        self.mine(depth + 2)
        new = show_hash(self.bitcoind.best_block_hash())
        height = self.bitcoind.chain_info().height
        wait_for("the node to follow", lambda: self.peg["bitcoin"]["height"] >= height, 20)
        assert self.bitcoind.call("getblockheader", new)["confirmations"] > 0
        return show_hash(lost)


@pytest.fixture(scope="module")
def network(bitcoind_program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("origins")
    with (
        devnet(folder, free_port_block(), "--no-demo", "--no-explorer", "--bitcoin") as (process, ready),
        RpcClient(read(ready)["rpc"]) as client,
    ):
        network = Network(process, ready, client)
        with network.bitcoind:
            yield network
        if process.poll() is None:
            stop(process, signal.SIGINT)


def test_origins_are_deep_and_move_with_bitcoin(network):
    found = read(network.ready)
    assert psutil.Process(found["pids"]["bitcoind"]).is_running()
    assert set(network.access) == {"rpc", "user", "password", "datadir"}
    assert network.bitcoind.check_network("regtest").height >= INITIAL_BLOCKS
    wait_for("an origin", lambda: network.origin(network.head))
    first = network.height_of(network.origin(network.head))
    network.mine(5)
    wait_for("a newer origin", lambda: network.height_of(network.origin(network.head)) >= first + 5)
    head = network.head
    origins = [network.origin(number) for number in range(head + 1)]
    heights = [network.height_of(origin) for origin in origins if origin]
    assert heights == sorted(heights)
    assert None not in origins[len(origins) - len(heights) :], "once there is one, there is always one"
    status = network.peg
    assert status["bitcoin"]["state"] == "following"
    assert status["origin"]["confirmations"] > DEPTH
    assert status["frozen"] is False
    beacon_roots = "0x000f3df6d732807ef1319fb7b8bb8522d0beac02"
    block = network.client.call("eth_getBlockByNumber", hex(head), False)
    stamp = "0x" + int(block["timestamp"], 16).to_bytes(32, "big").hex()
    answer = network.client.call("eth_call", {"to": beacon_roots, "data": stamp}, "latest")
    assert answer == block["parentBeaconBlockRoot"], "contracts read it (EIP-4788)"
    answer = network.client.call("eth_call", {"to": "0x" + "480a".zfill(40)}, hex(head))
    assert answer[:66] == block["parentBeaconBlockRoot"]
    assert int(answer[66:], 16) == network.height_of(origins[-1])


def test_a_reorganisation_of_two_blocks_harms_nothing(network):
    network.reorganise(2)
    network.goes_on()
    assert network.peg["frozen"] is False
    assert network.peg["origin"]["confirmations"] > DEPTH


def test_a_bitcoind_that_hangs_stops_no_block(network):
    process = psutil.Process(read(network.ready)["pids"]["bitcoind"])
    process.suspend()
    try:
        wait_for("the node to notice", lambda: network.peg["bitcoin"]["state"] == "unreachable", 30)
        assert "no bitcoind answers" in network.peg["bitcoin"]["reason"]
        network.goes_on()
    finally:
        process.resume()
    wait_for("the node to follow again", lambda: network.peg["bitcoin"]["state"] == "following", 40)
    assert network.peg["frozen"] is False


def test_a_killed_bitcoind_comes_back_with_its_chain(network):
    before, pid = network.bitcoind.chain_info().height, read(network.ready)["pids"]["bitcoind"]
    os.kill(pid, signal.SIGKILL)
    wait_for("a new bitcoind", lambda: read(network.ready)["pids"]["bitcoind"] not in (None, pid), 30)
    network.goes_on()
    wait_for("more Bitcoin blocks", lambda: network.peg["bitcoin"]["height"] > before + 2, 60)
    assert network.bitcoind.chain_info().height > before
    assert network.peg["bitcoin"]["state"] == "following"
    assert network.peg["frozen"] is False


def test_a_reorganisation_of_eight_blocks_freezes_the_peg_and_nothing_else(network):
    stale = network.origin(network.head)
    network.reorganise(8)
    wait_for("the freeze", lambda: re.search(r"peg frozen, blocks go on.*abandoned [89] ", network.log))
    network.goes_on()
    wait_for("an origin on the new branch", lambda: network.origin(network.head) != stale)
    wait_for("a deep one", lambda: network.peg["origin"]["confirmations"] > DEPTH)
    # Nothing that was credited is gone, so the freeze ends by itself; that it outlives a restart is a unit test's.
    wait_for("the thaw", lambda: network.peg["frozen"] is False, 60)
    assert "peg thawed" in network.log
    (node,) = read(network.ready)["pids"]["node"]
    os.kill(node, signal.SIGKILL)
    wait_for("a new node", lambda: read(network.ready)["pids"]["node"] not in ([], [node]), 30)
    wait_for("its answer", lambda: answers(network), 30)
    network.goes_on()


def answers(network):
    try:
        return network.head
    except Unreachable:
        return None


@contextmanager
def node(folder, genesis, network, *options):
    """A node of its own on the devnet's bitcoind."""
    port = free_port_block()
    command = [
        sys.executable, "-m", "hyperdust.cli", "node", "--data-dir", str(folder / "node"), "--genesis", str(genesis),
        "--rpc-port", str(port), "--bitcoin-rpc", network.access["rpc"], "--bitcoin-user", network.access["user"],
        *options,
    ]  # fmt: skip
    environment = os.environ | {"HYPERDUST_BITCOIN_PASSWORD": network.access["password"]}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with RpcClient(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=15)
        assert process.returncode == 0, said.decode()
        assert network.access["password"].encode() not in said


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"bitcoin_network": "main"}, (), "follows 'regtest', this chain needs 'main'"),
        ({}, ("--bitcoin-password", "wrong"), "refuses us"),
        ({}, ("--bitcoin-cookie", "/nonexistent"), "no cookie file"),
    ],
)
def test_a_bitcoind_that_is_the_wrong_one_is_refused_by_name(network, tmp_path, changes, options, reason):
    table = json.loads((network.ready.parent / "data" / "genesis.json").read_text())
    genesis = tmp_path / "genesis.json"
    genesis.write_text(json.dumps(table | changes))
    with node(tmp_path, genesis, network, *options) as client:

        def refused():
            try:
                peg = client.call("hyperdust_pegStatus")
            except Unreachable:
                return None
            return peg["bitcoin"] if peg["bitcoin"]["state"] == "refused" else None

        status = wait_for("the refusal", refused, 60)
        assert reason in status["reason"]
        assert status["height"] == 0
        assert client.quantity("eth_blockNumber") == 0, "the node serves all the same"


def test_bitcoind_does_not_outlive_the_devnet(network):
    pid = read(network.ready)["pids"]["bitcoind"]
    network.process.kill()
    network.process.wait()
    wait_for("bitcoind to end", lambda: not psutil.pid_exists(pid), 15)


def test_a_devnet_without_any_bitcoind_names_the_way_on(tmp_path):
    port = free_port_block()
    refused = subprocess.run(
        [
            sys.executable, "-m", "hyperdust.cli", "devnet", "--data-dir", str(tmp_path / "data"),
            "--rpc-port", str(port), "--no-demo", "--no-explorer",
        ],
        env=os.environ | {"HYPERDUST_BITCOIND": "/nonexistent/bitcoind"},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "--no-bitcoin" in refused.stderr
    assert "Traceback" not in refused.stderr
