"""What changes the peg: vault transactions, credits, withdrawals, burns. Signer sets: `custody`; repair: `peg_repair`.

Each function takes a state and gives the next one, or raises and changes nothing. In every state that they give,
`supply <= vault + genesis supply` and more: the vault covers all that is owed (`PegState.owed_sats`).
"""

from dataclasses import replace

from bridge.deposits import Claim, Credit, ProvenTransaction, Spent, check_claim
from bridge.peg_errors import (
    AlreadyClaimed,
    BurnTooLarge,
    NotMadeGood,
    NotRefundable,
    SurplusTooSmall,
    UnknownSweep,
    UnknownWithdrawal,
    VaultSpendRefused,
    WithdrawalInvalid,
)
from bridge.peg_state import (
    Freeze,
    PegState,
    Reason,
    Sweep,
    SweepStatus,
    VaultRecord,
    Withdrawal,
    credit_of,
)
from bridge.rules import WEI_PER_SAT, PegRules
from bridge.scripts import Custody, check_payout_script
from bridge.transactions import MAX_SATS, Output
from bridge.vault_reading import VaultReading, read_vault_transaction
from chain.hashing import keccak256


def make_genesis(custody: Custody, genesis_supply_wei: int) -> PegState:
    """The peg before its first vault transaction.

    Raises:
        SignerSetInvalid: signers or council can hold nothing.
    """
    custody.signers.check()
    custody.council.check()
    genesis_sats = -(-genesis_supply_wei // WEI_PER_SAT)
    return PegState((custody,), None, (), (), genesis_supply_wei, genesis_sats, (), 0, None)


# --- vault transactions


def apply_vault_transaction(state: PegState, proven: ProvenTransaction, rules: PegRules) -> PegState:
    """Take in the next vault transaction: payouts are paid, sweeps wait for depth, the vault is its output 0.

    A spend of the vault that breaks a rule freezes the peg instead; the book keeps its last good value.

    Raises:
        PegFrozen: nothing is taken in while it is.
        NoVaultTransaction: it is not the next of the list; among them every transaction that was applied before.
        And the rules of `check_claim`.
    """
    state.check_running()
    try:
        return check_covered(apply_reading(state, read_vault_transaction(state, proven, rules), proven.block_hash))
    except VaultSpendRefused:
        reason = Reason.UNKNOWN_SPEND
    except NotMadeGood:
        reason = Reason.OVERDRAWN
    return replace(state, frozen=Freeze(reason, proven.txid, proven.block_hash, proven.height))


def claim_sweep(state: PegState, claim: Claim, rules: PegRules) -> PegState:
    """Say whose a swept output was that came without its binding.

    Raises:
        UnknownSweep, AlreadyClaimed: nothing waits for that.
        SurplusTooSmall: its charge was above its maximum fee, and nothing is there to bear the difference yet.
        And the rules of `check_claim`.
    """
    for at, record in enumerate(state.records):
        for place, sweep in enumerate(record.sweeps):
            if sweep.outpoint != claim.outpoint:
                continue
            if sweep.status is not SweepStatus.UNCLAIMED:
                raise AlreadyClaimed("sweep", str(claim.outpoint), "one that waits for its binding")
            spent = Spent(Output(sweep.sats, sweep.script), sweep.from_coinbase)
            credit = check_claim(claim, spent, record.charge, state.custodies, rules)
            if credit.sats - sweep.worth > state.surplus_sats:
                raise SurplusTooSmall(state.surplus_sats, credit.sats - sweep.worth)
            claimed = replace(sweep, status=SweepStatus.CLAIMED, address=credit.address, worth=credit.sats)
            return _replace_sweep(state, at, place, claimed)
    raise UnknownSweep("outpoint", str(claim.outpoint), "one that a remembered vault transaction took in")


def due_credits(state: PegState, origin_height: int, rules: PegRules) -> tuple[Credit, ...]:
    """What a block with this origin credits: all claimed sweeps that lie deep enough, oldest first; no choice."""
    if state.frozen is not None:
        return ()
    return tuple(
        credit_of(sweep, rules.depth_of(sweep.sats))
        for record in state.records
        for sweep in record.sweeps
        if _is_due(sweep, record, origin_height, rules)
    )


def apply_credits(state: PegState, origin_height: int, rules: PegRules) -> PegState:
    """Credit what is due: the supply grows by it, and each outpoint is marked, once and for ever."""
    if not (due := due_credits(state, origin_height, rules)):
        return state
    records = tuple(
        replace(
            record,
            sweeps=tuple(
                replace(sweep, status=SweepStatus.CREDITED, script=b"")
                if _is_due(sweep, record, origin_height, rules)
                else sweep
                for sweep in record.sweeps
            ),
        )
        for record in state.records
    )
    supply_wei = state.supply_wei + WEI_PER_SAT * sum(credit.sats for credit in due)
    return replace(state, records=records, supply_wei=supply_wei)


# --- withdrawals and burns


def queue_withdrawal(state: PegState, script: bytes, sats: int, max_fee: int, rules: PegRules) -> PegState:
    """Burn `sats + max_fee` on L2 and queue a payout of `sats`; its number is `state.next_number`.

    Raises:
        PegFrozen: no withdrawal while it is.
        PayoutScriptRefused: none of the five kinds.
        WithdrawalInvalid: too small, or more than there is.
    """
    state.check_running()
    least = max(rules.min_payout_sats, check_payout_script(script).dust_sats)
    if not least <= sats <= MAX_SATS:
        raise WithdrawalInvalid("payout", sats, f"{least} to {MAX_SATS} sats")
    if not 0 <= max_fee <= MAX_SATS:
        raise WithdrawalInvalid("maximum fee", max_fee, f"0 to {MAX_SATS} sats")
    withdrawal = Withdrawal(state.next_number, script, sats, max_fee)
    if (wei := withdrawal.value * WEI_PER_SAT) > state.supply_wei:
        raise WithdrawalInvalid("value", withdrawal.value, f"at most the supply, {state.supply_wei} wei")
    return replace(
        state,
        queue=(*state.queue, withdrawal),
        next_number=state.next_number + 1,
        supply_wei=state.supply_wei - wei,
    )


def refuse_withdrawal(state: PegState, number: int, height: int) -> PegState:
    """Give a withdrawal up at an L2 height; a payout that is on its way can still come.

    Raises:
        UnknownWithdrawal: not queued, or refused already.
    """
    withdrawal = state.find_withdrawal(number)
    if withdrawal is None or withdrawal.refused_at:
        raise UnknownWithdrawal("withdrawal", number, "one that is queued and not refused")
    refused = replace(withdrawal, refused_at=max(1, height))
    return replace(state, queue=tuple(refused if one is withdrawal else one for one in state.queue))


def refund_withdrawal(state: PegState, number: int, origin_height: int, rules: PegRules) -> PegState:
    """Give back on L2 what was burned for a refused withdrawal.

    Only once a vault transaction with an anchor at or above the height of the refusal lies deep: what the signers sign
    after it knows the refusal, and what they signed before is on the list and applied, or can never be mined.

    Raises:
        UnknownWithdrawal: not refused, or paid in the meantime.
        NotRefundable: no such anchor yet.
        PegFrozen: no refund while it is.
    """
    state.check_running()
    withdrawal = state.find_withdrawal(number)
    if withdrawal is None or not withdrawal.refused_at:
        raise UnknownWithdrawal("withdrawal", number, "one that is refused and not paid")
    coins = [*([state.base] if state.base else []), *(record.coin for record in state.records)]
    deep = [coin for coin in coins if origin_height - coin.height + rules.origin_depth >= rules.refund_depth]
    anchored = deep[-1].anchor_height if deep else 0
    if anchored < withdrawal.refused_at:
        raise NotRefundable(number, anchored, withdrawal.refused_at)
    return replace(
        state,
        queue=tuple(one for one in state.queue if one is not withdrawal),
        supply_wei=state.supply_wei + withdrawal.value * WEI_PER_SAT,
    )


def burn(state: PegState, wei: int) -> PegState:
    """Take burned job and gas fees out of the supply: they become surplus.

    Raises:
        BurnTooLarge: more than there is.
    """
    if not 0 <= wei <= state.supply_wei:
        raise BurnTooLarge("burned wei", wei, f"0 to {state.supply_wei}")
    return replace(state, supply_wei=state.supply_wei - wei)


def compute_peg_out_root(state: PegState) -> bytes:
    """What an anchor says of withdrawals: keccak256 over all that are queued and all that are refused, by number."""
    leaves = [
        b"".join(
            (
                withdrawal.number.to_bytes(32, "big"),
                keccak256(withdrawal.script),
                withdrawal.sats.to_bytes(32, "big"),
                withdrawal.max_fee.to_bytes(32, "big"),
                withdrawal.refused_at.to_bytes(32, "big"),
            )
        )
        for withdrawal in state.queue
    ]
    return keccak256(b"".join(keccak256(leaf) for leaf in leaves))


# --- parts


def apply_reading(state: PegState, reading: VaultReading, block_hash: bytes) -> PegState:
    """Take a reading in, whatever it leaves."""
    paid = [withdrawal.number for withdrawal in reading.paid]
    swept = [sweep.outpoint for sweep in reading.sweeps]
    return replace(
        state,
        records=(*state.records, VaultRecord(reading.coin, block_hash, reading.charge, reading.paid, reading.sweeps)),
        queue=tuple(withdrawal for withdrawal in state.queue if withdrawal.number not in paid),
        undone=tuple(outpoint for outpoint in state.undone if outpoint not in swept),
    )


def check_covered(state: PegState) -> PegState:
    """The state, if its vault covers all that is owed.

    Raises:
        NotMadeGood: it does not.
    """
    if state.surplus_sats < 0:
        raise NotMadeGood(state.vault_sats + state.genesis_sats, state.owed_sats)
    return state


def _is_due(sweep: Sweep, record: VaultRecord, origin_height: int, rules: PegRules) -> bool:
    depth = origin_height - record.coin.height + rules.origin_depth
    return sweep.status is SweepStatus.CLAIMED and depth >= rules.depth_of(sweep.sats)


def _replace_sweep(state: PegState, at: int, place: int, sweep: Sweep) -> PegState:
    record = state.records[at]
    changed = replace(record, sweeps=(*record.sweeps[:place], sweep, *record.sweeps[place + 1 :]))
    return replace(state, records=(*state.records[:at], changed, *state.records[at + 1 :]))
