"""What a signer refuses, rule by rule, each beside a round that it signs."""

from dataclasses import replace

import pytest

from bridge.deposits import Outpoint
from bridge.peg_errors import FeeAboveCap, NoGroupKey, PegFrozen
from bridge.peg_state import Freeze, Reason
from bridge.scripts import vault_output
from bridge.taproot import Path, check_signature
from bridge.transactions import Output
from hyperdust.signer.errors import (
    AnotherRound,
    DataDiffers,
    DepositNotDeep,
    DepositUnknown,
    GiftNotDeep,
    GiftUnknown,
    HeightUnlikely,
    NotMine,
    OtherChain,
    ProposalMalformed,
    RateTooHigh,
    RoundDiffers,
    RoundWithheld,
    StateNotFinal,
    StateNotMine,
    UnknownLeader,
    VaultNotDeep,
    WithdrawalNotFinal,
    WrongPath,
    WrongVaultCoin,
)
from hyperdust.signer.key import SigningKey, proposal_digest
from hyperdust.signer.proposal import GiftCoin
from hyperdust.signer.rebuild import Sources, load_gifts
from tests.unit.bridge.keys import make_key
from tests.unit.signer.signer_world import PAY_TO, RULES, World, account_of


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def vault(world):
    """With a vault, a withdrawal, a deposit and a surplus; the leader's proposal."""
    leader, other = world.open_vault()
    world.withdraw()
    world.burn()
    world.pay_in(500_000)
    return world, leader, other, world.propose(leader)


def sign(session, prepared, leader=None, **changes):
    if not changes:
        return session.sign(prepared.raw, prepared.signature)
    raw = replace(prepared.proposal, **changes).encode()
    return session.sign(raw, leader.key.sign(proposal_digest(raw)))


def test_an_honest_round_is_signed_and_signed_again(vault):
    world, _, other, prepared = vault
    assert (len(prepared.draft.inputs), len(prepared.draft.round.payouts)) == (2, 1)
    assert prepared.draft.round.anchor.height == world.node.head
    for _ in range(2):
        signatures = sign(other, prepared)
        for message, signature in zip(prepared.draft.compute_sighashes(), signatures, strict=True):
            check_signature(other.key.public, message, signature)


def test_two_of_three_complete_it(vault):
    world, leader, other, prepared = vault
    world.apply(world.complete(leader, other, prepared))
    assert world.state.frozen is None
    assert world.state.queue == ()
    assert world.state.vault.anchor_height == prepared.draft.round.anchor.height


def test_a_block_that_is_not_final(vault):
    world, leader, other, prepared = vault
    world.node.held_final = prepared.proposal.state.number - 1
    with pytest.raises(StateNotFinal):
        sign(other, prepared)
    world.node.held_final = None
    sign(other, prepared)
    del leader


def test_a_block_of_another_chain(vault):
    _, leader, other, prepared = vault
    place = replace(prepared.proposal.state, hash=b"\x01" * 32)
    with pytest.raises(StateNotMine):
        sign(other, prepared, leader, state=place)


def test_withdrawals_under_no_finalized_block(vault):
    world, _, other, prepared = vault
    world.node.held_finalized = prepared.proposal.payable.number - 1
    with pytest.raises(WithdrawalNotFinal):
        sign(other, prepared)


def test_a_leader_pays_only_what_is_finalized(vault):
    world, leader, other, _ = vault
    world.node.held_finalized = 1
    prepared = world.propose(leader)
    assert prepared.draft.round.payouts == ()
    assert prepared.draft.round.anchor is not None
    sign(other, prepared)


def test_the_vault_of_yesterday(vault):
    world, leader, other, prepared = vault
    late = world.session(2)
    world.apply(world.complete(leader, other, prepared))
    with pytest.raises(WrongVaultCoin):
        sign(late, prepared)


def test_a_vault_that_bitcoin_does_not_have(vault):
    world, _, other, prepared = vault
    coin = Outpoint(world.state.vault.txid, 0)
    taken = world.chain.coins.pop(coin)
    with pytest.raises(WrongVaultCoin):
        sign(other, prepared)
    world.chain.coins[coin] = replace(taken, sats=taken.sats - 1)
    with pytest.raises(WrongVaultCoin):
        sign(other, prepared)
    world.chain.coins[coin] = taken
    sign(other, prepared)


def test_a_vault_that_is_not_deep(vault):
    world, _, other, prepared = vault
    depth = world.chain.height - world.state.vault.height
    gone = world.chain.best[-depth:]
    world.chain.best = [*world.chain.best[:-depth], *gone[: RULES.origin_depth - 1]]
    world.chain.best[-1].coins.update(gone[-1].coins)
    with pytest.raises(VaultNotDeep):
        sign(other, prepared, world.session(0, "again"), height=world.chain.height)


