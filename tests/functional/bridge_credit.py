"""A devnet with its signers on a real bitcoind: in, credited once, out, paid, and finalized from the anchor.

One devnet for all: the tests build on each other, in this order. Bitcoin's blocks come faster than the devnet's own.
"""

import time

import coincurve
import pytest

from hyperdust.bitcoind import Bitcoind, Login, parse_hash
from hyperdust.contracts_abi import ADDRESSES, encode_call
from hyperdust.devnet_bitcoin import WALLET
from hyperdust.rpc_client import RpcClient
from hyperdust.wallet import user_key
from tests.functional.devnet_lifecycle import devnet, read
from tests.functional.ports import free_port_block

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

LIMIT_S = 240
BITCOIN_BLOCK_S = 1.0
NEWCOMER = "0x" + "5e" * 20
SATS = 2_000_000
PAYOUT_SATS, MAX_FEE = 300_000, 60_000


class Network:
    """The devnet, its chain, and its Bitcoin."""

    def __init__(self, ready, client):
        self.client = client
        access = read(ready)["bitcoin"]
        self.bitcoind = Bitcoind(access["rpc"], Login(access["user"], access["password"]))

    @property
    def peg(self):
        return self.client.call("hyperdust_pegStatus")

    def balance(self, address):
        return self.client.quantity("eth_getBalance", address, "latest")

    def until(self, what, done):
        """Mine Bitcoin blocks until it is so."""
        end = time.monotonic() + LIMIT_S
        while not (found := done()):
            assert time.monotonic() < end, f"waited {LIMIT_S} s for {what}: {self.peg}"
            with self.bitcoind.wallet(WALLET) as wallet:
                self.bitcoind.generate_to_address(1, wallet.new_address())
            time.sleep(BITCOIN_BLOCK_S)
        return found

    def check_books(self):
        """The vault on Bitcoin is what the chain says, and covers what it owes."""
        peg = self.peg
        assert peg["covered"]
        assert not peg["frozen"], peg["frozen_reason"]
        assert int(peg["supply_wei"], 16) <= (peg["vault_sats"] + peg["genesis_sats"]) * 10**10
        made = self.bitcoind.raw_transaction(parse_hash(peg["vault"]["txid"]))
        shown = self.bitcoind.call("decoderawtransaction", made.hex())
        assert round(shown["vout"][0]["value"] * 10**8) == peg["vault_sats"]


@pytest.fixture(scope="module")
def network(bitcoind_program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bridge")
    with (
        devnet(folder, free_port_block(), "--no-demo", "--no-explorer", "--bitcoin") as (_, ready),
        RpcClient(read(ready)["rpc"]) as client,
    ):
        network = Network(ready, client)
        with network.bitcoind:
            yield network


def test_the_first_deposit_opens_the_vault(network):
    network.until("a vault", lambda: network.peg["vault"])
    network.check_books()


def test_a_deposit_is_credited_once(network):
    secret = coincurve.PrivateKey(b"\x21" * 32)
    deposit = {"userKey": "0x" + secret.public_key.format()[1:].hex(), "address": NEWCOMER, "maxFee": 50_000}
    address = network.client.call("hyperdust_announceDeposit", deposit)["bitcoinAddress"]
    with network.bitcoind.wallet(WALLET) as wallet:
        txid = wallet.send_to_address(address, SATS)
        (index,) = [one["vout"] for one in wallet.call("gettransaction", txid[::-1].hex())["details"] if "vout" in one]
    outpoint = f"{txid[::-1].hex()}:{index}"
    assert network.balance(NEWCOMER) == 0
    states = []

    def is_credited():
        found = network.client.call("hyperdust_getDeposit", outpoint)
        if found is not None and found["status"] not in states:
            states.append(found["status"])
        return found is not None and found["status"] == "credited" and found

    found = network.until("the credit", is_credited)
    assert states[-1] == "credited"
    assert found["address"] == NEWCOMER
    assert found["credit_sats"] + found["fee_sats"] == found["amount_sats"] == SATS
    assert found["confirmations"] >= found["needed"] == 7
    assert network.balance(NEWCOMER) == found["credit_sats"] * 10**10
    block = network.client.call("eth_getBlockByNumber", hex(found["block"]), False)
    assert [int(one["amount"], 16) for one in block["withdrawals"] if one["address"] == NEWCOMER] == [
        found["credit_sats"] * 10
    ]
    for held in network.client.call("hyperdust_getPendingEvidence"):
        network.client.call("hyperdust_submitEvidence", held["raw"])
    start = network.client.quantity("eth_blockNumber")
    network.until("more blocks", lambda: network.client.quantity("eth_blockNumber") > start + 10)
    assert network.balance(NEWCOMER) == found["credit_sats"] * 10**10
    network.check_books()


def test_a_withdrawal_is_paid(network):
    with network.bitcoind.wallet(WALLET) as wallet:
        address = wallet.new_address()
        script = bytes.fromhex(wallet.call("getaddressinfo", address)["scriptPubKey"])
        data = encode_call("Bridge", "withdraw", script, MAX_FEE)
        value = (PAYOUT_SATS + MAX_FEE) * 10**10
        network.client.send_transaction(user_key(3), ADDRESSES["Bridge"], data, value=value, gas=300_000)
        number = network.peg["next_withdrawal"]  # taken in by the next block
        asked = network.client.call("hyperdust_getWithdrawal", 0)
        assert asked["sats"] == PAYOUT_SATS
        assert number <= 1
        paid = network.until(
            "the payout",
            lambda: (one := network.client.call("hyperdust_getWithdrawal", 0))["status"] == "paid" and one,
        )
        assert wallet.call("getreceivedbyaddress", address) * 10**8 == pytest.approx(PAYOUT_SATS)
    assert paid["confirmations"] >= 7
    assert network.peg["queued_withdrawals"] == 0
    network.check_books()


def test_safe_and_finalized_come_from_anchors(network):
    def deep():
        anchors = network.client.call("hyperdust_getAnchors", "0x0", "latest")
        return [one for one in anchors if one["confirmations"] >= 6]

    network.until("a deep anchor", deep)
    before = deep()[-1]["block"]
    finalized = network.client.call("eth_getBlockByNumber", "finalized", False)
    after = deep()
    assert before <= int(finalized["number"], 16) <= after[-1]["block"]
    assert finalized["hash"] in {one["hash"] for one in after}
    safe = network.client.call("eth_getBlockByNumber", "safe", False)
    assert int(safe["number"], 16) >= int(finalized["number"], 16)
    final = network.client.call("hyperdust_finality")["final"]["block"]
    assert final >= int(finalized["number"], 16), "anchored is what is final"
