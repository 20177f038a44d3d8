"""Taking bitcoin out: checked here first, then burned through the Bridge predeploy, which queues the payout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from eth_account.signers.local import LocalAccount

from bridge.rules import WEI_PER_SAT
from bridge.scripts import check_payout_script
from chain.params import BRIDGE
from hyperdust.bridging.addresses import script_of, show_sats
from hyperdust.bridging.errors import AmountRefused, BridgeRefused
from hyperdust.bridging.terms import Terms
from hyperdust.contracts_abi import decode_event, encode_call, event_topic
from hyperdust.rpc_client import RpcClient, RpcError

DEFAULT_FEE: Final = 3_000
"""Sats: a payout of its own (about 350 vB with three signatures) at 8 sat/vB."""
_OUTPUT_BYTES: Final = 9  # amount 8, size of the script 1


@dataclass(frozen=True, slots=True)
class Plan:
    """A withdrawal that the peg would take."""

    to: str
    script: bytes
    sats: int
    """Burned in all."""
    max_fee: int
    """Of that, for Bitcoin's fee: burned too, whatever the fee turns out to be."""

    @property
    def paid_sats(self) -> int:
        """What the address gets, exactly."""
        return self.sats - self.max_fee


def plan_withdrawal(terms: Terms, sats: int, to: str, max_fee: int | None) -> Plan:
    """Check all that the contract and the peg would refuse.

    Raises:
        AddressRefused: the address is none, of another network, or of a kind that is not paid.
        AmountRefused: too little is left after the fee.
        NotStanding: the peg is frozen.
    """
    script = script_of(to, terms.bitcoin)
    terms.check_running()
    fee = DEFAULT_FEE if max_fee is None else max_fee
    least = max(terms.rules.min_payout_sats, check_payout_script(script).dust_sats)
    if fee < 0 or sats - fee < least:
        raise AmountRefused(
            f"{show_sats(sats)} less {fee} sats for Bitcoin's fee is {sats - fee} sats, and {least} are the least that "
            f"is paid out; withdraw at least {show_sats(least + max(fee, 0))}, or give a lower --max-fee"
        )
    if fee < (place := _OUTPUT_BYTES + len(script)):  # a vB costs a satoshi at least
        raise AmountRefused(
            f"--max-fee {fee} sats can never pay for the payout's own {place} vB on Bitcoin: it would wait for ever; "
            f"give more, for example {DEFAULT_FEE}"
        )
    return Plan(to, script, sats, fee)


def send_withdrawal(client: RpcClient, account: LocalAccount, plan: Plan) -> tuple[int, Mapping[str, Any]]:
    """Burn, and wait for the block: the withdrawal's number and the receipt.

    Raises:
        AmountRefused: the account holds less.
        RpcError, TransactionFailed, ReceiptTimeout: the burn did not get into a block.
    """
    value = plan.sats * WEI_PER_SAT
    if (held := client.quantity("eth_getBalance", account.address, "latest")) < value:
        raise AmountRefused(
            f"{account.address} holds {show_sats(held // WEI_PER_SAT)}, less than {show_sats(plan.sats)}; "
            "see `hyperdust wallet balance`"
        )
    receipt = client.send_transaction(
        account, BRIDGE, encode_call("Bridge", "withdraw", plan.script, plan.max_fee), value
    )
    return _number_of(receipt), receipt


def give_up(client: RpcClient, account: LocalAccount, number: int) -> Mapping[str, Any]:
    """Ask for a queued withdrawal back; a payout that is on its way may still come in its place.

    Raises:
        BridgeRefused: it is not this account's, or no longer queued.
    """
    try:
        return client.send_transaction(account, BRIDGE, encode_call("Bridge", "give_up", number))
    except RpcError as error:
        why = error.message.partition("Bridge: ")[2] or error.message
        raise BridgeRefused(
            f"withdrawal {number} cannot be given up by {account.address}: {why}; "
            f"see `hyperdust bridge status {number}`, and --keystore names who burned it"
        ) from error


def _number_of(receipt: Mapping[str, Any]) -> int:
    topic = event_topic("Bridge", "WithdrawalQueued")
    for log in receipt["logs"]:
        topics = [bytes.fromhex(word[2:]) for word in log["topics"]]
        if topics and topics[0] == topic:
            data = bytes.fromhex(log["data"][2:])
            return int(decode_event("Bridge", "WithdrawalQueued", topics, data)["number"])
    raise BridgeRefused(f"transaction {receipt['transactionHash']} queued no withdrawal; is this a Hyperdust chain?")
