"""The peg on a real bitcoind: in, out, bumped, reclaimed, stolen, reorganised; sizes as the design says."""

import random
import time
from dataclasses import replace

import pytest

from bridge.anchors import Anchor
from bridge.data import data_root, envelope_output, find_payload
from bridge.deposits import Claim, Evidence, Outpoint, Spent, check_evidence
from bridge.header_chain import HeaderChain
from bridge.inclusion import check_transaction_proof
from bridge.params import REGTEST
from bridge.peg import apply_credits, apply_vault_transaction, burn, due_credits, make_genesis, queue_withdrawal
from bridge.peg_errors import FeeAboveCap, NoVaultTransaction, PegFrozen, SweepNotOnBranch
from bridge.peg_repair import follow_origin
from bridge.peg_state import Reason
from bridge.planning import plan_round
from bridge.rounds import Deposit
from bridge.rules import MAIN_RULES, WEI_PER_SAT
from bridge.scripts import Custody, SignerSet, address_of, deposit_output, vault_output
from bridge.taproot import Path, compute_sighashes, make_threshold_witness, vsize_of
from bridge.transactions import Input, Output, Transaction
from bridge.vault import build_draft, raise_rate
from tests.unit.bridge.keys import (
    group_key_of,
    make_binding,
    make_custody,
    make_key,
    make_signers,
    sign,
    sign_draft,
)

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

RULES = replace(MAIN_RULES, emergency_blocks=300)
RATE = 2_000


class Peg:
    """An L2's view of the peg beside a node."""

    def __init__(self, bitcoin, custody):
        self.bitcoin, self.client = bitcoin, bitcoin.client
        self.chain = HeaderChain(REGTEST)
        self.state = make_genesis(custody, 0)
        self.made = {}
        self.bindings = {}

    def pay_in(self, sats, *, user=1, max_fee=10_000, count=1):
        """Deposits out of a real wallet, 6 deep."""
        custody = self.state.custodies[-1]
        made = []
        for at in range(count):
            binding = make_binding(user + at, max_fee, custody.epoch)
            output = deposit_output(custody, binding, RULES)
            txid = self.bitcoin.wallet.send_to_address(address_of(output, REGTEST), sats)
            raw = Transaction.decode(self.client.raw_transaction(txid))
            index = next(place for place, one in enumerate(raw.outputs) if one.script == output.script)
            outpoint = Outpoint(txid, index)
            self.bindings[outpoint] = binding
            spent = Spent(raw.outputs[index], from_coinbase=False)
            made.append(Deposit(outpoint, spent, binding, len(raw.encode_stripped())))
        self.bitcoin.mine(6)
        return made

    def draft(self, deposits=(), anchor_height=None, path=Path.SCRIPT, rate=RATE):
        height = self.client.chain_info().height
        epoch = self.state.custody_at(height, RULES).epoch
        anchor = None if anchor_height is None else Anchor(epoch, anchor_height, bytes(32))
        return build_draft(self.state, plan_round(self.state, deposits, anchor, rate, path, height, RULES), RULES)

    def send(self, signed, vsize):
        assert self.client.refusal_of(signed.encode()) is None
        self.client.send_raw_transaction(signed.encode())
        assert self.client.call("getmempoolentry", signed.txid[::-1].hex())["vsize"] == vsize == vsize_of(signed)

    def follow(self):
        info, tip = self.client.chain_info(), self.chain
        height = min(tip.height, info.height)
        while self.client.block_hash(height) != tip.hash_at(height):
            height -= 1
        self.chain.extend(self.client.raw_headers(height + 1, 2000), int(time.time()))
        self.state = follow_origin(self.state, self.chain, self.origin, RULES)
        return self.origin

    @property
    def origin(self):
        return self.chain.hash_at(self.chain.height - RULES.origin_depth)

    def evidence(self, txid):
        where = self.client.call("getrawtransaction", txid[::-1].hex(), True)["blockhash"]
        block_hash = bytes.fromhex(where)[::-1]
        raw = self.client.raw_transaction(txid)
        header = self.chain.header(block_hash)
        branch = check_transaction_proof(self.client.txout_proof([txid], block_hash), header, raw)
        transaction = strip(Transaction.decode(raw))
        is_first = self.state.vault is None
        funded = transaction.inputs[not is_first :]
        funding = [strip(Transaction.decode(self.client.raw_transaction(one.txid))) for one in funded]
        places = [Outpoint(one.txid, one.index) for one in funded]
        claims = tuple(Claim(at, self.bindings[at]) for at in places if at in self.bindings)
        return Evidence(
            block_hash, branch, transaction, is_first, tuple({one.txid: one for one in funding}.values()), claims
        )

    def apply(self, txid):
        """As L2 blocks do: origin, evidence, credits; gives what was credited."""
        origin = self.follow()
        evidence = Evidence.decode(self.evidence(txid).encode(), RULES)
        self.state = apply_vault_transaction(self.state, check_evidence(evidence, self.chain, origin, RULES), RULES)
        due = due_credits(self.state, self.chain.height_of(origin), RULES)
        self.state = apply_credits(self.state, self.chain.height_of(origin), RULES)
        assert self.state.surplus_sats >= 0
        return due

    def fund(self, sats=1_000_000, **given):
        """A vault with something in it."""
        draft = self.draft(self.pay_in(sats, **given))
        self.client.send_raw_transaction(sign_draft(draft).encode())
        self.bitcoin.mine(7)
        return self.apply(draft.transaction.txid)


