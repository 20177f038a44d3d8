"""A chain with a peg on a real bitcoind, mined in this process on a small graph; its signers are played here."""

import json
import time
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO

import numpy as np
from eth_abi import encode
from eth_account import Account

from bridge.anchors import NO_DATA, Anchor
from bridge.batch import build_payloads
from bridge.deposits import Claim, Evidence, Outpoint, Spent
from bridge.headers import Header
from bridge.inclusion import check_transaction_proof
from bridge.params import REGTEST
from bridge.peg_state import NO_ANCHOR
from bridge.planning import plan_round
from bridge.rounds import Deposit
from bridge.scripts import address_of, deposit_output, vault_output
from bridge.taproot import Path as Spending
from bridge.taproot import compute_sighashes, make_threshold_witness, with_witnesses
from bridge.transactions import Input, Output, Transaction
from bridge.vault import build_draft
from chain.blocks import Block, encode_body
from chain.hashing import keccak256
from chain.params import BONDS, BRIDGE, JOB_MARKET
from consensus.evidence import encode_evidence_item
from consensus.peg import load_peg
from consensus.peg_terms import rules_of
from hyperdust.contracts_abi import encode_call
from hyperdust.data_publisher import Journal, Publisher
from hyperdust.node.anchors import compute_facts
from hyperdust.node.app import open_node
from hyperdust.node.config import NodeConfig
from hyperdust.node.syncing import sync_from_bitcoin
from pouw.graph_encoding import encode as encode_graph
from tests.small_chain import MINER, OTHER_MINER, K, find_ticket, graph, graph_id
from tests.unit.bridge.keys import make_binding, make_custody, sign, sign_draft

