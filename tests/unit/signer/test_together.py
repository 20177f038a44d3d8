"""One signature of all: who answers what in two exchanges, liars named, nonces that sign once, scripts instead."""

from dataclasses import replace

import pytest
from btclib_ecc.ecc import musig2

from bridge.params import REGTEST
from bridge.scripts import Custody, SignerSet
from bridge.taproot import Path
from hyperdust.signer import musig
from hyperdust.signer.errors import (
    AnotherRound,
    NonceSpent,
    NonceUnknown,
    NonceWrong,
    NotTogether,
    PeerFault,
    PeerRefused,
    RateTooHigh,
    RoundWithheld,
    SignatureWrong,
    StateNotFinal,
    TooFewSignatures,
    UnknownLeader,
    WrongPath,
)
from hyperdust.signer.key import nonces_digest, proposal_digest
from hyperdust.signer.lead import collect, prepare_bump, prepare_by_script, prepare_round
from hyperdust.signer.musig import NONCE_S, aggregate_key, aggregate_nonces, is_shared
from hyperdust.signer.protection import FIRST
from hyperdust.signer.role import Signer
from hyperdust.signer.spoilers import Spoilers
from tests.unit.bridge.keys import group_key_of, make_custody, make_key, make_signers
from tests.unit.signer.signer_world import World


def shared_custody(count=3, threshold=2):
    signers = make_signers(100, count, threshold)
    return Custody(0, replace(signers, group_key=group_key_of(signers.keys)), make_signers(900, 3, 2))


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, custody=shared_custody())
    yield made
    made.close()


class Peer:
    """Answers over no wire; a test replaces what it says."""

    def __init__(self, session):
        self.session = session
        self.asked = []

    def commit(self, raw, signature):
        self.asked.append("commit")
        return self.session.key.public, self.session.commit(raw, signature)

    def sign_together(self, *given):
        self.asked.append("sign_together")
        return self.session.key.public, self.session.sign_together(*given)

    def sign(self, raw, signature):
        self.asked.append("sign")
        return self.session.key.public, self.session.sign(raw, signature)


def reach(world, leader, *peers):
    seen = world.reachable(leader)
    return {peer.session.key.public: (peer, seen[peer.session.key.public][1]) for peer in peers}


def people(world):
    leader, second, third = (world.session(index) for index in range(3))
    return leader, Peer(second), Peer(third)


def test_the_aggregate_is_btclibs_and_nobody_elses():
    custody = shared_custody()
    assert aggregate_key(custody.signers.keys) == group_key_of(custody.signers.keys)
    assert is_shared(custody.signers)
    assert not is_shared(make_custody().signers)
    assert not is_shared(make_custody(group=True).signers), "a key of a ceremony is not signed for by all"


def test_all_together(world):
    world.pay_in()
    leader, second, third = people(world)
    prepared = prepare_round(leader, reach(world, leader, second, third))
    assert prepared.proposal.path is Path.KEY
    signed = collect(leader, prepared, reach(world, leader, second, third))
    assert [len(one.witness) for one in signed.inputs] == [1]
    assert len(signed.inputs[0].witness[0]) == 64
    for session in (leader, second.session, third.session):
        (version,) = session.versions(FIRST)
        assert (version.signed, version.path) == (True, "key")


def test_a_whole_round_with_vault_deposit_payout_and_anchor(world):
    leader, _ = world.open_vault()
    second, third = Peer(world.sessions[1]), Peer(world.session(2))
    world.withdraw()
    world.burn()
    world.pay_in(500_000)
    others = reach(world, leader, second, third)
    prepared = prepare_round(leader, others)
    assert (len(prepared.draft.inputs), len(prepared.draft.round.payouts)) == (2, 1)
    assert prepared.draft.vsize < prepare_by_script(leader, prepared).draft.vsize
    world.apply(collect(leader, prepared, others))
    assert world.state.frozen is None
    assert world.state.queue == ()


def test_one_away_means_scripts(world):
    world.pay_in()
    leader, second, third = people(world)
    assert prepare_round(leader, reach(world, leader, second)).proposal.path is Path.SCRIPT
    prepared = prepare_round(leader, reach(world, leader, second, third))
    with pytest.raises(NotTogether) as error:
        collect(leader, prepared, reach(world, leader, second))
    assert (error.value.keys, error.value.given) == ((third.session.key.public,), False)
    assert second.asked == []


