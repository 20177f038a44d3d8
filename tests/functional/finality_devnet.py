"""Finality of a devnet by itself: two miners vote, checkpoints become final, and no crash takes that back.

One devnet for all: the tests build on each other, in this order.
"""

import os
import signal
import subprocess
import threading

import httpx
import pytest

from chain.errors import HyperdustError
from consensus.finality import Checkpoint, Vote, sign_vote
from hyperdust.contracts_abi import ADDRESSES, decode_event, decode_output, encode_call, event_topic
from hyperdust.proto import work_pb2 as messages
from hyperdust.rpc_client import RpcClient
from hyperdust.wallet import role_key
from hyperdust.work_client import WorkClient
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


def hand_in(network, key, link):
    """Sign a vote and give it to the node, as any gossip may; the rule that it breaks."""
    client = WorkClient(read(network.ready)["work_grpc"], bytes.fromhex(key.address[2:]), (), threading.Event())
    source, target = link.source, link.target
    named = messages.Link(
        source=source.hash, source_number=source.number, target=target.hash, target_number=target.number
    )
    signature = sign_vote(link, read(network.ready)["chain_id"], bytes(key.key))
    try:
        return client.submit_vote(messages.Vote(link=named, signature=signature)).rule
    finally:
        client.close()


def events(network, contract, name):
    wanted = {"fromBlock": "0x1", "address": "0x" + ADDRESSES[contract].hex()}
    logs = network.call("eth_getLogs", wanted | {"topics": ["0x" + event_topic(contract, name).hex()]}) or []
    return [
        decode_event(
            contract, name, [bytes.fromhex(topic[2:]) for topic in log["topics"]], bytes.fromhex(log["data"][2:])
        )
        for log in logs
    ]


def view(network, contract, function, *args):
    with RpcClient(network.url) as client:
        return decode_output(
            contract, function, client.view(ADDRESSES[contract], encode_call(contract, function, *args))
        )


def test_a_validator_that_votes_against_itself_loses_what_is_locked_and_its_reporter_gets_half(network):
    liar, honest, reporter = (role_key(index).address.lower() for index in (1, 0, 10))

    def votes():
        return [vote for vote in (network.call("hyperdust_finality") or {}).get("votes", ()) if vote["voter"] == liar]

    held = wait_for("a vote of the liar", votes)[-1]
    ends = (held["source"], held["target"])
    source, target = (Checkpoint(end["block"], bytes.fromhex(end["hash"][2:])) for end in ends)
    assert hand_in(network, role_key(1), Vote(source, Checkpoint(target.number, b"\x66" * 32))) == "UnknownCheckpoint"
    (shown,) = network.call("hyperdust_finality")["equivocations"]
    assert shown["voter"] == liar

    (found,) = wait_for("the report", lambda: events(network, "Court", "Equivocated"))
    taken = events(network, "Dust", "Forfeited")
    assert (found["coinbase"].lower(), found["reporter"].lower()) == (liar, reporter)
    assert found["amount"] == sum(event["amount"] for event in taken) > 0
    for event in taken:
        miner, minted, _, _, claimed = view(network, "Dust", "reward_of", event["number"])
        assert (miner.lower(), minted, claimed) == (liar, event["amount"], True)
        assert network.call("eth_getBlockByNumber", hex(event["number"]), False)["miner"] == liar
    assert view(network, "Dust", "balanceOf", reporter) == (found["amount"] // 2,)
    burned = [event for event in events(network, "Dust", "Transfer") if event["receiver"] == "0x" + "00" * 20]
    assert [event["value"] for event in burned] == [found["amount"] - found["amount"] // 2]
    assert honest not in {event["coinbase"].lower() for event in taken}


def test_a_restarted_devnet_keeps_finality(network):
    before = network.final
    stop(network.process)
    with devnet(network.folder, network.port, *OPTIONS) as (process, _):
        assert network.final >= before
        network.moves()  # the liar mines again, and is not reported again: neither node nor companion forgot
        assert len(network.call("hyperdust_finality")["equivocations"]) == 1
        assert len(events(network, "Court", "Equivocated")) == 1
        stop(process)
