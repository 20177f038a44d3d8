"""Leading a round: choose deposits and rate, ask the others, complete it with k signatures and send it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog

from bridge.anchors import NO_DATA, Anchor
from bridge.deposits import Outpoint
from bridge.peg_errors import NothingToDo
from bridge.peg_state import PegState
from bridge.planning import plan_round
from bridge.rounds import Deposit, Gift, Round
from bridge.rules import PegRules
from bridge.taproot import Path
from bridge.transactions import Transaction
from bridge.vault import Draft, build_draft, highest_rate
from hyperdust.signer.errors import PeerFault, PeerRefused, RateTooHigh, SignatureWrong, StateNotFinal, TooFewSignatures
from hyperdust.signer.evidence import scripts_of
from hyperdust.signer.gifts import check_enough, find_gifts
from hyperdust.signer.key import proposal_digest
from hyperdust.signer.musig import is_shared
from hyperdust.signer.peers import Peer, Presence
from hyperdust.signer.proposal import GiftCoin, PayloadPlace, Proposal, Sweep
from hyperdust.signer.protection import show_outpoint
from hyperdust.signer.rebuild import (
    Sources,
    hold_back,
    load_basis,
    load_deposit,
    load_payable,
    load_state,
    make_anchor,
    outpoint_of,
)
from hyperdust.signer.session import Session, check_signatures
from hyperdust.signer.sources import Place
from hyperdust.signer.together import collect_together

log = structlog.get_logger()

Reachable = Mapping[bytes, tuple[Peer, Presence]]
_ROUNDS: Final = 4
"""Deposits of so many rounds are looked at, those that may pay most first: what pays nothing keeps nobody out."""
_STEP: Final = (3, 2)
"""A replacement pays half as much again."""
_TRIES: Final = 3
"""Fewer take part at a higher rate, so it has to be higher still."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A round ready to be shown to the others."""

    proposal: Proposal
    draft: Draft
    vault: str
    raw: bytes
    signature: bytes


def prepare_round(
    session: Session,
    reachable: Reachable,
    path: Path | None = None,
    vault: Outpoint | None = None,
    least_rate: int = 0,
) -> Prepared:
    """Plan the next round from this signer's own sources, as far as k of the signers see.

    Args:
        session: this signer's.
        reachable: the others that answer.
        path: how it is spent; None: by one signature where all signers of all that it spends are there, else by k.
        vault: of a frozen peg, the last output of the list on Bitcoin: the round takes in gifts that make it whole.
        least_rate: sat per 1,000 vB, where the estimate is lower.

    Raises:
        NothingToDo: nothing pays for itself.
        NotMadeGood: the gifts are too little yet.
        NotYet, NodeFault: this signer's sources are not there yet.
    """
    sources = session.sources
    head = sources.node.load_peg().state
    seen = [one for _, one in reachable.values()]
    needed = head.custody.signers.threshold - 1  # of the others
    final, settled = sources.node.load_final(), sources.node.load_finalized()
    height = _agreed(sources.bitcoin.load_height(), [one.bitcoin_height for one in seen], needed)
    place = _place(final, _agreed(final.number, [one.final_number for one in seen], needed), sources)
    payable = _place(settled, _agreed(settled.number, [one.finalized_number for one in seen], needed), sources)
    if outpoint_of(sources.node.load_peg(place.number).state.vault) != (now := outpoint_of(head.vault)):
        raise StateNotFinal("block that knows the vault", place.number, f"one with {now}")
    state = load_state(place, sources, vault)
    root, data = session.data.choose(state, place.number, sources.data)
    basis = _Round(
        hold_back(state, load_payable(payable, sources)),
        make_anchor(state, place, height, sources, root),
        min(max(sources.limits.rate_of(sources.bitcoin.load_rate()), least_rate), sources.limits.max_rate),
        height,
        sources.rules,
    )
    owes = state.surplus_sats < 0
    deposits = () if owes else find_deposits(state, {*reachable, session.key.public}, sources)
    gifts = find_gifts(state, sources, {*reachable, session.key.public})
    shared: frozenset[int] = frozenset()
    if path is not Path.SCRIPT:
        far = Presence(b"", height, place.number, payable.number)
        shared = find_shared(state, _together(session, reachable, far))
    planned = _plan(basis, deposits, gifts, shared)
    draft = build_draft(basis.state, planned, sources.rules)
    if owes:
        check_enough(state, draft)
    return _prepare(session, draft, place, payable, planned.rate, show_outpoint(outpoint_of(state.vault)), data=data)


