"""A signer's two sources without processes: the peg's states by L2 height, a Bitcoin without proof of work."""

from dataclasses import replace

from eth_account import Account

from bridge.anchors import AnchoredFacts
from bridge.deposits import Evidence, Outpoint, check_evidence
from bridge.inclusion import build_branch, compute_merkle_root
from bridge.peg import (
    apply_credits,
    apply_vault_transaction,
    burn,
    compute_peg_out_root,
    make_genesis,
    queue_withdrawal,
)
from bridge.peg_repair import follow_origin
from bridge.rules import MAIN_RULES, WEI_PER_SAT
from bridge.scripts import deposit_output
from bridge.taproot import Path
from bridge.transactions import Output, encode_size
from chain.hashing import keccak256
from consensus.evidence import decode_evidence_item
from hyperdust.signer.errors import SourceFault
from hyperdust.signer.key import SigningKey, proposal_digest
from hyperdust.signer.lead import prepare_bump, prepare_round
from hyperdust.signer.peers import Presence
from hyperdust.signer.protection import Protection
from hyperdust.signer.rebuild import Limits, Sources
from hyperdust.signer.session import Session
from hyperdust.signer.sources import Coin, Mined, PegAt, Place, Spend
from tests.unit.bridge.fake_bitcoin import FakeBitcoin
from tests.unit.bridge.keys import SECRETS, make_binding, make_custody

RULES = MAIN_RULES
CHAIN = b"\x77" * 32
PAY_TO = b"\x00\x14" + b"\x05" * 20


def account_of(key):
    return Account.from_key(SECRETS[key].to_bytes(32, "big"))


class FakeNode:
    """One block a change; final and finalized are the head unless held."""

    def __init__(self, state):
        self.states = [state]
        self.held_final = self.held_finalized = None
        self.announced = []
        self.evidence = []
        self.blocks = []

    def place(self, number):
        return Place(number, keccak256(b"block" + number.to_bytes(8, "big")))

    @property
    def head(self):
        return len(self.states) - 1

    def load_chain(self):
        return CHAIN

    def load_peg(self, number=None):
        at = self.head if number is None else number
        return PegAt(self.place(at), self.states[at])

    def load_place(self, number):
        return self.place(number)

    def load_block(self, number):
        if not 0 <= number < len(self.blocks):
            raise SourceFault(f"no block {number}")
        return self.blocks[number].encode()

    def load_facts(self, number, previous):
        state = self.states[number]
        root = compute_peg_out_root(state)
        return AnchoredFacts(self.place(number).hash, b"\x01" * 32, root, b"\x02" * 32, state.vault_sats, previous)

    def load_final(self):
        return self.place(self.head if self.held_final is None else self.held_final)

    def load_finalized(self):
        return self.place(self.head if self.held_finalized is None else self.held_finalized)

    def load_announced(self):
        return tuple(self.announced)

    def submit_evidence(self, raw):
        self.evidence.append(raw)


class FakeBitcoind:
    """`Bitcoin` over a `FakeBitcoin`, with a mempool that a block takes whole."""

    def __init__(self, chain):
        self.chain = chain
        self.pool = []
        self.rate = 2_000
        self.stripped = {}

    def mine(self, blocks=1, *, empty=False):
        for _ in range(blocks):
            self.chain.mine([] if empty else self.pool)
            self.pool = self.pool if empty else []

    def load_height(self):
        return self.chain.height

    def load_block_hash(self, height):
        return self.chain.hash_at(height)

    def load_block(self, block_hash):
        block = self.chain.blocks[block_hash]
        made = b"".join(one.encode() for one in block.transactions)
        return block.raw + encode_size(len(block.transactions)) + made

    def load_spends(self, block_hash):
        return tuple(
            Spend(one.txid, tuple(Outpoint(place.txid, place.index) for place in one.inputs))
            for one in self.chain.blocks[block_hash].transactions
        )

    def load_coin(self, outpoint):
        output = self.chain.coins.get(outpoint)
        if output is None:
            return None
        block, made = self.chain.find(outpoint.txid)
        return Coin(output, self.chain.height - block.height + 1, made.is_coinbase)

    def load_spender(self, outpoint):
        for one in self.pool:
            if any(Outpoint(place.txid, place.index) == outpoint for place in one.inputs):
                return one.txid
        return None

    def load_transaction(self, txid):
        _, made = self.chain.find(txid)
        return made or next((one for one in self.pool if one.txid == txid), None)

    def load_mined(self, txid):
        block, _ = self.chain.find(txid)
        return None if block is None else Mined(block.hash, block.height)

    def find_coins(self, scripts):
        found = [place for place, output in self.chain.coins.items() if output.script in scripts]
        return tuple((place, self.load_coin(place)) for place in sorted(found))

    def load_rate(self):
        return self.rate

    def send(self, transaction):
        spent = {(place.txid, place.index) for place in transaction.inputs}
        self.pool = [one for one in self.pool if not spent & {(place.txid, place.index) for place in one.inputs}]
        self.pool.append(transaction)

    def prove(self, txid, block_hash):
        raise NotImplementedError


