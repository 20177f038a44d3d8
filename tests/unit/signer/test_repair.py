"""A frozen peg: what signers send again, sign, refuse and say; each refusal beside a round that is signed."""

from dataclasses import replace

import pytest

from bridge.deposits import CHARGE_FLAG, Claim, Outpoint, check_evidence
from bridge.params import REGTEST
from bridge.peg import apply_vault_transaction
from bridge.peg_errors import NothingToDo, NotMadeGood, PegFrozen
from bridge.peg_repair import follow_origin, restore
from bridge.peg_state import Freeze, Reason
from bridge.rounds import compute_bill
from bridge.scripts import vault_output
from bridge.shortage import ASKED_RATE, compute_missing, gift_address
from bridge.transactions import Input, Output, Transaction
from hyperdust.bitcoind import RpcFault
from hyperdust.signer.errors import (
    FirstRoundLost,
    GiftUnknown,
    NothingMissing,
    RoundDiffers,
    StateNotFinal,
    VaultNotDeep,
    WrongVaultCoin,
)
from hyperdust.signer.key import proposal_digest
from hyperdust.signer.lead import prepare_round
from hyperdust.signer.mending import Mender
from hyperdust.signer.proposal import GiftCoin
from hyperdust.signer.protection import FIRST
from hyperdust.signer.rebuild import outpoint_of
from hyperdust.signer.repair import count_kept, load_repaired, resend, send_again
from hyperdust.signer.watch import Watch
from tests.unit.signer.signer_world import PAY_TO, RULES, FakeBitcoind, World

DEEP = RULES.origin_depth + 1


class Bitcoind(FakeBitcoind):
    """Its index has transactions of lost blocks too, and it takes only what is possible."""

    def load_transaction(self, txid):
        found = [made for block in self.chain.blocks.values() for made in block.transactions if made.txid == txid]
        return found[0] if found else super().load_transaction(txid)

    def send(self, transaction):
        coins = dict(self.chain.coins)
        for one in self.pool:
            coins.update({Outpoint(one.txid, at): made for at, made in enumerate(one.outputs)})
        if not self.chain.is_possible(transaction, coins):
            raise RpcFault("sendrawtransaction", -25, "bad-txns-inputs-missingorspent")
        super().send(transaction)


class Frozen(World):
    """A vault, and after it a sweep of 400,000 sats that is credited, and whose blocks are gone."""

    def __init__(self, folder):
        super().__init__(folder)
        self.bitcoin.__class__ = Bitcoind
        self.leader, self.other = self.open_vault()
        self.good = self.state.vault
        self.bitcoin.mine(DEEP)
        place = self.pay_in(400_000)
        prepared = self.propose(self.leader)
        self.lost = self.complete(self.leader, self.other, prepared)
        self.apply(self.lost, [replace_claim(place, prepared)])
        assert self.state.supply_sats > 1_390_000

    def reorganise(self, depth, blocks=None, transactions=()):
        """The last blocks are others; what was in them is nowhere."""
        self.chain.drop(depth)
        self.bitcoin.pool = []
        self.chain.mine(transactions)
        self.bitcoin.mine((blocks or depth + 1) - 1, empty=True)
        self.follow()

    def follow(self):
        origin = self.chain.hash_at(self.chain.height - RULES.origin_depth)
        self.change(lambda state: follow_origin(state, self.chain, origin, RULES))

    def freeze(self):
        """The sweep is gone, and the deposit, since the coin that paid for it is spent otherwise."""
        funding = self.bitcoin.load_transaction(self.lost.inputs[1].txid)
        self.reorganise(9, 12, [replace(funding, outputs=(Output(1_000, PAY_TO),))])
        assert self.state.frozen.reason is Reason.REORGANISED
        return self

    def give(self, sats, depth=2):
        made = self.chain.pay(Output(sats, vault_output(self.custody, RULES).script))
        self.bitcoin.pool.append(made)
        self.bitcoin.mine(depth)
        return Outpoint(made.txid, 0)

    def take_gifts(self, session):
        return prepare_round(session, self.reachable(session), vault=outpoint_of(self.good))

    def overdraw(self, sats):
        """A spend of the vault into itself."""
        vault = self.state.vault
        script = vault_output(self.custody, RULES).script
        return Transaction(2, (Input(vault.txid, 0, b"", CHARGE_FLAG),), (Output(vault.sats - sats, script),), 0)

    def repaired(self, vault=None):
        return load_repaired(self.state, vault or outpoint_of(self.good), self.bitcoin, RULES)


def replace_claim(place, prepared):
    return Claim(place, prepared.proposal.deposits[0].binding)


