"""Where a deposit or a withdrawal stands now, and waiting for it: asks node and bitcoind, decides nothing itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bridge.deposits import Outpoint
from bridge.scripts import Binding
from chain.hashing import keccak256
from chain.params import BRIDGE
from hyperdust.bitcoind import Bitcoind
from hyperdust.bridging.errors import BridgeRefused, NotStanding, WaitTimeout
from hyperdust.bridging.keeping import Kept, add_outpoint
from hyperdust.bridging.looking import find_payout, find_spender, find_unspent, read_pace
from hyperdust.bridging.standing import (
    BLOCK_S,
    DepositState,
    Standing,
    WithdrawalState,
    find_sweep,
    standing_of_sweep,
)
from hyperdust.bridging.terms import Terms, ask_peg, read_terms
from hyperdust.contracts_abi import decode_output, encode_call
from hyperdust.job import Say
from hyperdust.rpc_client import RpcClient

_POLL_S: Final = 1.0
_PAYMENT_POLL_S: Final = 5.0
_STATES: Final = {
    1: WithdrawalState.QUEUED,
    2: WithdrawalState.GIVEN_UP,
    3: WithdrawalState.PAID,
    4: WithdrawalState.REFUNDED,
}
"""By the contract's numbers."""


class UnknownWithdrawal(BridgeRefused):
    """No withdrawal of that number."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom to ask."""

    client: RpcClient
    bitcoin: Bitcoind | None

    def block_s(self, terms: Terms) -> int | None:
        """Seconds a Bitcoin block, as it goes here; on regtest nobody knows without a bitcoind."""
        if self.bitcoin is not None and terms.bitcoin.name == "regtest":
            return read_pace(self.bitcoin)
        return None if terms.bitcoin.name == "regtest" else BLOCK_S


def stand_deposit(sources: Sources, terms: Terms, outpoint: Outpoint, kept: Kept | None) -> Standing:
    """Where a deposit stands; `kept` where its file is here."""
    pace = sources.block_s(terms)
    if (found := find_sweep(terms, outpoint)) is not None:
        return standing_of_sweep(terms, *found, pace)
    to = None if kept is None else "0x" + kept.binding.address.hex()
    fee = None if kept is None else kept.binding.max_fee
    named = ("deposit", str(outpoint))
    place = keccak256(outpoint.txid + outpoint.index.to_bytes(32, "big"))
    if _view(sources.client, "credited_at", place)[0]:
        return Standing(*named, DepositState.CREDITED, None, None, 0, None, None, None, to=to)
    if sources.bitcoin is None:
        why = "the chain has seen no sweep of it; name a bitcoind with --bitcoin-rpc to see the coin itself"
        return Standing(*named, DepositState.UNPAID, None, fee, 0, None, why, None, to=to)
    if (coin := find_unspent(sources.bitcoin, outpoint)) is not None:
        return _standing_of_coin(terms, named, coin.output.sats, coin.confirmations, kept, pace)
    spender = find_spender(sources.bitcoin, outpoint)
    if spender is None or not spender.is_sweep:
        why = "spent, not by the signers: taken back" if spender else "spent or never paid; the blocks are too far back"
        state = DepositState.SPENT if spender else DepositState.UNPAID
        txid = spender.transaction.txid[::-1].hex() if spender else None
        return Standing(*named, state, None, fee, spender.confirmations if spender else 0, None, why, None, txid, to)
    paid = kept.sats if kept is not None else 0
    required = terms.rules.depth_of(paid) + 1
    return Standing(
        *named,
        DepositState.SWEEPING,
        paid or None,
        spender.charge if fee is None else min(spender.charge, fee),
        spender.confirmations,
        required,
        f"the sweep has to lie {required - 1} blocks deep",
        None if pace is None else max(0, required - spender.confirmations) * pace,
        spender.transaction.txid[::-1].hex(),
        to,
    )


def _standing_of_coin(
    terms: Terms, named: tuple[str, str], sats: int, confirmations: int, kept: Kept | None, pace: int | None
) -> Standing:
    required = terms.rules.origin_depth + 1
    to = None if kept is None else "0x" + kept.binding.address.hex()
    fee = None if kept is None else kept.binding.max_fee
    state, reason = DepositState.CONFIRMING, f"signers sweep it once it is {required - 1} blocks deep"
    if confirmations >= required:
        state, reason = DepositState.WAITING, "the signers take it into their next vault transaction"
    expected = None if pace is None else (max(0, required - confirmations) + terms.rules.depth_of(sats) + 1) * pace
    if terms.frozen is not None:
        reason, expected = f"the peg is frozen ({terms.frozen})", None
    if sats < terms.rules.min_deposit_sats:
        reason = (
            f"{sats} sats are below the least deposit, {terms.rules.min_deposit_sats}: never swept; "
            f"`hyperdust bridge reclaim` gets it back after {terms.rules.reclaim_blocks} blocks"
        )
        expected = None
    elif confirmations >= terms.rules.reclaim_blocks:
        reason = "nobody has swept it; `hyperdust bridge reclaim` gets it back now"
    return Standing(*named, state, sats, fee, confirmations, required, reason, expected, None, to)