def strip(transaction):
    return Transaction.decode(transaction.encode_stripped())


def script_of(bitcoin, kind="bech32m"):
    address = bitcoin.wallet.new_address(kind)
    return address, bytes.fromhex(bitcoin.wallet.call("getaddressinfo", address)["scriptPubKey"])


def test_in_and_out(bitcoin):
    peg = Peg(bitcoin, make_custody())
    draft = peg.draft(peg.pay_in(1_000_000))
    signed = sign_draft(draft)
    peg.send(signed, draft.vsize)
    bitcoin.mine(6)
    with pytest.raises(SweepNotOnBranch):
        peg.apply(signed.txid)
    assert not peg.state.records
    bitcoin.mine(1)
    (credit,) = peg.apply(signed.txid)
    assert (credit.sats, credit.fee_sats) == (1_000_000 - draft.charge, draft.charge)
    assert credit.address == make_binding(1).address
    assert peg.state.vault_sats == 1_000_000 - draft.fee
    with pytest.raises(NoVaultTransaction):
        peg.apply(signed.txid)

    kinds = ("legacy", "p2sh-segwit", "bech32", "bech32m")
    paid_to = [script_of(bitcoin, kind) for kind in kinds]
    for at, (_, script) in enumerate(paid_to):
        peg.state = queue_withdrawal(peg.state, script, 50_000 + at, 20_000, RULES)
    peg.state = burn(peg.state, 5_000 * WEI_PER_SAT)
    first = peg.draft(anchor_height=42)
    assert [one.number for one in first.round.payouts] == [0, 1, 2, 3]
    assert first.round.anchor is not None
    old = sign_draft(first)
    peg.send(old, first.vsize)
    second = raise_rate(peg.state, first, 3 * RATE, RULES)
    new = sign_draft(second)
    peg.send(new, second.vsize)
    assert old.txid[::-1].hex() not in peg.client.call("getrawmempool"), "the bump has taken its place"
    with pytest.raises(FeeAboveCap):
        raise_rate(peg.state, second, 500 * RATE, RULES)
    bitcoin.mine(7)
    assert peg.apply(new.txid) == ()
    assert peg.state.queue == ()
    assert peg.state.frozen is None
    assert (peg.state.vault.anchor_height, peg.state.vault.anchor_id) == (42, first.round.anchor.id)
    for at, (address, _) in enumerate(paid_to):
        assert bitcoin.wallet.call("getreceivedbyaddress", address) * 10**8 == 50_000 + at
    assert peg.client.refusal_of(old.encode()) is not None, "no second payout"


