"""A peg among users, signers, miners and reorganisations, all drawn from one seed; checks itself after every step."""

import random
from collections import Counter
from dataclasses import replace

from bridge.anchors import Anchor
from bridge.custody import Announcement, apply_announcement, choose_signatures, deciders_of
from bridge.deposits import Claim, Evidence, Outpoint, Spent, check_evidence
from bridge.peg import (
    apply_credits,
    apply_vault_transaction,
    burn,
    claim_sweep,
    due_credits,
    make_genesis,
    queue_withdrawal,
    refund_withdrawal,
    refuse_withdrawal,
)
from bridge.peg_codec import decode_state, encode_state
from bridge.peg_errors import (
    AnchorMismatch,
    FeeAboveCap,
    FeeTooLow,
    NothingToDo,
    NotMadeGood,
    NotRefundable,
    NoVaultTransaction,
    PegFrozen,
    RotationRefused,
    SurplusTooSmall,
    UnknownWithdrawal,
    VaultNotStill,
    WithdrawalInvalid,
)
from bridge.peg_repair import confirm_again, follow_origin, preview_restore, restore
from bridge.peg_state import Reason, SweepStatus
from bridge.planning import plan_round
from bridge.rescue import build_rescue
from bridge.rounds import Deposit, Gift
from bridge.rules import WEI_PER_SAT, PegRules
from bridge.scripts import SignerSet, deposit_output, vault_output
from bridge.taproot import Path
from bridge.transactions import Input, Output, Transaction
from bridge.vault import build_draft, raise_rate
from tests.unit.bridge.fake_bitcoin import FakeBitcoin
from tests.unit.bridge.keys import make_binding, make_custody, make_key, make_signers, sign

RULES = PegRules(
    chain_id=48_000_000,
    credit_depths=((2_000_000, 8), (4_000_000, 12)),
    refund_depth=12,
    reclaim_blocks=30,
    emergency_blocks=70,
    notice_blocks=15,
    takeover_margin_blocks=25,
    record_blocks=60,
)
GENESIS_WEI = 3 * 10**18 + 7