def prepare_bump(session: Session, before: Proposal, reachable: Reachable, path: Path | None = None) -> Prepared:
    """The same round at a higher rate, by whichever path its signers can go now.

    Raises:
        RateTooHigh: somebody's maximum fee, the surplus or this signer's limit ends below.
        FeeTooLow: nodes would not take it in the place of the other.
        NotMadeGood: its gifts would no longer make a frozen peg whole.
        The rules of `load_basis`, for one that is no longer possible.
    """
    sources, rules = session.sources, session.sources.rules
    basis = load_basis(before, sources)
    old = build_draft(basis.state, replace(basis.planned, rate=before.rate), rules)
    if path is None:
        far = Presence(b"", before.height, before.state.number, before.payable.number)
        shared = find_shared(basis.state, _together(session, reachable, far))
        path = Path.KEY if shared.issuperset(one.custody.epoch for one in old.inputs) else Path.SCRIPT
    state, planned = _replan(session, before, path)
    vsize = build_draft(state, planned, rules).vsize
    least = _replacing_rate(old, vsize, rules)  # whatever the path costs
    wanted = max(_next_rate(before.rate, rules), least)
    wanted = max(wanted, sources.limits.rate_of(sources.bitcoin.load_rate()))
    most = min(sources.limits.max_rate, highest_rate(state, planned, rules))
    if most < max(before.rate + 2 * rules.relay_step, least):
        raise RateTooHigh("rate of a replacement", before.rate, f"at most {most} for what takes part")
    draft = build_draft(state, replace(planned, rate=min(wanted, most)), rules)
    if state.surplus_sats < 0:
        check_enough(state, draft)
    vault = show_outpoint(basis.vault)
    return _prepare(
        session, draft, before.state, before.payable, before.planned_rate, vault, before.height, before.data
    )


def prepare_dearer(session: Session, before: Proposal, reachable: Reachable) -> Prepared:
    """Another round in the place of one that somebody's maximum fee holds up: of those alone who can pay more.

    Raises:
        RateTooHigh: at no rate that this signer pays would nodes take it in the place of the other.
        NothingToDo: nobody can pay more.
        The rules of `load_basis`, and of `prepare_round`.
    """
    sources, rules = session.sources, session.sources.rules
    basis = load_basis(before, sources)
    old = build_draft(basis.state, replace(basis.planned, rate=before.rate), rules)
    rate = _next_rate(before.rate, rules)
    for _ in range(_TRIES):
        prepared = prepare_round(session, reachable, vault=basis.vault, least_rate=rate)
        draft = prepared.draft
        if not (draft.round.deposits or draft.round.payouts):
            raise NothingToDo(f"nobody can pay {rate} sat per 1,000 vB")
        rate = _replacing_rate(old, draft.vsize, rules)
        if draft.round.rate >= rate:
            return prepared
    raise RateTooHigh("rate of another round", before.rate, f"{rate} and more, to take its place")


def prepare_by_script(session: Session, before: Prepared) -> Prepared:
    """What a round for all together does, for k signatures, at the same rate: all that still pays for itself.

    Raises:
        NothingToDo: nothing does.
        The rules of `load_basis`.
    """
    proposal, rules = before.proposal, session.sources.rules
    state, planned = _replan(session, proposal, Path.SCRIPT)
    rate = max(proposal.planned_rate, min(proposal.rate, highest_rate(state, planned, rules)))
    draft = build_draft(state, replace(planned, rate=rate), rules)
    return _prepare(
        session,
        draft,
        proposal.state,
        proposal.payable,
        proposal.planned_rate,
        before.vault,
        proposal.height,
        proposal.data,
    )