def test_the_user_takes_an_unswept_deposit_back(bitcoin):
    peg = Peg(bitcoin, make_custody())
    (deposit,) = peg.pay_in(500_000, user=7)
    output = deposit_output(peg.state.custody, deposit.binding, RULES)
    _, script = script_of(bitcoin)
    place = Input(deposit.outpoint.txid, deposit.outpoint.index, b"", RULES.reclaim_blocks)
    back = Transaction(2, (place,), (Output(499_000, script),), 0)
    (message,) = compute_sighashes(back, (deposit.spent.output,), (output.fallback,))
    witness = (sign(deposit.binding.user_key, message), output.fallback.script, output.fallback.control)
    signed = replace(back, inputs=(replace(place, witness=witness),))
    assert peg.client.refusal_of(signed.encode()) == "non-BIP68-final"
    bitcoin.mine(RULES.reclaim_blocks - 7)
    assert peg.client.refusal_of(signed.encode()) == "non-BIP68-final"
    bitcoin.mine(1)
    peg.send(signed, 146)
    bitcoin.mine(1)
    assert peg.client.refusal_of(sign_draft(peg.draft([deposit])).encode()) is not None, "the coin is gone"


def test_sizes(bitcoin):
    five = make_signers(300, 5, 3)
    custody = Custody(0, SignerSet(3, five.keys, group_key_of(five.keys)), make_signers(900, 3, 2))
    peg = Peg(bitcoin, custody)
    first = peg.draft(peg.pay_in(3_000_000))
    assert first.vsize == 204
    peg.send(sign_draft(first), 204)
    bitcoin.mine(7)
    peg.apply(first.transaction.txid)
    peg.state = burn(peg.state, 20_000 * WEI_PER_SAT)
    alone = peg.draft(anchor_height=1, path=Path.KEY)
    peg.send(sign_draft(alone, together=True), 203)
    bitcoin.mine(7)
    peg.apply(alone.transaction.txid)
    for _ in range(50):
        peg.state = queue_withdrawal(peg.state, script_of(bitcoin)[1], 20_000, 5_000, RULES)
    deposits = peg.pay_in(100_000, user=20, count=19)
    large = peg.draft(deposits, anchor_height=2, path=Path.KEY)
    assert (len(large.round.deposits), len(large.round.payouts)) == (19, 50)
    by_script = peg.draft(deposits, anchor_height=2, path=Path.SCRIPT)
    print(f"20 inputs, 50 payouts, anchor: {large.vsize} vB by key, {by_script.vsize} vB by 3 of 5")
    assert large.vsize <= 70 * 50
    signed = sign_draft(large, together=True)
    assert peg.client.refusal_of(sign_draft(by_script).encode()) is None
    peg.send(signed, large.vsize)
    bitcoin.mine(7)
    peg.follow()
    size = len(peg.evidence(signed.txid).encode())
    print(f"evidence: {size} bytes, {size // 19} a deposit")
    assert len(peg.apply(signed.txid)) == 19
    assert peg.state.queue == ()


def test_390_kilobytes_of_data(bitcoin):
    payload, key = random.Random(5).randbytes(390_000), make_key(60)
    script, leaf = envelope_output(payload, key)
    txid = bitcoin.wallet.call("sendtoaddress", address_like(script), "0.01")
    made = Transaction.decode(bitcoin.client.raw_transaction(bytes.fromhex(txid)[::-1]))
    index = next(at for at, one in enumerate(made.outputs) if one.script == script)
    place = Input(made.txid, index, b"", 0xFFFFFFFD)
    reveal = Transaction(2, (place,), (Output(500_000, script_of(bitcoin)[1]),), 0)
    (message,) = compute_sighashes(reveal, (made.outputs[index],), (leaf,))
    signed = replace(reveal, inputs=(replace(place, witness=(sign(key, message), leaf.script, leaf.control)),))
    print(f"390,000 bytes: {vsize_of(signed)} vB, {vsize_of(signed) * 1000 // len(payload)} vB a kB")
    assert bitcoin.client.refusal_of(signed.encode()) is None
    bitcoin.client.send_raw_transaction(signed.encode())
    bitcoin.mine(1)
    found = Transaction.decode(bitcoin.client.raw_transaction(signed.txid))
    assert find_payload(found, data_root(payload)) == payload


