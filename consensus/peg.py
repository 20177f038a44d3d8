"""The peg as a block moves it: from the parent's state, its burns and withdrawals, the origin and the evidence.

Pure. The peg's state lies beside the tries (`chain.state.PEG_KEY`); `Bridge` holds its hash, so the seal binds it.
Where no origin moves, no evidence comes and nobody withdraws, nothing of it is touched, and nothing needs Bitcoin.
Order (ADR 14): withdrawals and burns of the parent, on the peg as it was then; origin; evidence; credits; refunds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bridge.deposits import Outpoint
from bridge.errors import HeaderUnknown
from bridge.peg import (
    apply_credits,
    burn,
    due_credits,
    queue_withdrawal,
    refund_withdrawal,
    refuse_withdrawal,
)
from bridge.peg_codec import decode_state, encode_state
from bridge.peg_errors import NotRefundable
from bridge.peg_repair import follow_origin
from bridge.peg_state import PegState
from bridge.peg_state import Withdrawal as QueuedPayout
from bridge.rules import PegRules
from bridge.view import BitcoinView
from chain.blocks import ZERO_HASH, Header, Withdrawal
from chain.engine import BlockEnvironment, ReadMany, StateCache, SystemCall
from chain.errors import NodeFault
from chain.hashing import H, keccak256
from chain.params import ChainParams
from chain.state import PEG_KEY
from consensus.errors import EvidenceUnexpected, OriginNotFollowed, OriginUnknown
from consensus.evidence import apply_evidence
from consensus.peg_contract import (
    CLOSING_CALL,
    GIVEN_UP,
    PAID,
    QUEUED,
    REFUNDED,
    Pending,
    count_fees_call,
    load_account,
    load_pending,
    record_calls,
    update_call,
)
from consensus.peg_terms import rules_of

GWEI_PER_SAT: Final = 10
_NO_EVIDENCE: Final = bytes(32)

_decode = lru_cache(maxsize=8)(decode_state)


@dataclass(frozen=True, slots=True)
class PegTransition:
    """What the opening of a block does to the peg, ready for execution and comparison."""

    withdrawals: tuple[Withdrawal, ...] = ()
    """Credits and refunds: what the body has to have."""
    opening: tuple[SystemCall, ...] = ()
    """After `Dust.open_block`."""
    closing: tuple[SystemCall, ...] = ()
    encoded: bytes | None = None
    """The peg's new state; None: it stays."""

    @property
    def credited(self) -> tuple[tuple[int, int, bytes, int], ...]:
        """The withdrawals as the engine takes them."""
        return tuple((one.index, one.validator_index, one.address, one.amount) for one in self.withdrawals)

    @property
    def writes(self) -> tuple[tuple[bytes, bytes | None], ...]:
        """What the block writes beside the engine's."""
        return () if self.encoded is None else ((PEG_KEY, self.encoded),)


@dataclass(frozen=True, slots=True)
class PegParent:
    """The peg in the state of a block's parent."""

    header: Header
    environment: BlockEnvironment
    """The parent's."""
    pending: Pending
    state: PegState
    read_many: ReadMany
    cache: StateCache | None = None

    @property
    def fees_wei(self) -> int:
        """Base fees that the parent's transactions burned."""
        return self.header.base_fee_per_gas * self.header.gas_used


def load_peg(read_many: ReadMany) -> PegState:
    """The peg in a block's state.

    Raises:
        NodeFault: the database holds none.
    """
    (encoded,) = read_many([PEG_KEY])
    if encoded is None:
        raise NodeFault("the database holds no state of the peg")
    return _decode(encoded)


def load_parent(
    header: Header, environment: BlockEnvironment, read_many: ReadMany, cache: StateCache | None = None
) -> PegParent:
    """What a block's transition starts from.

    Raises:
        NodeFault: the database's state of the peg is not the one that `Bridge` commits to.
    """
    pending = load_pending(environment, read_many, cache)
    (encoded,) = read_many([PEG_KEY])
    if encoded is None or keccak256(encoded) != pending.peg_root:
        raise NodeFault("the database's state of the peg is not the one that Bridge commits to; sync anew")
    return PegParent(header, environment, pending, _decode(encoded), read_many, cache)


