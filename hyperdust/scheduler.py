"""Scheduled calls, run for their tips: what is due, what of it pays, and one transaction for each."""

from dataclasses import dataclass
from typing import Any, Final

from eth_account.signers.local import LocalAccount

from hyperdust.contracts_abi import ADDRESSES, decode_event, decode_output, encode_call, event_topic
from hyperdust.rpc_client import RpcClient, RpcError, TransactionFailed

_PAGE: Final = 100
_RUN_GAS: Final = 100_000  # Scheduler.RUN_GAS: what a run costs around its target
_TIP_BLOCKS: Final = 32  # Scheduler.TIP_BLOCKS: lateness from which all that was prepaid goes to the runner
_GAS_MARGIN: Final = 400_000  # of a transaction, above what the target may use and a 64th that stays behind


def list_due(client: RpcClient) -> list[int]:
    """Ids of the calls that `run` takes now, in no order.

    Raises:
        Unreachable, RpcError: the node does not answer.
    """
    (count,) = _view(client, "open_count")
    return [number for start in range(0, count, _PAGE) for number in _view(client, "due", start, _PAGE)[0]]


@dataclass(frozen=True, slots=True)
class Due:
    """A call that pays for being run in the next block."""

    id: int
    next_block: int
    """Tells one time of a repeated call from the next; 0 if it waited for a job."""
    data: bytes
    """Of the transaction to the Scheduler."""
    gas: int
    """Limit of the transaction."""
    profit: int
    """Wei, at least, beyond the gas."""


def list_paying(client: RpcClient, account: str, base_fee: int, tip: int) -> list[Due]:
    """What is due, is in nobody else's transaction yet, and leaves something at these prices (wei a gas).

    Raises:
        Unreachable, RpcError: the node does not answer.
    """
    head = client.quantity("eth_blockNumber")
    found = []
    for number in list_due(client):
        call, target_data = _view(client, "call_of", number)
        (due_block,) = _view(client, "due_block", number)
        _, _, target, gas_limit, balance, times, next_block, *_ = call
        if times == 0:
            continue
        gas = min(gas_limit, _estimate(client, target, target_data, gas_limit)) + _RUN_GAS
        profit = compute_pay(balance // times, gas * base_fee, head + 1 - due_block) - gas * (base_fee + tip)
        due = Due(number, next_block, encode_call("Scheduler", "run", number), _limit(gas_limit), profit)
        if profit > 0 and _is_free(client, account, due):
            found.append(due)
    return found


def compute_pay(allowance: int, cost: int, lateness: int) -> int:
    """What Scheduler pays for a run: its cost, and of what is left the more the later it is. Source: Scheduler.run."""
    cost = min(allowance, cost)
    return cost + (allowance - cost) * min(lateness + 1, _TIP_BLOCKS) // _TIP_BLOCKS


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


def _limit(gas_limit: int) -> int:
    return gas_limit + gas_limit // 32 + _GAS_MARGIN


def _estimate(client: RpcClient, target: str, data: bytes, gas_limit: int) -> int:
    """Gas that the target uses; one that reverts may use all."""
    call = {"from": "0x" + ADDRESSES["Scheduler"].hex(), "to": target, "data": "0x" + data.hex()}
    try:
        return client.quantity("eth_estimateGas", call)
    except RpcError:
        return gas_limit


def _is_free(client: RpcClient, account: str, due: Due) -> bool:
    """Whether a run would succeed behind what waits in the pool: nobody else sent one."""
    call = {
        "from": account, "to": "0x" + ADDRESSES["Scheduler"].hex(), "data": "0x" + due.data.hex(), "gas": hex(due.gas),
    }  # fmt: skip
    try:
        client.call("eth_call", call, "pending")
    except RpcError:
        return False
    return True


def _view(client: RpcClient, function: str, *args: object) -> tuple[Any, ...]:
    output = client.view(ADDRESSES["Scheduler"], encode_call("Scheduler", function, *args))
    return decode_output("Scheduler", function, output)