def collect(session: Session, prepared: Prepared, reachable: Reachable) -> Transaction:
    """Ask the others, sign last, complete.

    Raises:
        NotTogether: the round is one for all, and not all did their part.
        TooFewSignatures: not enough answered; says what each said.
        And this signer's own refusals.
    """
    if prepared.proposal.path is Path.KEY:
        peers = {key: peer for key, (peer, _) in reachable.items()}
        return collect_together(session, prepared.draft, prepared.raw, prepared.signature, peers)
    found: list[dict[bytes, bytes]] = [{} for _ in prepared.draft.inputs]
    said: list[str] = []
    missing = [
        one.custody.signers.threshold - (session.key.public in one.custody.signers.keys)
        for one in prepared.draft.inputs
    ]
    with ThreadPoolExecutor(max(1, len(reachable))) as pool:
        asked: dict[Future[Mapping[int, bytes]], bytes] = {
            pool.submit(_ask, peer, key, prepared): key for key, (peer, _) in reachable.items()
        }
        for answer in as_completed(asked):
            try:
                for at, signature in answer.result().items():
                    found[at][asked[answer]] = signature
            except (PeerFault, PeerRefused, SignatureWrong) as error:
                said.append(f"{asked[answer].hex()[:16]}: {error}")
                if isinstance(error, SignatureWrong):
                    log.warning("wrong signature, ignored", key=asked[answer].hex(), reason=str(error))
    if any(len(signatures) < least for signatures, least in zip(found, missing, strict=True)):
        raise TooFewSignatures("signatures", min(map(len, found)), f"{max(missing)} of others; {'; '.join(said)}")
    own = session.sign(prepared.raw, prepared.signature)
    for at, signature in enumerate(own):
        if signature:
            found[at][session.key.public] = signature
    return prepared.draft.complete(found)


