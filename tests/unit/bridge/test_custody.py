"""Announcements of signer sets: who has to sign, what may change, from when on; and the council's way back."""

from dataclasses import replace

import pytest

from bridge.custody import (
    MAX_ANNOUNCED,
    Announcement,
    announce_custody,
    apply_announcement,
    choose_signatures,
    deciders_of,
)
from bridge.deposits import CHARGE_FLAG
from bridge.peg import apply_vault_transaction, make_genesis, queue_withdrawal
from bridge.peg_codec import decode_state, encode_state
from bridge.peg_errors import (
    AnnouncementExpired,
    AnnouncementMalformed,
    BadSignature,
    FeeAboveCap,
    NothingToDo,
    PegFrozen,
    RotationRefused,
    SignaturesMissing,
    SignerSetInvalid,
    SurplusTooSmall,
    VaultNotStill,
)
from bridge.peg_state import Freeze, Reason
from bridge.rescue import build_rescue
from bridge.scripts import SignerSet, vault_output
from bridge.taproot import check_signature, vsize_of
from bridge.transactions import Input, Output
from tests.unit.bridge.keys import make_custody, make_key, make_signers, sign
from tests.unit.bridge.peg_story import (
    PAY_TO,
    RULES,
    draft_of,
    make_deposit,
    make_vault,
    proven_of,
    with_surplus,
    with_withdrawals,
)

BOUND = replace(RULES, chain_id=48_000_000)
HEIGHT, UNTIL = 100, 1_000
STILL = HEIGHT + RULES.emergency_blocks


def wanted(state, *, key=600, by_council=False, **fields):
    """One key of the signers takes another's place; by the council all do."""
    signers = state.custody.signers
    if by_council:
        signers = make_signers(key + 100, 3, 2)
    else:
        signers = replace(signers, keys=tuple(sorted((*signers.keys[1:], make_key(key)))))
    made = Announcement(
        len(state.custodies), signers, state.custody.council, 10**6 if by_council else UNTIL, by_council
    )
    return replace(made, **fields)


def signed(state, announcement, *, rules=BOUND, keys=None):
    deciders = deciders_of(state, by_council=announcement.by_council)
    message = announcement.digest(rules.chain_id)
    found = {key: sign(key, message) for key in (keys or deciders.keys)}
    return replace(announcement, signatures=choose_signatures(deciders, found))


def announced(state, height=HEIGHT, **fields):
    return apply_announcement(state, signed(state, wanted(state, **fields)), height, BOUND)


# --- who signs


def test_k_of_the_present_signers_announce_the_next_set():
    state = make_vault()
    after = announced(state)
    (following,) = after.announced
    assert (following.epoch, following.starts_at) == (1, HEIGHT + RULES.notice_blocks)
    assert (following.named_by, following.rescues) == (0, b"")
    assert replace(after, custodies=after.custodies[:1]) == state, "nothing else changes"
    assert decode_state(encode_state(after)) == after


def test_any_k_are_enough_and_k_is_the_number():
    state = make_vault()
    bare, keys = wanted(state), state.custody.signers.keys
    for some in (keys[:2], keys[1:], (keys[0], keys[2])):
        assert apply_announcement(state, signed(state, bare, keys=some), HEIGHT, BOUND)
    message = bare.digest(BOUND.chain_id)
    every = tuple((at, sign(key, message)) for at, key in enumerate(keys))
    for signatures in ((), every[:1], every):
        with pytest.raises(SignaturesMissing):
            apply_announcement(state, replace(bare, signatures=signatures), HEIGHT, BOUND)


def test_signatures_of_others_do_not_count():
    state = make_vault()
    good = signed(state, wanted(state))
    message = good.digest(BOUND.chain_id)
    (first, one), (second, other) = good.signatures
    stranger, council = sign(make_key(31), message), sign(state.custody.council.keys[0], message)
    for signatures in (
        ((first, stranger), (second, other)),
        ((first, one), (second, council)),
        ((first, one), (second, one)),
        ((first, other), (second, one)),
        ((first, one), (3, other)),
        ((first, one), (second, other[:-1] + bytes([other[-1] ^ 1]))),
    ):
        with pytest.raises(BadSignature):
            apply_announcement(state, replace(good, signatures=signatures), HEIGHT, BOUND)


