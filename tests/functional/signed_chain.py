"""A real node mined in this process, an L2 block whenever a test says so, and signers as processes that ask it.

No miner and no votes: a test says what is final. Bitcoin is a real bitcoind whose blocks a test makes, and unmakes.
"""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import coincurve
import trio

from bridge.deposits import CHARGE_FLAG, Outpoint
from bridge.scripts import vault_output
from bridge.taproot import compute_sighashes, make_threshold_witness, with_witnesses
from bridge.transactions import Input, Output, Transaction
from chain.params import BRIDGE
from consensus.finality import Checkpoint, Finality
from consensus.peg import load_peg
from hyperdust.bitcoind import RpcFault, parse_hash
from hyperdust.contracts_abi import encode_call
from hyperdust.devnet_bitcoin import WALLET
from hyperdust.node.app import open_node
from hyperdust.node.config import NodeConfig
from hyperdust.node.rpc.server import serve_rpc
from hyperdust.rpc_client import RpcClient
from hyperdust.signer.key import SigningKey
from hyperdust.wallet import signer_key
from tests.functional.ports import free_ports
from tests.functional.rebuild_story import RICH, Story, write_genesis

LIMIT_S = 40
POLL_S = 0.1
MAX_FEE = 60_000
_TURN_S = 4


def write_table(folder, root):
    """Regtest's own signers on the small graph."""
    path = write_genesis(folder, root)
    table = json.loads(path.read_text()) | {"peg": json.loads((root / "genesis/regtest.json").read_text())["peg"]}
    path.write_text(json.dumps(table))
    return path