def test_who_sees_less_than_the_round_is_not_waited_for(world):
    world.pay_in()
    leader, second, third = people(world)
    others = reach(world, leader, second, third)
    peer, seen = others[third.session.key.public]
    others[third.session.key.public] = peer, replace(seen, bitcoin_height=seen.bitcoin_height - 1)
    assert prepare_round(leader, others).proposal.path is Path.SCRIPT


def test_a_deposit_of_signers_that_are_not_shared_takes_the_script_path(world):
    """Only if the round would take it: nobody's bait decides over the path."""
    leader, second, third = people(world)
    world.pay_in()
    world.pay_in(20_000, max_fee=100)
    others = reach(world, leader, second, third)
    stray = replace(make_custody(count=3).signers, keys=world.custody.signers.keys)
    for max_fee, path in ((100, Path.KEY), (10_000, Path.SCRIPT)):
        later = Custody(1, stray, world.custody.council, starts_at=10**6)
        world.node.states[-1] = replace(world.state, custodies=(world.custody, later))
        world.node.announced = world.node.announced[:2]
        bait = replace(world.node.announced[1], epoch=1, max_fee=max_fee)
        pay_to(world, later, bait)
        assert prepare_round(leader, others).proposal.path is path


def pay_to(world, custody, binding):
    from bridge.scripts import deposit_output
    from bridge.transactions import Output
    from tests.unit.signer.signer_world import RULES

    made = world.chain.pay(Output(900_000, deposit_output(custody, binding, RULES).script))
    world.bitcoin.pool.append(made)
    world.node.announced.append(binding)
    world.bitcoin.mine(2)


class WrongNonce(Peer):
    def commit(self, raw, signature):
        key, nonces = super().commit(raw, signature)
        return key, tuple(b"\x02" + bytes(65) for _ in nonces)


class ShortNonces(Peer):
    def commit(self, raw, signature):
        key, nonces = super().commit(raw, signature)
        return key, nonces[1:]


class OtherKey(Peer):
    def commit(self, raw, signature):
        return make_key(4_002), super().commit(raw, signature)[1]


class Refusing(Peer):
    def commit(self, *_):
        raise PeerRefused("StateNotFinal", "not yet")


class Away(Peer):
    def commit(self, *_):
        raise PeerFault("signer is away")


def try_together(world, leader, others):
    """The round that a liar spoils, and what the leader says of it."""
    world.pay_in()
    prepared = prepare_round(leader, others)
    with pytest.raises(NotTogether) as error:
        collect(leader, prepared, others)
    return prepared, error.value


@pytest.mark.parametrize("liar", [WrongNonce, ShortNonces, OtherKey, Refusing, Away])
def test_liars_with_nonces_are_named_and_nothing_is_signed(world, liar):
    leader, second, third = people(world)
    third = liar(third.session)
    others = reach(world, leader, second, third)
    prepared, error = try_together(world, leader, others)
    assert (error.keys, error.given) == ((third.session.key.public,), False)
    assert error.spoilers == (() if liar is Refusing else error.keys)
    for session in (leader, second.session, third.session):
        assert session.versions(FIRST) == ()
    by_script = prepare_by_script(leader, prepared)
    assert by_script.proposal.path is Path.SCRIPT
    signed = collect(leader, by_script, others)
    assert len(signed.inputs[0].witness) > 3


class WrongPart(Peer):
    def sign_together(self, *given):
        key, parts = super().sign_together(*given)
        return key, tuple(part[:-1] + bytes([part[-1] ^ 1]) for part in parts)


class TooLargePart(Peer):
    def sign_together(self, *given):
        key, parts = super().sign_together(*given)
        return key, tuple(b"\xff" * 32 for _ in parts)


class ShortParts(Peer):
    def sign_together(self, *given):
        key, parts = super().sign_together(*given)
        return key, parts[1:]


class OtherNonces(Peer):
    """Signs, with nonces that it did not show."""

    def sign_together(self, raw, signature, nonces, approval):
        key = self.session.key
        own = self.session._commitments.find(*find_args(self.session, raw))
        for at, message in enumerate(own.draft.compute_sighashes()):
            own.secret[at][:], _ = key.make_nonce(message)
        return super().sign_together(raw, signature, nonces, approval)