def test_a_signature_is_for_one_chain_and_one_content():
    state = make_vault()
    good = signed(state, wanted(state))
    assert apply_announcement(state, good, HEIGHT, BOUND)
    with pytest.raises(BadSignature):
        apply_announcement(state, good, HEIGHT, replace(BOUND, chain_id=48_000_001))
    other = wanted(state, key=601)
    for changed in (
        replace(good, signers=other.signers),
        replace(good, signers=replace(good.signers, threshold=3)),
        replace(good, signers=replace(good.signers, group_key=make_key(5))),
        replace(good, valid_until=UNTIL + 1),
        replace(good, council=replace(good.council, threshold=1)),
    ):
        with pytest.raises(BadSignature):
            apply_announcement(state, changed, HEIGHT, BOUND)


def test_an_announcement_counts_once():
    state = make_vault()
    first, rival = signed(state, wanted(state)), signed(state, wanted(state, key=601))
    after = apply_announcement(state, first, HEIGHT, BOUND)
    for again in (first, rival):
        with pytest.raises(RotationRefused, match="epoch"):
            apply_announcement(after, again, HEIGHT, BOUND)
    ahead = signed(state, wanted(state, epoch=2))
    with pytest.raises(RotationRefused, match="epoch"):
        apply_announcement(state, ahead, HEIGHT, BOUND)


def test_an_announcement_that_nobody_hands_in_ends():
    state = make_vault()
    good = signed(state, wanted(state))
    assert apply_announcement(state, good, UNTIL, BOUND)
    with pytest.raises(AnnouncementExpired):
        apply_announcement(state, good, UNTIL + 1, BOUND)


def test_nothing_is_announced_while_the_peg_is_frozen():
    state = replace(make_vault(), frozen=Freeze(Reason.REORGANISED, bytes(32), bytes(32), 1))
    with pytest.raises(PegFrozen):
        announced(state)


# --- what may change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda one: replace(one, signers=make_signers(640, 3, 2)), RotationRefused),
        (lambda one: replace(one, council=make_signers(640, 3, 2)), RotationRefused),
        (lambda one: replace(one, council=replace(one.council, group_key=make_key(5))), RotationRefused),
        (lambda one: replace(one, signers=replace(one.signers, threshold=4)), SignerSetInvalid),
        (lambda one: replace(one, signers=replace(one.signers, threshold=0)), SignerSetInvalid),
        (lambda one: replace(one, signers=replace(one.signers, keys=one.signers.keys[::-1])), SignerSetInvalid),
        (lambda one: replace(one, signers=replace(one.signers, keys=one.signers.keys[:1] * 2)), SignerSetInvalid),
        (lambda one: replace(one, signers=replace(one.signers, group_key=b"\xff" * 32)), SignerSetInvalid),
        (lambda one: replace(one, signers=replace(one.signers, keys=())), SignerSetInvalid),
    ],
)
def test_more_than_one_change_or_a_set_that_holds_nothing(change, error):
    state = make_vault()
    with pytest.raises(error):
        apply_announcement(state, signed(state, change(wanted(state))), HEIGHT, BOUND)


def test_one_joins_or_leaves_and_a_council_key_with_it():
    state = make_vault()
    signers, council = state.custody.signers, state.custody.council
    joined = replace(signers, keys=tuple(sorted((*signers.keys, make_key(610)))))
    other = replace(council, keys=tuple(sorted((*council.keys[1:], make_key(611)))))
    assert apply_announcement(state, signed(state, wanted(state, signers=joined, council=other)), HEIGHT, BOUND)
    left = SignerSet(1, signers.keys[:2])
    assert apply_announcement(state, signed(state, wanted(state, signers=left)), HEIGHT, BOUND)
    with pytest.raises(RotationRefused, match="change"):
        apply_announcement(state, signed(state, wanted(state, signers=signers)), HEIGHT, BOUND)


# --- in the place of another


def test_another_takes_the_place_of_what_waits_and_its_notice_starts_anew():
    state = announced(announced(make_vault()), height=HEIGHT + 50, key=601)
    wrong, right = state.announced
    assert right.starts_at == wrong.starts_at + 50
    late = right.starts_at + RULES.takeover_margin_blocks
    assert state.custody_at(late - 1, RULES) == state.custody, "nobody hands over to what was replaced"
    assert state.custody_at(late, RULES) == right
    assert state.may_hold(wrong.starts_at) == (state.custody, wrong), "signed before the other was known: no freeze"


