"""Finality of a devnet by itself: two miners vote, checkpoints become final, and no crash takes that back.

One devnet for all: the tests build on each other, in this order.
"""

import os
import signal
import subprocess

import httpx
import pytest

from chain.errors import HyperdustError
from hyperdust.rpc_client import RpcClient
from tests.functional.devnet_lifecycle import devnet, read, stop, wait_for
from tests.functional.ports import free_port_block

pytestmark = pytest.mark.functional

EPOCH = 8
OPTIONS = ("--miners", "2", "--no-demo", "--no-explorer")


class Network:
    """The devnet under test."""

    def __init__(self, folder, port, process, ready):
        self.folder, self.port, self.process, self.ready = folder, port, process, ready
        self.url = f"http://127.0.0.1:{port}"

    def call(self, method, *params):
        """The answer; None while the node is away."""
        try:
            with RpcClient(self.url) as client:
                return client.call(method, *params)
        except HyperdustError:
            return None

    @property
    def head(self):
        return int(self.call("eth_blockNumber") or "0x0", 16)

    @property
    def final(self):
        answer = self.call("hyperdust_finality")
        return -1 if answer is None else answer["final"]["block"]

    def moves(self, epochs=2, timeout_s=60):
        """Wait until so many more epochs are final; the height."""
        target = max(self.final, 0) + epochs * EPOCH
        wait_for(f"block {target} to be final", lambda: self.final >= target, timeout_s)
        return self.final


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("finality"), free_port_block()
    with devnet(folder, port, *OPTIONS) as (process, ready):
        yield Network(folder, port, process, ready)
        if process.poll() is None:
            stop(process)


def test_two_miners_reach_finality_by_themselves_within_three_epochs(network):
    reached = wait_for("a final block", lambda: network.final > 0 and network.head, 60)
    assert reached <= 3 * EPOCH + 2
    assert network.moves() >= 3 * EPOCH


def test_safe_and_finalized_are_the_justified_and_final_checkpoints(network):
    def settled():
        answer = network.call("hyperdust_finality")
        blocks = [network.call("eth_getBlockByNumber", tag, False) for tag in ("safe", "finalized")]
        again = network.call("hyperdust_finality")
        return (answer, blocks) if answer["justified"] == again["justified"] else None

    answer, (safe, finalized) = wait_for("a quiet moment", settled)
    for place, block in ((answer["justified"], safe), (answer["final"], finalized)):
        assert (place["block"], place["hash"]) == (int(block["number"], 16), block["hash"])
        assert place["block"] % EPOCH == 0
    assert answer["final"]["block"] < answer["justified"]["block"] <= network.head
    assert answer["total_weight"] == sum(entry["weight"] for entry in answer["weights"]) == 64
    assert {vote["voter"] for vote in answer["votes"]} <= {entry["voter"] for entry in answer["weights"]}


def test_both_miners_gain_weight_and_vote(network):
    def voters():
        answer = network.call("hyperdust_finality")
        return len(answer["weights"]) == 2 and len({vote["voter"] for vote in answer["votes"]}) == 2

    wait_for("both miners' votes", voters, 120)


def test_cast_reads_the_finalized_block(network, tools, environment):
    given = environment | {"ETH_RPC_URL": network.url}
    program = [tools.program("cast"), "block", "finalized", "--field", "number"]
    shown = subprocess.run(program, env=given, capture_output=True, text=True, timeout=60, check=True)
    assert int(shown.stdout) % EPOCH == 0
    assert 0 < int(shown.stdout) <= network.final


def test_metrics_show_it(network):
    text = httpx.get(read(network.ready)["metrics"], trust_env=False).text
    values = dict(line.split() for line in text.splitlines() if line.startswith("hyperdust_") and "{" not in line)
    assert float(values["hyperdust_final_number"]) >= EPOCH
    assert float(values["hyperdust_justified_number"]) > float(values["hyperdust_final_number"])
    assert float(values["hyperdust_equivocations"]) == 0


def test_a_killed_node_comes_back_with_what_was_final_and_goes_on(network):
    before = network.final
    os.kill(read(network.ready)["pids"]["node"][0], signal.SIGKILL)
    after = wait_for("the node", lambda: max(network.final, 0))
    assert after >= before
    network.moves()


def test_killed_miners_vote_again_and_never_against_themselves(network):
    for _ in range(3):
        for pid in read(network.ready)["pids"]["miner"]:
            os.kill(pid, signal.SIGKILL)
        network.moves(epochs=1, timeout_s=90)
    assert network.call("hyperdust_finality")["equivocations"] == []


def test_a_restarted_devnet_keeps_finality(network):
    before = network.final
    stop(network.process)
    with devnet(network.folder, network.port, *OPTIONS) as (process, _):
        assert network.final >= before
        network.moves()
        assert network.call("hyperdust_finality")["equivocations"] == []
        stop(process)
