"""What a signer does while the peg is frozen: it sends lost transactions again, and says what is missing.

It signs nothing by itself: `Mender.look` gives the state that a round of gifts may be planned on, or nothing.
"""

from dataclasses import dataclass
from typing import Final

from bridge.deposits import Outpoint
from bridge.params import BitcoinParams
from bridge.peg_errors import PegFrozen
from bridge.peg_state import Freeze, PegState
from bridge.shortage import ASKED_RATE, compute_missing, gift_address
from bridge.transactions import Transaction
from chain.errors import Invalid, NotYet
from hyperdust.signer.errors import FirstRoundLost, NothingMissing
from hyperdust.signer.gifts import find_gifts
from hyperdust.signer.protection import show_outpoint, show_txid
from hyperdust.signer.rebuild import Sources, outpoint_of
from hyperdust.signer.repair import count_kept, load_repaired, resend
from hyperdust.signer.session import Session

_RATE_MARGIN: Final = 2
"""What is asked for pays so many times the rate of now: until it lies deep the rate may have to be raised."""


@dataclass(frozen=True, slots=True)
class Look:
    """A frozen peg, as this signer sees it."""

    owing: PegState | None
    """What gifts may be taken in on; None: there is nothing to sign."""
    alarm: str
    """For people: why it stands still, and what to do."""


class Mender:
    """Looks anew with every Bitcoin block: coins paid to the vault are looked for in the whole set. One thread."""

    def __init__(self, session: Session, network: BitcoinParams) -> None:
        self._session = session
        self._network = network
        self._seen: tuple[bytes, Freeze, tuple[bytes, ...], Outpoint | None] | None = None
        self._look = Look(None, "")

    def look(self, head: PegState, vault: Outpoint | None) -> Look:
        """What can be done now about a peg that is frozen.

        Args:
            head: at the node's head.
            vault: the last output of the list that this signer's bitcoind has.

        Raises:
            NodeFault: a source does not answer.
        """
        bitcoin = self._session.sources.bitcoin
        if head.frozen is None:
            return Look(None, "")
        tip = bitcoin.load_block_hash(bitcoin.load_height())
        seen = tip, head.frozen, tuple(one.block_hash for one in head.records), vault
        if seen != self._seen:
            self._look = self._look_anew(head, head.frozen, vault)
            self._seen = seen
        return self._look

    def _look_anew(self, head: PegState, frozen: Freeze, vault: Outpoint | None) -> Look:
        sources, why = self._session.sources, f"{frozen.reason.name.lower()}, {show_txid(frozen.txid)}"
        lost = len(head.records) - count_kept(head, sources.bitcoin)
        if lost:
            refused = resend(head, self._kept_rounds(head, lost), sources.bitcoin)
            why += f"; vault transactions that Bitcoin dropped: {lost}"
            why += "".join(f"; {show_txid(txid)} cannot come back: {reason}" for txid, reason in refused.items())
        try:
            owing = load_repaired(head, vault, sources.bitcoin, sources.rules)
        except (Invalid, NotYet) as error:
            return Look(None, f"{why}; {_advise(error)}")
        return Look(owing, f"{why}; {_ask(owing, sources, self._network)}")

    def _kept_rounds(self, head: PegState, lost: int) -> list[Transaction]:
        """Lost vault transactions that this signer's own file has."""
        coins = [head.base, *(record.coin for record in head.records)][-lost - 1 : -1]
        versions = [one for coin in coins for one in self._session.versions(show_outpoint(outpoint_of(coin)))]
        return [Transaction.decode(bytes.fromhex(one.raw)) for one in versions if one.raw]


def _advise(error: Exception) -> str:
    match error:
        case NothingMissing():
            return "nothing has to be paid: it thaws once its transactions are back, and deep"
        case FirstRoundLost():
            return "the first vault transaction has to come back: send it, and what made its deposits, again"
        case PegFrozen():
            return "call the other signers by voice"
    return str(error)


def _ask(owing: PegState, sources: Sources, network: BitcoinParams) -> str:
    rate = max(ASKED_RATE, _RATE_MARGIN * sources.limits.rate_of(sources.bitcoin.load_rate()))
    missing = compute_missing(owing, sources.bitcoin.load_height(), sources.rules, rate)
    address = gift_address(owing, sources.rules, network)
    there = sum(one.sats for one in find_gifts(owing, sources))
    given = f" ({there} sats lie there)" if there else ""
    return f"{missing} sats are missing: anybody may pay them to {address}{given}"
