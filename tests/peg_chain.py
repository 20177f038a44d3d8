"""A small chain beside a Bitcoin without proof of work: deposits, vault transactions, evidence, as signers would."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from eth_abi.abi import decode
from eth_account import Account

from bridge.anchors import Anchor
from bridge.custody import Announcement, choose_signatures, deciders_of
from bridge.deposits import Claim, Evidence, Outpoint, Spent
from bridge.planning import plan_round
from bridge.rounds import Deposit
from bridge.scripts import Binding, SignerSet, deposit_output
from bridge.taproot import Path as SpendPath
from bridge.transactions import Output, Transaction
from bridge.vault import build_draft
from chain.blocks import Block
from chain.state import account_key, decode_account
from consensus.evidence import encode_evidence_item
from consensus.peg import load_peg
from consensus.peg_terms import rules_of
from hyperdust.contracts_abi import encode_call
from hyperdust.node.builder import Builder
from hyperdust.node.contracts import view
from hyperdust.node.evidence import EvidencePool
from hyperdust.node.genesis import Network
from hyperdust.signer.key import SigningKey
from hyperdust.wallet import council_key, signer_key, user_key
from tests.small_chain import SmallChain
from tests.unit.bridge.fake_bitcoin import FakeBitcoin
from tests.unit.bridge.keys import make_key

USER = user_key(0)
NEWCOMER = bytes.fromhex("11" * 19 + "22")
BRIDGE = "0x0000000000000000000000000000000000005006"
WITNESS_SCRIPT = b"\x00\x14" + b"\x07" * 20


class PegChain(SmallChain):
    """Bitcoin's blocks come when a test says so."""

    def __init__(self, folder: Path, blocks: int = 20, **peg: int) -> None:
        self.changed = peg
        self.bitcoin = FakeBitcoin()
        for _ in range(blocks):
            self.bitcoin.mine([])
        super().__init__(folder, self.bitcoin)
        self.rules = rules_of(self.params)
        self.pool = EvidencePool(self.params, self.store, self.bitcoin)
        self.builder = Builder(
            self.params, self.store, self.mempool, clock=self.clock, bitcoin=self.bitcoin, evidence=self.pool
        )
        self.deposits: dict[Outpoint, Deposit] = {}

    def make_network(self) -> Network:
        network = super().make_network()
        assert network.params.peg
        return replace(network, params=replace(network.params, peg=replace(network.params.peg, **self.changed)))

    @property
    def peg(self) -> Any:
        return load_peg(self.state.read_many)

    def bridge(self, function: str, *args: object) -> Any:
        values = view(self.state, self.params, "Bridge", function, *args)
        return values[0] if len(values) == 1 else values

    def balance(self, address: bytes) -> int:
        return decode_account(self.state.read_many([account_key(address)])[0]).balance

    def all_balances(self) -> int:
        """Wei of every account but Bridge's: the supply."""
        with self.store._db.iterator(prefix=b"Sa") as found:
            held = {key[2:]: decode_account(value).balance for key, value in found}
        return sum(held.values()) - held.get(bytes.fromhex(BRIDGE[2:]), 0)

    # --- Bitcoin

    def bury(self, blocks: int = 7) -> None:
        """Blocks on top: what the last one holds is 6 deep then."""
        for _ in range(blocks):
            self.bitcoin.mine([])

    def deposit(self, sats: int = 500_000, address: bytes = NEWCOMER, max_fee: int = 20_000) -> Deposit:
        """A deposit in a block of its own."""
        binding = Binding(make_key(77), address, max_fee, self.peg.custody.epoch)
        output = Output(sats, deposit_output(self.peg.custody, binding, self.rules).script)
        made = self.bitcoin.pay(output)
        self.bitcoin.mine([made])
        one = Deposit(Outpoint(made.txid, 0), Spent(output, False), binding, len(made.encode_stripped()))
        self.deposits[one.outpoint] = one
        return one

    def draft(self, *deposits: Deposit, anchor: Anchor | None = None, rate: int = 1_000) -> Transaction:
        """The next vault transaction as signers build it."""
        height = self.bitcoin.height
        planned = plan_round(self.peg, deposits, anchor, rate, SpendPath.SCRIPT, height, self.rules)
        return build_draft(self.peg, planned, self.rules).transaction

    def evidence(self, transaction: Transaction, *, claimed: bool = True) -> Evidence:
        block_hash, branch, _ = self.bitcoin.prove(transaction.txid)
        first = transaction.inputs[0]
        is_first = Outpoint(first.txid, first.index) in self.deposits
        funded = transaction.inputs[not is_first :]
        funding = tuple(self.bitcoin.find(txid)[1] for txid in dict.fromkeys(one.txid for one in funded))
        places = [Outpoint(one.txid, one.index) for one in funded]
        claims = tuple(Claim(at, self.deposits[at].binding) for at in places if claimed and at in self.deposits)
        return Evidence(block_hash, branch, transaction, is_first, funding, claims)

    def show(self, transaction: Transaction, *, claimed: bool = True) -> bytes:
        """Give the node evidence of a vault transaction that Bitcoin has; its encoding."""
        raw = encode_evidence_item(self.evidence(transaction, claimed=claimed))
        self.pool.add(raw)
        return raw

    def make_announcement(self, joined: int = 0, *, epoch: int | None = None, by_council: bool = False) -> bytes:
        """Item: `signer_key(joined)` in the place of the first key; by the council: three others."""
        peg = self.peg
        if by_council:
            keys = tuple(sorted(SigningKey(signer_key(20 + at)).public for at in range(3)))
            signers = SignerSet(2, keys)
        else:
            new = SigningKey(signer_key(joined)).public
            signers = replace(peg.custody.signers, keys=tuple(sorted((*peg.custody.signers.keys[1:], new))))
        number = len(peg.custodies) if epoch is None else epoch
        made = Announcement(number, signers, peg.custody.council, self.bitcoin.height + 1_000, by_council)
        message = made.digest(self.params.chain_id)
        held = [SigningKey(council_key(at) if by_council else signer_key(at)) for at in range(30)]
        deciders = deciders_of(peg, by_council=by_council)
        found = {one.public: one.sign(message) for one in held if one.public in deciders.keys}
        return encode_evidence_item(replace(made, signatures=choose_signatures(deciders, found)))

    def announce(self, joined: int = 0, *, by_council: bool = False) -> bytes:
        """Give the node an announcement; its encoding."""
        raw = self.make_announcement(joined, by_council=by_council)
        self.pool.add(raw)
        return raw

    def fund(self, sats: int = 5_000_000) -> Transaction:
        """A vault with one credited deposit."""
        sweep = self.draft(self.deposit(sats))
        self.bitcoin.mine([sweep])
        self.show(sweep)
        self.bury()
        self.extend()
        return sweep

    # --- L2

    def send(self, function: str, *args: object, value: int = 0, to: str = BRIDGE) -> bytes:
        """A user's transaction; `function` empty: a plain transfer."""
        signed = Account.sign_transaction(
            {
                "chainId": self.params.chain_id,
                "nonce": decode_account(self.state.read_many([account_key(bytes.fromhex(USER.address[2:]))])[0]).nonce,
                "to": to,
                "value": value,
                "gas": 300_000,
                "maxFeePerGas": 10**9,
                "maxPriorityFeePerGas": 0,
                "data": encode_call("Bridge", function, *args) if function else b"",
            },
            USER.key,
        )
        self.mempool.add(bytes(signed.raw_transaction))
        return bytes(signed.hash)

    def withdraw(self, sats: int = 100_000, max_fee: int = 20_000, script: bytes = WITNESS_SCRIPT) -> Block:
        """Queue a withdrawal in a block."""
        self.send("withdraw", script, max_fee, value=(sats + max_fee) * 10**10)
        return self.extend()

    def swap(self, block: Block, **body: object) -> Block:
        """A block with another body."""
        return replace(block, body=replace(block.body, **body))


def decode_requests(data: bytes) -> list[tuple[Any, ...]]:
    """Type 0xf0: (number, sats, maximum fee, kind, payload)."""
    (queued,) = decode(["(uint256,uint256,uint256,uint256,bytes32)[]"], data)
    return list(queued)