def find_args(session, raw):
    from hyperdust.signer.proposal import Proposal

    return Proposal.decode(raw, session.sources.rules).leader, proposal_digest(raw), session._clock()


class Silent(Peer):
    """Gives nonces and no part."""

    def sign_together(self, *_):
        raise PeerFault("signer is away")


@pytest.mark.parametrize("liar", [WrongPart, TooLargePart, ShortParts, OtherNonces, Silent])
def test_liars_with_parts_are_named_and_a_script_version_follows_at_once(world, liar):
    leader, second, third = people(world)
    third = liar(third.session)
    others = reach(world, leader, second, third)
    prepared, error = try_together(world, leader, others)
    assert (error.keys, error.given) == ((third.session.key.public,), True)
    assert error.spoilers == error.keys
    assert leader.versions(FIRST) == ()
    (given,) = second.session.versions(FIRST)
    assert (given.path, given.signed) == ("key", True)
    collect(leader, prepare_by_script(leader, prepared), others)
    assert [one.path for one in second.session.versions(FIRST)] == ["key", "script"]


def approve(leader, prepared, nonces):
    return leader.key.sign(nonces_digest(proposal_digest(prepared.raw), nonces))


def open_round(world):
    world.pay_in()
    leader, second, third = people(world)
    prepared = prepare_round(leader, reach(world, leader, second, third))
    given = [one.commit(prepared.raw, prepared.signature) for one in (leader, second.session, third.session)]
    nonces = tuple(aggregate_nonces(list(column)) for column in zip(*given, strict=True))
    return leader, second.session, prepared, nonces


def test_nonces_sign_once(world):
    leader, other, prepared, nonces = open_round(world)
    public = other.commit(prepared.raw, prepared.signature)
    assert public == other.commit(prepared.raw, prepared.signature), "the same until they have signed"
    kept = other._commitments.find(leader.key.public, proposal_digest(prepared.raw), other._clock())
    parts = other.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))
    assert all(not any(one[:64]) for one in kept.secret)
    again = other.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))
    assert again == parts
    message = prepared.draft.compute_sighashes()[0]
    _, fresh = leader.key.make_nonce(message)
    changed = (aggregate_nonces([fresh, public[0]]),)
    with pytest.raises(NonceSpent):
        other.sign_together(prepared.raw, prepared.signature, changed, approve(leader, prepared, changed))
    assert other.commit(prepared.raw, prepared.signature) != public, "new ones afterwards"


def test_what_is_asked_in_the_second_exchange(world):
    leader, other, prepared, nonces = open_round(world)
    with pytest.raises(UnknownLeader):
        other.sign_together(prepared.raw, prepared.signature, nonces, bytes(64))
    for wrong in ((b"\x05" * 66,), (nonces[0], nonces[0]), (nonces[0][:65],)):
        with pytest.raises(NonceWrong):
            other.sign_together(prepared.raw, prepared.signature, wrong, approve(leader, prepared, wrong))
    third = world.sessions[2]
    third._commitments.clear()
    with pytest.raises(NonceUnknown):
        third.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))
    assert other.versions(FIRST) == ()
    other.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))


def test_nonces_end_with_time_with_the_next_proposal_and_with_the_process(world):
    leader, other, prepared, nonces = open_round(world)
    now = other._clock()
    other._clock = lambda: now + NONCE_S + 1
    with pytest.raises(NonceUnknown):
        other.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))
    other._clock = lambda: now
    other.commit(prepared.raw, prepared.signature)
    dearer = replace(prepared.proposal, height=prepared.proposal.height - 1)
    other.commit(*world.resign(leader, dearer))
    with pytest.raises(NonceUnknown):
        other.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))
    assert len(other._commitments._by_leader) == 1
    other.close()
    restarted = world.session(1)
    with pytest.raises(NonceUnknown):
        restarted.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))


def test_open_nonces_are_bounded(world, monkeypatch):
    monkeypatch.setattr(musig, "_MOST", 2)
    leader, other, prepared, _ = open_round(world)
    kept = other._commitments
    (first,) = kept._by_leader.values()
    for number in range(3):
        kept.put(bytes([number]) * 32, replace(first, secret=(bytearray(b"\x01" * 97),)))
    assert len(kept._by_leader) == 2
    with pytest.raises(NonceUnknown):
        kept.find(leader.key.public, proposal_digest(prepared.raw), other._clock())


