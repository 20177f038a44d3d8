"""Scheduled calls that pay: a thread looks for them, the miner's loop signs, the thread sends.

One outbox signs all of a key's transactions, so that none takes another's nonce.
"""

import queue
import random
import threading
from dataclasses import dataclass, field
from typing import Final

import structlog

from chain.errors import HyperdustError
from chain.params import SCHEDULER
from hyperdust.outbox import Call, Outbox
from hyperdust.proto import work_pb2 as messages
from hyperdust.rpc_client import RpcClient
from hyperdust.scheduler import Due, list_paying
from hyperdust.work_client import WorkClient

log = structlog.get_logger()

_IDLE_S: Final = 0.5
_SPREAD_S: Final = 0.3  # runners look at different moments, and see each other's transactions
_MAX_SENDING: Final = 64


@dataclass(slots=True)
class Runner:
    """Runs what is due. `keep_looking` belongs to one thread, `run_due` to the miner's loop."""

    rpc: str
    account: str
    """Address that sends."""
    _paying: tuple[int, tuple[Due, ...]] = (0, ())
    """The block to come for which they were found, and what was."""
    _sending: queue.Queue[bytes] = field(default_factory=lambda: queue.Queue(maxsize=_MAX_SENDING))

    def keep_looking(self, client: WorkClient, stop: threading.Event) -> None:
        """Look once a block and send what was signed, until stopped."""
        looked = 0
        with RpcClient(self.rpc) as rpc:
            while not stop.is_set():
                template = client.latest
                try:
                    if template is not None and template.number != looked:
                        looked = template.number
                        stop.wait(random.uniform(0, _SPREAD_S))
                        self.look(rpc, template)
                    self._send(rpc)
                except HyperdustError as error:
                    log.info("scheduled calls wait for the node", reason=str(error))
                client.wait(template, _IDLE_S)

    def look(self, rpc: RpcClient, template: messages.Template) -> None:
        """Find what pays in the block to come."""
        base_fee = int.from_bytes(template.base_fee, "big")
        found = list_paying(rpc, self.account, base_fee, _compute_tip(base_fee))
        self._paying = (template.number, tuple(found))

    def run_due(self, template: messages.Template, outbox: Outbox) -> None:
        """Sign what was found for this block."""
        number, paying = self._paying
        if number != template.number:
            return
        outbox.keep_only("run", {str(due.id) for due in paying})
        for due in paying:
            name = f"run:{due.id}:{due.next_block}"
            if outbox.get(name) is None:
                log.info("running a scheduled call", call=due.id, profit_wei=due.profit)
            tip = _compute_tip(int.from_bytes(template.base_fee, "big"))
            outbox.deliver(name, Call(SCHEDULER, due.data, due.gas, tip=tip), template, self._queue)

    def _queue(self, raw: bytes) -> None:
        try:
            self._sending.put_nowait(raw)
        except queue.Full:
            log.warning("scheduled call not sent: the node does not answer")

    def _send(self, rpc: RpcClient) -> None:
        while not self._sending.empty():
            try:
                rpc.call("eth_sendRawTransaction", "0x" + self._sending.get_nowait().hex())
            except HyperdustError as error:
                log.info("scheduled call refused", reason=str(error))


def _compute_tip(base_fee: int) -> int:
    """Wei a gas for the proposer: a part of what a run earns, with no floor, for that grows with the base fee alone."""
    return base_fee // 10
