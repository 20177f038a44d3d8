"""Scheduled calls, run for their tips: what is due, and one transaction for each."""

from typing import Any, Final

from eth_account.signers.local import LocalAccount

from hyperdust.contracts_abi import ADDRESSES, decode_event, decode_output, encode_call, event_topic
from hyperdust.rpc_client import RpcClient, RpcError, TransactionFailed

_PAGE: Final = 100


def list_due(client: RpcClient) -> list[int]:
    """Ids of the calls that `run` takes now, in no order.

    Raises:
        Unreachable, RpcError: the node does not answer.
    """
    (count,) = _view(client, "open_count")
    return [number for start in range(0, count, _PAGE) for number in _view(client, "due", start, _PAGE)[0]]


def run_due(client: RpcClient, account: LocalAccount) -> list[dict[str, Any]]:
    """Run every call that is due: `{"call", "success", "paid_wei"}` of each. Another runner may be faster.

    Raises:
        Unreachable, ReceiptTimeout: no node answers, no block takes it.
    """
    ran = []
    for number in list_due(client):
        try:
            receipt = client.send_transaction(account, ADDRESSES["Scheduler"], encode_call("Scheduler", "run", number))
        except (RpcError, TransactionFailed):
            continue  # somebody else ran it
        for log in receipt["logs"]:
            topics = [bytes.fromhex(word[2:]) for word in log["topics"]]
            if topics and topics[0] == event_topic("Scheduler", "Ran"):
                event = decode_event("Scheduler", "Ran", topics, bytes.fromhex(log["data"][2:]))
                ran.append({"call": number, "success": event["success"], "paid_wei": event["paid"]})
    return ran


def _view(client: RpcClient, function: str, *args: object) -> tuple[Any, ...]:
    output = client.view(ADDRESSES["Scheduler"], encode_call("Scheduler", function, *args))
    return decode_output("Scheduler", function, output)
