"""Server-sent events: chunks as they are known, comments while there is nothing to say, an end when the client goes."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import trio
from starlette.types import Message, Receive, Scope, Send

from hyperdust.gateway.errors import Refused
from hyperdust.gateway.shapes import DONE

PING_S: Final = 5.0
"""Proxies and clients close what is silent for long."""

Emit = Callable[[bytes], Awaitable[None]]


class EventStream:
    """An ASGI answer: `produce` is given a function that sends bytes."""

    def __init__(self, produce: Callable[[Emit], Awaitable[None]], headers: Mapping[str, str]) -> None:
        self._produce = produce
        fixed = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
        self._headers = [(name.encode(), value.encode()) for name, value in (fixed | dict(headers)).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until all is said or the client is gone."""
        del scope
        lock = trio.Lock()

        async def emit(data: bytes) -> None:
            async with lock:
                await send({"type": "http.response.body", "body": data, "more_body": True})

        async def ping() -> None:
            while True:
                await trio.sleep(PING_S)
                await emit(comment("waiting"))

        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            nursery.start_soon(ping)
            try:
                await self._produce(emit)
            except Refused as refusal:
                # The status line is sent: clients read the error from an event.
                await emit(event(refusal.as_json()))
            else:
                await emit(DONE)
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def event(body: Mapping[str, Any]) -> bytes:
    """One event."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def comment(words: str) -> bytes:
    """A line that clients skip."""
    return b": " + words.encode() + b"\n\n"


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()
    scope.cancel()
