"""What a bitcoind of your own shows beyond what the chain has proven: coins, who spends them, how fast blocks come."""

from dataclasses import dataclass
from typing import Final

from bridge.deposits import CHARGE_FLAG, Outpoint
from bridge.transactions import Transaction
from bridge.work import show_hash
from hyperdust.bitcoind import AnswerMalformed, Bitcoind, RpcFault, parse_hash
from hyperdust.bridging.errors import NotReclaimable
from hyperdust.bridging.reclaim import Coin, find_coin

_LOOK_BACK: Final = 20
"""Blocks: an origin is 6 deep, and the chain may be some minutes behind it."""
_PACE_BLOCKS: Final = 10


@dataclass(frozen=True, slots=True)
class Spender:
    """The transaction that spends a coin."""

    transaction: Transaction
    confirmations: int
    """0: in the mempool."""
    sequence: int
    """Of the input that does."""

    @property
    def is_sweep(self) -> bool:
        """Whether it is the signers': a reclaim's sequence is a number of blocks."""
        return bool(self.sequence & CHARGE_FLAG)

    @property
    def charge(self) -> int:
        """Sats that each deposit in it pays of its fee at most."""
        return self.sequence & CHARGE_FLAG - 1


def find_unspent(bitcoin: Bitcoind, outpoint: Outpoint) -> Coin | None:
    """A coin; None where it is spent, or never was."""
    try:
        return find_coin(bitcoin, outpoint)
    except NotReclaimable:
        return None


def find_spender(bitcoin: Bitcoind, outpoint: Outpoint) -> Spender | None:
    """Who spends a coin, in the mempool or in the last blocks."""
    where = [{"txid": show_hash(outpoint.txid), "vout": outpoint.index}]
    answer = bitcoin.call("gettxspendingprevout", where)
    try:
        spending = answer[0].get("spendingtxid")
    except (IndexError, AttributeError, TypeError) as error:
        raise AnswerMalformed("gettxspendingprevout", answer) from error
    if spending is not None:
        try:
            return _spender(Transaction.decode(bitcoin.raw_transaction(parse_hash(spending))), outpoint, 0)
        except RpcFault:
            pass  # mined or replaced since: the blocks say
    needle = outpoint.txid + outpoint.index.to_bytes(4, "little")
    tip = bitcoin.chain_info().height
    for height in range(tip, max(0, tip - _LOOK_BACK), -1):
        block_hash = bitcoin.block_hash(height)
        if needle not in bitcoin.raw_block(block_hash):
            continue
        for one in bitcoin.call("getblock", show_hash(block_hash), 2)["tx"]:
            transaction = Transaction.decode(bytes.fromhex(one["hex"]))
            if any((spent.txid, spent.index) == (outpoint.txid, outpoint.index) for spent in transaction.inputs):
                return _spender(transaction, outpoint, tip - height + 1)
    return None


def find_payout(bitcoin: Bitcoind, vault: Outpoint, script: bytes, sats: int) -> Spender | None:
    """The vault transaction that pays so much to a script, among those that the chain has not proven yet."""
    for _ in range(_LOOK_BACK):
        found = find_spender(bitcoin, vault)
        if found is None:
            return None
        if any((made.script, made.sats) == (script, sats) for made in found.transaction.outputs[1:]):
            return found
        vault = Outpoint(found.transaction.txid, 0)
    return None


def find_charge(bitcoin: Bitcoind, vault: Outpoint) -> int:
    """Sats that each deposit paid in the last vault transaction that swept one: waiting, or that made `vault`; or 0."""
    try:
        spender = find_spender(bitcoin, vault)
        made = Transaction.decode(bitcoin.raw_transaction(vault.txid)) if spender is None else spender.transaction
    except RpcFault:
        return 0  # no transaction index
    return max((one.sequence & CHARGE_FLAG - 1 for one in made.inputs if one.sequence & CHARGE_FLAG), default=0)


def read_pace(bitcoin: Bitcoind) -> int:
    """Seconds between the last blocks; at least 1."""
    tip = bitcoin.chain_info().height
    count = min(_PACE_BLOCKS, tip)
    if not count:
        return 1
    times = [int.from_bytes(bitcoin.raw_header(bitcoin.block_hash(at))[68:72], "little") for at in (tip - count, tip)]
    return max(1, (times[1] - times[0]) // count)


def _spender(transaction: Transaction, outpoint: Outpoint, confirmations: int) -> Spender:
    sequence = next(
        spent.sequence for spent in transaction.inputs if (spent.txid, spent.index) == (outpoint.txid, outpoint.index)
    )
    return Spender(transaction, confirmations, sequence)
