"""What a reorganisation of Bitcoin does to the peg: it freezes, and thaws when all is back or made good."""

from collections.abc import Sequence
from dataclasses import replace

from bridge.deposits import ProvenTransaction, check_on_branch
from bridge.peg import apply_reading, check_covered
from bridge.peg_errors import NoVaultTransaction, SweepNotOnBranch
from bridge.peg_state import Freeze, PegState, Reason, SweepStatus, VaultRecord
from bridge.rules import PegRules
from bridge.vault_reading import read_vault_transaction
from bridge.view import BitcoinView
from bridge.work import show_hash


def follow_origin(state: PegState, view: BitcoinView, origin: bytes, rules: PegRules) -> PegState:
    """Compare what was applied with the branch of a new origin: freeze, thaw, forget what is too old to change."""
    height = view.height_of(origin)
    orphan = next((record for record in state.records if not _is_on_branch(record, view, origin)), None)
    frozen = state.frozen
    if frozen and frozen.reason is not Reason.REORGANISED and _holds(frozen.block_hash, view, origin):
        return state
    if orphan is None:
        frozen = None
    elif frozen is None or frozen.reason is not Reason.REORGANISED:
        frozen = Freeze(Reason.REORGANISED, orphan.coin.txid, orphan.block_hash, orphan.coin.height)
    state = replace(state, frozen=frozen)
    return state if frozen is not None else _forget(state, height - rules.record_blocks)


def confirm_again(state: PegState, proven: ProvenTransaction) -> PegState:
    """Note that a vault transaction stands in another block than before; `follow_origin` then thaws.

    Raises:
        NoVaultTransaction: none of the remembered ones.
    """
    for at, record in enumerate(state.records):
        if record.coin.txid == proven.txid:
            coin = replace(record.coin, height=proven.height)
            moved = replace(record, coin=coin, block_hash=proven.block_hash)
            return replace(state, records=(*state.records[:at], moved, *state.records[at + 1 :]))
    raise NoVaultTransaction("transaction", show_hash(proven.txid), "one that was applied")


def restore(
    state: PegState, provens: Sequence[ProvenTransaction], view: BitcoinView, origin: bytes, rules: PegRules
) -> PegState:
    """Undo what Bitcoin dropped, apply what it has instead, if that covers all that is owed.

    After a reorganisation `provens` are what stands in the place of what was dropped; after an overdraft (nothing is
    dropped) the transaction that overdrew and those after it.

    Payouts that were undone are queued again; credits stand, and a later sweep of the same outpoint credits nothing.

    Raises:
        NotMadeGood: the vault would not cover what is owed: try again with the ones that follow.
        And the rules of `preview_restore`.
    """
    return check_covered(preview_restore(state, provens, view, origin, rules))


def preview_restore(
    state: PegState, provens: Sequence[ProvenTransaction], view: BitcoinView, origin: bytes, rules: PegRules
) -> PegState:
    """What `restore` would give, covered or not: signers plan on it a round that takes gifts in, and nothing else.

    Raises:
        NoVaultTransaction: nothing is to be undone, or the first is not in the place of what is.
        VaultSpendRefused: one breaks the rules.
        PegFrozen: the vault was spent against its rules, and still is.
    """
    if state.frozen and state.frozen.reason is Reason.UNKNOWN_SPEND and _holds(state.frozen.block_hash, view, origin):
        state.check_running()
    kept = next((at for at, record in enumerate(state.records) if not _is_on_branch(record, view, origin)), None)
    if kept is None and state.frozen and state.frozen.reason is Reason.OVERDRAWN:
        kept = len(state.records)
    if kept is None or not provens:
        raise NoVaultTransaction("orphaned vault transactions", 0, "some, and others in their place")
    return apply_row(undo(state, kept), provens, rules)


def undo(state: PegState, kept: int) -> PegState:
    """The peg without its records from `kept` on, running, covered or not: payouts queued again, credits standing."""
    gone = state.records[kept:]
    back = sorted((one for record in gone for one in record.paid), key=lambda one: one.number)
    credited = [sweep.outpoint for record in gone for sweep in record.sweeps if sweep.status is SweepStatus.CREDITED]
    return replace(
        state,
        records=state.records[:kept],
        queue=tuple(sorted((*back, *state.queue), key=lambda one: one.number)),
        undone=tuple(sorted((*credited, *state.undone))),
        frozen=None,
    )


def apply_row(state: PegState, provens: Sequence[ProvenTransaction], rules: PegRules) -> PegState:
    """Vault transactions that follow each other, taken in one after another, covered or not.

    Raises:
        NoVaultTransaction, VaultSpendRefused: one is not the next, or breaks a rule.
    """
    for proven in provens:
        state = apply_reading(state, read_vault_transaction(state, proven, rules), proven.block_hash)
    return state


def _is_on_branch(record: VaultRecord, view: BitcoinView, origin: bytes) -> bool:
    return _holds(record.block_hash, view, origin)


def _holds(block_hash: bytes, view: BitcoinView, origin: bytes) -> bool:
    try:
        check_on_branch(block_hash, view, origin)
    except SweepNotOnBranch:
        return False
    return True


def _forget(state: PegState, height: int) -> PegState:
    """Drop records below a height from the front, as long as nothing in them waits."""
    kept = 0
    while kept < len(state.records) and state.records[kept].coin.height < height:
        if any(sweep.status is not SweepStatus.CREDITED for sweep in state.records[kept].sweeps):
            break
        kept += 1
    if not kept:
        return state
    return replace(state, base=state.records[kept - 1].coin, records=state.records[kept:])
