"""Leading and following: who answers what, what Bitcoin then has, and what becomes of it."""

from dataclasses import replace

import pytest

from bridge.custody import announce_custody
from bridge.peg_errors import NothingToDo
from bridge.scripts import Custody, SignerSet, vault_output
from bridge.transactions import Output
from hyperdust.signer.errors import NotMine, PeerFault, PeerRefused, RateTooHigh, StateNotFinal, TooFewSignatures
from hyperdust.signer.key import SigningKey
from hyperdust.signer.lead import collect, prepare_dearer
from hyperdust.signer.protection import FIRST
from hyperdust.signer.rebuild import Limits
from hyperdust.signer.watch import Watch
from tests.unit.bridge.keys import make_signers
from tests.unit.signer.signer_world import PAY_TO, RULES, World, account_of


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


class Honest:
    def __init__(self, session):
        self.session = session

    def sign(self, raw, signature):
        return self.session.key.public, self.session.sign(raw, signature)


class Lying(Honest):
    def sign(self, raw, signature):
        key, signatures = super().sign(raw, signature)
        return key, tuple(one[:-1] + bytes([one[-1] ^ 1]) for one in signatures)


class Other(Honest):
    """Answers with somebody else's key."""

    def sign(self, raw, signature):
        _, signatures = super().sign(raw, signature)
        return b"\x01" * 32, signatures


class Short(Honest):
    def sign(self, raw, signature):
        key, signatures = super().sign(raw, signature)
        return key, signatures[1:]


class Away(Honest):
    def sign(self, *_):
        raise PeerFault("signer is away")


class Refusing(Honest):
    def sign(self, *_):
        raise PeerRefused("StateNotFinal", "not yet")


def ask(world, leader, prepared, *peers):
    reachable = {peer.session.key.public: (peer, None) for peer in peers}
    return collect(leader, prepared, reachable)


def test_one_honest_of_two_others_is_enough(world):
    world.pay_in()
    leader, second, third = (world.session(index) for index in range(3))
    prepared = world.propose(leader)
    for liar in (Lying, Other, Short, Away, Refusing):
        signed = ask(world, leader, prepared, liar(second), Honest(third))
        assert signed.txid == prepared.draft.transaction.txid
        assert any(signed.inputs[0].witness)


@pytest.mark.parametrize("liar", [Lying, Other, Short, Away, Refusing])
def test_liars_alone_complete_nothing(world, liar):
    world.pay_in()
    leader, second, third = (world.session(index) for index in range(3))
    with pytest.raises(TooFewSignatures) as error:
        ask(world, leader, world.propose(leader), liar(second), liar(third))
    assert error.value.got == 0
    assert leader.versions(FIRST) == ()


def test_nobody_to_ask(world):
    world.pay_in()
    leader = world.session(0)
    with pytest.raises(TooFewSignatures):
        ask(world, leader, world.propose(leader))


def test_nothing_to_do(world):
    with pytest.raises(NothingToDo):
        world.propose(world.session(2))
    leader, _ = world.open_vault()
    with pytest.raises(NothingToDo):
        world.propose(leader)


def test_a_leader_waits_until_the_vault_is_final(world):
    leader, _ = world.open_vault()
    world.burn()
    world.node.held_final = 0
    with pytest.raises(StateNotFinal):
        world.propose(leader)


def test_the_state_is_one_that_enough_of_the_others_have(world):
    leader, _ = world.open_vault()
    world.burn()
    world.burn()
    reachable = world.reachable(leader)
    slow = {
        key: (peer, replace(seen, final_number=seen.final_number - at, bitcoin_height=seen.bitcoin_height - at))
        for at, (key, (peer, seen)) in enumerate(reachable.items())
    }
    world.reachable = lambda _: slow
    assert world.propose(leader).proposal.state.number == world.node.head
    behind = {key: (peer, replace(seen, final_number=seen.final_number - 1)) for key, (peer, seen) in slow.items()}
    world.reachable = lambda _: behind
    assert world.propose(leader).proposal.state.number == world.node.head - 1


def test_announced_signers_get_the_vault_and_lead_from_then_on(world):
    """By the peg's state alone: who announced them, and how, is the chain's."""
    leader, other = world.open_vault()
    world.burn(100_000)
    present = world.custody
    joined = make_signers(300, 1, 1).keys[0]
    keys = tuple(sorted((*present.signers.keys[:2], joined)))
    following = Custody(1, SignerSet(2, keys), present.council)
    world.change(lambda state: announce_custody(state, following, world.chain.height, RULES))
    before = world.propose(leader)
    assert before.proposal.transaction.outputs[0].script == vault_output(present, RULES).script
    world.bitcoin.mine(RULES.notice_blocks + RULES.takeover_margin_blocks)
    handing = world.propose(leader)
    assert handing.proposal.transaction.outputs[0].script == vault_output(following, RULES).script
    world.apply(world.complete(leader, other, handing))
    assert world.state.custody.epoch == 1
    world.burn()
    old, world.keys = world.keys, [SigningKey(account_of(key)) for key in keys]
    led = world.session(keys.index(joined), "joined")
    prepared = world.propose(led)
    retired = next(at for at, key in enumerate(old) if key.public not in keys)
    world.keys = old
    with pytest.raises(NotMine):
        world.session(retired, "retired").sign(prepared.raw, prepared.signature)
    world.apply(world.complete(led, other if other.key.public in keys else leader, prepared))