class World:
    """One history."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.bitcoin = FakeBitcoin()
        for _ in range(10):
            self.bitcoin.mine([])
        self.state = make_genesis(make_custody(), self.random.choice((0, GENESIS_WEI)))
        self.supply = self.genesis_wei = self.state.supply_wei
        self.origin = self.bitcoin.hash_at(0)
        self.height = 1
        self.mempool = []
        self.deposits = {}
        self.drafts = []
        self.credited = {}
        self.refunded = {}
        self.withdrawals = {}
        self.counts = {}
        self.users = 0
        self.given = []
        self.lost = False

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- users

    def deposit(self):
        self.users += 1
        epochs = [one.epoch for one in self.state.custodies[-2:]]
        binding = make_binding(
            1 + self.users % 200, self.random.choice((500, 5_000, 50_000)), self.random.choice(epochs)
        )
        binding = replace(binding, address=self.users.to_bytes(20, "big"))
        custody = self.state.custodies[binding.epoch]
        sats = self.random.choice((5_000, 60_000, 500_000, 3_000_000, 9_000_000))
        script = deposit_output(custody, binding, RULES).script
        made = self.bitcoin.pay(Output(sats, script), *[Output(sats, script)] * self.random.randrange(2))
        self.mempool.append(made)
        for at, output in enumerate(made.outputs):
            self.deposits[Outpoint(made.txid, at)] = Deposit(
                Outpoint(made.txid, at), Spent(output, False), binding, len(made.encode_stripped())
            )

    def reclaim(self):
        """After the wait; or at once, which stands for a double spend of what was swept and reorganised away."""
        open_ = sorted(outpoint for outpoint in self.deposits if outpoint in self.bitcoin.coins)
        if not open_:
            return
        outpoint = self.random.choice(open_)
        sats = self.deposits[outpoint].spent.output.sats
        spent = Input(outpoint.txid, outpoint.index, b"", RULES.reclaim_blocks)
        self.mempool.append(Transaction(2, (spent,), (Output(sats - 300, b"\x51"),), 0))
        self.count("reclaims")

    def withdraw(self):
        most = self.state.supply_wei // WEI_PER_SAT
        max_fee = self.random.choice((0, 2_000, 20_000, 100_000))
        sats = self.random.choice((10_000, 100_000, 1_000_000, most - max_fee))
        if sats < RULES.min_payout_sats or sats + max_fee > most:
            return
        number = self.state.next_number
        script = b"\x00\x14" + (number // 3).to_bytes(20, "big")  # equal ones among them
        try:
            self.state = queue_withdrawal(self.state, script, sats, max_fee, RULES)
        except PegFrozen:
            return
        self.withdrawals[number] = (script, sats)
        self.supply -= (sats + max_fee) * WEI_PER_SAT
        self.count("withdrawals")

    def burn(self):
        wei = self.random.randrange(self.state.supply_wei // 50 + 1)
        self.state = burn(self.state, wei)
        self.supply -= wei

    def refuse(self):
        queued = [one for one in self.state.queue if not one.refused_at]
        if queued:
            self.state = refuse_withdrawal(self.state, self.random.choice(queued).number, self.height)
            self.count("refused")

    def refund(self):
        for one in self.state.queue:
            if one.refused_at:
                try:
                    self.state = refund_withdrawal(self.state, one.number, self.bitcoin.height_of(self.origin), RULES)
                except (NotRefundable, PegFrozen):
                    return
                self.supply += one.value * WEI_PER_SAT
                assert one.number not in self.refunded
                self.refunded[one.number] = one
                self.count("refunds")
                return

    # --- signers

    def announce(self):
        """One key goes, or what was announced is taken back; perhaps in the place of another."""
        if self.lost or (self.state.announced and self.random.random() < 0.5):
            return
        present, epoch = self.state.custody.signers, len(self.state.custodies)
        keys = list(present.keys)
        if self.random.random() < 0.8:
            keys[self.random.randrange(len(keys))] = make_key(3_000 + epoch)
        group = make_key(4_000 + epoch) if self.random.random() < 0.5 else b""
        self.put(SignerSet(present.threshold, tuple(sorted(keys)), group), by_council=False)

    def put(self, signers, *, by_council):
        """An announcement in a block, signed by k of those who decide."""
        council = self.state.custody.council
        made = Announcement(len(self.state.custodies), signers, council, 10**6, by_council)
        deciders = deciders_of(self.state, by_council=by_council)
        some = self.random.sample(deciders.keys, deciders.threshold)
        message = made.digest(RULES.chain_id)
        made = replace(made, signatures=choose_signatures(deciders, {key: sign(key, message) for key in some}))
        height = self.bitcoin.height_of(self.origin)
        replaced = bool(self.state.announced)
        try:
            self.state = apply_announcement(self.state, Announcement.decode(made.encode()), height, RULES)
        except (RotationRefused, VaultNotStill, PegFrozen):
            return False
        self.count("named by the council" if by_council else "announced again" if replaced else "announced")
        return True

    # --- the council

    def lose(self):
        """All signers are gone; what they signed may still be mined."""
        if self.state.vault is not None:
            self.lost = True

    def speak(self):
        """The council's way, once nobody has moved the vault: whether the signers are gone or only quiet."""
        if self.lost:
            self.mine(self.random.choice((10, RULES.emergency_blocks)))
        if not self.state.rescuers or self.random.random() < 0.2:
            self.put(make_signers(10_000 + 10 * len(self.state.custodies), 3, 2), by_council=True)
        try:
            self.mempool.append(build_rescue(self.state, 1_000, RULES).transaction)
        except (RotationRefused, SurplusTooSmall, WithdrawalInvalid, PegFrozen):
            return

    def recover(self):
        """Quiet months: the council's spend is mined."""
        for _ in range(20):
            if not self.lost:
                return
            self.burn()
            self.speak()
            self.check()

    def sign(self):
        """A round on the state as it is: all versions of it spend the same vault output."""
        if self.lost:
            return
        if self.state.vault is None and any(map(self.is_alive, self.drafts)):
            return
        height = self.bitcoin.height
        open_ = [one for at, one in self.deposits.items() if at in self.bitcoin.coins and self.is_deep(at)]
        anchor = Anchor(self.state.custody_at(height, RULES).epoch, self.height, bytes(32))
        rate = self.random.choice((1_000, 5_000, 30_000))
        try:
            planned = plan_round(self.state, open_, anchor, rate, Path.SCRIPT, height, RULES)
            draft = build_draft(self.state, planned, RULES)
        except (NothingToDo, PegFrozen):
            return
        assert draft == build_draft(decode_state(encode_state(self.state)), planned, RULES)
        self.drafts = [*self.drafts, draft][-6:]
        self.mempool.append(draft.transaction)
        self.count("signed")

    def bump(self):
        if self.lost or not self.drafts:
            return
        draft = self.drafts[-1]
        try:
            higher = raise_rate(self.state, draft, draft.round.rate * 3 // 2 + 1_000, RULES)
        except (FeeAboveCap, FeeTooLow, SurplusTooSmall, NothingToDo, PegFrozen):
            return
        except (AnchorMismatch, UnknownWithdrawal, WithdrawalInvalid):  # the state has moved on
            return
        if higher.inputs == draft.inputs:
            assert higher.transaction.outputs[1:] == draft.transaction.outputs[1:]
            self.drafts[-1] = higher
            self.mempool.append(higher.transaction)
            self.count("bumped")

    def is_deep(self, outpoint):
        block, _ = self.bitcoin.find(outpoint.txid)
        return block is not None and self.bitcoin.confirmations(block.hash) >= 3

    def is_alive(self, draft):
        """Mined, or still possible."""
        coins, made = self.bitcoin.coins, draft.transaction
        on_chain = self.bitcoin.find(made.txid)[0] is not None
        return on_chain or all(Outpoint(one.txid, one.index) in coins for one in made.inputs)

    # --- Bitcoin

    def mine(self, blocks=1):
        for _ in range(blocks):
            self.random.shuffle(self.mempool)
            taken = self.mempool[: self.random.randrange(len(self.mempool) + 1)] if self.mempool else []
            self.bitcoin.mine(taken)
            self.mempool = [one for one in self.mempool if self.bitcoin.find(one.txid)[0] is None][-30:]
        self.follow()

    def reorganise(self):
        depth = self.random.choice((1, 2, 2, 5, 7, 9, 12))
        if self.bitcoin.height <= depth + 12:
            return
        self.mempool += self.bitcoin.drop(depth)
        self.count("deep reorganisations" if depth > 6 else "shallow reorganisations")
        self.mine(depth + 1)

    # --- L2

    def follow(self):
        """What each L2 block does: a new origin, then evidence, then credits."""
        self.height += 1
        origin = self.bitcoin.hash_at(max(0, self.bitcoin.height - RULES.origin_depth))
        if self.bitcoin.height_of(origin) < self.bitcoin.height_of(self.origin):
            return
        self.origin = origin
        was = self.state.frozen
        self.state = follow_origin(self.state, self.bitcoin, origin, RULES)
        if self.state.frozen and not was:
            self.count("frozen")
        if self.state.frozen:
            self.repair()
        for _ in range(3):
            if self.state.frozen or not self.advance():
                break
        self.claim_late()
        self.credit()

    def spender_of(self, outpoint):
        top = self.bitcoin.height_of(self.origin)
        for block in self.bitcoin.best[: top + 1]:
            for made in block.transactions[1:]:
                if any(Outpoint(one.txid, one.index) == outpoint for one in made.inputs):
                    return made
        return None

    def next_transaction(self, vault):
        """The next of the list below the origin."""
        if vault is not None:
            return self.spender_of(Outpoint(vault.txid, 0))
        ours = [vault_output(custody, RULES).script for custody in self.state.custodies]
        for block in self.bitcoin.best[: self.bitcoin.height_of(self.origin) + 1]:
            for made in block.transactions[1:]:
                if made.outputs[0].script in ours and made.inputs[0].sequence >> 31:
                    return made
        return None

    def evidence(self, transaction, *, is_first):
        block_hash, branch, _ = self.bitcoin.prove(transaction.txid)
        funded = transaction.inputs[not is_first :]
        funding = tuple(self.bitcoin.find(txid)[1] for txid in dict.fromkeys(one.txid for one in funded))
        claims = [
            Claim(at, self.deposits[at].binding)
            for at in (Outpoint(one.txid, one.index) for one in funded)
            if at in self.deposits and (is_first or self.random.random() < 0.8)
        ]
        made = Evidence(block_hash, branch, transaction, is_first, funding, tuple(claims))
        made = Evidence.decode(made.encode(), RULES)
        return check_evidence(made, self.bitcoin, self.origin, RULES)

    def advance(self):
        made = self.next_transaction(self.state.vault)
        if made is None:
            return False
        proven = self.evidence(made, is_first=self.state.vault is None)
        before = self.state
        self.state = apply_vault_transaction(before, proven, RULES)
        assert self.state.frozen is None, (self.state.frozen, "signers sign only what keeps the rules")
        self.count("applied")
        if self.state.custody.epoch != before.custody.epoch:
            self.count("rescued" if self.state.custody.rescues else "rotated")
            self.lost = False
        try:
            apply_vault_transaction(self.state, proven, RULES)
        except NoVaultTransaction:
            return True
        raise AssertionError("applied twice")

    def repair(self):
        """Confirm again what came back, or take what stands in its place."""
        assert self.state.frozen.reason is Reason.REORGANISED
        first = None
        for at, record in enumerate(self.state.records):
            block, made = self.bitcoin.find(record.coin.txid)
            if block is None or block.height > self.bitcoin.height_of(self.origin):
                first = at
                break
            proven = self.evidence(made, is_first=at == 0 and self.state.base is None)
            self.state = confirm_again(self.state, proven)
        if first is None:
            self.state = follow_origin(self.state, self.bitcoin, self.origin, RULES)
            assert self.state.frozen is None
            self.count("confirmed again")
            return
        vault = self.state.records[first - 1].coin if first else self.state.base
        provens = []
        while (made := self.next_transaction(vault)) is not None:
            proven = self.evidence(made, is_first=vault is None)
            provens.append(proven)
            vault = replace(self.state.records[0].coin, txid=proven.txid)
        if not provens:
            return
        try:
            self.state = restore(self.state, provens, self.bitcoin, self.origin, RULES)
        except NotMadeGood:
            self.count("not made good")
            if self.lost:
                return
            self.make_good(preview_restore(self.state, provens, self.bitcoin, self.origin, RULES))
        else:
            self.count("restored")

    def make_good(self, uncovered):
        """Somebody pays to the vault what is missing, and the signers take it in."""
        script = vault_output(uncovered.custody, RULES).script
        gifts = [
            Gift(outpoint, coin.sats, uncovered.custody.epoch)
            for outpoint, coin in self.bitcoin.coins.items()
            if coin.script == script and outpoint.txid in self.given
        ]
        if not gifts:
            made = self.bitcoin.pay(Output(5_000 - uncovered.surplus_sats, script))
            self.given.append(made.txid)
            self.mempool.append(made)
            return
        planned = plan_round(uncovered, [], None, 1_000, Path.SCRIPT, self.bitcoin.height, RULES, gifts)
        self.mempool.append(build_draft(uncovered, planned, RULES).transaction)
        self.count("made good")

    def claim_late(self):
        for record in self.state.records:
            for sweep in record.sweeps:
                if sweep.status is SweepStatus.UNCLAIMED and self.random.random() < 0.5:
                    binding = self.deposits[sweep.outpoint].binding
                    self.state = claim_sweep(self.state, Claim(sweep.outpoint, binding), RULES)
                    self.count("claimed late")
                    return

    def credit(self):
        height = self.bitcoin.height_of(self.origin)
        for credit in due_credits(self.state, height, RULES):
            assert credit.outpoint not in self.credited, "credited twice"
            assert self.state.frozen is None
            block, _ = self.bitcoin.find(self.spender_of(credit.outpoint).txid)
            assert self.bitcoin.height_of(self.origin) - block.height + RULES.origin_depth >= credit.depth
            binding = self.deposits[credit.outpoint].binding
            assert credit.address == binding.address
            assert credit.sats >= self.deposits[credit.outpoint].spent.output.sats - binding.max_fee
            self.credited[credit.outpoint] = credit
            self.supply += credit.sats * WEI_PER_SAT
            self.count("credited")
        self.state = apply_credits(self.state, height, RULES)
        assert not due_credits(self.state, height, RULES)

    # --- what must hold

    def check(self):
        state = self.state
        assert decode_state(encode_state(state)) == state
        assert state.supply_wei == self.supply
        assert state.supply_wei <= state.vault_sats * WEI_PER_SAT + self.genesis_wei + WEI_PER_SAT
        assert state.surplus_sats >= 0
        queued = {one.number for one in state.queue}
        assert not queued & set(self.refunded), "refunded and still to be paid"
        paid = Counter(
            (output.script, output.sats)
            for block in self.bitcoin.best
            for made in block.transactions[1:]
            for output in made.outputs
            if output.script[:2] == b"\x00\x14"
        )
        asked = Counter(self.withdrawals[number] for number in self.withdrawals if number not in self.refunded)
        assert paid <= asked, "paid twice, or paid and refunded"
        if state.frozen is None and state.vault is not None:
            found = self.bitcoin.find(state.vault.txid)[1]
            assert found is None or found.outputs[0].sats == state.vault_sats
        applied = Counter(one.number for record in state.records for one in record.paid)
        assert all(times == 1 for times in applied.values()), "applied twice"
        assert not set(applied) & (queued | set(self.refunded))

    def run(self, steps):
        actions = [
            *[self.deposit] * 4,
            *[self.withdraw] * 3,
            *[self.sign] * 5,
            *[self.bump] * 3,
            *[self.mine] * 8,
            lambda: self.mine(6),
            self.burn,
            self.refuse,
            self.refund,
            self.refund,
            self.announce,
            self.speak,
            self.reclaim,
            self.reorganise,
        ]
        for _ in range(steps):
            if not self.random.randrange(2 * steps):
                self.lose()
            self.random.choice(actions)()
            self.check()

    def settle(self):
        """Quiet days: everything that can be paid is."""
        self.recover()
        for _ in range(6):
            self.sign()
            self.bump()
            for _ in range(8):
                self.bitcoin.mine(self.mempool[::-1])
                self.mempool = []
                self.follow()
            self.check()
