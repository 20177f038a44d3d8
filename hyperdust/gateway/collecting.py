"""Fetches money back: of jobs that nobody answered in time, or whose answer was never revealed, or proven false."""

import time
from typing import Final

import structlog
import trio

from chain.errors import HyperdustError
from hyperdust.contracts_abi import ADDRESSES, encode_call
from hyperdust.gateway.pay import Payer
from hyperdust.gateway.payments import Payment, Payments
from hyperdust.job import JobError
from hyperdust.rpc_client import ReceiptTimeout, RpcClient, RpcError, TransactionFailed

log = structlog.get_logger()

_PAUSE_S: Final = 5.0
_LOST_S: Final = 3600.0
"""After so long a payment that neither chain nor pool knows is gone."""


class Collector:
    """Looks after the payments that are not over, those of earlier lives too."""

    def __init__(self, client: RpcClient, payer: Payer, payments: Payments) -> None:
        self._client = client
        self._payer = payer
        self._payments = payments

    def look(self) -> None:
        """Once through all of them.

        Raises:
            Unreachable, ReceiptTimeout, TransactionFailed: go on another time.
        """
        waiting = self._payments.listed()
        head = self._client.quantity("eth_blockNumber") if waiting else 0
        for payment in waiting:
            known = payment if payment.job is not None else self._find(payment)
            if known is None or (known.job is not None and self._is_over(known, head)):
                self._payments.drop(payment.transaction)

    def _find(self, payment: Payment) -> Payment | None:
        """The payment with its job, as it was where that is not known yet; None: it made none."""
        receipt = self._client.call("eth_getTransactionReceipt", payment.transaction)
        if receipt is None:
            is_fresh = time.time() - payment.sent_at < _LOST_S
            return payment if is_fresh or self._client.call("eth_getTransactionByHash", payment.transaction) else None
        try:
            found = payment.in_block(receipt)
        except JobError:
            return None  # reverted: it cost its gas
        self._payments.put(found)
        return found

    def _is_over(self, payment: Payment, head: int) -> bool:
        """Whether nothing is left to fetch; fetches what there is."""
        try:
            found = self._client.call("hyperdust_getJob", payment.job)
        except RpcError:
            return False
        status = found["status"] if found else "unknown"
        if status == "final" or (payment.agent is None and status in {"refunded", "slashed"}):
            return True
        if status == "revealed" or (status == "requested" and head <= payment.deadline):
            return False  # nothing can be fetched while it may become final
        if payment.agent is None:
            to, data = ADDRESSES["JobMarket"], encode_call("JobMarket", "refund", payment.job)
        elif payment.ask is None:
            return True
        else:
            # The market pays the agent back, and the agent whoever asked it.
            to, data = bytes.fromhex(payment.agent), encode_call("Agent", "close", [payment.ask])
        try:
            self._payer.send(to, data)
        except RpcError:
            return False  # it is not late yet
        log.info("money is back", job=payment.job, wei=payment.wei)
        return True


async def collect(collector: Collector) -> None:
    """Look again and again."""
    while True:
        await trio.sleep(_PAUSE_S)
        try:
            await trio.to_thread.run_sync(collector.look, abandon_on_cancel=True)
        except (ReceiptTimeout, TransactionFailed) as error:
            log.warning("money is not fetched yet", reason=str(error))
        except HyperdustError as error:
            log.warning("the node does not answer", reason=str(error))
