"""The way from the pages to the node: JSON-RPC that only reads, of bounded size. What it passes on is a list below."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final, cast

import httpx
import structlog
import trio

from chain.json_text import nests_deeper
from hyperdust.explorer.errors import BadRequest, Busy, MethodRefused, NodeUnreachable, TooLarge

log = structlog.get_logger()

BODY_BYTES: Final = 128 * 1024
BATCH: Final = 100
NESTING: Final = 32
_ANSWER_BYTES: Final = 26 * 1024 * 1024  # a node's own bound is 25 MiB
_CONCURRENT: Final = 32
_TIMEOUT_S: Final = 35.0  # a node gives up after 30 s

ALLOWED: Final = frozenset({
    "eth_blockNumber", "eth_call", "eth_chainId", "eth_estimateGas", "eth_feeHistory", "eth_gasPrice", "eth_getBalance",
    "eth_getBlockByHash", "eth_getBlockByNumber", "eth_getBlockReceipts", "eth_getCode", "eth_getLogs",
    "eth_getStorageAt", "eth_getTransactionByHash", "eth_getTransactionCount", "eth_getTransactionReceipt",
    "eth_maxPriorityFeePerGas", "eth_syncing",
    "hyperdust_finality", "hyperdust_getAnchors", "hyperdust_getCertificate", "hyperdust_getCredit",
    "hyperdust_getDeposit", "hyperdust_getDispute", "hyperdust_getJob", "hyperdust_getProviders",
    "hyperdust_getReward", "hyperdust_getWithdrawal", "hyperdust_pegStatus", "hyperdust_usefulness",
    "net_peerCount", "net_version", "txpool_status", "web3_clientVersion",
})  # fmt: skip


def check_request(body: bytes) -> bytes:
    """The request as it goes to the node: parsed, every method allowed, written anew.

    Raises:
        BadRequest: not JSON-RPC, or too long a batch.
        MethodRefused: names the method.
    """
    if nests_deeper(body, NESTING):
        raise BadRequest(f"the JSON is nested deeper than {NESTING}")
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not JSON") from error
    calls: list[Any] = payload if isinstance(payload, list) else [payload]
    if not 0 < len(calls) <= BATCH:
        raise BadRequest(f"a batch has 1 to {BATCH} requests, this one {len(calls)}")
    for call in calls:
        if not isinstance(call, Mapping) or not isinstance(call.get("method"), str):
            raise BadRequest("a request is an object with a method")
        if call["method"] not in ALLOWED:
            raise MethodRefused(f"the explorer does not pass {call['method'][:80]} on; ask a node for it")
    return json.dumps(payload, separators=(",", ":")).encode()


class Proxy:
    """A pool of connections to one node."""

    def __init__(self, rpc: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._rpc = rpc
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, transport=transport)
        self._places = trio.CapacityLimiter(_CONCURRENT)

    async def close(self) -> None:
        """Close pooled connections."""
        await self._http.aclose()

    async def ask(self, body: bytes) -> bytes:
        """The node's answer.

        Raises:
            BadRequest, MethodRefused: see `check_request`.
            Busy: too many questions are waiting for answers.
            NodeUnreachable: no answer, or not in HTTP 200.
            TooLarge: the answer is.
        """
        request = check_request(body)
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock as error:
            raise Busy("too many requests at once; try again in a moment") from error
        try:
            return await self._forward(request)
        except httpx.HTTPError as error:
            log.warning("the node does not answer", rpc=self._rpc, error=str(error) or type(error).__name__)
            raise NodeUnreachable("the node does not answer; is it running?") from error
        finally:
            self._places.release()

    async def _forward(self, request: bytes) -> bytes:
        headers = {"content-type": "application/json"}
        received = bytearray()
        async with self._http.stream("POST", self._rpc, content=request, headers=headers) as answer:
            async with aclosing(cast("AsyncGenerator[bytes]", answer.aiter_bytes())) as chunks:
                async for chunk in chunks:
                    received += chunk
                    if len(received) > _ANSWER_BYTES:
                        raise TooLarge("the node's answer is too large")
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                raise Busy("the node is busy; try again in a moment")
            answer.raise_for_status()
        return bytes(received)