@pytest.fixture
def world(tmp_path):
    made = Frozen(tmp_path)
    yield made
    made.close()


def sign(session, prepared, leader=None, **changes):
    if not changes:
        return session.sign(prepared.raw, prepared.signature)
    raw = replace(prepared.proposal, **changes).encode()
    return session.sign(raw, leader.key.sign(proposal_digest(raw)))


def test_a_gift_round_on_what_is_left_is_signed_and_thaws_the_peg(world):
    world.freeze()
    owing = world.repaired()
    assert (owing.vault, owing.surplus_sats) == (world.good, world.good.sats - world.state.supply_sats)
    world.pay_in(300_000)
    gift = world.give(compute_missing(owing, world.chain.height, RULES))
    prepared = world.take_gifts(world.leader)
    assert prepared.draft.round.deposits == ()
    assert [one.outpoint for one in prepared.draft.round.gifts] == [gift]
    made = world.complete(world.leader, world.other, prepared)
    world.bitcoin.send(made)
    world.bitcoin.mine(DEEP)
    origin = world.chain.hash_at(world.chain.height - RULES.origin_depth)
    evidence = world.prove(*world.chain.find(made.txid))
    proven = prove(world, evidence, origin)
    world.change(lambda state: restore(state, [proven], world.chain, origin, RULES))
    assert world.state.frozen is None
    assert world.state.surplus_sats >= 0
    assert world.state.supply_sats > 1_390_000, "credits stand"


def prove(world, evidence, origin):
    return check_evidence(evidence, world.chain, origin, RULES)


def test_nothing_else_is_signed_while_it_is_frozen(world):
    world.freeze()
    place = world.pay_in(300_000)
    gift = world.give(500_000)
    good = world.take_gifts(world.leader)
    transaction = good.proposal.transaction
    thief = (replace(transaction.outputs[0], sats=10_000), Output(400_000, PAY_TO))
    with pytest.raises(RoundDiffers):
        sign(world.other, good, world.leader, transaction=replace(transaction, outputs=thief))
    for coin in (place, outpoint_of(world.good)):
        with pytest.raises(GiftUnknown):
            sign(world.other, good, world.leader, gifts=(replace(good.proposal.gifts[0], outpoint=coin),))
    with pytest.raises(NothingToDo):
        sign(world.other, good, world.leader, gifts=())
    assert gift
    sign(world.other, good)