def test_what_was_announced_can_be_taken_back():
    state = announced(make_vault())
    back = signed(state, wanted(state, signers=state.custody.signers))
    state = with_surplus(apply_announcement(state, back, HEIGHT, BOUND), 20_000)
    late = HEIGHT + RULES.notice_blocks + RULES.takeover_margin_blocks
    assert not state.is_takeover_due(late, RULES)
    for epoch, height in ((0, late - 1), (2, late)):
        made = draft_of(state, [make_deposit(state.custody, user=6)], height=height)
        assert made.transaction.outputs[0].script == vault_output(state.custodies[0], RULES).script
        after = apply_vault_transaction(state, proven_of(state, made.transaction, height=late, claimed=False), RULES)
        assert after.frozen is None
        assert after.custody.signers == state.custody.signers
        assert state.custody_at(height, RULES).epoch == epoch


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_anchor_may_name_either_epoch_of_the_same_keys(epoch):
    from bridge.anchors import Anchor

    state = announced(make_vault())
    back = signed(state, wanted(state, signers=state.custody.signers))
    state = with_surplus(apply_announcement(state, back, HEIGHT, BOUND), 20_000)
    late = HEIGHT + RULES.notice_blocks + RULES.takeover_margin_blocks
    made = draft_of(state, anchor=Anchor(epoch, 10, bytes(32)), height=late if epoch else late - 1)
    after = apply_vault_transaction(state, proven_of(state, made.transaction, height=late), RULES)
    assert after.frozen is None
    assert after.vault.epoch == epoch


def test_a_handing_over_that_was_on_its_way_does_not_freeze_the_peg():
    """Signers see an L2 that lags: they hand over, and only then a block replaces what they handed over to."""
    state = with_surplus(announced(make_vault()), 20_000)
    height = state.announced[0].starts_at + RULES.takeover_margin_blocks
    made = draft_of(state, height=height).transaction
    state = announced(state, key=601)
    after = apply_vault_transaction(state, proven_of(state, made, height=height), RULES)
    assert after.frozen is None
    assert after.custody.epoch == 1
    assert after.announced == (), "what the old signers announced is no longer theirs to announce"


def test_so_many_wait_and_no_more():
    state = make_vault()
    for at in range(MAX_ANNOUNCED):
        state = announced(state, key=700 + at)
    with pytest.raises(RotationRefused, match="wait"):
        announced(state, key=690)
    assert announced(state, height=STILL, by_council=True).rescuers


def test_signers_who_no_longer_hold_the_vault_announce_nothing():
    state = with_surplus(announced(make_vault()), 20_000)
    height = state.announced[0].starts_at + RULES.takeover_margin_blocks
    moved = apply_vault_transaction(
        state, proven_of(state, draft_of(state, height=height).transaction, height=height), RULES
    )
    gone = next(key for key in state.custody.signers.keys if key not in moved.custody.signers.keys)
    bare = replace(wanted(moved, key=602), valid_until=10**5)
    message = bare.digest(BOUND.chain_id)
    stolen = tuple((at, sign(gone, message)) for at in range(2))
    with pytest.raises(BadSignature):
        apply_announcement(moved, replace(bare, signatures=stolen), height, BOUND)
    assert apply_announcement(moved, signed(moved, bare), height, BOUND)
    assert [one.epoch for one in moved.answering()] == [0, 1], "the retired ones still sweep"


# --- the vault moves in time


def test_a_rotation_ends_without_a_deposit():
    state = with_surplus(announced(make_vault()), 1_000)
    height = state.announced[0].starts_at + RULES.takeover_margin_blocks
    with pytest.raises(NothingToDo):
        draft_of(state, height=height - 1)
    made = draft_of(state, height=height)
    assert made.round.deposits == made.round.payouts == ()
    assert made.transaction.outputs == (
        Output(state.vault_sats - made.fee, vault_output(state.custodies[1], RULES).script),
    )
    after = apply_vault_transaction(state, proven_of(state, made.transaction, height=height), RULES)
    assert after.custody.epoch == 1
    with pytest.raises(NothingToDo):
        draft_of(after, height=height + 10)


def test_moving_the_vault_is_paid_from_the_surplus_or_waits():
    state = announced(make_vault())
    height = state.announced[0].starts_at + RULES.takeover_margin_blocks
    with pytest.raises(NothingToDo, match=r"costs \d+ sats, and the surplus has"):
        draft_of(state, height=height)
    deposit = make_deposit(state.custody, user=6)
    made = draft_of(state, [deposit], height=height)
    assert made.transaction.outputs[0].script == vault_output(state.custodies[1], RULES).script, "a deposit pays it"


def test_a_refresh_moves_a_vault_that_lies_still():
    state = with_surplus(make_vault(), 1_000)
    due = HEIGHT + RULES.emergency_blocks // 2
    with pytest.raises(NothingToDo):
        draft_of(state, height=due - 1)
    after = apply_vault_transaction(state, proven_of(state, draft_of(state, height=due).transaction, height=due), RULES)
    assert (after.custody.epoch, after.vault.height, after.frozen) == (0, due, None)