class Chain:
    """The node, its Bitcoin, and what users own there."""

    def __init__(self, bitcoin, node, folder):
        self.bitcoin, self.node = bitcoin, node
        self.story = Story(bitcoin, node, folder)
        self.url = f"http://127.0.0.1:{node.config.rpc_port}"
        self.client = RpcClient(self.url)
        self.supplies = []
        self.users = 0
        self.wallet = bitcoin.client.wallet(WALLET)

    # --- the L2

    @property
    def peg(self):
        view = self.node.store.latest
        return load_peg(view.state_at(view.head.hash).read_many)

    @property
    def frozen(self):
        return None if self.peg.frozen is None else self.peg.frozen.reason.name.lower()

    def advance(self, blocks=1):
        """Follow Bitcoin, make L2 blocks, all of them final."""
        for _ in range(blocks):
            self.story.follow()
            self.story.mine()
            view = self.node.store.latest
            self.node.store.write_finality(Finality(Checkpoint(view.head.number, view.head.hash), ()))
            peg = self.peg
            assert peg.surplus_sats >= 0, "the vault's book covers what is owed, always"
        return peg

    def until(self, what, done, limit_s=LIMIT_S):
        """L2 blocks until it is so; no Bitcoin blocks."""
        end = time.monotonic() + limit_s
        while not (found := done(self.advance())):
            assert time.monotonic() < end, f"waited {limit_s} s for {what}: {self.peg.frozen}"
            time.sleep(POLL_S)
        return found

    def goes_on(self):
        """A transaction of anybody is taken in, whatever the peg does."""
        to, before = b"\x77" * 20, self.client.quantity("eth_getBalance", "0x" + "77" * 20, "latest")
        self.story.send(RICH, to, value=1)
        self.advance()
        assert self.client.quantity("eth_getBalance", "0x" + "77" * 20, "latest") == before + 1

    def ask(self, *words, code=0):
        """A command of `hyperdust bridge`."""
        node = self.bitcoin.node
        command = [
            sys.executable, "-m", "hyperdust.cli", "bridge", *words, "--rpc", self.url, "--json",
            "--bitcoin-rpc", node.url, "--bitcoin-user", node.login.user,
        ]  # fmt: skip
        environment = os.environ | {"HYPERDUST_BITCOIN_PASSWORD": node.login.password}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def credited(self, address):
        wei = self.client.quantity("eth_getBalance", "0x" + address.hex(), "latest")
        return wei // 10**10

    def burn(self, sats):
        self.story.send(RICH, BRIDGE, value=sats * 10**10)
        self.advance(2)

    def withdraw(self, sats):
        """Queue one; its number and the address that it is paid to."""
        number, address = self.peg.next_number, self.wallet.new_address()
        script = bytes.fromhex(self.wallet.call("getaddressinfo", address)["scriptPubKey"])
        call = encode_call("Bridge", "withdraw", script, MAX_FEE)
        self.story.send(RICH, BRIDGE, call, value=(sats + MAX_FEE) * 10**10)
        self.advance(2)
        return number, address

    def withdrawal(self, number):
        return self.client.call("hyperdust_getWithdrawal", number)["status"]

    @property
    def finalized(self):
        return int(self.client.call("eth_getBlockByNumber", "finalized", False)["number"], 16)

    # --- Bitcoin

    @property
    def pool(self):
        return [parse_hash(txid) for txid in self.bitcoin.client.call("getrawmempool")]

    def rounds(self):
        """Vault transactions in the mempool: their sequences say a charge."""
        found = []
        for txid in self.pool:
            try:
                found.append(Transaction.decode(self.bitcoin.client.raw_transaction(txid)))
            except RpcFault:  # replaced since
                continue
        return [one for one in found if 0x80000000 <= one.inputs[0].sequence < 0xF0000000]

    def wait_round(self, fits=lambda _: True):
        """The first round in the mempool that fits.

        An empty Bitcoin block now and then: two leaders may have split the signatures at the turn of a block.
        """
        end, address = time.monotonic() + LIMIT_S, self.wallet.new_address()
        turn = time.monotonic() + _TURN_S
        while not (found := next(filter(fits, self.rounds()), None)):
            assert time.monotonic() < end, f"waited {LIMIT_S} s for a round: {self.peg.frozen}"
            if time.monotonic() > turn:
                self.bitcoin.client.call("generateblock", address, [])
                turn = time.monotonic() + _TURN_S
            self.advance()
            time.sleep(POLL_S)
        return found

    def depth(self, coin):
        """Blocks from the one that has a coin's transaction to the tip."""
        return self.bitcoin.client.call("getrawtransaction", coin.txid[::-1].hex(), True)["confirmations"]

    def pay_in(self, sats=1_000_000):
        """Announce and pay a deposit: the L2 address, and the coin."""
        self.users += 1
        to = bytes([0x50 + self.users]) * 20
        key = coincurve.PrivateKey(bytes([self.users]) * 32).public_key.format()[1:]
        deposit = {"userKey": "0x" + key.hex(), "address": "0x" + to.hex(), "maxFee": MAX_FEE}
        answer = self.client.call("hyperdust_announceDeposit", deposit)
        return to, self.pay(answer["bitcoinAddress"], sats)

    def pay(self, address, sats):
        return self.find_paid(self.wallet.send_to_address(address, sats), address)

    def find_paid(self, txid, address):
        made = self.wallet.call("gettransaction", txid[::-1].hex())
        (index,) = {one["vout"] for one in made["details"] if one.get("address") == address}
        return Outpoint(txid, index)

    def pay_again(self, coin):
        """As its owner's wallet does: bitcoind drops what a wallet made at a height that a reorganisation took away."""
        raw = self.wallet.call("gettransaction", coin.txid[::-1].hex())["hex"]
        self.bitcoin.client.send_raw_transaction(bytes.fromhex(raw))

    def spend_otherwise(self, coin):
        """A transaction of the owner's that spends what made a coin: raw, not sent."""
        made = Transaction.decode(self.bitcoin.client.raw_transaction(coin.txid))
        inputs = [{"txid": one.txid[::-1].hex(), "vout": one.index} for one in made.inputs]
        outputs = {self.wallet.new_address(): sum(one.sats for one in made.outputs) / 10**8}
        bare = self.wallet.call("createrawtransaction", inputs, outputs)
        spent = []
        for one in inputs:  # bitcoind does not see them: they are spent
            shown = self.bitcoin.client.call("getrawtransaction", one["txid"], True)["vout"][one["vout"]]
            spent.append(one | {"scriptPubKey": shown["scriptPubKey"]["hex"], "amount": str(shown["value"])})
        return self.wallet.call("signrawtransactionwithwallet", bare, spent)["hex"]

    def overdraw(self, sats):
        """The vault spent by two of its signers into itself, with too much for Bitcoin's miner."""
        vault, custody = self.peg.vault, self.peg.custody
        output = vault_output(custody, self.story.rules)
        bare = Transaction(2, (Input(vault.txid, 0, b"", CHARGE_FLAG),), (Output(vault.sats - sats, output.script),), 0)
        (message,) = compute_sighashes(bare, (Output(vault.sats, output.script),), (output.signers,))
        keys = [SigningKey(signer_key(index)) for index in range(custody.signers.threshold)]
        signatures = {key.public: key.sign(message) for key in keys}
        signers = custody.signers
        witness = make_threshold_witness(output.signers, signers.keys, signers.threshold, message, signatures)
        self.bitcoin.client.call("sendrawtransaction", with_witnesses(bare, [witness]).encode().hex(), 0)

    def received(self, address):
        """Sats that Bitcoin's best chain has at an address, in how many payments."""
        found = self.bitcoin.client.call("scantxoutset", "start", [f"addr({address})"])
        return round(found["total_amount"] * 10**8), len(found["unspents"])

    def mine(self, blocks=1):
        """With the mempool in the first."""
        return self.bitcoin.mine(blocks)

    def bury(self, blocks=7):
        """Deep, so that origins pass what the first of these blocks has."""
        self.mine(blocks)
        self.advance()

    def until_bumped(self, made):
        """Empty Bitcoin blocks until signers have raised the rate of a round; the version that is then in the pool."""
        address = self.wallet.new_address()
        for _ in range(12):
            self.bitcoin.client.call("generateblock", address, [])
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                self.advance()
                if other := next((one for one in self.rounds() if one.txid != made.txid), None):
                    assert other.inputs[0].txid == made.inputs[0].txid
                    return other
                time.sleep(POLL_S)
        raise AssertionError("no other version within 12 blocks")

    def settle(self, what, done):
        """Bitcoin blocks, one after another, until it is so."""
        for _ in range(60):
            self.mine(1)
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                self.advance()
                if done():
                    return
                time.sleep(POLL_S)
        raise AssertionError(f"no {what} within 60 blocks")

    def reorganise(self, depth, transactions=()):
        """Replace the last blocks by one more, all empty, or the first with these; what was in them is in the pool."""
        client = self.bitcoin.client
        address = self.wallet.new_address()  # another each time: else a block could be one that was made invalid
        client.invalidate_block(client.block_hash(client.chain_info().height - depth + 1))
        client.call("generateblock", address, transactions)
        for _ in range(depth):
            client.call("generateblock", address, [])
        self.advance()

    def check_books(self):
        """The vault on Bitcoin is what the chain says."""
        vault = self.peg.vault
        coin = self.bitcoin.client.call("gettxout", vault.txid[::-1].hex(), 0, False)
        assert round(coin["value"] * 10**8) == vault.sats
        assert self.peg.surplus_sats >= 0
        assert self.frozen is None


