"""Where a deposit or a withdrawal stands now, and waiting for it: asks node and bitcoind, decides nothing itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bridge.deposits import Outpoint
from bridge.params import SPACING_S
from bridge.scripts import Binding
from bridge.work import show_hash
from hyperdust.bitcoind import AnswerMalformed, Bitcoind, RpcFault
from hyperdust.bridging.addresses import address_of_script
from hyperdust.bridging.errors import BridgeRefused, NotStanding, WaitTimeout
from hyperdust.bridging.keeping import Kept, add_outpoint
from hyperdust.bridging.looking import Spender, find_charge, find_payout, find_spender, find_unspent, read_pace
from hyperdust.bridging.reclaim import Coin
from hyperdust.bridging.standing import DepositState, Standing, WithdrawalState
from hyperdust.bridging.terms import Terms, ask_peg, read_terms
from hyperdust.job import Say
from hyperdust.rpc_client import RpcClient

_POLL_S: Final = 1.0
_PAYMENT_POLL_S: Final = 5.0
_ROUND_BLOCKS: Final = 7
"""Signers build on a vault that has so many confirmations: that far apart their transactions are, at least."""
_PAUSE_BLOCKS: Final = 3 * _ROUND_BLOCKS
"""So long without a vault transaction, while something waits for one, is no ordinary waiting."""


class UnknownWithdrawal(BridgeRefused):
    """No withdrawal of that number."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom to ask."""

    client: RpcClient
    bitcoin: Bitcoind | None

    def pace_s(self, terms: Terms) -> int | None:
        """Seconds a Bitcoin block, as it goes here; on regtest nobody knows without a bitcoind."""
        if terms.bitcoin.name != "regtest":
            return SPACING_S
        return None if self.bitcoin is None else read_pace(self.bitcoin)


def stand_deposit(sources: Sources, terms: Terms, outpoint: Outpoint, kept: Kept | None) -> Standing:
    """Where a deposit stands: by the node once it is swept, before by a bitcoind; `kept` where its file is here."""
    pace = sources.pace_s(terms)
    to = None if kept is None else "0x" + kept.binding.address.hex()
    answer = ask_peg(sources.client, "hyperdust_getDeposit", str(outpoint))
    if answer is not None:
        return Standing(
            "deposit",
            str(outpoint),
            DepositState(answer["status"]),
            answer.get("amount_sats"),
            answer.get("fee_sats"),
            answer.get("confirmations", 0),
            answer.get("needed"),
            answer["reason"],
            _scale(answer["expected_s"], pace),
            answer.get("sweep"),
            answer.get("address") or to,
        )
    unseen = Standing("deposit", str(outpoint), DepositState.UNPAID, None, None, 0, None, None, None, None, to)
    if kept is not None:
        unseen = replace(unseen, fee_sats=kept.binding.max_fee)
    if sources.bitcoin is None:
        why = "the node has seen no sweep of it; name a bitcoind with --bitcoin-rpc to see the coin itself"
        return replace(unseen, reason=why)
    if (coin := find_unspent(sources.bitcoin, outpoint)) is not None:
        return _stand_unswept(sources, terms, unseen, coin, pace)
    if (spender := find_spender(sources.bitcoin, outpoint)) is None:
        return replace(unseen, reason="there is no such coin, or it was spent long ago; is the txid right?")
    return _stand_spent(terms, unseen, spender, pace, kept)


def _stand_unswept(sources: Sources, terms: Terms, unseen: Standing, coin: Coin, pace: int | None) -> Standing:
    rules, needed, sats = terms.rules, terms.rules.origin_depth, coin.output.sats
    state, reason = DepositState.CONFIRMING, f"signers sweep it at {needed} confirmations, or before"
    if coin.confirmations >= needed:
        state, reason = DepositState.WAITING, "the signers take it in with their next vault transaction"
    blocks = max(0, needed - coin.confirmations) + _ROUND_BLOCKS + rules.depth_of(sats) + 1
    expected = None if pace is None else blocks * pace
    if (why := _why_not_swept(sources, terms, coin, unseen.fee_sats)) is not None:
        reason, expected = why, None
    return replace(
        unseen,
        state=state,
        sats=sats,
        confirmations=coin.confirmations,
        needed=needed,
        reason=reason,
        expected_s=expected,
    )


def _why_not_swept(sources: Sources, terms: Terms, coin: Coin, max_fee: int | None) -> str | None:
    """What keeps signers from taking a coin; None: nothing that is seen here."""
    rules, sats = terms.rules, coin.output.sats
    way_out = f"`hyperdust bridge reclaim` gets it back after {rules.reclaim_blocks} blocks"
    if sats < rules.min_deposit_sats:
        return f"{sats} sats are below the least deposit, {rules.min_deposit_sats}: never swept; {way_out}"
    if coin.from_coinbase:
        return f"it was mined straight to this address, and such a coin is never swept; {way_out}"
    if coin.confirmations >= rules.reclaim_blocks:
        return "nobody has swept it; `hyperdust bridge reclaim` gets it back now"
    if terms.frozen is not None:
        return f"the peg is frozen ({terms.frozen})"
    if coin.confirmations < rules.origin_depth:
        return None
    if (pause := _find_pause(sources, terms, coin.confirmations)) is not None:
        return f"{pause}; {way_out}"
    if max_fee is None or terms.state.vault is None or sources.bitcoin is None:
        return None
    if (charge := find_charge(sources.bitcoin, Outpoint(terms.state.vault.txid, 0))) > max_fee:
        return (
            f"Bitcoin's fees are above its maximum: deposits pay {charge} sats each now, this one at most {max_fee}; "
            f"it waits for cheaper blocks, or {way_out}"
        )
    return None