# --- bytes


def test_an_announcement_has_one_encoding():
    state = make_vault(custody=make_custody(group=True))
    for one in (wanted(state), signed(state, wanted(state)), signed(state, wanted(state, by_council=True))):
        raw = one.encode()
        assert Announcement.decode(raw) == one
        for at in range(len(raw)):
            changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            try:
                assert Announcement.decode(changed).encode() == changed
            except AnnouncementMalformed:
                continue
        for wrong in (raw[:-1], raw + b"\x00", b"", b"\x02" + raw[1:], raw[:1] + b"\x02" + raw[2:], bytes(5_000)):
            with pytest.raises(AnnouncementMalformed):
                Announcement.decode(wrong)


def test_signatures_stand_in_the_order_of_keys_each_once():
    state = make_vault()
    good = signed(state, wanted(state))
    first, second = good.signatures
    for signatures in ((second, first), (first, first), (first, second, second)):
        with pytest.raises(AnnouncementMalformed, match="order"):
            Announcement.decode(replace(good, signatures=signatures).encode())


@pytest.mark.parametrize("at", [10, 109])
def test_more_keys_than_a_set_has(at):
    raw = signed(make_vault(), wanted(make_vault())).encode()
    with pytest.raises(AnnouncementMalformed):
        Announcement.decode(raw[:at] + b"\x15" + raw[at + 1 :])


# --- the council


def still(**fields):
    """A vault that nobody has moved for long, and those whom the council names."""
    return announced(with_surplus(make_vault(), 5_000), height=STILL, by_council=True, **fields)


def test_the_council_names_others_once_the_vault_has_lain_still():
    state = make_vault()
    for height in (HEIGHT, STILL - 1):
        with pytest.raises(VaultNotStill):
            announced(state, height=height, by_council=True)
    with pytest.raises(VaultNotStill):
        announced(make_genesis(make_custody(), 0), height=STILL, by_council=True)
    (named,) = still().rescuers
    assert (named.starts_at, named.rescues, named.named_by) == (STILL, state.vault.txid, 0)
    bare = wanted(state, by_council=True)
    message = bare.digest(BOUND.chain_id)
    signatures = tuple((at, sign(key, message)) for at, key in enumerate(state.custody.signers.keys[:2]))
    with pytest.raises(BadSignature):
        apply_announcement(state, replace(bare, signatures=signatures), STILL, BOUND)
    other = signed(state, replace(bare, council=make_signers(650, 3, 2)))
    with pytest.raises(RotationRefused, match="council"):
        apply_announcement(state, other, STILL, BOUND)


def test_the_councils_spend_goes_on_as_the_vault():
    state = with_withdrawals(still(), 50_000)
    rescue = build_rescue(state, 2_000, RULES)
    council = state.custody.council
    message = rescue.sighash
    full = rescue.complete({key: sign(key, message) for key in council.keys[1:]})
    assert vsize_of(full) == rescue.vsize
    check_signature(council.keys[1], message, sign(council.keys[1], message))
    with pytest.raises(SignaturesMissing):
        rescue.complete({council.keys[0]: sign(council.keys[0], message)})
    after = apply_vault_transaction(state, proven_of(state, rescue.transaction, height=STILL + 1), RULES)
    assert after.frozen is None
    assert after.custody == state.rescuers[0]
    assert after.vault_sats == state.vault_sats - rescue.fee
    assert after.surplus_sats == state.surplus_sats - rescue.fee
    assert after.queue == state.queue
    assert after.rescuers == after.announced == ()
    paid = draft_of(after, height=STILL + 2)
    done = apply_vault_transaction(after, proven_of(after, paid.transaction, height=STILL + 2), RULES)
    assert done.queue == ()
    assert done.custody == after.custody


def altered(made, **fields):
    return replace(made, **fields)


STOLEN = {
    "to nobody that was named": lambda made, _: altered(made, outputs=(Output(made.outputs[0].sats, PAY_TO),)),
    "back to the present signers": lambda made, state: altered(
        made, outputs=(Output(made.outputs[0].sats, vault_output(state.custody, RULES).script),)
    ),
    "with something beside": lambda made, _: altered(
        made, outputs=(Output(made.outputs[0].sats - 10_000, made.outputs[0].script), Output(9_000, PAY_TO))
    ),
    "with a charge": lambda made, _: altered(made, inputs=(replace(made.inputs[0], sequence=CHARGE_FLAG),)),
}