RICH = Account.from_key("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
RATE = 2_000
ROWS = 64
TRACE_ROOT = b"\x05" * 32
GENESIS = "genesis/regtest.json"


def write_genesis(folder, root):
    """Regtest with the small graph, the tests' signers, and a start long enough ago for a burst of blocks."""
    table = json.loads((root / GENESIS).read_text())
    (folder / "small.graph").write_bytes(encode_graph(graph()))
    custody = make_custody()

    def keys(of):
        return {"threshold": of.threshold, "keys": ["0x" + key.hex() for key in of.keys], "group_key": "0x"}

    table |= {
        "graphs": [str(folder / "small")],
        "difficulty_floor": 16 * 16 * K * 4,
        "genesis_timestamp": int(time.time()) - 50_000,
        "peg": table["peg"] | {"signers": keys(custody.signers), "council": keys(custody.council)},
    }
    path = folder / "genesis.json"
    path.write_text(json.dumps(table))
    return path


class Story:
    """The chain that is published. Every method returns at once with what it says done."""

    def __init__(self, bitcoin, node, folder):
        self.bitcoin, self.node, self.folder = bitcoin, node, folder
        self.rules = rules_of(node.params)
        self.publisher = Publisher(self, bitcoin.client, bitcoin.wallet, Journal(folder / "publisher"))
        self.previous = NO_ANCHOR
        self.credited = self.jobs = self.paid = 0
        self.bindings = {}

    # --- what the publisher asks

    def final_height(self):
        return self.height

    def block(self, number):
        view = self.node.store.latest
        block_hash = view.canonical_hash(number)
        return Block(view.require_header(block_hash), view.load_body(block_hash))

    # --- the L2

    @property
    def height(self):
        return self.node.store.latest.head.number

    @property
    def peg(self):
        view = self.node.store.latest
        return load_peg(view.state_at(view.head.hash).read_many)

    def mine(self, blocks=1, miner=OTHER_MINER):
        for _ in range(blocks):
            parent = self.node.store.latest.head.header
            stamp = parent.timestamp + self.node.params.spacing_s
            template = self.node.builder.build(bytes.fromhex(miner.address[2:]), stamp)
            certificate, nonce = find_ticket(template, miner)
            block = self.node.builder.assemble(template, nonce, certificate.encode())
            self.node.importer.import_block(block)
            self.credited += len(block.body.withdrawals)

    def send(self, sender, to, data=b"", value=0):
        nonce = self.node.mempool.pending_nonce(bytes.fromhex(sender.address[2:]))
        fields = {"chainId": self.node.params.chain_id, "nonce": nonce, "to": to, "data": data, "value": value}
        prices = {"gas": 2_000_000, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 1, "type": 2}
        self.node.mempool.add(bytes(sender.sign_transaction(fields | prices).raw_transaction))

    def bond(self):
        self.send(RICH, bytes.fromhex(MINER.address[2:]), value=50 * 10**18)
        self.mine()
        self.send(MINER, BONDS, encode_call("Bonds", "deposit"), value=10**19)
        self.send(MINER, BONDS, encode_call("Bonds", "serve", graph_id()))
        self.mine()

    def run_job(self):
        """From the request to final, about 26 blocks."""
        self.jobs += 1
        provider, number = bytes.fromhex(MINER.address[2:]), self.jobs
        job_input = np.random.default_rng(number).integers(-64, 64, (ROWS, K), np.int8).tobytes()[:16_384]
        deadline = self.height + 40
        request = encode_call("JobMarket", "request", graph_id(), job_input, [ROWS], deadline, provider)
        self.send(RICH, JOB_MARKET, request, value=10**15)
        self.mine()
        commitment = keccak256(encode(["bytes32", "address"], [TRACE_ROOT, provider]))
        self.send(MINER, JOB_MARKET, encode_call("JobMarket", "submit", number, b"answer", commitment))
        self.mine(3)
        self.send(MINER, JOB_MARKET, encode_call("JobMarket", "reveal", number, TRACE_ROOT))
        self.mine(self.node.params.final_window_blocks + 1)
        self.send(RICH, JOB_MARKET, encode_call("JobMarket", "settle", number))
        self.mine(1, MINER)

    def withdraw(self, sats=30_000):
        script = bytes.fromhex(
            self.bitcoin.wallet.call("getaddressinfo", self.bitcoin.wallet.new_address())["scriptPubKey"]
        )
        self.send(RICH, BRIDGE, encode_call("Bridge", "withdraw", script, 8_000), value=(sats + 8_000) * 10**10)
        self.send(RICH, BRIDGE, value=20_000 * 10**10)  # what anchors are paid from
        self.mine(2)

    # --- Bitcoin

    def bury(self, blocks=7):
        self.bitcoin.mine(blocks)
        self.follow()

    def follow(self):
        self.node.follower.step()

    def pay_in(self, sats=1_000_000, user=1):
        """A deposit, confirmed deeply."""
        binding = make_binding(user, 20_000)
        output = deposit_output(self.peg.custodies[0], binding, self.rules)
        txid = self.bitcoin.wallet.send_to_address(address_of(output, REGTEST), sats)
        self.bury(6)
        made = Transaction.decode(self.bitcoin.client.raw_transaction(txid))
        index = next(at for at, one in enumerate(made.outputs) if one.script == output.script)
        outpoint = Outpoint(txid, index)
        self.bindings[outpoint] = binding
        return Deposit(outpoint, Spent(made.outputs[index], from_coinbase=False), binding, len(made.encode_stripped()))

    def make_anchor(self, data_root=NO_DATA, **changes):
        """Of the head."""
        view = self.node.store.latest
        facts = compute_facts(view, self.node.params, view.head.hash, self.previous)
        return Anchor(0, self.height, changes.get("commitment", facts.commitment), data_root)

    def send_round(self, deposits=(), anchor=None):
        """Sweep, pay, anchor: in bitcoind's mempool."""
        state, height = self.peg, self.bitcoin.client.chain_info().height
        planned = plan_round(state, deposits, anchor, RATE, Spending.SCRIPT, height, self.rules)
        assert planned.anchor == anchor, "too little surplus for an anchor"
        signed = sign_draft(build_draft(state, planned, self.rules))
        self.bitcoin.client.send_raw_transaction(signed.encode())
        self.paid += len(planned.payouts)
        return signed

    def sign_round(self, deposits=(), anchor=None):
        """The same, mined; its evidence is shown to the node, and in a block once it is deep."""
        signed = self.send_round(deposits, anchor)
        self.bury(1)
        self.node.peg.evidence.add(encode_evidence_item(self.show(signed.txid)))
        self.bury(6)
        self.mine(2)
        assert self.peg.vault.txid == signed.txid
        if anchor is not None:
            self.previous = anchor.id

    def steal(self, anchor):
        """The signers pay themselves, and anchor something."""
        vault, custody = self.peg.vault, self.peg.custodies[0]
        output = vault_output(custody, self.rules)
        keys, threshold = custody.signers.keys, custody.signers.threshold
        outputs = (Output(vault.sats - 2_000, b"\x51\x20" + keys[0]), Output(0, anchor.script))
        bare = Transaction(2, (Input(vault.txid, 0, b"", 0x80000000),), outputs, 0)
        (message,) = compute_sighashes(bare, (Output(vault.sats, output.script),), (output.signers,))
        signatures = {key: sign(key, message) for key in keys}
        witness = make_threshold_witness(output.signers, keys, threshold, message, signatures)
        self.bitcoin.client.send_raw_transaction(with_witnesses(bare, [witness]).encode())
        self.bury(1)

    def show(self, txid):
        """Evidence of a vault transaction."""
        client = self.bitcoin.client
        block_hash = bytes.fromhex(client.call("getrawtransaction", txid[::-1].hex(), True)["blockhash"])[::-1]
        raw = client.raw_transaction(txid)
        header = Header.decode(client.raw_header(block_hash))
        branch = check_transaction_proof(client.txout_proof([txid], block_hash), header, raw)
        is_first, transaction = self.peg.vault is None, strip(raw)
        places = [Outpoint(one.txid, one.index) for one in transaction.inputs[not is_first :]]
        funding = {one.txid: strip(client.raw_transaction(one.txid)) for one in places}
        claims = tuple(Claim(at, self.bindings[at]) for at in places if at in self.bindings)
        return Evidence(block_hash, branch, transaction, is_first, tuple(funding.values()), claims)

    def publish(self):
        """All blocks up to the head; the data root for its anchor."""
        height = self.height
        while not self.publisher.entries or self.publisher.entries[-1].last < height:
            assert self.publisher.step() is not None
            self.bury(1)
        root = self.publisher.find_root(height)
        assert root != NO_DATA
        return root

    def make_payload(self, blocks):
        """The next payload, of other blocks than the chain's; sent by nobody yet."""
        (payload,), _ = self.build(blocks, bytes.fromhex(self.publisher.entries[-1].root))
        return payload

    def build(self, blocks, previous):
        return build_payloads(blocks, self.block(blocks[0].header.number - 1).header, previous, self.load_body)

    def load_body(self, number):
        return encode_body(self.block(number).body)

    def new_blocks(self):
        """Those that were not published yet."""
        return [self.block(number) for number in range(self.publisher.entries[-1].last + 1, self.height + 1)]

    def post(self, payload):
        """By a key of its own, on Bitcoin."""
        _, transactions = self.publisher._make(payload, RATE)
        for raw in transactions:
            self.bitcoin.client.send_raw_transaction(raw)
        self.bury(1)

    def start(self):
        """A vault, bonded miner, one job."""
        self.bond()
        self.sign_round([self.pay_in()])
        self.run_job()

    def go_on(self, user):
        """A job, a withdrawal, a deposit, all of it published and anchored."""
        self.run_job()
        self.withdraw()
        deposit = self.pay_in(user=user)
        self.sign_round([deposit], self.make_anchor(self.publish()))


def strip(raw):
    return Transaction.decode(Transaction.decode(raw).encode_stripped())


def config_of(bitcoin, genesis, folder):
    login = bitcoin.node.login
    return NodeConfig(
        data_dir=folder,
        genesis=str(genesis),
        bitcoin_rpc=bitcoin.node.url,
        bitcoin_user=login.user,
        bitcoin_password=login.password,
    )


@contextmanager
def open_story(bitcoin, folder, root):
    genesis = write_genesis(folder, root)
    with open_node(config_of(bitcoin, genesis, folder / "source")) as node:
        story = Story(bitcoin, node, folder)
        story.follow()
        try:
            yield story
        finally:
            node.follower.client.close()


@dataclass
class Fresh:
    """What a stranger came to."""

    rebuilt: object
    height: int
    head: bytes
    said: str


def rebuild(story, name="fresh"):
    """A stranger's node: genesis and Bitcoin, nothing else. The same name goes on with what it had."""
    with open_node(config_of(story.bitcoin, story.folder / "genesis.json", story.folder / name)) as node:
        said = StringIO()
        try:
            with redirect_stdout(said):
                rebuilt = sync_from_bitcoin(node.store, node.importer, node.params, node.bitcoin, node.follower, 0)
        finally:
            node.follower.client.close()
        head = node.store.latest.head
        return Fresh(rebuilt, head.number, head.hash, said.getvalue())