def _serve(node, started):
    """A thread with the node's doors; `started` gets how to close them."""

    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_rpc, node, None)
            token = trio.lowlevel.current_trio_token()
            started.append(lambda: trio.from_thread.run_sync(nursery.cancel_scope.cancel, trio_token=token))
            await trio.sleep_forever()

    trio.run(main)


@contextmanager
def open_chain(bitcoin, folder, root):
    """The chain of a test, and its doors."""
    with bitcoin.client.wallet(WALLET) as users:
        for _ in range(12):  # coins that no reorganisation makes immature
            bitcoin.wallet.send_to_address(users.new_address(), 500_000_000)
    bitcoin.mine(20)
    rpc_port, ws_port = free_ports(2)
    login = bitcoin.node.login
    config = NodeConfig(
        data_dir=folder / "node",
        genesis=str(write_table(folder, root)),
        rpc_port=rpc_port,
        ws_port=ws_port,
        bitcoin_rpc=bitcoin.node.url,
        bitcoin_user=login.user,
        bitcoin_password=login.password,
    )
    with open_node(config) as node:
        started = []
        thread = threading.Thread(target=_serve, args=(node, started), daemon=True)
        thread.start()
        end = time.monotonic() + LIMIT_S
        while not started:
            assert thread.is_alive(), "the node's doors"
            assert time.monotonic() < end
            time.sleep(POLL_S)
        chain = Chain(bitcoin, node, folder)
        try:
            chain.advance()
            yield chain
        finally:
            started[0]()
            thread.join(LIMIT_S)
            chain.client.close()
            chain.wallet.close()
            node.follower.client.close()
