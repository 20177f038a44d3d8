"""A peg with a vault, for tests of one rule at a time."""

from dataclasses import replace

from bridge.deposits import Claim, Outpoint, ProvenTransaction, Spent
from bridge.peg import apply_credits, apply_vault_transaction, burn, make_genesis, queue_withdrawal
from bridge.planning import plan_round
from bridge.rounds import Deposit
from bridge.rules import MAIN_RULES, WEI_PER_SAT
from bridge.scripts import deposit_output
from bridge.taproot import Path
from bridge.transactions import Output
from bridge.vault import build_draft
from tests.unit.bridge.keys import make_binding, make_custody

RULES = MAIN_RULES
PAY_TO = b"\x00\x14" + b"\x05" * 20
RATE = 2_000


def make_deposit(custody, sats=1_000_000, *, user=1, max_fee=10_000, index=0, funding_bytes=200, from_coinbase=False):
    binding = make_binding(user, max_fee, custody.epoch)
    spent = Spent(Output(sats, deposit_output(custody, binding, RULES).script), from_coinbase)
    return Deposit(Outpoint(bytes([user]) * 32, index), spent, binding, funding_bytes)


def draft_of(state, deposits=(), anchor=None, *, rate=RATE, path=Path.SCRIPT, height=100, gifts=()):
    return build_draft(state, plan_round(state, deposits, anchor, rate, path, height, RULES, gifts), RULES)


def proven_of(state, transaction, deposits=(), *, height=100, claimed=True, block=b"\x0b"):
    """As if the evidence had been checked."""
    known = {one.outpoint: one for one in deposits}
    places = [Outpoint(one.txid, one.index) for one in transaction.inputs]
    first = state.vault is None
    spent = tuple(known[at].spent if at in known else None for at in places)
    assert first == (spent[0] is not None)
    claims = tuple(Claim(at, known[at].binding) for at in places if at in known and claimed)
    return ProvenTransaction(transaction, transaction.txid, block * 32, height, spent, claims)


def make_vault(sats=1_000_000, *, custody=None, supply_wei=0, height=100, credited=True):
    """One deposit swept and credited."""
    state = make_genesis(custody or make_custody(), supply_wei)
    deposit = make_deposit(state.custody, sats)
    draft = draft_of(state, [deposit])
    state = apply_vault_transaction(state, proven_of(state, draft.transaction, [deposit], height=height), RULES)
    return apply_credits(state, height, RULES) if credited else state


def with_surplus(state, sats):
    return burn(state, sats * WEI_PER_SAT)


def with_withdrawals(state, *amounts, max_fee=20_000):
    for sats in amounts:
        state = queue_withdrawal(state, PAY_TO, sats, max_fee, RULES)
    return state


def change(transaction, **fields):
    return replace(transaction, **fields)