def address_like(script):
    from btclib.b32 import p2tr

    return p2tr(script[2:], "regtest")


def spend_vault(peg, outputs, leaf, keys, threshold, sequence):
    """Whatever those keys can do to the vault."""
    vault = peg.state.vault
    script = vault_output(peg.state.custody, RULES).script
    place = Input(vault.txid, 0, b"", sequence)
    bare = Transaction(2, (place,), outputs, 0)
    (message,) = compute_sighashes(bare, (Output(vault.sats, script),), (leaf,))
    witness = make_threshold_witness(leaf, keys, threshold, message, {key: sign(key, message) for key in keys})
    return replace(bare, inputs=(replace(place, witness=witness),))


def test_a_theft_freezes_the_peg_and_nothing_else(bitcoin):
    peg = Peg(bitcoin, make_custody())
    peg.fund()
    custody = peg.state.custody
    out = (Output(peg.state.vault_sats - 1_000, script_of(bitcoin)[1]),)
    signers = custody.signers
    leaf = vault_output(custody, RULES).signers
    stolen = spend_vault(peg, out, leaf, signers.keys, signers.threshold, 0xFFFFFFFD)
    peg.client.send_raw_transaction(stolen.encode())
    before = peg.state
    bitcoin.mine(7)
    peg.apply(stolen.txid)
    assert peg.state.frozen.reason is Reason.UNKNOWN_SPEND
    assert replace(peg.state, frozen=None) == before
    with pytest.raises(PegFrozen):
        queue_withdrawal(peg.state, script_of(bitcoin)[1], 20_000, 1_000, RULES)
    with pytest.raises(PegFrozen):
        peg.draft(anchor_height=3)


def test_the_council_comes_late_and_freezes_the_peg_too(bitcoin):
    peg = Peg(bitcoin, make_custody())
    peg.fund()
    custody = peg.state.custody
    leaf, out = vault_output(custody, RULES).fallback, (Output(900_000, vault_output(custody, RULES).script),)
    saved = spend_vault(peg, out, leaf, custody.council.keys, custody.council.threshold, RULES.emergency_blocks)
    assert peg.client.refusal_of(saved.encode()) == "non-BIP68-final"
    assert not peg.state.is_refresh_due(peg.client.chain_info().height, RULES)
    bitcoin.mine(RULES.emergency_blocks - 8)
    assert peg.client.refusal_of(saved.encode()) == "non-BIP68-final"
    assert peg.state.is_refresh_due(peg.client.chain_info().height, RULES)
    bitcoin.mine(1)
    peg.client.send_raw_transaction(saved.encode())
    bitcoin.mine(7)
    peg.apply(saved.txid)
    assert peg.state.frozen.reason is Reason.UNKNOWN_SPEND


@pytest.mark.parametrize("depth", [2, 9])
def test_a_reorganisation(bitcoin, depth):
    peg = Peg(bitcoin, make_custody())
    (credit,) = peg.fund()
    first = peg.client.block_hash(peg.client.chain_info().height - depth + 1)
    peg.client.invalidate_block(first)
    elsewhere = bitcoin.wallet.new_address()  # another coinbase: the same block again stays invalid
    empty = [peg.client.call("generateblock", elsewhere, [])["hash"] for _ in range(depth + 1)]
    empty = bytes.fromhex(empty[0])[::-1]
    peg.follow()
    assert peg.chain.confirmations(empty) == depth + 1
    if depth == 2:
        assert peg.state.frozen is None
        return
    assert peg.state.frozen.reason is Reason.REORGANISED
    with pytest.raises(PegFrozen):
        queue_withdrawal(peg.state, script_of(bitcoin)[1], 20_000, 1_000, RULES)
    assert peg.state.supply_sats == credit.sats
    peg.client.invalidate_block(empty)
    peg.client.reconsider_block(first)
    bitcoin.mine(3)
    peg.follow()
    assert peg.state.frozen is None
    assert due_credits(peg.state, peg.chain.height, RULES) == ()