def test_a_part_is_written_down_before_it_leaves(world, monkeypatch):
    from hyperdust.signer.errors import ProtectionFault

    leader, other, prepared, nonces = open_round(world)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ProtectionFault):
        other.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))
    monkeypatch.undo()
    other.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))
    assert other.versions(FIRST)[0].signed


def test_paths_are_not_mixed(world):
    leader, other, prepared, _ = open_round(world)
    with pytest.raises(WrongPath):
        other.sign(prepared.raw, prepared.signature)
    by_script = prepare_by_script(leader, prepared)
    with pytest.raises(WrongPath):
        other.commit(by_script.raw, by_script.signature)


def test_a_common_key_of_a_ceremony_is_not_signed_for_by_all(tmp_path):
    world = World(tmp_path, custody=make_custody(group=True))
    try:
        world.pay_in()
        leader, second, third = people(world)
        prepared = prepare_round(leader, reach(world, leader, second, third))
        assert prepared.proposal.path is Path.SCRIPT
        by_key = prepare_bump(leader, prepared.proposal, reach(world, leader, second, third), Path.KEY)
        with pytest.raises(WrongPath):
            second.session.commit(by_key.raw, by_key.signature)
    finally:
        world.close()


def give_part(world):
    """A signer gave its part of a round that was never completed."""
    leader, other, prepared, nonces = open_round(world)
    other.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))
    return leader, other, prepared


def test_a_script_version_stands_in_once_for_its_own_leader_and_no_dearer(world):
    leader, other, prepared = give_part(world)
    by_script = prepare_by_script(leader, prepared)
    dearer = prepare_bump(leader, prepared.proposal, {}, Path.SCRIPT)
    with pytest.raises(AnotherRound):
        other.sign(dearer.raw, dearer.signature)
    third = world.sessions[2]
    with pytest.raises(AnotherRound):
        other.sign(*world.resign(third, replace(by_script.proposal, leader=third.key.public)))
    other.sign(by_script.raw, by_script.signature)
    world.pay_in(700_000)
    again = prepare_round(leader, world.reachable(leader), Path.SCRIPT)
    with pytest.raises(AnotherRound):
        other.sign(again.raw, again.signature)
    world.bitcoin.mine(3)
    again = prepare_round(leader, world.reachable(leader), Path.SCRIPT)
    with pytest.raises(RoundWithheld):
        other.sign(again.raw, again.signature)
    other.mark_seen(other.versions(FIRST)[-1].txid)
    other.sign(again.raw, again.signature)


def test_rates_rise_on_both_paths_and_across(world):
    world.pay_in(max_fee=100_000)
    leader, second, third = people(world)
    others = reach(world, leader, second, third)
    before = prepare_round(leader, others)
    for path in (Path.KEY, Path.SCRIPT, Path.SCRIPT, Path.KEY):
        sent = collect(leader, before, others)
        for session in world.sessions:
            session.deliver(before.raw, before.signature, sent.encode())
        world.bitcoin.mine(3, empty=True)
        there = world.reachable(leader)
        there = others if path is Path.KEY else {key: others[key] for key in list(there)[:1]}
        bumped = prepare_bump(leader, before.proposal, there)
        assert bumped.proposal.path is path
        least = before.draft.fee + world.sources.rules.relay_step * bumped.draft.vsize // 1000
        assert bumped.draft.fee >= least, "bitcoind takes it in the place of the other"
        assert bumped.proposal.rate > before.proposal.rate
        before = bumped
    leader.sources = replace(leader.sources, limits=replace(world.limits, max_rate=before.proposal.rate))
    with pytest.raises(RateTooHigh):
        prepare_bump(leader, before.proposal, others)


def test_spoilers_are_remembered_for_a_while():
    memory, (one, two) = Spoilers(), (b"\x01" * 32, b"\x02" * 32)
    memory.strike([one], 100)
    assert memory.blocked(100) == frozenset()
    memory.pardon([one])
    memory.strike([one, two], 110)
    memory.strike([one], 120)
    assert memory.blocked(120) == {one}
    assert memory.blocked(155) == {one}
    assert memory.blocked(156) == frozenset()
    memory.strike([one], 200)
    assert memory.blocked(201) == {one}, "after that one more is enough"


