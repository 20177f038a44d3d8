"""A proposal built anew from this signer's own node and bitcoind, by the pure code; or refused by a named rule.

Nothing of a proposal is believed: it only says which block, deposits and rate to look at. Payouts are no choice of the
leader's: they follow from the state, as `plan_round` takes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bridge.anchors import NO_DATA, Anchor
from bridge.deposits import Outpoint, Spent
from bridge.peg import compute_peg_out_root
from bridge.peg_state import PegState, VaultCoin
from bridge.planning import plan_round
from bridge.rounds import Deposit, Gift, Round
from bridge.rules import PegRules
from bridge.scripts import vault_output
from bridge.transactions import Output, Transaction
from bridge.vault import Draft, build_draft
from hyperdust.signer.data import DataView, Known, check_data
from hyperdust.signer.errors import (
    DepositNotDeep,
    DepositUnknown,
    GiftNotDeep,
    GiftUnknown,
    HeightUnlikely,
    RateTooHigh,
    RoundDiffers,
    SourceFault,
    StateNotFinal,
    StateNotMine,
    VaultNotDeep,
    WithdrawalNotFinal,
    WrongVaultCoin,
)
from hyperdust.signer.proposal import GiftCoin, Proposal, Sweep, inputs_of
from hyperdust.signer.repair import check_repairable, load_repaired
from hyperdust.signer.sources import Bitcoin, Node, Place

_OLD_HEIGHTS: Final = 144
"""A replacement keeps the height of the round that it replaces: so long it may wait."""
_RATE_MARGIN: Final = 3
"""A rate is refused above so many times what this signer holds to be needed: two bumps of a half each."""
MAX_GIFT_FUNDING_BYTES: Final = 10_000
"""Of the transactions that made a round's gifts: what its evidence has room for beside deposits."""
_EVIDENCE_RESERVE: Final = 100_000
"""Bytes of the evidence's bound for a vault transaction that takes in gifts alone."""
_HELD_BACK: Final = 1
"""`refused_at` of withdrawals that are not final yet, while planning: owed as before, and not paid."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator decides."""

    deposit_depth: int = 6
    """Confirmations of a deposit before it is swept."""
    data_depth: int = 6
    """Confirmations of a payload of blocks before an anchor names it."""
    max_rate: int = 500_000
    """Sat per 1,000 vB."""
    least_rate: int = 1_000
    """Sat per 1,000 vB, where estimates are lower."""
    fallback_rate: int = 5_000
    """Where bitcoind cannot tell."""
    round_blocks: int = 6
    """Between two rounds."""
    bump_blocks: int = 3
    """Between two versions of a round."""

    def rate_of(self, estimate: int | None) -> int:
        """An estimate within bounds."""
        return min(max(estimate or self.fallback_rate, self.least_rate), self.max_rate)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a signer looks."""

    node: Node
    bitcoin: Bitcoin
    rules: PegRules
    limits: Limits
    known_data: Known = field(default_factory=Known, compare=False)

    @property
    def data(self) -> DataView:
        """Where payloads of blocks are looked for."""
        return DataView(self.node, self.bitcoin, self.rules, self.limits.data_depth, self.known_data)


@dataclass(frozen=True, slots=True)
class Basis:
    """What a round is built on, as this signer's sources have it."""

    state: PegState
    """With withdrawals that are not finalized held back."""
    planned: Round
    """At the rate at which it was planned."""
    vault: Outpoint | None
    """That it spends; None: the first round."""
    anchor: Anchor | None
    """That the block has, whether the round pays for it or not; None: it has one already."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A round as this signer builds it."""

    draft: Draft
    vault: Outpoint | None


def rebuild(proposal: Proposal, sources: Sources, known_rate: int = 0) -> Rebuilt:
    """The very draft that the proposal is about; `known_rate`: the highest of its earlier versions.

    Raises:
        RateTooHigh, RoundDiffers: by rule.
        The rules of `load_basis` and of `build_draft`.
    """
    check_rate(proposal.rate, sources, known_rate)
    basis = load_basis(proposal, sources)
    draft = build_draft(basis.state, replace(basis.planned, rate=proposal.rate), sources.rules)
    check_same(proposal.transaction, draft.transaction)
    return Rebuilt(draft, basis.vault)


