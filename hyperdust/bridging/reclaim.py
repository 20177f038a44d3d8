"""Taking an unswept deposit back: one transaction by the user's key alone, once the coin is old enough.

Needs the deposit file and any bitcoind, no node of the chain and no signer.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from bridge.deposits import Outpoint
from bridge.params import NETWORKS
from bridge.scripts import check_payout_script
from bridge.taproot import check_signature, compute_sighashes, vsize_of
from bridge.transactions import Input, Output, Transaction
from bridge.work import show_hash
from hyperdust.bitcoind import AnswerMalformed, Bitcoind, btc_to_sats
from hyperdust.bridging.addresses import script_of, show_sats
from hyperdust.bridging.errors import AmountRefused, NotOurs, NotReclaimable
from hyperdust.bridging.keeping import Kept

MINUTES_PER_BLOCK: Final = 10
_FALLBACK_RATE: Final = 2_000
"""Sat per 1,000 vB where bitcoind has no estimate: a regtest node, or one that started just now."""
_ESTIMATE_BLOCKS: Final = 6


@dataclass(frozen=True, slots=True)
class Coin:
    """A deposit as it lies on Bitcoin."""

    outpoint: Outpoint
    output: Output
    confirmations: int
    """0: in the mempool."""
    from_coinbase: bool = False
    """Made by mining: signers never sweep such a coin."""


@dataclass(frozen=True, slots=True)
class Reclaim:
    """A signed transaction that takes a deposit back."""

    transaction: Transaction
    sats: int
    """What the address gets."""
    fee: int
    waits: int
    """Blocks until Bitcoin takes it; 0: now."""

    @property
    def raw(self) -> bytes:
        """As it travels."""
        return self.transaction.encode()

    def as_json(self) -> dict[str, Any]:
        """As `bridge reclaim --json` prints it."""
        return {
            "txid": show_hash(self.transaction.txid),
            "raw": self.raw.hex(),
            "sats": self.sats,
            "fee_sats": self.fee,
            "blocks_to_wait": self.waits,
        }


def find_coin(bitcoin: Bitcoind, outpoint: Outpoint) -> Coin:
    """A coin that nobody has spent, not even in the mempool.

    Raises:
        NotReclaimable: it is spent, or never was.
    """
    found = bitcoin.call("gettxout", show_hash(outpoint.txid), outpoint.index, True)
    if found is None:
        raise NotReclaimable(
            f"{outpoint} is spent, or there is no such coin: the signers may have swept it; "
            f"`hyperdust bridge status {outpoint}` says what has become of it"
        )
    try:
        output = Output(btc_to_sats(found["value"]), bytes.fromhex(found["scriptPubKey"]["hex"]))
        return Coin(outpoint, output, int(found["confirmations"]), bool(found["coinbase"]))
    except (KeyError, TypeError, ValueError) as error:
        raise AnswerMalformed("gettxout", found) from error


def read_rate(bitcoin: Bitcoind) -> int:
    """Sat per 1,000 vB that bitcoind estimates."""
    return bitcoin.fee_rate(_ESTIMATE_BLOCKS) or _FALLBACK_RATE


def build_reclaim(kept: Kept, coin: Coin, to: str, rate: int, secret: int | None = None) -> Reclaim:
    """The transaction, signed, at a rate in sat per 1,000 vB; `secret` where the file holds none.

    Raises:
        NotOurs: the coin is not at the file's address, or the key is not the file's.
        AddressRefused: `to` is no address of that network.
        AmountRefused: the fee leaves too little.
    """
    if coin.output.script != kept.script:
        raise NotOurs(f"{coin.outpoint} does not pay to {kept.bitcoin_address}; give the outpoint of that deposit")
    script = script_of(to, NETWORKS[kept.network])
    key = kept.secret if kept.secret is not None else secret
    if key is None:
        raise NotReclaimable(
            f"the deposit file holds no secret key, since you gave your own with --user-key "
            f"{kept.binding.user_key.hex()}; give its secret with --secret-file FILE"
        )
    place = Input(coin.outpoint.txid, coin.outpoint.index, b"", kept.reclaim_blocks)
    bare = Transaction(2, (place,), (Output(coin.output.sats, script),), 0)
    fee = -(-rate * vsize_of(_signed(bare, kept, bytes(64))) // 1_000)
    left, least = coin.output.sats - fee, check_payout_script(script).dust_sats
    if left < least:
        raise AmountRefused(
            f"{show_sats(coin.output.sats)} less {fee} sats of fee leaves {left} sats, and Bitcoin relays no less than "
            f"{least}; wait for lower fees, or give a lower --fee-rate"
        )
    paying = replace(bare, outputs=(Output(left, script),))
    (message,) = compute_sighashes(paying, (coin.output,), (kept.reclaim,))
    transaction = _signed(paying, kept, _sign(kept, key, message))
    return Reclaim(transaction, left, fee, max(0, kept.reclaim_blocks - coin.confirmations))


def send_reclaim(bitcoin: Bitcoind, made: Reclaim) -> str:
    """Broadcast; its id as text.

    Raises:
        NotReclaimable: too early, or bitcoind refuses it; carries its reason.
    """
    if made.waits:
        days = made.waits * MINUTES_PER_BLOCK / (24 * 60)
        raise NotReclaimable(
            f"Bitcoin takes this transaction {made.waits} blocks from now (about {days:.1f} days): the signers have "
            "that long to sweep the deposit; run the same command again then"
        )
    if (reason := bitcoin.refusal_of(made.raw)) is not None:
        raise NotReclaimable(f"bitcoind refuses it: {reason}; try again, if need be with another --fee-rate")
    return show_hash(bitcoin.send_raw_transaction(made.raw))


def _sign(kept: Kept, secret: int, message: bytes) -> bytes:
    from btclib_ecc.ecc import ssa  # noqa: PLC0415  # loads curve code

    _, x = ssa.gen_keys(secret)
    if x.to_bytes(32, "big") != kept.binding.user_key:
        raise NotOurs(f"that secret is not the one of {kept.binding.user_key.hex()}, which this deposit names")
    signature: bytes = ssa.sign_(message, secret).serialize()
    check_signature(kept.binding.user_key, message, signature)
    return signature


def _signed(bare: Transaction, kept: Kept, signature: bytes) -> Transaction:
    witness = (signature, kept.reclaim.script, kept.reclaim.control)
    return replace(bare, inputs=(replace(bare.inputs[0], witness=witness),))
