"""What a peg that is short asks for: a gift of that many sats makes it whole, one of a satoshi less does not."""

from dataclasses import replace

import pytest

from bridge.deposits import Outpoint
from bridge.params import REGTEST
from bridge.rounds import Gift, Round
from bridge.rules import WEI_PER_SAT
from bridge.scripts import address_of, vault_output
from bridge.shortage import ASKED_RATE, compute_missing, gift_address
from bridge.taproot import Path
from bridge.vault import build_draft
from tests.unit.bridge.test_peg import RULES, make_vault

HEIGHT = 100


def make_short(sats):
    """A vault that owes so much more than it has."""
    state = make_vault()
    short = replace(state, supply_wei=state.supply_wei + (state.surplus_sats + sats) * WEI_PER_SAT)
    assert short.surplus_sats == -sats
    return short


def left_after(state, sats):
    gift = Gift(Outpoint(b"\x71" * 32, 0), sats, 0)
    draft = build_draft(state, Round(ASKED_RATE, Path.SCRIPT, HEIGHT, (), (), None, (gift,)), RULES)
    return draft.transaction.outputs[0].sats + state.genesis_sats - state.owed_sats


@pytest.mark.parametrize("short", [1, 330, 70_000, 5_000_000])
def test_a_gift_of_what_is_missing_makes_it_whole(short):
    state = make_short(short)
    missing = compute_missing(state, HEIGHT, RULES)
    assert left_after(state, missing) == 0
    assert compute_missing(state, HEIGHT, RULES, rate=1_000) < missing


def test_a_peg_that_covers_what_it_owes_asks_for_nothing():
    assert compute_missing(make_vault(), HEIGHT, RULES) == 0
    assert compute_missing(make_short(0), HEIGHT, RULES) == 0


def test_it_is_paid_to_the_vault():
    state = make_short(1)
    assert gift_address(state, RULES, REGTEST) == address_of(vault_output(state.custody, RULES), REGTEST)