def load_basis(proposal: Proposal, sources: Sources) -> Basis:
    """What a proposal names, looked up and checked.

    Raises:
        StateNotMine, StateNotFinal, WithdrawalNotFinal, WrongVaultCoin, VaultNotDeep, HeightUnlikely, DepositUnknown,
        DepositNotDeep, GiftUnknown, GiftNotDeep, DataUnknown, DataDiffers: by rule.
        PegFrozen, and the rules of `plan_round`.
        NodeFault, RpcError: a source does not answer.
    """
    state = load_state(proposal.state, sources, next(iter(inputs_of(proposal.transaction)), None))
    planned_on = hold_back(state, load_payable(proposal.payable, sources))
    check_height(proposal.height, sources)
    deposits = [load_deposit(one, sources) for one in proposal.deposits]
    gifts = load_gifts(proposal.gifts, state, sources)
    check_data(proposal.data_root, proposal.data, state, proposal.state.number, sources.data)
    anchor = make_anchor(state, proposal.state, proposal.height, sources, proposal.data_root)
    rate, height = proposal.planned_rate, proposal.height
    planned = plan_round(planned_on, deposits, anchor, rate, proposal.path, height, sources.rules, gifts)
    return Basis(planned_on, planned, outpoint_of(state.vault), anchor)


def check_same(got: Transaction, expected: Transaction) -> None:
    """Compare bytes.

    Raises:
        RoundDiffers: names the first part that is another.
    """
    if got.inputs != expected.inputs:
        raise RoundDiffers("inputs", len(got.inputs), f"{len(expected.inputs)} others, or another charge")
    for at, (one, other) in enumerate(zip(got.outputs, expected.outputs, strict=False)):
        if one != other:
            raise RoundDiffers(f"output {at}", _show(one), _show(other))
    if got != expected:
        raise RoundDiffers("transaction", got.encode_stripped(), expected.encode_stripped())


def check_rate(rate: int, sources: Sources, known_rate: int) -> None:
    """Check that nobody's caps are used up without need.

    Raises:
        RateTooHigh: above the limit, or far above the estimate and all earlier versions.
    """
    limits = sources.limits
    needed = max(limits.rate_of(sources.bitcoin.load_rate()), known_rate)
    most = min(limits.max_rate, _RATE_MARGIN * needed)
    if rate > most:
        raise RateTooHigh("rate", rate, f"at most {most} sat per 1,000 vB")


def check_height(height: int, sources: Sources) -> None:
    """Check that nobody hands the vault over early, nor long after.

    Raises:
        HeightUnlikely: above this signer's tip, or a day below.
    """
    tip = sources.bitcoin.load_height()
    if not tip - _OLD_HEIGHTS <= height <= tip:
        raise HeightUnlikely("Bitcoin height", height, f"{tip - _OLD_HEIGHTS} to {tip}")


def load_state(place: Place, sources: Sources, vault: Outpoint | None = None) -> PegState:
    """The peg at a final block, if the vault there is the vault of now, unspent and deep on this signer's bitcoind.

    Of a frozen peg, what it would be with all that Bitcoin has up to `vault`, if gifts are missing then: it owes more
    than it has, so a round on it takes gifts in and does nothing else.

    Raises:
        StateNotMine, StateNotFinal, WrongVaultCoin, VaultNotDeep: by rule.
        PegFrozen, NothingMissing, FirstRoundLost: frozen, and no gift helps.
    """
    check_place(place, sources)
    if place.number > (final := sources.node.load_final()).number:
        raise StateNotFinal("block of the round", place.number, f"at most {final.number}")
    head, at = sources.node.load_peg().state, sources.node.load_peg(place.number)
    if at.place != place:
        raise StateNotMine("block of the round", at.place.hash, place.hash)
    check_repairable(head)
    if head.frozen != at.state.frozen:
        raise StateNotFinal("block that knows whether the peg is frozen", place.number, "one like the head")
    if (now := outpoint_of(head.vault)) != (then := outpoint_of(at.state.vault)):
        raise WrongVaultCoin("vault of the round", str(then), str(now))
    state, held = at.state, head
    if head.frozen is not None:
        state = held = load_repaired(at.state, vault, sources.bitcoin, sources.rules)
    if held.vault is not None:
        check_vault(held, held.vault, sources)
    return state


def check_vault(state: PegState, vault: VaultCoin, sources: Sources) -> None:
    """Check the vault's coin on Bitcoin.

    Raises:
        WrongVaultCoin: spent in a block, or never there.
        VaultNotDeep: a reorganisation could still take it away.
    """
    rules = sources.rules
    coin = sources.bitcoin.load_coin(Outpoint(vault.txid, 0))
    expected = Output(vault.sats, vault_output(state.custodies[vault.epoch], rules).script)
    if coin is None or coin.output != expected:
        raise WrongVaultCoin("vault on Bitcoin", "none" if coin is None else _show(coin.output), _show(expected))
    if coin.confirmations <= rules.origin_depth:
        raise VaultNotDeep("confirmations of the vault", coin.confirmations, f"at least {rules.origin_depth + 1}")


def load_payable(place: Place, sources: Sources) -> int:
    """The number below which withdrawals are paid: they were queued at a finalized block.

    Raises:
        StateNotMine, WithdrawalNotFinal: by rule.
    """
    check_place(place, sources)
    if place.number > (settled := sources.node.load_finalized()).number:
        raise WithdrawalNotFinal("block of withdrawals", place.number, f"at most {settled.number}")
    return sources.node.load_peg(place.number).state.next_number


