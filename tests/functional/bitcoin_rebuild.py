"""A chain with jobs, deposits and withdrawals rebuilt from genesis and a real bitcoind alone.

And what becomes of data that is missing, altered, reorganised away, or lied about.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.anchors import NO_DATA
from bridge.data import data_root
from consensus.finality import Checkpoint, Finality
from hyperdust.node.rebuild import RebuildDiffers
from hyperdust.rpc_client import RpcClient, Unreachable
from tests.functional.ports import free_port_block
from tests.functional.rebuild_story import open_story, rebuild

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

ROOT = Path(__file__).parents[2]
CYCLES = int(os.environ.get("HYPERDUST_TEST_REBUILD_CYCLES", "16"))
"""Of about 30 blocks each: 16 make a chain of 500 blocks."""
COMMAND = (sys.executable, "-m", "hyperdust.cli")


@pytest.fixture
def folder(bitcoin_folder):
    made = bitcoin_folder / "l2"
    made.mkdir()
    return made


@pytest.fixture
def story(bitcoin, folder):
    """A published and anchored chain of two cycles."""
    with open_story(bitcoin, folder, ROOT) as story:
        story.start()
        story.go_on(2)
        yield story


def login_of(bitcoin):
    return ("--bitcoin-rpc", bitcoin.node.url, "--bitcoin-user", bitcoin.node.login.user)


@contextmanager
def running_node(bitcoin, folder, name, *options):
    """`hyperdust node` as a process; its JSON-RPC once it answers, and all it says."""
    port, output = free_port_block(), folder / f"{name}.log"
    command = [
        *COMMAND, "node", "--data-dir", str(folder / name), "--genesis", str(folder / "genesis.json"),
        "--rpc-port", str(port), *login_of(bitcoin), *options,
    ]  # fmt: skip
    environment = os.environ | {"HYPERDUST_BITCOIN_PASSWORD": bitcoin.node.login.password}
    with output.open("wb") as file, RpcClient(f"http://127.0.0.1:{port}") as client:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            wait_until_it_answers(client, process, output)
            yield client, output
        finally:
            process.terminate()
            assert process.wait(20) == 0, output.read_text()


def wait_until_it_answers(client, process, output):
    deadline = time.monotonic() + 120
    while True:
        try:
            client.quantity("eth_blockNumber")
        except Unreachable:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        else:
            return


def test_500_blocks_with_deposits_jobs_and_withdrawals(bitcoin, folder):
    with open_story(bitcoin, folder, ROOT) as story:
        story.start()
        for cycle in range(CYCLES):
            story.go_on(2 + cycle)
        story.mine(10)
        store = story.node.store
        height = story.height
        assert height > 30 * CYCLES
        assert (story.credited, story.jobs, story.paid) == (CYCLES + 1, CYCLES + 1, CYCLES)
        anchored = story.publisher.entries[-1].last
        store.write_finality(Finality(Checkpoint(height, store.latest.head.hash), ()))  # votes are no part of this
        peg, jobs = story.peg, story.jobs
    with running_node(bitcoin, folder, "source") as (client, _):
        sent = publish(bitcoin, folder, client)
        head = client.call("eth_getBlockByNumber", hex(height), False)
    assert [one["last"] for one in sent] == [height]
    with running_node(bitcoin, folder, "fresh", "--sync-from", "bitcoin") as (client, output):
        found = client.call("eth_getBlockByNumber", "latest", False)
        assert found == head, "the same head, hash and all"
        assert client.call("hyperdust_getJob", jobs)["status"] == "final"
        assert client.call("hyperdust_pegStatus")["vault_sats"] == peg.vault_sats
        assert client.quantity("net_peerCount") == 0
        said = output.read_text()
    assert f"{height}/{height} blocks" in said
    assert f"anchored={anchored}" in said
    print(said.split("rebuilt ")[-1].splitlines()[0].strip())
    entries = json.loads((folder / "publisher" / "published.json").read_text())
    for what in ("size", "vsize"):
        print(f"{what}: {sum(one[what] for one in entries) / anchored:.0f} a block, {len(entries)} payloads")
    with running_node(bitcoin, folder, "fresh", "--sync-from", "bitcoin") as (client, _):
        assert client.call("eth_getBlockByNumber", "latest", False) == head, "a second start changes nothing"


def publish(bitcoin, folder, client):
    """`hyperdust bridge publish-data` while Bitcoin goes on."""
    command = [
        *COMMAND, "bridge", "publish-data", "--rpc", client.url, *login_of(bitcoin), "--wallet", "test",
        "--folder", str(folder / "publisher"),
    ]  # fmt: skip
    environment = os.environ | {"HYPERDUST_BITCOIN_PASSWORD": bitcoin.node.login.password}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        bitcoin.mine(1)
        time.sleep(0.5)
    process.terminate()
    out, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in out.splitlines()]


def test_a_missing_payload_is_named_and_may_come_later(story):
    before = story.publisher.entries[-1].last
    story.run_job()
    story.withdraw()
    payload = story.make_payload(story.new_blocks())
    anchored = story.height
    story.sign_round([], story.make_anchor(data_root(payload)))
    fresh = rebuild(story)
    assert (fresh.rebuilt, fresh.height) == (None, before)
    assert f"anchored={before}" in fresh.said
    assert f"L2 blocks from {before + 1} on are not on Bitcoin" in fresh.said
    assert f"no transaction carries payload {data_root(payload).hex()}" in fresh.said
    story.post(payload)
    fresh = rebuild(story)
    assert (fresh.height, fresh.rebuilt.anchored_height) == (anchored, anchored)
    assert fresh.rebuilt.blocks == anchored - before, "what it had, it kept"
    assert fresh.head == story.block(anchored).header.hash


def test_a_payload_from_the_middle_is_missing(story):
    story.mine(3)
    first = story.make_payload(story.new_blocks())
    at = story.height
    story.mine(3)
    (later,), _ = story.build([story.block(at + 1), story.block(at + 2)], data_root(first))
    story.post(later)
    fresh = rebuild(story)
    assert fresh.rebuilt is None
    assert f"L2 blocks from {fresh.height + 1} on are not on Bitcoin: the next payload" in fresh.said
    story.post(first)
    assert rebuild(story).height == at + 2


def alter(block):
    """Without its transactions; the header says what it said."""
    return replace(block, body=replace(block.body, transactions=()))


def test_an_altered_payload_of_a_stranger_is_refused_and_another_taken(story):
    before = story.publisher.entries[-1].last
    story.run_job()
    blocks = story.new_blocks()
    at = next(place for place, one in enumerate(blocks) if one.body.transactions)
    story.post(story.make_payload([*blocks[:at], alter(blocks[at]), *blocks[at + 1 :]]))
    fresh = rebuild(story)
    assert (fresh.rebuilt, fresh.height) == (None, before + at)
    assert f"the rebuild stops at L2 block {before + at + 1}: " in fresh.said
    assert "WrongTransactionsRoot" in fresh.said
    story.post(story.make_payload(blocks))
    fresh = rebuild(story)
    assert (fresh.height, fresh.head) == (story.height, blocks[-1].header.hash)
    assert (fresh.rebuilt.anchors, fresh.rebuilt.anchored_height) == (1, before)


def test_signers_who_anchor_an_altered_payload_stop_the_node(story):
    before = story.publisher.entries[-1].last
    story.run_job()
    story.withdraw()
    blocks = story.new_blocks()
    at = next(place for place, one in enumerate(blocks) if one.body.transactions)
    payload = story.make_payload([*blocks[:at], alter(blocks[at]), *blocks[at + 1 :]])
    story.post(payload)
    story.sign_round([], story.make_anchor(data_root(payload)))
    with pytest.raises(RebuildDiffers, match=f"L2 block {before + at + 1}: WrongTransactionsRoot"):
        rebuild(story)


def test_an_anchor_of_another_chain_stops_the_node(story):
    story.withdraw()
    root = story.publish()
    story.sign_round([], story.make_anchor(root, commitment=b"\x07" * 32))
    with pytest.raises(RebuildDiffers, match=r"stops at L2 block \d+: AnchorMismatch: commitment: got 0x0707"):
        rebuild(story)


def test_an_anchor_without_data_is_compared_all_the_same(story):
    story.withdraw()
    story.publish()
    anchored = story.height
    story.sign_round([], story.make_anchor(NO_DATA))
    assert rebuild(story).rebuilt.anchored_height == anchored


def test_anchors_behind_a_theft_count_for_nothing(story):
    story.withdraw()
    story.publish()
    height = story.height
    story.steal(replace(story.make_anchor(), commitment=b"\x07" * 32))
    fresh = rebuild(story)
    assert (fresh.height, fresh.rebuilt.anchors) == (height, 1)
    assert "the vault's list leaves its signers" in fresh.said


def test_data_that_is_reorganised_away_is_named_and_sent_again(story):
    before = story.publisher.entries[-1].last
    story.withdraw()
    client = story.bitcoin.client
    tip = client.chain_info().height
    root = story.publish()
    anchored = story.height
    signed = story.send_round([], story.make_anchor(root))
    client.invalidate_block(client.block_hash(tip + 1))
    elsewhere = story.bitcoin.wallet.new_address()
    for transactions in ([signed.txid[::-1].hex()], [], []):
        client.call("generateblock", elsewhere, transactions)
    story.follow()
    assert story.publisher.find_root(anchored) != root, "no anchor names what is not there"
    fresh = rebuild(story)
    assert (fresh.rebuilt, fresh.height) == (None, before)
    assert f"no transaction carries payload {root.hex()}" in fresh.said
    assert story.publisher.step() is None, "it sends again and waits"
    story.bury(1)
    assert story.publisher.find_root(anchored) == root
    assert rebuild(story).rebuilt.anchored_height == anchored


def test_a_bitcoind_is_needed(folder, bitcoin):
    command = [*COMMAND, "node", "--data-dir", str(folder / "alone"), "--sync-from"]
    for options, reason in ((["bitcoin"], "needs --bitcoin-rpc"), (["elsewhere"], "there is only bitcoin")):
        refused = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode != 0
        assert reason in refused.stderr
    refused = subprocess.run(
        [*command, "bitcoin", *login_of(bitcoin), "--bitcoin-password", "wrong"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "--sync-from bitcoin: refused" in refused.stderr
