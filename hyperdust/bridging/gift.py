"""A gift to the vault: where it goes, how much is missing, and on a devnet its payment."""

from dataclasses import dataclass, replace
from typing import Any, Final, Self

from bridge.shortage import gift_address
from hyperdust.bitcoind import Bitcoind
from hyperdust.bridging.addresses import payment_link, show_sats
from hyperdust.bridging.errors import NotStanding
from hyperdust.bridging.terms import Terms

_LABEL: Final = "Hyperdust"


@dataclass(frozen=True, slots=True)
class Gift:
    """What somebody may give."""

    address: str
    """The vault's own."""
    missing_sats: int | None
    """What makes a frozen peg whole; 0: nothing is missing; null: the node cannot tell."""
    sats: int
    """What is to be given now."""
    txid: str | None = None
    """Of the payment, where this program made it."""

    @classmethod
    def of(cls, terms: Terms, sats: int | None) -> Self:
        """A gift of so much, or of what is missing.

        Raises:
            NotStanding: the vault was spent against its rules, so a gift would be lost too.
        """
        if terms.is_stolen:
            raise NotStanding("the vault was spent against its rules: do not pay to it; see `hyperdust bridge audit`")
        address = gift_address(terms.state, terms.rules, terms.bitcoin)
        return cls(address, terms.missing_sats, (terms.missing_sats or 0) if sats is None else sats)

    @property
    def link(self) -> str:
        """BIP-21; of no amount where nothing is missing."""
        return payment_link(self.address, self.sats, _LABEL) if self.sats else f"bitcoin:{self.address}"

    def as_json(self) -> dict[str, Any]:
        """As `bridge gift --json` prints it."""
        return {
            "address": self.address,
            "uri": self.link,
            "missing_sats": self.missing_sats,
            "sats": self.sats,
            "txid": self.txid,
        }

    def show(self) -> str:
        """For people."""
        lines = [show_missing(self.missing_sats, self.address)]
        if self.txid is not None:
            lines.append(f"paid {show_sats(self.sats)} in {self.txid}; signers take it in with their next round")
        elif self.sats:
            lines += [f"Pay {show_sats(self.sats)} to {self.address}", self.link]
        return "\n".join(lines)


def show_missing(missing: int | None, address: str) -> str:
    """What is missing, and where anybody may pay it."""
    if missing is None:
        return "nobody can tell here what is missing: the signers' alarms say more"
    if not missing:
        return f"nothing is missing; what is paid to {address} becomes surplus, which pays for anchors"
    return (
        f"{show_sats(missing)} are missing, unless what Bitcoin dropped comes back (the signers' alarms say whether it "
        f"can); anybody may pay them to {address}"
    )


def pay_gift(gift: Gift, bitcoin: Bitcoind, wallet: str) -> Gift:
    """Pay from a wallet of that bitcoind; a devnet's errand.

    Raises:
        NodeFault: bitcoind cannot pay.
    """
    with bitcoin.wallet(wallet) as purse:
        txid = purse.send_to_address(gift.address, gift.sats)
    return replace(gift, txid=txid[::-1].hex())
