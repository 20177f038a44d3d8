"""What a signer's log says of changes of the set; and whom it asks."""

from dataclasses import replace

import pytest

from bridge.custody import announce_custody
from bridge.peg_errors import NothingToDo
from bridge.scripts import Custody, SignerSet, vault_output
from bridge.taproot import Path
from bridge.transactions import Output
from hyperdust.signer.key import SigningKey
from hyperdust.signer.notices import custody_notices
from hyperdust.signer.session import keys_of
from tests.unit.bridge.keys import make_signers
from tests.unit.signer.signer_world import RULES, World, account_of

ANNOUNCED, KEY = "other signers are announced", "this key"


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


def announce(world):
    joined = make_signers(300, 1, 1).keys[0]
    gone = world.custody.signers.keys[2]
    keys = tuple(sorted((*world.custody.signers.keys[:2], joined)))
    following = Custody(1, SignerSet(2, keys), world.custody.council)
    world.change(lambda state: announce_custody(state, following, world.chain.height, RULES))
    return joined, gone


def say(world, key):
    return custody_notices(world.state, key, world.chain.height, RULES)


def test_each_key_learns_where_it_stands(world):
    leader, other = world.open_vault()
    present = world.custody.signers.keys[0]
    assert not any(say(world, present).values())
    joined, gone = announce(world)
    assert joined.hex() in say(world, present)[ANNOUNCED]
    assert gone.hex() in say(world, present)[ANNOUNCED]
    assert say(world, present)[KEY] == say(world, gone)[KEY] == ""
    assert "once the vault is handed over" in say(world, joined)[KEY]
    assert "right network" in say(world, b"\x01" * 32)[KEY]
    world.burn(2_000)
    world.bitcoin.mine(RULES.notice_blocks + RULES.takeover_margin_blocks)
    world.apply(world.complete(leader, other, world.propose(leader)))
    height = world.state.vault.height
    assert not any(say(world, joined).values())
    assert str(height + RULES.record_blocks) in say(world, gone)[KEY]
    assert gone in keys_of(world.state)
    old = world.state
    world.node.states.append(replace(old, records=(), base=old.vault))
    assert "no longer needed" in say(world, gone)[KEY]
    assert gone not in keys_of(world.state)


def test_the_vault_is_handed_over_though_nothing_else_is_due(world):
    """The surplus is too small for an anchor, and pays the bare move."""
    leader, other = world.open_vault()
    announce(world)
    world.bitcoin.mine(RULES.notice_blocks + RULES.takeover_margin_blocks)
    assert world.state.is_takeover_due(world.chain.height, RULES)
    with pytest.raises(NothingToDo, match="moving the vault costs"):
        world.propose(leader)
    world.burn(480)
    prepared = world.propose(leader)
    assert prepared.draft.round.path is Path.SCRIPT
    assert (prepared.draft.round.anchor, len(prepared.draft.transaction.outputs)) == (None, 1)
    world.apply(world.complete(leader, other, prepared))
    assert world.state.custody.epoch == 1


def test_a_still_vault_is_refreshed_by_two_signers(world):
    leader, other = world.open_vault()
    world.burn(480)
    with pytest.raises(NothingToDo):
        world.propose(leader)
    world.bitcoin.mine(RULES.emergency_blocks // 2)
    world.apply(world.complete(leader, other, world.propose(leader)))
    assert not world.state.is_refresh_due(world.chain.height, RULES)


def test_a_coin_for_those_who_are_not_there_holds_up_no_round(world):
    """Anybody can pay to the script of whom the council named, or of signers who are gone."""
    leader, other = world.open_vault()
    world.bitcoin.mine(RULES.emergency_blocks + 1)
    following = Custody(1, make_signers(310, 3, 2), world.custody.council)
    world.change(lambda state: announce_custody(state, following, world.chain.height, RULES, by_council=True))
    world.bitcoin.pool.append(world.chain.pay(Output(50_000, vault_output(following, RULES).script)))
    world.bitcoin.mine(1)
    world.bitcoin.pool.append(world.chain.pay(Output(60_000, vault_output(world.custody, RULES).script)))
    world.bitcoin.mine(3)
    prepared = world.propose(leader)
    assert [one.sats for one in prepared.draft.round.gifts] == [60_000]
    assert world.complete(leader, other, prepared)


def test_the_council_names_others(world):
    leader, _ = world.open_vault()
    world.bitcoin.mine(RULES.emergency_blocks + 1)
    following = Custody(1, make_signers(310, 3, 2), world.custody.council)
    world.change(lambda state: announce_custody(state, following, world.chain.height, RULES, by_council=True))
    said = say(world, leader.key.public)
    assert "epochs 1" in said["ALARM: the council has named others"]
    assert said[ANNOUNCED] == ""
    world.burn(2_000)
    assert world.propose(leader).draft.round.anchor.epoch == 0
    assert SigningKey(account_of(following.signers.keys[0])).public not in keys_of(world.state)