def test_a_bump_ends_at_somebodys_cap(world):
    world.pay_in(max_fee=400)
    leader, other = world.session(0), world.session(1)
    prepared = world.propose(leader)
    world.complete(leader, other, prepared)
    with pytest.raises(RateTooHigh):
        world.bump(leader, prepared)


def test_who_is_at_his_maximum_fee_holds_up_no_other(world):
    """Two deposits and a payout share a round; when fees rise past one's cap, another round goes without it."""
    world.open_vault()
    poor, rich = world.pay_in(max_fee=800), world.pay_in(max_fee=20_000)
    world.withdraw()
    leader, other = world.session(0, "a"), world.session(1, "b")
    first = world.propose(leader)
    assert {one.outpoint for one in first.proposal.deposits} == {poor, rich}
    world.bitcoin.send(world.complete(leader, other, first))
    bumped = world.bump(leader, first)
    with pytest.raises(RateTooHigh):
        world.bump(leader, bumped)
    dearer = prepare_dearer(leader, bumped.proposal, world.reachable(leader))
    assert [one.outpoint for one in dearer.proposal.deposits] == [rich]
    assert len(dearer.draft.round.payouts) == 1
    assert dearer.proposal.rate > bumped.proposal.rate
    assert 1_000 * (dearer.draft.fee - bumped.draft.fee) >= RULES.relay_step * dearer.draft.vsize, "BIP-125"
    assert dearer.draft.inputs[0] == bumped.draft.inputs[0], "it spends the same vault"


def test_where_nobody_can_pay_more_the_round_stays(world):
    world.open_vault()
    world.burn(100_000)
    world.pay_in(max_fee=600)
    leader, other = world.session(0, "a"), world.session(1, "b")
    first = world.propose(leader)
    world.bitcoin.send(world.complete(leader, other, first))
    with pytest.raises(RateTooHigh):
        world.bump(leader, first)
    with pytest.raises(NothingToDo, match="nobody can pay"):
        prepare_dearer(leader, first.proposal, world.reachable(leader))


@pytest.mark.parametrize(("estimate", "rate"), [(None, 5_000), (10, 1_000), (20_000, 20_000), (9_000_000, 500_000)])
def test_rates_within_bounds(estimate, rate):
    assert Limits().rate_of(estimate) == rate


# --- what Bitcoin has


def test_rounds_are_found_in_blocks(world):
    world.pay_in()
    leader, other = world.session(0), world.session(1)
    prepared = world.propose(leader)
    signed = world.complete(leader, other, prepared)
    watch = Watch(world.bitcoin)
    firsts = leader.versions(FIRST)
    assert watch.follow(world.state, firsts) == ()
    world.bitcoin.send(signed)
    world.bitcoin.mine(1)
    (found,) = watch.follow(world.state, firsts)
    assert (found.txid, found.is_first, found.mined.height) == (signed.txid, True, world.chain.height)
    assert watch.dead_firsts(firsts, 6) == frozenset()


def test_a_spend_that_nobody_planned_is_found_too(world):
    leader, _ = world.open_vault()
    world.burn()
    watch = Watch(world.bitcoin)
    assert watch.follow(world.state, ()) == ()
    prepared = world.propose(leader)
    stolen = replace(prepared.proposal.transaction, outputs=(Output(1_000, PAY_TO),))
    world.bitcoin.send(stolen)
    world.bitcoin.mine(1)
    (found,) = watch.follow(world.state, ())
    assert found.txid == stolen.txid
    assert not found.is_first


def test_a_reorganised_round_is_found_where_it_is_now(world):
    leader, other = world.open_vault()
    world.burn()
    signed = world.complete(leader, other, world.propose(leader))
    watch = Watch(world.bitcoin)
    world.bitcoin.send(signed)
    world.bitcoin.mine(2)
    (before,) = watch.follow(world.state, ())
    world.chain.drop(2)
    world.bitcoin.mine(3)
    assert watch.follow(world.state, ()) == ()
    world.bitcoin.send(signed)
    world.bitcoin.mine(1)
    (after,) = watch.follow(world.state, ())
    assert after.txid == before.txid
    assert after.mined != before.mined


def test_a_first_round_whose_deposit_went_elsewhere_is_dead(world):
    world.pay_in()
    leader, other = world.session(0), world.session(1)
    prepared = world.propose(leader)
    world.complete(leader, other, prepared)
    firsts = leader.versions(FIRST)
    back = replace(prepared.proposal.transaction, outputs=(Output(900_000, PAY_TO),))
    world.bitcoin.send(back)
    watch = Watch(world.bitcoin)
    world.bitcoin.mine(1)
    watch.follow(world.state, firsts)
    assert watch.dead_firsts(firsts, 6) == frozenset()
    world.bitcoin.mine(6)
    watch.follow(world.state, firsts)
    assert watch.dead_firsts(firsts, 6) == {one.txid for one in firsts}