def compute_transition(
    parent: PegParent, origin: bytes, evidence: Sequence[bytes], view: BitcoinView | None, params: ChainParams
) -> PegTransition:
    """What a block on `parent` with this origin and evidence does to the peg.

    Raises:
        EvidenceUnexpected, EvidenceRefused: by rule.
        OriginNotFollowed, OriginUnknown: this node cannot tell yet.
        NodeFault: the parent's state contradicts itself.
    """
    pending, rules = parent.pending, rules_of(params)
    moved = origin != parent.header.parent_beacon_block_root
    if not (moved or evidence or pending.queued or pending.given_up):
        calls = (count_fees_call(parent.fees_wei),) if parent.fees_wei else ()
        return PegTransition(opening=calls, closing=(CLOSING_CALL,))
    if evidence and origin == ZERO_HASH:
        raise EvidenceUnexpected("evidence", len(evidence), "none before the first origin")
    before = state = take_in(parent, rules)
    given: list[tuple[bytes, int]] = []
    outpoints: list[Outpoint] = []
    refunds: list[QueuedPayout] = []
    if moved or evidence:
        bitcoin, height = _find_origin(origin, view)
        state = apply_evidence(follow_origin(state, bitcoin, origin, rules), evidence, bitcoin, origin, rules)
        due = due_credits(state, height, rules)
        state = apply_credits(state, height, rules)
        state, refunds = _refund(state, height, rules)
        outpoints = [credit.outpoint for credit in due]
        given = [(credit.address, credit.sats) for credit in due]
        for one in refunds:
            account = load_account(parent.environment, one.number, parent.read_many, parent.cache)
            given.append((account, one.value))
    withdrawals = tuple(
        Withdrawal(pending.credit_count + at, 0, address, sats * GWEI_PER_SAT)
        for at, (address, sats) in enumerate(given)
    )
    encoded = encode_state(state)
    evidence_root = H("evidence", parent.header.hash, *evidence) if evidence else _NO_EVIDENCE
    statuses = _compare(before, state, {one.number for one in refunds})
    opening = (
        update_call(keccak256(encoded), state, len(withdrawals), evidence_root),
        *record_calls(outpoints, statuses),
    )
    return PegTransition(withdrawals, opening, (CLOSING_CALL,), encoded)


def take_in(parent: PegParent, rules: PegRules) -> PegState:
    """The parent's peg with what its block queued, gave up and burned: `Bridge` let through only what is allowed."""
    state, pending = parent.state, parent.pending
    for one in pending.queued:
        state = queue_withdrawal(state, one.script, one.sats, one.max_fee, rules)
    for number in pending.given_up:
        state = refuse_withdrawal(state, number, parent.header.number + 1)
    return burn(state, pending.burned_wei + parent.fees_wei)


def _find_origin(origin: bytes, view: BitcoinView | None) -> tuple[BitcoinView, int]:
    if view is None:
        raise OriginNotFollowed(origin)
    try:
        return view, view.height_of(origin)
    except HeaderUnknown as error:
        raise OriginUnknown(origin) from error


def _refund(state: PegState, origin_height: int, rules: PegRules) -> tuple[PegState, list[QueuedPayout]]:
    """All refunds that are due, by number; none while the peg is frozen."""
    refunds: list[QueuedPayout] = []
    if state.frozen is not None:
        return state, refunds
    for one in state.queue:
        if one.refused_at:
            try:
                state = refund_withdrawal(state, one.number, origin_height, rules)
            except NotRefundable:
                continue
            refunds.append(one)
    return state, refunds


def _compare(before: PegState, after: PegState, refunded: set[int]) -> list[tuple[int, int]]:
    """Withdrawals whose status changed, by number: paid, refunded, or queued again after a reorganisation."""
    were, are = {one.number for one in before.queue}, {one.number: one for one in after.queue}
    changed = {number: REFUNDED if number in refunded else PAID for number in were if number not in are}
    changed |= {number: GIVEN_UP if one.refused_at else QUEUED for number, one in are.items() if number not in were}
    return sorted(changed.items())