def test_a_leader_waits_until_the_gifts_are_enough(world):
    world.freeze()
    missing = compute_missing(world.repaired(), world.chain.height, RULES)
    with pytest.raises(NothingToDo):
        world.take_gifts(world.leader)
    world.give(missing // 2)
    with pytest.raises(NotMadeGood):
        world.take_gifts(world.leader)
    world.give(missing // 2)
    assert len(world.take_gifts(world.leader).draft.round.gifts) == 2


def test_a_gift_round_is_bumped_as_far_as_its_gifts_make_it_whole(world):
    world.freeze()
    missing = compute_missing(world.repaired(), world.chain.height, RULES)
    world.give(missing)
    prepared = world.take_gifts(world.leader)
    signed = world.complete(world.leader, world.other, prepared)
    for session in (world.leader, world.other):
        session.deliver(prepared.raw, prepared.signature, signed.encode())
    world.bitcoin.mine(3, empty=True)
    bumped = world.bump(world.leader, prepared)
    assert bumped.draft.fee > prepared.draft.fee
    sign(world.other, bumped)
    world.bitcoin.rate = 2 * ASKED_RATE
    with pytest.raises(NotMadeGood):
        world.bump(world.leader, bumped)
    alarm = Mender(world.leader, REGTEST).look(world.state, outpoint_of(world.good)).alarm
    more = compute_missing(world.repaired(), world.chain.height, RULES, 4 * ASKED_RATE)
    assert f"; {more} sats are missing" in alarm
    world.bitcoin.pool = []
    world.give(more - missing)
    assert len(world.take_gifts(world.leader).draft.round.gifts) == 2


def test_many_small_gifts_are_taken_in_on_the_way(world):
    world.freeze()
    script = vault_output(world.custody, RULES).script
    made = world.chain.pay(*(Output(2_000, script) for _ in range(20)))
    world.bitcoin.pool.append(made)
    world.bitcoin.mine(2)
    assert len(world.take_gifts(world.leader).draft.round.gifts) == 20


@pytest.mark.parametrize(("size", "count"), [(99_000, 2), (100_200, 1)])
def test_a_gift_that_no_evidence_could_carry_is_left_where_it_is(world, size, count):
    world.freeze()
    script = vault_output(world.custody, RULES).script
    large = world.chain.pay(Output(450_000, script), Output(0, b"\x6a" + bytes(size - 200)))
    world.bitcoin.pool.append(large)
    world.bitcoin.mine(2)
    world.give(400_000)
    good = world.take_gifts(world.leader)
    assert len(good.proposal.gifts) == count
    named = tuple(sorted((*good.proposal.gifts, GiftCoin(Outpoint(large.txid, 0), 0)), key=lambda one: one.outpoint))
    if count == 1:
        with pytest.raises(GiftUnknown, match="evidence"):
            sign(world.other, good, world.leader, gifts=named)
    sign(world.other, good)


def test_who_does_not_see_the_freeze_yet_waits(world):
    before = world.node.head
    world.freeze()
    world.give(500_000)
    prepared = world.take_gifts(world.leader)
    with pytest.raises(StateNotFinal):
        sign(world.other, prepared, world.leader, state=world.node.place(before))
    world.node.held_final = before
    with pytest.raises(StateNotFinal):
        sign(world.other, prepared)
    with pytest.raises(StateNotFinal):
        world.take_gifts(world.leader)
    world.node.held_final = None
    sign(world.other, prepared)


def test_no_gift_for_what_is_on_its_way_back(world):
    world.freeze()
    world.repaired()
    gift = world.give(500_000)
    prepared = world.take_gifts(world.leader)
    world.bitcoin.pool = [world.lost]
    with pytest.raises(NothingMissing):
        sign(world.other, prepared)
    world.bitcoin.pool = [world.complete(world.leader, world.other, prepare_without(world, prepared))]
    world.repaired()
    assert gift in [Outpoint(one.txid, one.index) for one in world.bitcoin.pool[0].inputs], "its own version is none"


def prepare_without(world, prepared):
    """The same again, as nobody had seen the lost one."""
    found, world.bitcoin.pool = world.bitcoin.pool, []
    again = world.take_gifts(world.leader)
    assert again.proposal == prepared.proposal
    assert found
    return again


def test_no_gift_for_what_is_back_or_covered(world):
    world.reorganise(7, 8, [world.lost])
    assert world.state.frozen is not None
    assert count_kept(world.state, world.bitcoin) == 1
    with pytest.raises(NothingMissing):
        world.repaired(Outpoint(world.lost.txid, 0))
    world.chain.drop(9)
    with pytest.raises(VaultNotDeep):
        world.repaired(Outpoint(world.lost.txid, 0))


def test_the_row_has_to_lead_to_the_vault_named(world):
    world.freeze()
    for vault in (Outpoint(b"\x01" * 32, 0), Outpoint(world.good.txid, 1), None):
        with pytest.raises(WrongVaultCoin):
            load_repaired(world.state, vault, world.bitcoin, RULES)
    assert world.repaired().vault == world.good


def test_what_is_left_has_to_be_deep(world):
    world.freeze()
    world.give(500_000)
    prepared = world.take_gifts(world.leader)
    depth = world.chain.height - world.good.height
    gone = world.chain.best[-depth:]
    world.chain.best = [*world.chain.best[:-depth], *gone[: RULES.origin_depth - 1]]
    world.chain.best[-1].coins.update(gone[-1].coins)
    with pytest.raises(VaultNotDeep):
        sign(world.other, prepared, world.leader, height=world.chain.height)


def test_a_lost_first_round_has_to_come_back(world):
    world.reorganise(world.chain.height - world.good.height + 1, 30)
    assert count_kept(world.state, world.bitcoin) == 0
    with pytest.raises(FirstRoundLost):
        world.repaired()
    look = Mender(world.leader, REGTEST).look(world.state, None)
    assert look.owing is None
    assert "has to come back" in look.alarm


def test_a_lost_first_round_is_found_in_its_new_block(world):
    first = world.chain.find(world.good.txid)[1]
    depth = world.chain.height - world.good.height + 1
    world.reorganise(depth, depth + 3)
    watch, firsts = Watch(world.bitcoin), world.leader.versions(FIRST)
    assert watch.follow(world.state, firsts) == ()
    world.chain.mine([first])
    for known in (firsts, ()):
        watch = Watch(world.bitcoin)
        (found,) = watch.follow(world.state, known)
        assert (found.txid, found.mined.height, found.is_first) == (first.txid, world.chain.height, True)
        assert watch.vault == outpoint_of(world.good)


def test_records_are_followed_from_the_oldest_that_is_lost(world):
    """Where a later one was confirmed again before an earlier one."""
    (good, last) = world.state.records
    world.reorganise(world.chain.height - good.coin.height + 1, 40)
    moved = replace(last, block_hash=world.chain.hash_at(12), coin=replace(last.coin, height=12))
    state = replace(world.state, records=(good, moved))
    assert count_kept(state, world.bitcoin) == 0


def test_lost_rounds_and_what_they_spend_are_sent_again(world):
    world.bitcoin.pool = []
    funding = world.bitcoin.load_transaction(world.lost.inputs[1].txid)
    world.chain.drop(9)
    world.follow()
    world.chain.coins[Outpoint(funding.inputs[0].txid, 0)] = Output(5_000_000_000, b"\x51")
    assert resend(world.state, [], world.bitcoin) == {}
    assert [one.txid for one in world.bitcoin.pool] == [funding.txid, world.lost.txid]
    world.bitcoin.pool.pop()
    world.bitcoin.mine(1)
    assert resend(world.state, [], world.bitcoin) == {}
    assert [one.txid for one in world.bitcoin.pool] == [world.lost.txid]
    world.bitcoin.mine(1)
    assert resend(world.state, [], world.bitcoin) == {}, "it is mined: evidence is what it waits for"
    assert world.bitcoin.pool == []


def test_what_cannot_come_back_is_named(world):
    world.freeze()
    refused = resend(world.state, [world.lost], world.bitcoin)
    assert refused.keys() == {world.lost.txid}
    with pytest.raises(RpcFault):
        send_again(world.lost, world.bitcoin)
    assert world.bitcoin.pool == []


def test_alarms_say_what_is_missing_and_where_it_is_paid(world):
    mender = Mender(world.leader, REGTEST)
    assert mender.look(world.state, outpoint_of(world.state.vault)).alarm == ""
    world.freeze()
    look = mender.look(world.state, outpoint_of(world.good))
    missing = compute_missing(world.repaired(), world.chain.height, RULES)
    assert look.owing == world.repaired()
    assert f"; {missing} sats are missing: anybody may pay them to {gift_address(look.owing, RULES, REGTEST)}" in (
        look.alarm
    )
    assert "cannot come back" in look.alarm
    world.give(20_000)
    assert "(20000 sats lie there)" in mender.look(world.state, outpoint_of(world.good)).alarm


def test_alarms_of_a_theft_and_of_what_comes_back(world):
    vault = world.state.vault
    stolen = replace(world.state, frozen=Freeze(Reason.UNKNOWN_SPEND, vault.txid, bytes(32), vault.height))
    look = Mender(world.leader, REGTEST).look(stolen, outpoint_of(vault))
    assert look.owing is None
    assert "by voice" in look.alarm
    world.reorganise(7, 8, [world.lost])
    look = Mender(world.leader, REGTEST).look(world.state, outpoint_of(vault))
    assert look.owing is None
    assert "nothing has to be paid" in look.alarm


def test_a_vault_that_was_overdrawn_is_filled_after_what_overdrew_it(world):
    poor = world.overdraw(300_000)
    world.bitcoin.pool.append(poor)
    world.bitcoin.mine(DEEP)
    origin = world.chain.hash_at(world.chain.height - RULES.origin_depth)
    proven = prove(world, world.prove(*world.chain.find(poor.txid)), origin)
    world.change(lambda state: apply_vault_transaction(state, proven, RULES))
    assert world.state.frozen.reason is Reason.OVERDRAWN
    owing = load_repaired(world.state, Outpoint(poor.txid, 0), world.bitcoin, RULES)
    assert owing.vault.txid == poor.txid
    with pytest.raises(NothingMissing):
        load_repaired(world.state, outpoint_of(world.state.vault), world.bitcoin, RULES)
    world.give(compute_missing(owing, world.chain.height, RULES))
    world.good = owing.vault
    prepared = world.take_gifts(world.leader)
    sign(world.other, prepared)


def test_a_stolen_vault_takes_no_gifts(world):
    vault = world.state.vault
    frozen = Freeze(Reason.UNKNOWN_SPEND, vault.txid, vault_block(world), vault.height)
    world.change(lambda state: replace(state, frozen=frozen))
    world.give(500_000)
    with pytest.raises(PegFrozen):
        world.take_gifts(world.leader)


def vault_block(world):
    return world.state.records[-1].block_hash


def test_what_is_missing_is_a_gift_that_pays_for_itself(world):
    assert compute_missing(world.state, world.chain.height, RULES) == 0
    world.freeze()
    owing = world.repaired()
    missing = compute_missing(owing, world.chain.height, RULES)
    world.give(missing)
    planned = replace(world.take_gifts(world.leader).draft.round, rate=ASKED_RATE)
    fee = compute_bill(owing, planned, {}, RULES).fee
    assert owing.surplus_sats + missing - fee >= 0
    assert missing == fee - owing.surplus_sats
