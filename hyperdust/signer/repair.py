"""A frozen peg as this signer's own bitcoind shows it: what was lost, what stands in its place, what comes back.

The node says which vault transactions the peg has applied; all else is looked up here, so that a gift is signed for
only where it is missing. What `restore` needs in evidence is the same row that is read here.
"""

from collections.abc import Collection
from contextlib import suppress
from typing import Final

from bridge.deposits import Outpoint, ProvenTransaction, Spent
from bridge.peg_repair import apply_row, undo
from bridge.peg_state import PegState, Reason
from bridge.rules import PegRules
from bridge.scripts import vault_output
from bridge.transactions import Transaction
from hyperdust.bitcoind import RpcFault
from hyperdust.signer.errors import FirstRoundLost, NothingMissing, SourceFault, VaultNotDeep, WrongVaultCoin
from hyperdust.signer.proposal import inputs_of
from hyperdust.signer.protection import show_txid
from hyperdust.signer.sources import Bitcoin

_LONGEST: Final = 64
"""Vault transactions in the place of what was lost: a block's evidence holds no more."""


def count_kept(state: PegState, bitcoin: Bitcoin) -> int:
    """How many of the peg's records, from the oldest on, stand on this bitcoind's best chain."""
    tip = bitcoin.load_height()
    for at, record in enumerate(state.records):
        if record.coin.height > tip or bitcoin.load_block_hash(record.coin.height) != record.block_hash:
            return at
    return len(state.records)


def check_repairable(state: PegState) -> None:
    """Check that the vault was not spent against its rules: that ends only with the block that has it.

    Raises:
        PegFrozen: it was.
    """
    if state.frozen is not None and state.frozen.reason is Reason.UNKNOWN_SPEND:
        state.check_running()


def load_repaired(state: PegState, vault: Outpoint | None, bitcoin: Bitcoin, rules: PegRules) -> PegState:
    """A frozen peg without what was lost and with what stands in its place, up to a vault that ends the row.

    Raises:
        PegFrozen: the vault was spent against its rules.
        NothingMissing: it thaws by evidence alone, or will: a lost round, or another version, is in the mempool.
        FirstRoundLost: there is no vault to take gifts into.
        WrongVaultCoin, VaultNotDeep: the row does not lead to that vault, or is not mined.
        And the rules of `read_vault_transaction`.
    """
    check_repairable(state)
    undone = undo(state, count_kept(state, bitcoin))
    if undone.vault is None:
        raise FirstRoundLost("first vault transaction", "lost", "back, or another one in its place")
    row = _load_row(Outpoint(undone.vault.txid, 0), vault, bitcoin)
    if vault is not None and (spender := bitcoin.load_spender(vault)) is not None:
        _check_gifts_alone(spender, undone, bitcoin, rules)
    repaired = apply_row(undone, row, rules)
    if repaired.surplus_sats >= 0:
        raise NothingMissing("missing sats", 0, "evidence, or more blocks on top of it")
    return repaired


def resend(state: PegState, known: Collection[Transaction], bitcoin: Bitcoin) -> dict[bytes, str]:
    """Broadcast lost vault transactions anew; why bitcoind refuses one, by its id.

    Args:
        state: the peg whose records may be lost.
        known: vault transactions that this signer kept; bitcoind's index has those of lost blocks too.
        bitcoin: it puts most of what it lost back by itself.
    """
    refused: dict[bytes, str] = {}
    for record in state.records[count_kept(state, bitcoin) :]:
        if bitcoin.load_mined(record.coin.txid) is not None:
            continue
        txid = record.coin.txid
        made = next((one for one in known if one.txid == txid), None) or bitcoin.load_transaction(txid)
        if made is None:
            continue
        try:
            send_again(made, bitcoin)
        except RpcFault as error:
            refused[txid] = str(error)
    return refused


def send_again(made: Transaction, bitcoin: Bitcoin) -> None:
    """Broadcast a vault transaction, and before it what it spends where a reorganisation took that away too.

    bitcoind puts no transaction back whose lock time is then above its tip, nor anything from far below.

    Raises:
        RpcFault: it does not take it.
    """
    for txid in dict.fromkeys(one.txid for one in made.inputs):
        if bitcoin.load_mined(txid) is None and (funding := bitcoin.load_transaction(txid)) is not None:
            with suppress(RpcFault):
                bitcoin.send(funding)
    bitcoin.send(made)


def _check_gifts_alone(txid: bytes, state: PegState, bitcoin: Bitcoin, rules: PegRules) -> None:
    made = bitcoin.load_transaction(txid)
    if made is None:
        return
    ours = {vault_output(custody, rules).script for custody in state.custodies}
    taken = [bitcoin.load_coin(place) for place in inputs_of(made)[1:]]
    if not taken or any(one is None or one.output.script not in ours for one in taken):
        raise NothingMissing("next vault transaction", show_txid(txid), "mined")


def _load_row(start: Outpoint, end: Outpoint | None, bitcoin: Bitcoin) -> list[ProvenTransaction]:
    """Vault transactions from one vault output to another, oldest first."""
    row: list[ProvenTransaction] = []
    place = end
    while place != start:
        made = None if place is None or place.index or len(row) == _LONGEST else bitcoin.load_transaction(place.txid)
        if made is None or made.is_coinbase:
            raise WrongVaultCoin("vault of the round", str(end), f"one that follows from {start}")
        row.append(_prove(made, bitcoin))
        place = inputs_of(made)[0]
    return row[::-1]


def _prove(made: Transaction, bitcoin: Bitcoin) -> ProvenTransaction:
    mined = bitcoin.load_mined(made.txid)
    if mined is None:
        raise VaultNotDeep(f"confirmations of {show_txid(made.txid)}", 0, "at least 1")
    spent: list[Spent | None] = [None]
    for place in inputs_of(made)[1:]:
        funding = bitcoin.load_transaction(place.txid)
        if funding is None:
            raise SourceFault(f"bitcoind does not have transaction {show_txid(place.txid)}; it needs txindex=1")
        spent.append(Spent(funding.outputs[place.index], funding.is_coinbase))
    bare = Transaction.decode(made.encode_stripped())
    return ProvenTransaction(bare, bare.txid, mined.block_hash, mined.height, tuple(spent), ())