class World:
    """Three keys, 2 of 3; `first` signs, `leader` leads."""

    def __init__(self, folder, *, custody=None, genesis_wei=0):
        self.folder = folder
        self.custody = custody or make_custody()
        self.chain = FakeBitcoin()
        self.bitcoin = FakeBitcoind(self.chain)
        self.bitcoin.mine(10)
        self.node = FakeNode(make_genesis(self.custody, genesis_wei))
        self.keys = [SigningKey(account_of(key)) for key in self.custody.signers.keys]
        self.limits = Limits(deposit_depth=2, fallback_rate=2_000)
        self.sources = Sources(self.node, self.bitcoin, RULES, self.limits)
        self.users = 0
        self.sessions = []

    def close(self):
        for session in self.sessions:
            session.close()

    @property
    def state(self):
        return self.node.states[-1]

    def session(self, index, name=None, sources=None):
        path = self.folder / f"{name or index}.json"
        made = Session(self.keys[index], CHAIN, sources or self.sources, Protection(path))
        self.sessions.append(made)
        return made

    def change(self, change):
        self.node.states.append(change(self.state))
        for session in self.sessions:
            session._leaders_until = 0.0  # two seconds pass

    def pay_in(self, sats=1_000_000, *, depth=2, announced=True, max_fee=10_000):
        self.users += 1
        binding = make_binding(self.users, max_fee, self.state.custody.epoch)
        script = deposit_output(self.state.custody, binding, RULES).script
        made = self.chain.pay(Output(sats, script))
        self.bitcoin.pool.append(made)
        if announced:
            self.node.announced.append(binding)
        if depth:
            self.bitcoin.mine(depth)
        return Outpoint(made.txid, 0)

    def withdraw(self, sats=50_000, max_fee=20_000):
        self.change(lambda state: queue_withdrawal(state, PAY_TO, sats, max_fee, RULES))

    def burn(self, sats=20_000):
        self.change(lambda state: burn(state, sats * WEI_PER_SAT))

    def reachable(self, leader):
        head = self.node.head
        return {
            one.public: (None, Presence(one.public, self.bitcoin.load_height(), head, head))
            for one in self.keys
            if one is not leader.key
        }

    def propose(self, leader):
        return prepare_round(leader, self.reachable(leader), Path.SCRIPT)

    def bump(self, leader, prepared):
        return prepare_bump(leader, prepared.proposal, self.reachable(leader))

    def resign(self, leader, proposal):
        raw = proposal.encode()
        return raw, leader.key.sign(proposal_digest(raw))

    def complete(self, leader, other, prepared):
        """With the signatures of two."""
        found = [{} for _ in prepared.draft.inputs]
        for session in (other, leader):
            for at, signature in enumerate(session.sign(prepared.raw, prepared.signature)):
                found[at][session.key.public] = signature
        return prepared.draft.complete(found)

    def apply(self, transaction, deposits=()):
        """Mine it deep and take its evidence into the state, claims included."""
        self.bitcoin.send(transaction)
        self.bitcoin.mine(RULES.origin_depth + 1)
        block, made = self.chain.find(transaction.txid)
        self.take(self.prove(block, made, deposits))

    def prove(self, block, made, claims=()):
        txids = tuple(one.txid for one in block.transactions)
        is_first = self.state.vault is None
        bare = replace(made, inputs=tuple(replace(one, witness=()) for one in made.inputs))
        funding = {one.txid: self.chain.find(one.txid)[1] for one in made.inputs[not is_first :]}
        branch = build_branch(txids, txids.index(made.txid))
        assert compute_merkle_root(txids)
        return Evidence(block.hash, branch, bare, is_first, tuple(funding.values()), tuple(claims))

    def take(self, evidence):
        origin = self.chain.hash_at(self.chain.height - RULES.origin_depth)
        height = self.chain.height_of(origin)

        def change(state):
            state = follow_origin(state, self.chain, origin, RULES)
            state = apply_vault_transaction(state, check_evidence(evidence, self.chain, origin, RULES), RULES)
            return apply_credits(state, height, RULES)

        self.change(change)

    def open_vault(self, sats=1_000_000):
        """A first round, mined and applied; gives the sessions."""
        from bridge.deposits import Claim

        place = self.pay_in(sats)
        leader, other = self.session(0), self.session(1)
        prepared = self.propose(leader)
        claims = [Claim(place, prepared.proposal.deposits[0].binding)]
        self.apply(self.complete(leader, other, prepared), claims)
        return leader, other


def read_item(raw):
    return decode_evidence_item(raw, RULES)