def test_deposits(vault):
    world, leader, other, prepared = vault
    (sweep,) = prepared.proposal.deposits
    coin = world.chain.coins.pop(sweep.outpoint)
    with pytest.raises(DepositUnknown):
        sign(other, prepared)
    world.chain.coins[sweep.outpoint] = coin
    strict = Sources(world.node, world.bitcoin, RULES, replace(world.limits, deposit_depth=4))
    with pytest.raises(DepositNotDeep):
        sign(world.session(2, sources=strict), prepared)
    stolen = replace(sweep, binding=replace(sweep.binding, address=b"\x66" * 20))
    with pytest.raises(RoundDiffers):
        sign(other, prepared, leader, deposits=(stolen,))


def test_a_leader_sweeps_only_what_is_deep_and_announced(world):
    leader, _ = world.open_vault()
    world.burn()
    world.pay_in(depth=1)
    world.pay_in(depth=0, announced=False)
    world.bitcoin.mine(1)
    prepared = world.propose(leader)
    assert len(prepared.draft.round.deposits) == 1


def test_rates(vault):
    world, leader, other, prepared = vault
    with pytest.raises(RateTooHigh):
        sign(other, prepared, leader, rate=6_001)
    poor = Sources(world.node, world.bitcoin, RULES, replace(world.limits, max_rate=1_500))
    with pytest.raises(RateTooHigh):
        sign(world.session(2, sources=poor), prepared)
    world.bitcoin.rate = 100_000
    with pytest.raises(FeeAboveCap):
        sign(other, prepared, leader, rate=200_000)


def test_heights(vault):
    world, leader, other, prepared = vault
    with pytest.raises(HeightUnlikely):
        sign(other, prepared, leader, height=world.chain.height + 1)
    world.bitcoin.mine(145)
    with pytest.raises(HeightUnlikely):
        sign(other, prepared)


def test_other_bytes(vault):
    _, leader, other, prepared = vault
    made = prepared.proposal.transaction
    thief = Output(10_000, PAY_TO)
    vault_output = replace(made.outputs[0], sats=made.outputs[0].sats - 10_000)
    for outputs in ((vault_output, *made.outputs[1:], thief), made.outputs[:-1], (*made.outputs[1:], made.outputs[0])):
        with pytest.raises(RoundDiffers):
            sign(other, prepared, leader, transaction=replace(made, outputs=outputs))
    with pytest.raises(RoundDiffers):
        sign(other, prepared, leader, transaction=replace(made, inputs=made.inputs[:1]))
    with pytest.raises(RoundDiffers):
        sign(other, prepared, leader, transaction=replace(made, lock_time=1))


def test_who_leads(vault):
    world, leader, other, prepared = vault
    stranger = SigningKey(account_of(make_key(4_000)))
    with pytest.raises(UnknownLeader):
        other.sign(prepared.raw, bytes(64))
    third = world.session(2)
    with pytest.raises(UnknownLeader):
        sign(other, prepared, third, rate=prepared.proposal.rate)
    third.key = stranger
    with pytest.raises(UnknownLeader):
        other.sign(*world.resign(third, replace(prepared.proposal, leader=stranger.public)))
    with pytest.raises(OtherChain):
        sign(other, prepared, leader, chain=bytes(32))


def test_a_key_without_a_part(vault):
    world, _, _, prepared = vault
    stranger = world.session(2)
    stranger.key = SigningKey(account_of(make_key(4_001)))
    with pytest.raises(NotMine):
        sign(stranger, prepared)


@pytest.mark.parametrize("raw", [b"", b"\xff" * 50, bytes(200_000)])
def test_no_proposal(vault, raw):
    _, _, other, _ = vault
    with pytest.raises(ProposalMalformed):
        other.sign(raw, bytes(64))


def test_a_frozen_peg(vault):
    world, _, other, prepared = vault
    vault = world.state.vault
    frozen = Freeze(Reason.UNKNOWN_SPEND, vault.txid, bytes(32), vault.height)
    world.change(lambda state: replace(state, frozen=frozen))
    with pytest.raises(PegFrozen):
        sign(other, prepared)


def test_another_round_waits_and_whoever_withheld_one_waits_longer(vault):
    world, leader, other, prepared = vault
    sign(other, prepared)
    world.pay_in(300_000, depth=2)
    second = world.propose(leader)
    with pytest.raises(AnotherRound):
        sign(other, second)
    world.bitcoin.mine(1)
    with pytest.raises(RoundWithheld):
        sign(other, second)
    sign(other, world.propose(world.session(2)))


