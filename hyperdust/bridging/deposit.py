"""Bringing bitcoin in: the user's key, the address, its announcement, and on a devnet the payment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bridge.deposits import Outpoint
from bridge.scripts import Binding
from bridge.taproot import NUMS, blank_witness, weight_of_spend
from bridge.transactions import MAX_SATS, Transaction
from hyperdust.bitcoind import Bitcoind
from hyperdust.bridging.addresses import payment_link, show_sats
from hyperdust.bridging.errors import AddressDiffers, AmountRefused, NotStanding
from hyperdust.bridging.keeping import Kept, add_outpoint, make_kept, make_secret, save
from hyperdust.bridging.terms import Terms, ask_peg
from hyperdust.rpc_client import RpcClient

_LEAST_FEE: Final = 2_000
_MOST_FEE: Final = 20_000
LABEL: Final = "Hyperdust"


@dataclass(frozen=True, slots=True)
class Deposit:
    """A deposit that is announced, and perhaps paid."""

    kept: Kept
    path: Path
    """Of its file."""
    outpoint: Outpoint | None = None
    """Its payment, where this program made it."""

    @property
    def id(self) -> str:
        """What `bridge status` takes: the payment, else the address."""
        return self.kept.bitcoin_address if self.outpoint is None else str(self.outpoint)

    @property
    def link(self) -> str:
        """BIP-21."""
        return payment_link(self.kept.bitcoin_address, self.kept.sats, LABEL)

    def as_json(self) -> dict[str, Any]:
        """As `bridge deposit --json` prints it."""
        return {
            "id": self.id,
            "outpoint": None if self.outpoint is None else str(self.outpoint),
            "address": self.kept.bitcoin_address,
            "uri": self.link,
            "sats": self.kept.sats,
            "to": "0x" + self.kept.binding.address.hex(),
            "max_fee_sats": self.kept.binding.max_fee,
            "user_key": self.kept.binding.user_key.hex(),
            "file": str(self.path),
            "reclaim_after_blocks": self.kept.reclaim_blocks,
        }


def choose_fee(sats: int) -> int:
    """The most that goes to Bitcoin's fee where nobody says: a tenth, within bounds."""
    return min(_MOST_FEE, max(_LEAST_FEE, sats // 10))


def prepare(
    terms: Terms, sats: int, to: bytes, max_fee: int | None, user_key: bytes | None, folder: Path
) -> tuple[Kept, Path]:
    """Check, make the reclaim key, write the deposit file: before anybody can pay to the address.

    Raises:
        AmountRefused: too little, too much, or no more than its fee.
        NotStanding: the peg is frozen.
    """
    terms.check_running()
    least = terms.rules.min_deposit_sats
    if not least <= sats <= MAX_SATS:
        raise AmountRefused(f"{show_sats(sats)} cannot be deposited: {show_sats(least)} is the least")
    fee = choose_fee(sats) if max_fee is None else max_fee
    if not 0 <= fee < sats:
        raise AmountRefused(f"--max-fee {fee} sats leaves nothing of {show_sats(sats)}; give less")
    if fee < (place := _input_vsize(terms)):  # a vB costs a satoshi at least
        raise AmountRefused(
            f"--max-fee {fee} sats can never pay for the deposit's own {place} vB of a sweep: nobody would sweep it; "
            f"give more, for example {choose_fee(sats)}"
        )
    secret, key = make_secret() if user_key is None else (None, user_key)
    custody = terms.custody
    binding = Binding(key, to, fee, custody.epoch)
    kept = make_kept(terms.chain_id, terms.bitcoin.name, custody, terms.rules, binding, secret, sats)
    return kept, save(kept, folder)


def _input_vsize(terms: Terms) -> int:
    """What sweeping one deposit takes at least: by all signers' common key where they have one."""
    signers, any_key = terms.custody.signers, Binding(NUMS, bytes(20), 0, terms.custody.epoch)
    leaf = None if signers.group_key else terms.output_of(any_key).signers
    return weight_of_spend(blank_witness(leaf, len(signers.keys), signers.threshold)) // 4


def announce(client: RpcClient, kept: Kept) -> None:
    """Tell the node whose address it is, so that signers sweep what is paid there.

    Raises:
        AddressDiffers: the node computes another one.
        NotStanding: the node takes no announcements.
    """
    answer = ask_peg(client, "hyperdust_announceDeposit", announcement_of(kept.binding))
    if answer is None:
        raise NotStanding(f"the node at {client.url} takes no announcements of deposits; ask another with --rpc URL")
    if answer["bitcoinAddress"] != kept.bitcoin_address:
        raise AddressDiffers(answer["bitcoinAddress"], kept.bitcoin_address)


def announcement_of(binding: Binding) -> Mapping[str, Any]:
    """What `hyperdust_announceDeposit` takes."""
    return {
        "userKey": "0x" + binding.user_key.hex(),
        "address": "0x" + binding.address.hex(),
        "maxFee": binding.max_fee,
        "epoch": binding.epoch,
    }


def pay(bitcoin: Bitcoind, wallet: str, kept: Kept, folder: Path) -> Outpoint:
    """Pay from a wallet of that bitcoind, and note the payment in the deposit file; a devnet's errand.

    Raises:
        NodeFault: bitcoind cannot pay.
    """
    with bitcoin.wallet(wallet) as purse:
        txid = purse.send_to_address(kept.bitcoin_address, kept.sats)
    paid = Transaction.decode(bitcoin.raw_transaction(txid))
    index = next(at for at, made in enumerate(paid.outputs) if made.script == kept.script)
    outpoint = Outpoint(txid, index)
    add_outpoint(kept, outpoint, folder)
    return outpoint
