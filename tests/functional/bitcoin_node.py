"""A real bitcoind on regtest: followed, proven, reorganised, killed, and taken for what it is not."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bridge.errors import NotIncluded, WrongMerkleRoot
from bridge.header_chain import HeaderChain
from bridge.inclusion import Branch, check_branch, check_transaction_proof
from bridge.params import REGTEST
from bridge.transactions import Transaction
from hyperdust.bitcoind import (
    Bitcoind,
    Login,
    RpcFault,
    StartFailed,
    Unauthorised,
    Unreachable,
    WrongNetwork,
    locate_bitcoind,
    start_regtest,
)
from tests.functional.bitcoin_fixture import MATURE
from tests.functional.ports import free_ports

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

SCRIPT = Path(__file__).parents[2] / "scripts" / "install-bitcoind"


def follow(chain, client):
    """Take in what the node has from the last block that both share; how a node does it, one step at a time."""
    height = min(chain.height, client.chain_info().height)
    while client.block_hash(height) != chain.hash_at(height):
        height -= 1
    return chain.extend(client.raw_headers(height + 1, 2000), int(time.time()))


def test_our_chain_follows_the_node(bitcoin):
    chain = HeaderChain(REGTEST)
    update = follow(chain, bitcoin.client)
    info = bitcoin.client.check_network("regtest")
    assert (update.added, update.height, update.reorganisation) == (MATURE, MATURE, None)
    assert (chain.tip, chain.height, chain.work) == (info.best_hash, info.height, info.work)
    (new,) = bitcoin.mine(1)
    assert follow(chain, bitcoin.client).tip == new == bitcoin.client.best_block_hash()
    assert chain.header(new).encode() == bitcoin.client.raw_header(new)
    median = bitcoin.client.call("getblockchaininfo")["mediantime"]
    assert chain.context_after(new).median_time_past == median
    assert follow(chain, bitcoin.client).added == 0
    assert HeaderChain.decode(REGTEST, chain.encode()).tip == new


def test_a_payment_is_proven_and_nothing_else(bitcoin):
    paid_to = bitcoin.wallet.new_address()
    txids = [bitcoin.wallet.send_to_address(paid_to, 12_345_678 + at) for at in range(5)]
    block_hash, other = bitcoin.mine(2)
    chain = HeaderChain(REGTEST)
    follow(chain, bitcoin.client)
    header = chain.header(block_hash)
    assert chain.confirmations(block_hash) == 2
    for at, txid in enumerate(txids):
        raw = bitcoin.client.raw_transaction(txid)
        proof = bitcoin.client.txout_proof([txid], block_hash)
        branch = check_transaction_proof(proof, header, raw)
        transaction = check_branch(Branch.decode(branch.encode()), header.merkle_root, raw)
        assert transaction.txid == txid
        assert 12_345_678 + at in {made.sats for made in transaction.outputs}
        assert transaction.encode() == raw
        with pytest.raises(WrongMerkleRoot):
            check_transaction_proof(proof, chain.header(other), raw)
        with pytest.raises(NotIncluded):
            check_transaction_proof(proof, header, bitcoin.client.raw_transaction(txids[at - 1]))
    coins = bitcoin.client.scan_outputs([f"addr({paid_to})"])
    assert sorted(coin.txid for coin in coins) == sorted(txids)
    assert bitcoin.client.refusal_of(bitcoin.client.raw_transaction(txids[-1])) is not None, "it is spent"


@pytest.mark.parametrize("depth", [2, 8])
def test_a_reorganisation_is_reported_with_its_depth(bitcoin, depth):
    chain = HeaderChain(REGTEST)
    follow(chain, bitcoin.client)
    fork = chain.height
    abandoned = bitcoin.mine(depth)
    assert follow(chain, bitcoin.client).reorganisation is None
    bitcoin.client.invalidate_block(abandoned[0])
    adopted = bitcoin.client.generate_to_address(depth, bitcoin.wallet.new_address())
    even = follow(chain, bitcoin.client)
    assert (even.added, even.tip, even.reorganisation) == (depth, abandoned[-1], None), "the first seen stays"
    adopted += bitcoin.client.generate_to_address(1, bitcoin.wallet.new_address())
    update = follow(chain, bitcoin.client)
    assert update.reorganisation is not None
    assert update.reorganisation.depth == depth
    assert update.reorganisation.fork_height == fork
    assert (update.reorganisation.abandoned, update.reorganisation.adopted) == (abandoned, adopted)
    assert (chain.tip, chain.work) == (bitcoin.client.best_block_hash(), bitcoin.client.chain_info().work)
    assert chain.confirmations(abandoned[-1]) == 0
    bitcoin.client.reconsider_block(abandoned[0])
    assert follow(chain, bitcoin.client).added == 0


def test_a_killed_node_is_named(bitcoin):
    bitcoin.node.process.kill()
    bitcoin.node.process.wait()
    with pytest.raises(Unreachable, match="is it running"):
        bitcoin.client.chain_info()
    with pytest.raises(Unreachable):
        bitcoin.mine(1)


def test_a_node_that_comes_back_is_read_again(bitcoin, bitcoind_program):
    tip, datadir = bitcoin.client.best_block_hash(), bitcoin.node.datadir
    bitcoin.node.stop()
    again = start_regtest(datadir, *free_ports(2), program=bitcoind_program)
    try:
        assert again.client.best_block_hash() == tip
    finally:
        assert again.stop() == 0


def test_wrong_network_and_wrong_login_are_refused(bitcoin):
    with pytest.raises(WrongNetwork, match="'regtest', this chain needs 'main'"):
        bitcoin.client.check_network("main")
    for login in (Login("hyperdust", "wrong"), Login(cookie=bitcoin.node.datadir / "absent")):
        with Bitcoind(bitcoin.node.url, login) as stranger, pytest.raises(Unauthorised):
            stranger.chain_info()


def test_bitcoinds_own_refusals_come_through(bitcoin):
    with pytest.raises(RpcFault, match="out of range") as caught:
        bitcoin.client.block_hash(10_000)
    assert caught.value.code == -8
    with pytest.raises(RpcFault) as caught:
        bitcoin.client.send_raw_transaction(b"\x00")
    assert caught.value.code == -22
    coinbase = Transaction.decode(bitcoin.client.raw_transaction(_coinbase(bitcoin)))
    assert coinbase.is_coinbase
    bitcoin.client.check_reaches(0)
    assert bitcoin.client.fee_rate(6) is None


def _coinbase(bitcoin):
    block = bitcoin.client.raw_block(bitcoin.client.best_block_hash())
    return Transaction.decode(block[81:]).txid


def test_a_taken_port_is_named(bitcoin, bitcoind_program, tmp_path):
    rpc_port = int(bitcoin.node.url.rpartition(":")[2])
    with pytest.raises(StartFailed, match=r"(?i)bind|start"):
        start_regtest(tmp_path / "second", rpc_port, free_ports(1)[0], program=bitcoind_program)
    assert bitcoin.client.chain_info().height == MATURE


def test_the_script_is_quick_and_agrees(bitcoind_program):
    start = time.monotonic()
    assert locate_bitcoind() == bitcoind_program
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"PATH": "empty"}, "this is not Debian"),
        ({"HYPERDUST_BITCOIND": "/nonexistent/bitcoind"}, "does not run"),
    ],
)
def test_the_script_says_why_there_is_none(tmp_path, environment, reason):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "cat", "cksum"):
        (programs / name).symlink_to(shutil.which(name))
    given = {"XDG_CACHE_HOME": str(tmp_path), **environment}
    given["PATH"] = str(programs) if environment.get("PATH") == "empty" else os.environ["PATH"]
    run = subprocess.run([SCRIPT], env=given, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    assert reason in run.stderr
    assert "HYPERDUST_BITCOIND" in run.stderr, "the next step"
