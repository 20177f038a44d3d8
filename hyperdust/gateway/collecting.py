"""Fetches money back: of jobs that nobody answered in time, or whose answer was never revealed, or proven false."""

from collections.abc import Sequence
from threading import Lock
from typing import Final

import structlog
import trio

from chain.errors import HyperdustError
from hyperdust.contracts_abi import ADDRESSES, encode_call
from hyperdust.gateway.pay import Paid, Payer
from hyperdust.rpc_client import ReceiptTimeout, RpcClient, RpcError, TransactionFailed

log = structlog.get_logger()

_PAUSE_S: Final = 15.0
_WATCHED: Final = 10_000
"""Jobs that are looked after; the oldest are forgotten first."""


class Collector:
    """The jobs of this process that are not over; a restart forgets them."""

    def __init__(self, client: RpcClient, payer: Payer) -> None:
        self._client = client
        self._payer = payer
        self._lock = Lock()
        self._open: dict[int, Paid] = {}

    def watch(self, paid: Sequence[Paid]) -> None:
        """Look after these until they are over."""
        with self._lock:
            self._open |= {one.job: one for one in paid}
            while len(self._open) > _WATCHED:
                del self._open[next(iter(self._open))]

    def look(self) -> None:
        """Once through all of them.

        Raises:
            Unreachable, ReceiptTimeout, TransactionFailed: go on another time.
        """
        with self._lock:
            watched = list(self._open.values())
        for paid in watched:
            if self._is_over(paid):
                with self._lock:
                    self._open.pop(paid.job, None)

    def _is_over(self, paid: Paid) -> bool:
        """Whether nothing is left to fetch; fetches what there is."""
        try:
            found = self._client.call("hyperdust_getJob", paid.job)
        except RpcError:
            return False
        status = found["status"] if found else "unknown"
        agent = paid.asked.model.agent
        if status == "final" or (agent is None and status in {"refunded", "slashed"}):
            return True
        if status == "revealed":
            return False  # nothing can be fetched while it may become final
        if agent is None:
            to, data = ADDRESSES["JobMarket"], encode_call("JobMarket", "refund", paid.job)
        elif paid.ask is None:
            return True
        else:
            # The market pays the agent back, and the agent whoever asked it.
            to, data = agent.address, encode_call("Agent", "close", [paid.ask])
        try:
            self._payer.send(to, data)
        except RpcError:
            return False  # it is not late yet
        log.info("money is back", job=paid.job, wei=paid.asked.value)
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