def stand_withdrawal(sources: Sources, terms: Terms, number: int) -> Standing:
    """Where a withdrawal stands.

    Raises:
        UnknownWithdrawal: there is none of that number.
    """
    _, script, sats, max_fee, status, _ = _view(sources.client, "withdrawal_of", number)
    if status not in _STATES:
        raise UnknownWithdrawal(f"no withdrawal has number {number}; `hyperdust bridge withdraw` prints it")
    state, reason, expected = _STATES[status], None, None
    confirmations, required, txid = 0, None, None
    pace = sources.block_s(terms)
    if state in {WithdrawalState.QUEUED, WithdrawalState.GIVEN_UP}:
        required = terms.rules.origin_depth + 1
        vault = terms.state.vault
        spender = None
        if sources.bitcoin is not None and vault is not None:
            spender = find_payout(sources.bitcoin, Outpoint(vault.txid, 0), bytes(script), sats)
        if spender is not None:
            state, confirmations = WithdrawalState.PAYING, spender.confirmations
            txid = spender.transaction.txid[::-1].hex()
            reason = f"the payout has to lie {required - 1} blocks deep"
            expected = None if pace is None else max(0, required - confirmations) * pace
        elif state is WithdrawalState.GIVEN_UP:
            reason = f"the refund waits until an anchor that knows of it lies {terms.rules.refund_depth} blocks deep"
        else:
            reason = _why_queued(terms, sats + max_fee)
    return Standing(
        "withdrawal", str(number), state, sats + max_fee, max_fee, confirmations, required, reason, expected, txid
    )


def _why_queued(terms: Terms, value: int) -> str:
    if terms.frozen is not None:
        return f"the peg is frozen ({terms.frozen}); no payout until it thaws"
    if terms.state.vault_sats < value + terms.rules.min_vault_sats:
        return f"the vault holds {terms.state.vault_sats} sats, too little for it: it waits for deposits"
    return "its block has to be final and anchored; then the signers' next vault transaction pays it"


def read_announced(client: RpcClient, terms: Terms) -> tuple[Binding, ...]:
    """Bindings that the node was told of, as far as their signers are named; () where it keeps none."""
    bindings = (
        Binding(
            bytes.fromhex(one["userKey"][2:]),
            bytes.fromhex(one["address"][2:]),
            int(one["maxFee"]),
            int(one["epoch"]),
        )
        for one in ask_peg(client, "hyperdust_getAnnouncedDeposits") or ()
    )
    return tuple(binding for binding in bindings if binding.epoch < len(terms.state.custodies))


def find_payments(sources: Sources, kept: Kept) -> tuple[Outpoint, ...]:
    """Payments to a deposit address: those that its file names, else unspent ones that a bitcoind knows."""
    if kept.outpoints or sources.bitcoin is None:
        return kept.outpoints
    coins = sources.bitcoin.scan_outputs([f"raw({kept.script.hex()})"])
    return tuple(Outpoint(coin.txid, coin.index) for coin in coins)


def stand_unpaid(address: str, kept: Kept | None) -> Standing:
    """A deposit address to which no payment is known."""
    why = "no payment to it is known here; name a bitcoind with --bitcoin-rpc, or ask by the payment's txid:n"
    to, fee = (None, None) if kept is None else ("0x" + kept.binding.address.hex(), kept.binding.max_fee)
    return Standing("deposit", address, DepositState.UNPAID, None, fee, 0, None, why, None, to=to)


def wait_payment(sources: Sources, kept: Kept, folder: Path, timeout_s: float, say: Say) -> Outpoint:
    """Wait until somebody has paid, and note it in the deposit file.

    Raises:
        WaitTimeout: nobody has, in time.
        NotStanding: no bitcoind to see it with.
    """
    if sources.bitcoin is None and not kept.outpoints:
        raise NotStanding("a bitcoind is needed to see the payment; name yours with --bitcoin-rpc URL")
    deadline = time.monotonic() + timeout_s
    say(f"waiting for a payment to {kept.bitcoin_address}")
    while not (found := find_payments(sources, kept)):
        if time.monotonic() > deadline:
            raise WaitTimeout(
                f"{kept.bitcoin_address} is not paid yet; go on with `hyperdust bridge status {kept.bitcoin_address}`"
            )
        time.sleep(_PAYMENT_POLL_S)
    add_outpoint(kept, found[0], folder)
    return found[0]


def wait_deposit(sources: Sources, outpoint: Outpoint, kept: Kept | None, timeout_s: float, say: Say) -> Standing:
    """Follow a deposit until it is credited, saying each change.

    Raises:
        WaitTimeout: not in time; nothing is lost.
    """
    return _wait(lambda: stand_deposit(sources, read_terms(sources.client), outpoint, kept), timeout_s, say)


def wait_withdrawal(sources: Sources, number: int, timeout_s: float, say: Say) -> Standing:
    """Follow a withdrawal until it is paid or refunded, saying each change.

    Raises:
        WaitTimeout: not in time; nothing is lost.
    """
    return _wait(lambda: stand_withdrawal(sources, read_terms(sources.client), number), timeout_s, say)


def _wait(look: Callable[[], Standing], timeout_s: float, say: Say) -> Standing:
    deadline, said = time.monotonic() + timeout_s, ""
    while True:
        found = look()
        if (line := found.summary()) != said:
            said = line
            say(line)
        if found.is_done or found.state is DepositState.SPENT:
            return found
        if time.monotonic() > deadline:
            raise WaitTimeout(f"{line}; nothing is lost: go on with `hyperdust bridge status {found.id}`")
        time.sleep(_POLL_S)


def _view(client: RpcClient, function: str, *args: object) -> tuple[Any, ...]:
    return decode_output("Bridge", function, client.view(BRIDGE, encode_call("Bridge", function, *args)))