def _find_pause(sources: Sources, terms: Terms, waited: int) -> str | None:
    """Why nothing moves for what has waited so many Bitcoin blocks; None: it may move any time."""
    vault, signers = terms.state.vault, terms.custody.signers
    if vault is None or (still := min(waited, terms.height - vault.height)) < _PAUSE_BLOCKS:
        return None
    if sources.bitcoin is not None and find_spender(sources.bitcoin, Outpoint(vault.txid, 0)) is not None:
        return None
    return (
        f"no vault transaction for {still} Bitcoin blocks: fewer than {signers.threshold} of {len(signers.keys)} "
        "signers answer, or no round pays for itself; nothing is lost, and it goes on when they are back"
    )


def _stand_spent(terms: Terms, unseen: Standing, spender: Spender, pace: int | None, kept: Kept | None) -> Standing:
    seen = replace(unseen, confirmations=spender.confirmations, txid=show_hash(spender.transaction.txid))
    if not spender.is_sweep:
        return replace(seen, state=DepositState.SPENT, reason="taken back by its owner, not swept by the signers")
    sats = None if kept is None else kept.sats
    needed = terms.rules.depth_of(sats or 0) + 1
    reason = f"its sweep needs {needed} confirmations"
    if not spender.confirmations:
        most = "" if kept is None else f", at most to {kept.binding.max_fee}"
        reason = (
            f"its sweep is in no block yet; signers raise its fee, {spender.charge} sats of it this deposit's{most}"
        )
    return replace(
        seen,
        state=DepositState.SWEPT if spender.confirmations else DepositState.SWEEPING,
        sats=sats,
        fee_sats=spender.charge if kept is None else min(spender.charge, kept.binding.max_fee),
        needed=needed,
        reason=reason,
        expected_s=None if pace is None else max(0, needed - spender.confirmations) * pace,
    )


def stand_withdrawal(sources: Sources, terms: Terms, number: int) -> Standing:
    """Where a withdrawal stands: by the node, and by a bitcoind while its payout is in no block.

    Raises:
        UnknownWithdrawal: there is none of that number.
    """
    answer = ask_peg(sources.client, "hyperdust_getWithdrawal", number)
    if answer is None:
        raise UnknownWithdrawal(f"no withdrawal has number {number}; `hyperdust bridge withdraw` prints it")
    pace, vault, script = sources.pace_s(terms), terms.state.vault, bytes.fromhex(answer["script"][2:])
    found = Standing(
        "withdrawal",
        str(number),
        WithdrawalState(answer["status"]),
        answer["sats"],
        answer["fee_sats"],
        answer["confirmations"],
        answer["needed"],
        answer["reason"],
        None if (left := answer["expected_s"]) is None else _scale(left, pace),
        answer["txid"],
        address_of_script(script, terms.bitcoin),
    )
    if found.is_done or found.state is WithdrawalState.PAYING or sources.bitcoin is None or vault is None:
        return found
    spender = find_payout(sources.bitcoin, Outpoint(vault.txid, 0), script, answer["sats"])
    if spender is None:
        if found.state is not WithdrawalState.QUEUED or terms.frozen or terms.state.vault_sats < answer["sats"]:
            return found
        pause = _find_pause(sources, terms, _waited(sources, terms, answer["changed_at"]))
        return found if pause is None else replace(found, reason=pause, expected_s=None)
    return replace(
        found,
        state=WithdrawalState.PAYING,
        confirmations=spender.confirmations,
        txid=show_hash(spender.transaction.txid),
        reason=f"paid on Bitcoin; {answer['needed']} confirmations make it final here",
        expected_s=None if pace is None else max(0, answer["needed"] - spender.confirmations) * pace,
    )


def _waited(sources: Sources, terms: Terms, since: int) -> int:
    """Bitcoin blocks from the origin of an L2 block to the head's."""
    block = sources.client.call("eth_getBlockByNumber", hex(since), False)
    if block is None or terms.origin_height is None or sources.bitcoin is None:
        return 0
    try:
        header = sources.bitcoin.call("getblockheader", bytes.fromhex(block["parentBeaconBlockRoot"][2:])[::-1].hex())
        return int(terms.origin_height - int(header["height"]))
    except RpcFault:
        return 0  # none yet, or a branch that it does not know
    except (KeyError, TypeError, ValueError) as error:
        raise AnswerMalformed("getblockheader", block) from error


def _scale(expected_s: int | None, pace: int | None) -> int | None:
    """The node reckons with Bitcoin's ten minutes; a development network has a pace of its own."""
    return None if expected_s is None or pace is None else expected_s * pace // SPACING_S


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