def test_a_sent_round_is_bumped_by_its_leader(vault):
    world, leader, other, prepared = vault
    signed = world.complete(leader, other, prepared)
    for session in (leader, other):
        session.deliver(prepared.raw, prepared.signature, signed.encode())
    world.bitcoin.mine(3, empty=True)
    bumped = world.bump(leader, prepared)
    assert bumped.draft.fee > prepared.draft.fee
    assert [one.txid for one in bumped.draft.transaction.inputs] == [one.txid for one in signed.inputs]
    world.apply(world.complete(leader, other, bumped))
    assert world.state.vault.sats == bumped.draft.transaction.outputs[0].sats


def test_what_is_delivered_is_checked(vault):
    world, leader, other, prepared = vault
    signed = world.complete(leader, other, prepared)
    late = world.session(2)
    with pytest.raises(ProposalMalformed):
        late.deliver(prepared.raw, prepared.signature, b"\x00")
    with pytest.raises(ProposalMalformed):
        late.deliver(prepared.raw, prepared.signature, replace(signed, lock_time=5).encode())
    with pytest.raises(UnknownLeader):
        late.deliver(prepared.raw, bytes(64), signed.encode())
    late.deliver(prepared.raw, prepared.signature, signed.encode())
    assert world.bitcoin.pool[-1].txid == signed.txid


def pay_gift(world, sats=40_000, *, depth=2):
    made = world.chain.pay(Output(sats, vault_output(world.state.custody, RULES).script))
    world.bitcoin.pool.append(made)
    world.bitcoin.mine(depth)
    return Outpoint(made.txid, 0)


def test_gifts(vault):
    world, leader, other, _ = vault
    shallow = pay_gift(world, depth=1)
    assert world.propose(leader).proposal.gifts == ()
    world.bitcoin.mine(1)
    prepared = world.propose(leader)
    (gift,) = prepared.proposal.gifts
    assert gift == GiftCoin(shallow, 0)
    assert prepared.draft.inputs[-1].outpoint == shallow
    own = Outpoint(world.state.vault.txid, 0)
    (sweep,) = prepared.proposal.deposits
    for wrong in (replace(gift, epoch=1), replace(gift, outpoint=sweep.outpoint), replace(gift, outpoint=own)):
        with pytest.raises(GiftUnknown):
            sign(other, prepared, leader, gifts=(wrong,))
    with pytest.raises(RoundDiffers):
        sign(other, prepared, leader, gifts=())
    strict = Sources(world.node, world.bitcoin, RULES, replace(world.limits, deposit_depth=7))
    with pytest.raises(DepositNotDeep):
        sign(world.session(2, sources=strict), prepared)
    with pytest.raises(GiftNotDeep):
        load_gifts([gift], world.state, strict)
    before = world.state.vault_sats
    world.apply(world.complete(leader, other, prepared))
    assert world.state.vault_sats > before + 500_000 - 50_000
    assert world.state.surplus_sats >= 40_000


def test_gifts_made_by_large_transactions_wait_for_another_way(vault):
    """Evidence has to carry what made them: nobody's bait makes a round that no block can prove."""
    world, leader, other, _ = vault
    made = world.chain.pay(
        Output(40_000, vault_output(world.state.custody, RULES).script), *[Output(600, PAY_TO)] * 400
    )
    world.bitcoin.pool.append(made)
    world.bitcoin.mine(2)
    prepared = world.propose(leader)
    assert prepared.proposal.gifts == ()
    with pytest.raises(GiftUnknown):
        sign(other, prepared, leader, gifts=(GiftCoin(Outpoint(made.txid, 0), 0),))


def test_data_and_paths(vault):
    world, leader, other, prepared = vault
    with pytest.raises(DataDiffers):
        sign(other, prepared, leader, data_root=b"\x05" * 32)
    with pytest.raises(WrongPath):
        sign(other, prepared, leader, path=Path.KEY)
    with pytest.raises(WrongPath):
        other.commit(prepared.raw, prepared.signature)
    with pytest.raises(NoGroupKey):
        other.commit(*world.resign(leader, replace(prepared.proposal, path=Path.KEY)))


def test_bounds_of_coins(vault):
    _, leader, other, prepared = vault
    gift = GiftCoin(Outpoint(bytes(32), 0), 0)
    many = tuple(GiftCoin(Outpoint(bytes(32), index), 0) for index in range(RULES.max_sweeps + 1))
    for gifts in ((gift, gift), many, (replace(gift, outpoint=Outpoint(bytes(31), 0)),)):
        with pytest.raises(ProposalMalformed):
            sign(other, prepared, leader, gifts=gifts)
    with pytest.raises(ProposalMalformed):
        sign(other, prepared, leader, data_root=bytes(31))