def test_a_spoiler_is_waited_for_no_longer(world):
    world.pay_in()
    leader, second, third = people(world)
    others = reach(world, leader, second, third)
    leader.spoilers.strike([third.session.key.public], world.chain.height)
    assert prepare_round(leader, others).proposal.path is Path.KEY
    leader.spoilers.strike([third.session.key.public], world.chain.height)
    assert prepare_round(leader, others).proposal.path is Path.SCRIPT
    world.bitcoin.mine(36)
    others = reach(world, leader, second, third)
    assert prepare_round(leader, others).proposal.path is Path.KEY


def test_only_the_aggregate_verifies_it(world):
    """What btclib checks of one part: another message, another key."""
    leader, other, prepared, nonces = open_round(world)
    (part,) = other.sign_together(prepared.raw, prepared.signature, nonces, approve(leader, prepared, nonces))
    (nonce,) = other._commitments.find(leader.key.public, proposal_digest(prepared.raw), other._clock()).public
    one, (message,) = prepared.draft.inputs[0], prepared.draft.compute_sighashes()
    context = musig.make_context(one, message, nonces[0])
    musig.check_part(context, other.key.public, nonce, part)
    assert musig2.session_values(context).Q[0].to_bytes(32, "big") == one.output.output_key
    with pytest.raises(SignatureWrong):
        musig.check_part(context, leader.key.public, nonce, part)
    with pytest.raises(SignatureWrong):
        musig.check_part(musig.make_context(one, bytes(32), nonces[0]), other.key.public, nonce, part)


def test_what_the_others_refuse_reaches_the_leader(world):
    world.pay_in()
    leader, second, third = people(world)
    others = reach(world, leader, second, third)
    prepared = prepare_round(leader, others)

    class Later(Peer):
        def commit(self, *_):
            raise PeerRefused(StateNotFinal.__name__, "StateNotFinal: not yet")

    alone = reach(world, leader, Later(second.session), Later(third.session))
    with pytest.raises(NotTogether, match="StateNotFinal"):
        collect(leader, prepared, alone)
    with pytest.raises(TooFewSignatures):
        collect(leader, prepare_by_script(leader, prepared), {})


def test_twenty_keys(tmp_path):
    signers = SignerSet(11, tuple(sorted(make_key(7_000 + index) for index in range(20))))
    custody = Custody(0, replace(signers, group_key=aggregate_key(signers.keys)), make_signers(900, 3, 2))
    world = World(tmp_path, custody=custody)
    try:
        world.pay_in()
        leader, *others = (world.session(index) for index in range(20))
        reachable = reach(world, leader, *map(Peer, others))
        signed = collect(leader, prepare_round(leader, reachable), reachable)
        assert len(signed.inputs[0].witness) == 1
    finally:
        world.close()


class Others:
    """What a signer's loop sees of the others."""

    def __init__(self, world, leader, *peers):
        self.world, self.leader, self.all = world, leader, peers
        for peer in peers:
            peer.deliver = lambda *given, session=peer.session: session.deliver(*given)

    def greet(self):
        return reach(self.world, self.leader, *self.all)


def take_turn(world, signer):
    """Blocks until it is this signer's turn and its round is in the mempool."""
    for _ in range(12):
        signer.step()
        if world.bitcoin.pool:
            return world.bitcoin.pool[-1]
        world.bitcoin.mine(1)
    raise AssertionError("no round within 12 blocks")


@pytest.mark.parametrize("liar", [Peer, WrongNonce, Refusing, Away, WrongPart, Silent])
def test_a_leader_goes_by_script_in_the_same_turn(world, liar):
    world.pay_in()
    leader, second, third = people(world)
    third = liar(third.session)
    signer = Signer(leader, Others(world, leader, second, third), REGTEST)
    signed = take_turn(world, signer)
    assert (len(signed.inputs[0].witness) == 1) == (liar is Peer)
    assert second.asked.count("commit") == 1
    blocked = leader.spoilers._strikes
    assert list(blocked) == ([] if liar in {Peer, Refusing} else [third.session.key.public])
