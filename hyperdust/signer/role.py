"""The signer's loop: follow the vault, hand evidence in, lead a round when it is this signer's turn."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from bridge.deposits import Claim, Outpoint
from bridge.params import BitcoinParams
from bridge.peg_errors import FeeTooLow, NothingToDo, NotMadeGood, WithdrawalInvalid
from bridge.peg_state import PegState, SweepStatus
from bridge.transactions import Transaction
from chain.errors import HyperdustError, NotYet
from consensus.evidence import encode_evidence_item
from hyperdust.bitcoind import RpcFault
from hyperdust.signer.errors import (
    DataDiffers,
    DataUnknown,
    DepositUnknown,
    NotContinued,
    NotTogether,
    RateTooHigh,
    RoundDiffers,
    SourceFault,
    TooFewSignatures,
)
from hyperdust.signer.evidence import build_evidence, scripts_of
from hyperdust.signer.lead import (
    Prepared,
    Reachable,
    collect,
    prepare_bump,
    prepare_by_script,
    prepare_dearer,
    prepare_round,
)
from hyperdust.signer.mending import Mender
from hyperdust.signer.notices import custody_notices
from hyperdust.signer.peers import Peers
from hyperdust.signer.proposal import Proposal
from hyperdust.signer.protection import FIRST, Version, read_outpoint
from hyperdust.signer.rebuild import outpoint_of
from hyperdust.signer.repair import send_again
from hyperdust.signer.session import Session, keys_of, vault_of
from hyperdust.signer.watch import Found, Watch

log = structlog.get_logger()

_AGAIN_S: Final = 20.0
"""Until evidence that is in no block yet is handed in again."""
_CALM: Final = ("evidence", "waiting")
"""What is said of the ordinary course."""


@dataclass(slots=True)
class _Open:
    """A round that this signer leads and that is not complete."""

    prepared: Prepared
    height: int
    """Of Bitcoin when it was first shown."""


@dataclass(slots=True)
class Signer:
    """One signer's duties beside answering others. One thread."""

    session: Session
    peers: Peers
    network: BitcoinParams
    _watch: Watch = field(init=False)
    _mender: Mender = field(init=False)
    _open: _Open | None = None
    _due: tuple[str, int] = ("", 0)
    """Vault, and the height from which its next step is due."""
    _handed_in: dict[tuple[bytes, bytes], float] = field(default_factory=dict)
    _claimed: dict[Outpoint, float] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin to watch."""
        self._watch = Watch(self.session.sources.bitcoin)
        self._mender = Mender(self.session, self.network)

    def run(self, poll_s: float, stop: threading.Event) -> None:
        """Look around until told to stop; a source that is away makes it wait."""
        while not stop.is_set():
            try:
                self.step()
                self._say("trouble", "")
            except NotYet as error:
                self._say("waiting", type(error).__name__)
            except HyperdustError as error:
                self._say("trouble", f"{type(error).__name__}: {error}")
            except Exception:  # a role's main loop: the next look may succeed, and others still get answers
                log.exception("unexpected")
            stop.wait(poll_s)

    def step(self) -> None:
        """Look once, and do what is due."""
        sources = self.session.sources
        head = sources.node.load_peg().state
        firsts = self.session.versions(FIRST)
        found = self._watch.follow(head, firsts)
        self.session.note_dead(self._watch.dead_firsts(firsts, sources.rules.origin_depth))
        self._hand_in(head, found)
        self._claim(head)
        if head.frozen is not None:
            look = self._mender.look(head, self._watch.vault)
            self._say("ALARM: frozen", look.alarm)
            if look.owing is None:
                self._open = None
                return
            head = look.owing
        else:
            self._say("ALARM: frozen", "")
            if found:
                self._open = None
                return
        vault, tip = vault_of(head), sources.bitcoin.load_height()
        for what, text in custody_notices(head, self.session.key.public, tip, sources.rules).items():
            self._say(what, text)
        self._look_for_data(head)
        versions = self.session.versions(vault)
        flying = [one for one in versions if self._is_known(one)]
        if flying:
            self._raise(head, max(flying, key=lambda one: one.rate), versions, tip)
        else:
            self._begin(head, versions, tip)

    # --- what Bitcoin has

    def _hand_in(self, head: PegState, found: Sequence[Found]) -> None:
        """Evidence of all that is mined and not in the state: nodes keep it until it lies deep, and see its anchor."""
        sources, now = self.session.sources, time.monotonic()
        for one in found:
            name = one.txid, one.mined.block_hash
            if now < self._handed_in.get(name, 0.0):
                continue
            known = scripts_of(head, (*sources.node.load_announced(), *self.session.bindings()), sources.rules)
            evidence = build_evidence(one.txid, one.mined, known, sources.bitcoin, is_first=one.is_first)
            try:
                sources.node.submit_evidence(encode_evidence_item(evidence))
            except SourceFault as error:  # most often the node looks at Bitcoin a moment later
                self._say("evidence waits", str(error))
                return
            self._handed_in[name] = now + _AGAIN_S
            text = f"block {one.mined.height}, {len(evidence.claims)} claims"
            self._say(f"evidence of {one.txid[::-1].hex()} handed in", text)

    def _claim(self, head: PegState) -> None:
        """Whose the swept coins were that came without a claim, where this signer knows."""
        sources, now = self.session.sources, time.monotonic()
        open_ = [
            one
            for record in head.records
            for one in record.sweeps
            if one.status is SweepStatus.UNCLAIMED and now >= self._claimed.get(one.outpoint, 0.0)
        ]
        if not open_ or head.frozen is not None:
            return
        known = scripts_of(head, (*sources.node.load_announced(), *self.session.bindings()), sources.rules)
        for one in open_:
            self._claimed[one.outpoint] = now + _AGAIN_S
            if (binding := known.get(one.script)) is not None:
                try:
                    sources.node.submit_evidence(encode_evidence_item(Claim(one.outpoint, binding)))
                except SourceFault as error:
                    self._say(f"claim of {one.outpoint}", str(error))

    def _is_known(self, one: Version) -> bool:
        """Whether Bitcoin has a version, sending it again where this signer can.

        In its mempool or in a block of the best chain: its index knows transactions of lost blocks too.
        """
        bitcoin = self.session.sources.bitcoin
        txid, place = bytes.fromhex(one.txid)[::-1], read_outpoint(one.vault or one.inputs[0])
        if bitcoin.load_spender(place) != txid and bitcoin.load_mined(txid) is None:
            if not one.raw:
                return False
            try:
                send_again(Transaction.decode(bytes.fromhex(one.raw)), bitcoin)
            except RpcFault as error:
                self._say(f"sending {one.txid}", str(error))
                return False
        if not one.seen:
            self.session.mark_seen(one.txid)
        return True

    def _look_for_data(self, head: PegState) -> None:
        """Payloads of blocks that anchors may name: nothing waits for them."""
        try:
            self.session.data.advance(head, self.session.sources.data)
            self._say("published blocks", "")
        except HyperdustError as error:
            self._say("published blocks", str(error))

    # --- leading

    def _raise(self, head: PegState, best: Version, versions: Sequence[Version], tip: int) -> None:
        """A higher rate, once the best version has waited."""
        due = max(one.height for one in versions) + self.session.sources.limits.bump_blocks
        if tip < due:
            return
        reachable = self._turn(head, tip)
        if reachable is None:
            return
        before = Proposal.decode(bytes.fromhex(best.proposal), self.session.sources.rules)
        try:
            prepared = self._reopen(vault_of(head), tip, best.rate + 1) or prepare_bump(self.session, before, reachable)
        except (RateTooHigh, FeeTooLow) as error:
            self._say("raising the rate", str(error))
            if head.vault is None:
                return
            try:
                prepared = prepare_dearer(self.session, before, reachable)
            except (RateTooHigh, NothingToDo, WithdrawalInvalid) as ended:
                self._say("a round without those at their maximum fee", str(ended))
                return
        except (DepositUnknown, DataUnknown, RoundDiffers, NotMadeGood) as error:
            self._say("raising the rate", str(error))
            prepared = prepare_round(self.session, reachable, vault=outpoint_of(head.vault))
        self._lead(prepared, reachable, tip)

    def _begin(self, head: PegState, versions: Sequence[Version], tip: int) -> None:
        """A new round, once it is time."""
        limits, rules, vault = self.session.sources.limits, self.session.sources.rules, vault_of(head)
        if head.vault is not None and tip < head.vault.height + limits.round_blocks:
            return
        coin = outpoint_of(head.vault)
        if coin is not None and (spender := self.session.sources.bitcoin.load_spender(coin)) is not None:
            self._say("the vault is being spent", f"by {spender[::-1].hex()}, which this signer did not sign")
            return
        least = max((one.height + limits.bump_blocks for one in versions if one.signed), default=0)
        if self._due[0] != vault or self._due[1] < least:
            self._due = vault, max(tip, least)
        if tip < self._due[1]:
            return
        reachable = self._turn(head, tip)
        if reachable is None:
            return
        try:
            prepared = self._reopen(vault, tip) or prepare_round(self.session, reachable, vault=coin)
        except (NothingToDo, WithdrawalInvalid) as error:
            if head.is_refresh_due(tip, rules):
                self._say("ALARM: refresh", f"the vault has to be moved before the council may, and cannot be: {error}")
            if head.is_takeover_due(tip, rules):
                self._say("ALARM: handing over", f"to those who are announced, and it cannot be: {error}")
            return
        self._lead(prepared, reachable, tip)

    def _turn(self, head: PegState, tip: int) -> Reachable | None:
        """Those who answer, if it is this signer's turn: another's with every Bitcoin block that passes."""
        own, keys = self.session.key.public, head.custody.signers.keys
        if own not in keys:
            return None
        allowed = keys_of(head)
        reachable = {key: one for key, one in self.peers.greet().items() if key in allowed and key != own}
        start = int.from_bytes(head.vault.txid[:4], "little") % len(keys) if head.vault else 0
        present = [key for key in (*keys[start:], *keys[:start]) if key == own or key in reachable]
        if len(present) < head.custody.signers.threshold:
            self._say("signers", f"{len(present)} of {len(keys)} answer, {head.custody.signers.threshold} are needed")
            return None
        self._say("signers", "")
        return reachable if present[tip % len(present)] == own else None

    def _reopen(self, vault: str, tip: int, least_rate: int = 0) -> Prepared | None:
        """The round that somebody may have signed already: another would be refused for a while."""
        if self._open is not None:
            prepared, until = self._open.prepared, self._open.height + self.session.sources.limits.bump_blocks
            if prepared.vault == vault and prepared.proposal.rate >= least_rate and tip < until:
                return prepared
        self._open = None
        return None

    def _lead(self, prepared: Prepared, reachable: Reachable, tip: int) -> None:
        if self._open is None or self._open.prepared != prepared:
            self._open = _Open(prepared, tip)
        try:
            signed = collect(self.session, prepared, reachable)
        except NotTogether as error:
            self._lead_by_script(prepared, reachable, tip, error)
            return
        except TooFewSignatures as error:
            self._say("round not complete", str(error))
            is_of_data = bool(prepared.proposal.data) and _names_data(error)
            if is_of_data:
                self.session.data.pause(tip)
            if not error.got or is_of_data:
                self._open = None
            return
        except NotContinued:
            self._open = None
            raise
        self._open = None
        sources = self.session.sources
        try:
            sources.bitcoin.send(signed)
        except RpcFault as error:
            log.warning("round not taken by bitcoind", txid=signed.txid[::-1].hex(), reason=str(error))
            return
        self.session.note_completed(prepared.vault, prepared.proposal, prepared.raw, prepared.signature, signed)
        planned = prepared.draft.round
        log.info(
            "round sent",
            txid=signed.txid[::-1].hex(),
            rate=planned.rate,
            path=planned.path.value,
            fee=prepared.draft.fee,
            deposits=len(planned.deposits),
            payouts=len(planned.payouts),
            anchor=None if planned.anchor is None else planned.anchor.height,
        )
        for key, (peer, _) in reachable.items():
            try:
                peer.deliver(prepared.raw, prepared.signature, signed.encode())
            except HyperdustError as error:
                log.info("round not delivered", key=key.hex(), reason=str(error))

    def _lead_by_script(self, prepared: Prepared, reachable: Reachable, tip: int, reason: NotTogether) -> None:
        """The same round by k signatures, at once: who does not sign together with all holds nobody up."""
        self._say("not all sign together", str(reason))
        self._open = None
        self.session.spoilers.strike(reason.spoilers, tip)
        others = {key: one for key, one in reachable.items() if key not in reason.keys}
        instead = prepare_by_script(self.session, prepared)
        allowed = {*others, self.session.key.public}
        signers = [one.custody.signers for one in instead.draft.inputs]
        is_enough = all(len(allowed.intersection(one.keys)) >= one.threshold for one in signers)
        self._lead(instead, others if is_enough else reachable, tip)

    # --- saying

    def _say(self, what: str, text: str) -> None:
        """Log a change once."""
        if self._said.get(what, "") == text:
            return
        self._said[what] = text
        if text:
            log.log(logging.INFO if what.startswith(_CALM) else logging.WARNING, what, reason=text)


def _names_data(error: TooFewSignatures) -> bool:
    """Whether somebody refused the data that the anchor would name: anchors do not wait for data."""
    return any(rule.__name__ in str(error) for rule in (DataUnknown, DataDiffers))


__all__ = ["Signer"]
