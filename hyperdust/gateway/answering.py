"""Waits for a paid job, and reads what the chain says of it: the answer, its trace root, the block's certificate."""

import math
from dataclasses import dataclass
from typing import Any, Final

import trio

from chain.errors import HyperdustError
from hyperdust import job
from hyperdust.gateway.errors import Lost, NoAnswer, Unreadable
from hyperdust.gateway.pay import Paid
from hyperdust.rpc_client import RpcClient, RpcError, Unreachable

_POLL_S: Final = 0.3
_REVEAL_S: Final = 30.0
"""As in job: how long an answer that is claimed may wait for its trace root."""
_ANSWERED: Final = frozenset({"claimed", "revealed", "final"})
_REVEALED: Final = frozenset({"revealed", "final"})
_FINAL: Final = frozenset({"final"})
_LOST: Final = {
    "refunded": "was given back, or not answered before its deadline; its money comes back to the gateway's key",
    "slashed": "was answered falsely; its provider is slashed, its money comes back to the gateway's key",
}


@dataclass(frozen=True, slots=True)
class Answered:
    """A job with its answer."""

    paid: Paid
    answer: job.Answer
    certificate: dict[str, Any] | None
    """Of the block with the answer, as `hyperdust_getCertificate` gives it, without its bytes (up to 600 KiB)."""

    def facts(self) -> dict[str, Any]:
        """The `hyperdust` field of a body."""
        return self.paid.facts() | {
            "provider": self.answer.provider,
            "companion": self.answer.companion,
            "trace_root": self.answer.trace_root,
            "block": self.answer.block,
            "status": self.answer.status,
            "certificate": self.certificate,
        }


class Waiter:
    """Asks the node until jobs are answered."""

    def __init__(self, client: RpcClient, *, until_final: bool, timeout_s: float) -> None:
        self._client = client
        self.until_final = until_final
        self.timeout_s = timeout_s

    async def wait_answer(self, paid: Paid, deadline: float) -> Answered:
        """The answer as soon as it may be used: claimed, or final where the gateway waits for that.

        `deadline` is in trio's time.

        Raises:
            NoAnswer, Lost: say what becomes of the money.
        """
        await self._wait(paid, _FINAL if self.until_final else _ANSWERED, deadline)
        return await trio.to_thread.run_sync(self._read, paid)

    async def wait_root(self, found: Answered, deadline: float) -> Answered:
        """The same with its trace root, if that comes within half a minute.

        Raises:
            Lost: the answer was given back meanwhile, or proven false.
        """
        if found.answer.trace_root is not None:
            return found
        try:
            await self._wait(found.paid, _REVEALED, min(deadline, trio.current_time() + _REVEAL_S))
        except NoAnswer:
            return found
        return await trio.to_thread.run_sync(self._read, found.paid)

    async def _wait(self, paid: Paid, wanted: frozenset[str], deadline: float) -> None:
        while True:
            status = await trio.to_thread.run_sync(self._status, paid.job)
            if status in wanted:
                return
            if status in _LOST:
                raise Lost(f"job {paid.job} {_LOST[status]}", facts=paid.facts())
            if trio.current_time() > deadline:
                raise await trio.to_thread.run_sync(self._too_late, paid, status)
            await trio.sleep(_POLL_S)

    def _status(self, number: int) -> str | None:
        try:
            found = self._client.call("hyperdust_getJob", number)
        except (Unreachable, RpcError):
            return None  # the job is paid: whoever waits for it outlives a node's restart
        return str(found["status"]) if found else None

    def _too_late(self, paid: Paid, status: str | None) -> NoAnswer:
        if status in _ANSWERED:
            what = f"it is {status}: paid, answered, and the answer stands on chain (hyperdust_getJob)"
        else:
            what = (
                f"it is not answered, and may be until block {paid.deadline}; after that this gateway fetches its "
                f"money back (JobMarket.refund, anyone may)"
            )
        return NoAnswer(
            f"job {paid.job} is paid and took longer than {math.ceil(self.timeout_s)} s (--timeout): {what}",
            facts=paid.facts() | {"status": status, "deadline": paid.deadline},
        )

    def _read(self, paid: Paid) -> Answered:
        try:
            # It is answered: with no time left, follow reads what is there and waits for nothing.
            answer = job.follow(self._client, paid.job, paid.asked.whole, until_final=self.until_final, timeout_s=-1.0)
        except (
            HyperdustError
        ) as error:  # a reorganisation between two looks, a node that stops, a lie that is no tensor
            raise Unreadable(
                f"job {paid.job} is paid and answered, but the answer cannot be read: {error}", facts=paid.facts()
            ) from error
        return Answered(paid, answer, self._certificate(answer.block))

    def _certificate(self, block: int) -> dict[str, Any] | None:
        try:
            found = self._client.call("hyperdust_getCertificate", hex(block))
        except (RpcError, Unreachable):
            return None
        return {name: value for name, value in found.items() if name != "raw"} if found else None