@pytest.mark.parametrize("name", STOLEN)
def test_anything_else_by_the_council_freezes_the_peg(name):
    state = still()
    made = STOLEN[name](build_rescue(state, 2_000, RULES).transaction, state)
    after = apply_vault_transaction(state, proven_of(state, made, height=STILL + 1), RULES)
    assert after.frozen.reason is Reason.UNKNOWN_SPEND
    assert replace(after, frozen=None) == state


def test_a_rescue_takes_nothing_in_beside_the_vault():
    state = still()
    deposit = make_deposit(state.custody, user=6)
    made = build_rescue(state, 2_000, RULES).transaction
    more = replace(made, inputs=(*made.inputs, Input(deposit.outpoint.txid, 0, b"", made.inputs[0].sequence)))
    after = apply_vault_transaction(state, proven_of(state, more, [deposit], height=STILL + 1), RULES)
    assert after.frozen.reason is Reason.UNKNOWN_SPEND


def test_a_rescue_before_anybody_was_named_freezes_the_peg():
    state = still()
    made = build_rescue(state, 2_000, RULES).transaction
    early = replace(state, custodies=state.custodies[:1])
    assert apply_vault_transaction(early, proven_of(early, made, height=STILL), RULES).frozen
    with pytest.raises(RotationRefused, match="named by the council"):
        build_rescue(early, 2_000, RULES)


def test_the_fee_of_a_rescue_comes_from_the_surplus():
    state = announced(make_vault(), height=STILL, by_council=True)
    with pytest.raises(SurplusTooSmall):
        build_rescue(state, 2_000, RULES)
    for rate in (0, RULES.max_rate + 1):
        with pytest.raises(FeeAboveCap):
            build_rescue(still(), rate, RULES)
    made = build_rescue(still(), 2_000, RULES).transaction
    after = apply_vault_transaction(state, proven_of(state, made, height=STILL + 1), RULES)
    assert after.frozen.reason is Reason.OVERDRAWN, "anyone can make that good"


def test_signers_who_come_back_keep_the_vault():
    state = still()
    assert state.custody_at(STILL + 10_000, RULES) == state.custody, "nobody hands over to whom the council named"
    moved = apply_vault_transaction(
        state, proven_of(state, draft_of(state, height=STILL).transaction, height=STILL), RULES
    )
    assert moved.custody == state.custody
    assert moved.rescuers == ()
    with pytest.raises(VaultNotStill):
        announced(moved, height=STILL + 100, by_council=True)
    made = build_rescue(state, 2_000, RULES).transaction
    late = replace(made, inputs=(replace(made.inputs[0], txid=moved.vault.txid),))
    frozen = apply_vault_transaction(moved, proven_of(moved, late, height=2 * STILL), RULES)
    assert frozen.frozen.reason is Reason.UNKNOWN_SPEND
    assert announced(moved, height=2 * STILL, by_council=True).rescuers


def test_what_the_lost_signers_announced_ends_with_a_rescue():
    before = announced(with_surplus(make_vault(), 5_000))
    state = announced(before, height=STILL, by_council=True)
    later = apply_announcement(state, signed(state, wanted(state, key=601, valid_until=10**6)), STILL, BOUND)
    made = build_rescue(later, 2_000, RULES).transaction
    after = apply_vault_transaction(later, proven_of(later, made, height=STILL + 1), RULES)
    assert after.frozen is None
    assert after.custody == later.rescuers[0]
    assert after.announced == ()
    assert after.may_hold(10**6) == (after.custody,)


def test_the_council_may_name_others_again():
    state = announced(still(), height=STILL + 10, by_council=True, key=800)
    first, second = state.rescuers
    made = build_rescue(state, 2_000, RULES).transaction
    assert made.outputs[0].script == vault_output(second, RULES).script
    old = replace(made, outputs=(Output(made.outputs[0].sats, vault_output(first, RULES).script),))
    for one, epoch in ((made, second.epoch), (old, first.epoch)):
        after = apply_vault_transaction(state, proven_of(state, one, height=STILL + 20), RULES)
        assert (after.frozen, after.vault.epoch) == (None, epoch)


def test_a_rule_alone_is_what_signatures_make_of_it():
    """`announce_custody` is what tests and explorers ask; blocks carry signatures."""
    state = make_vault()
    one = wanted(state)
    assert announce_custody(state, one.custody, HEIGHT, RULES) == announced(state)
    assert queue_withdrawal(announced(state), PAY_TO, 10_000, 0, RULES)