def check_place(place: Place, sources: Sources) -> None:
    """Check that a block is one of this signer's node.

    Raises:
        StateNotMine: it is not.
    """
    if (own := sources.node.load_place(place.number)) != place:
        raise StateNotMine(f"block {place.number}", place.hash, own.hash)


def hold_back(state: PegState, below: int) -> PegState:
    """The state with all withdrawals from that number on waiting: owed, and not paid in this round."""
    queue = tuple(
        one if one.number < below or one.refused_at else replace(one, refused_at=_HELD_BACK) for one in state.queue
    )
    return replace(state, queue=queue)


def load_deposit(sweep: Sweep, sources: Sources) -> Deposit:
    """A deposit as this signer's bitcoind has it.

    Raises:
        DepositUnknown, DepositNotDeep: by rule.
    """
    coin = sources.bitcoin.load_coin(sweep.outpoint)
    made = sources.bitcoin.load_transaction(sweep.outpoint.txid)
    if coin is None or made is None:
        raise DepositUnknown("deposit", str(sweep.outpoint), "an unspent coin")
    if coin.confirmations < (least := sources.limits.deposit_depth):
        raise DepositNotDeep(f"confirmations of {sweep.outpoint}", coin.confirmations, f"at least {least}")
    spent = Spent(coin.output, coin.from_coinbase)
    return Deposit(sweep.outpoint, spent, sweep.binding, len(made.encode_stripped()))


def gift_room(state: PegState, rules: PegRules) -> int:
    """Bytes of the transactions that made a round's gifts; nearly all of its evidence where nothing else is taken."""
    return MAX_GIFT_FUNDING_BYTES if state.surplus_sats >= 0 else rules.max_evidence_bytes - _EVIDENCE_RESERVE


def load_gifts(coins: Sequence[GiftCoin], state: PegState, sources: Sources) -> tuple[Gift, ...]:
    """Gifts as this signer's bitcoind has them.

    Raises:
        GiftUnknown, GiftNotDeep: by rule.
    """
    vault, left = outpoint_of(state.vault), gift_room(state, sources.rules)
    found, known = list[Gift](), set[bytes]()
    for one in coins:
        coin, made = sources.bitcoin.load_coin(one.outpoint), sources.bitcoin.load_transaction(one.outpoint.txid)
        if coin is None or made is None or coin.from_coinbase or one.outpoint == vault or vault is None:
            raise GiftUnknown("gift", str(one.outpoint), "an unspent coin beside the vault, from no coinbase")
        if one.epoch >= len(state.custodies):
            raise GiftUnknown(f"epoch of gift {one.outpoint}", one.epoch, f"below {len(state.custodies)}")
        if coin.output.script != (script := vault_output(state.custodies[one.epoch], sources.rules).script):
            raise GiftUnknown(f"script of gift {one.outpoint}", coin.output.script, script)
        if coin.confirmations < (least := sources.limits.deposit_depth):
            raise GiftNotDeep(f"confirmations of {one.outpoint}", coin.confirmations, f"at least {least}")
        if (size := len(made.encode_stripped())) > (most := sources.rules.max_funding_bytes):
            raise GiftUnknown(f"bytes that made gift {one.outpoint}", size, f"at most {most}: evidence takes no more")
        left -= 0 if one.outpoint.txid in known else size
        known.add(one.outpoint.txid)
        if left < 0:
            room = gift_room(state, sources.rules)
            raise GiftUnknown("bytes that made the gifts", room - left, f"at most {room}")
        found.append(Gift(one.outpoint, coin.output.sats, one.epoch))
    return tuple(found)


def make_anchor(
    state: PegState, place: Place, height: int, sources: Sources, data_root: bytes = NO_DATA
) -> Anchor | None:
    """The anchor of a final block: 80 bytes that follow from it and its data; None where the last one named it already.

    None too where more is owed than is there: gifts come first.

    Raises:
        SourceFault: this signer's node contradicts itself.
    """
    vault = state.vault
    if vault is None or state.surplus_sats < 0 or place.number <= vault.anchor_height:
        return None
    facts = sources.node.load_facts(place.number, vault.anchor_id)
    expected = replace(
        facts,
        block_hash=place.hash,
        peg_out_root=compute_peg_out_root(state),
        vault_sats=state.vault_sats,
        previous=vault.anchor_id,
    )
    if facts != expected:
        raise SourceFault(f"the node's facts of block {place.number} are not those of its own peg state")
    return Anchor(state.custody_at(height, sources.rules).epoch, place.number, facts.commitment, data_root)


def outpoint_of(vault: VaultCoin | None) -> Outpoint | None:
    """Of a vault's coin; None for none."""
    return None if vault is None else Outpoint(vault.txid, 0)


def _show(output: Output) -> str:
    return f"{output.sats} sats to {output.script.hex()}"