def _next_rate(rate: int, rules: PegRules) -> int:
    """Of a replacement: a step above."""
    return max(rate * _STEP[0] // _STEP[1], rate + 2 * rules.relay_step)


def _replacing_rate(old: Draft, vsize: int, rules: PegRules) -> int:
    """The least at which nodes take so many bytes in another round's place: it pays more in all (BIP-125)."""
    return -(-(old.fee * 1000 + rules.relay_step * vsize) // vsize)


def find_shared(state: PegState, present: frozenset[bytes]) -> frozenset[int]:
    """Epochs whose signers are all there, with their aggregate as common key; none without the vault's."""
    found = frozenset(
        one.epoch for one in state.custodies if is_shared(one.signers) and present.issuperset(one.signers.keys)
    )
    return found if state.custody.epoch in found else frozenset()


def find_deposits(state: PegState, keys: set[bytes], sources: Sources) -> tuple[Deposit, ...]:
    """Announced deposits that lie deep on this signer's bitcoind, of epochs whose signers can be reached."""
    known = scripts_of(state, sources.node.load_announced(), sources.rules)
    found = []
    for outpoint, coin in sources.bitcoin.find_coins(tuple(known)):
        binding = known.get(coin.output.script)
        if binding is None or coin.confirmations < sources.limits.deposit_depth or coin.from_coinbase:
            continue
        signers = state.custodies[binding.epoch].signers
        if len(keys.intersection(signers.keys)) >= signers.threshold:
            found.append(Sweep(outpoint, binding))
    found.sort(key=lambda one: (-one.binding.max_fee, one.outpoint))
    return tuple(load_deposit(one, sources) for one in found[: _ROUNDS * sources.rules.max_sweeps])


@dataclass(frozen=True, slots=True)
class _Round:
    """What a plan is made from, beside coins and path."""

    state: PegState
    anchor: Anchor | None
    rate: int
    height: int
    rules: PegRules

    def plan(self, path: Path, deposits: Sequence[Deposit], gifts: Sequence[Gift]) -> Round:
        """As `plan_round`, once more until it follows from what it chose: the others see nothing else."""
        planned = plan_round(self.state, deposits, self.anchor, self.rate, path, self.height, self.rules, gifts)
        while True:
            again = plan_round(
                self.state,
                planned.deposits,
                self.anchor,
                self.rate,
                path,
                self.height,
                self.rules,
                planned.gifts,
            )
            if again == planned:
                return planned
            planned = again


def _plan(basis: _Round, deposits: Sequence[Deposit], gifts: Sequence[Gift], shared: frozenset[int]) -> Round:
    """By one signature, unless it would take a coin that not all of its signers are there for."""
    if not shared:
        return basis.plan(Path.SCRIPT, deposits, gifts)
    ours = [one for one in deposits if one.binding.epoch in shared]
    given = [one for one in gifts if one.epoch in shared]
    if len(ours) + len(given) < len(deposits) + len(gifts):
        with suppress(NothingToDo):
            planned = basis.plan(Path.SCRIPT, deposits, gifts)
            epochs = {*(one.binding.epoch for one in planned.deposits), *(one.epoch for one in planned.gifts)}
            if not shared.issuperset(epochs):
                return planned
    return basis.plan(Path.KEY, ours, given)


def _replan(session: Session, before: Proposal, path: Path) -> tuple[PegState, Round]:
    """The round of a proposal by that path, and the state that it is planned on."""
    found = load_basis(replace(before, path=path), session.sources)
    old = found.planned
    basis = _Round(found.state, found.anchor, old.rate, old.height, session.sources.rules)
    return found.state, basis.plan(path, old.deposits, old.gifts)


def _together(session: Session, reachable: Reachable, far: Presence) -> frozenset[bytes]:
    """Who could sign with all others: sees as far as the round, and has not spoiled others before."""
    there = {
        key
        for key, (_, one) in reachable.items()
        if one.bitcoin_height >= far.bitcoin_height
        and one.final_number >= far.final_number
        and one.finalized_number >= far.finalized_number
    }
    return frozenset({*there, session.key.public} - session.spoilers.blocked(session.sources.bitcoin.load_height()))


def _prepare(
    session: Session,
    draft: Draft,
    place: Place,
    payable: Place,
    planned_rate: int,
    vault: str,
    height: int | None = None,
    data: tuple[PayloadPlace, ...] = (),
) -> Prepared:
    planned: Round = draft.round
    root = NO_DATA if planned.anchor is None else planned.anchor.data_root
    proposal = Proposal(
        session.chain,
        session.key.public,
        place,
        payable,
        planned.height if height is None else height,
        planned_rate,
        planned.rate,
        tuple(Sweep(one.outpoint, one.binding) for one in planned.deposits),
        draft.transaction,
        planned.path,
        tuple(GiftCoin(one.outpoint, one.epoch) for one in planned.gifts),
        root,
        () if root == NO_DATA else data,
    )
    raw = proposal.encode()
    return Prepared(proposal, draft, vault, raw, session.key.sign(proposal_digest(raw)))


def _ask(peer: Peer, key: bytes, prepared: Prepared) -> Mapping[int, bytes]:
    named, signatures = peer.sign(prepared.raw, prepared.signature)
    if named != key:
        raise SignatureWrong("key", named, key)
    return check_signatures(prepared.draft, key, signatures)


def _agreed(own: int, others: list[int], needed: int) -> int:
    """The highest number that this signer and so many of the others have reached: nobody alone can hold it back."""
    if needed <= 0 or len(others) < needed:
        return own
    return min(own, sorted(others, reverse=True)[needed - 1])


def _place(own: Place, number: int, sources: Sources) -> Place:
    return own if number == own.number else sources.node.load_place(number)
