"""Why a bridge command does not do what it was asked for: the cause, and what to do next.

BridgeRefused       the command's own refusals; nothing was sent
├── NoBitcoin       this network has no bridge: exit code 3
├── AddressRefused  no address of Bitcoin that can be paid here
├── AmountRefused   too little, too much, or no whole satoshi
├── KeyRefused      no key of secp256k1
├── NotOurs         no file of a deposit here knows the coin
├── NotReclaimable  not yet, or no more
├── PaperRefused    a change of signers that the chain would not take, or that lacks signatures
├── PaperDamaged    a file that is no such change
└── NotStanding     the peg, the node or bitcoind cannot do it now
"""

from chain.errors import HyperdustError


class BridgeRefused(HyperdustError):
    """Root of this file's tree."""


class NoBitcoin(BridgeRefused):
    """The network has no Bitcoin, or its node follows none."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; a devnet has a bridge unless it was started with --no-bitcoin")


class AddressRefused(BridgeRefused):
    """No Bitcoin address, one of another network, or one of a kind that is not paid."""


class AmountRefused(BridgeRefused):
    """Outside of what the peg takes; says the bound."""


class KeyRefused(BridgeRefused):
    """No key of secp256k1."""


class NotOurs(BridgeRefused):
    """No deposit file in the folder fits."""


class NotReclaimable(BridgeRefused):
    """The coin cannot be taken back: too early, spent, or the key is not here."""


class PaperRefused(BridgeRefused):
    """A change of signers, or the council's spend, that cannot be proposed, signed or handed in; says why."""


class PaperDamaged(BridgeRefused):
    """A file that holds neither, or not in its one form."""


class NotStanding(BridgeRefused):
    """Something that the command needs is not there now: a signer set, an open peg, a bitcoind."""


class AddressDiffers(BridgeRefused):
    """The node names another deposit address than we compute: pay to neither."""

    def __init__(self, got: str, expected: str) -> None:
        super().__init__(
            f"the node says that the deposit address is {got}, and by its signers and this program's rules it is "
            f"{expected}; do not pay: ask another node with --rpc URL, or update"
        )
        self.got = got
        self.expected = expected


class WaitTimeout(HyperdustError):
    """Still on its way; says how far it is and how to go on."""
