"""The explorer's server: Starlette on Hypercorn under trio. Files from memory, /rpc to the node, /faucet."""
# ruff: noqa: PLC0415  # what only some requests need loads with them, so that the explorer starts at once

import json
import logging
import re
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperdust.explorer.errors import BadRequest, NoFaucet, PortTaken, Refused, TooLarge, TooSoon
from hyperdust.explorer.faucet import Faucet, Limits, Payer
from hyperdust.explorer.files import load_pages
from hyperdust.explorer.proxy import BODY_BYTES, Proxy

log = structlog.get_logger()

_GRACE_S: Final = 0.5
_BACKLOG: Final = 128
_FAUCET_BYTES: Final = 1024
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class ExplorerConfig:
    """Options of `hyperdust explorer`."""

    rpc: str
    public_rpc: str
    """What wallets are told to use."""
    host: str
    port: int
    faucet_key: str | None


async def run_explorer(config: ExplorerConfig, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` gets the URL once the pages answer.

    Raises:
        PortTaken
    """
    descriptor = _listen(config.host, config.port)
    hypercorn = Config()
    hypercorn.bind = [f"fd://{descriptor}"]
    hypercorn.graceful_timeout = _GRACE_S
    hypercorn.keep_alive_timeout = 30.0
    hypercorn.errorlog = logging.getLogger("hypercorn.error")
    hypercorn.include_server_header = False
    proxy = Proxy(config.rpc)
    application: Any = build_application(config, proxy)  # Starlette and Hypercorn type ASGI each in their own way
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: serve(application, hypercorn, task_status=task_status, mode="asgi"))
            host = f"[{config.host}]" if ":" in config.host else config.host
            on_ready(f"http://{host}:{config.port}")
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for received in signals:
                    log.info("stopping", signal=signal.Signals(received).name)
                    nursery.cancel_scope.cancel()
                    break
    finally:
        with trio.move_on_after(_GRACE_S, shield=True):
            await proxy.close()


def build_application(config: ExplorerConfig, proxy: Proxy, faucet: Faucet | None = None) -> ASGIApp:
    """The ASGI application; `faucet` stands for the one that the configured key makes."""
    if faucet is None and config.faucet_key is not None:
        faucet = Faucet(Payer(config.rpc, config.faucet_key).pay, Limits(time.monotonic))
    server = ExplorerServer(config, proxy, faucet)
    routes = [
        Route("/rpc", _named(server.rpc), methods=["POST"]),
        Route("/faucet", _named(server.faucet), methods=["POST"]),
        Route("/config.json", _named(server.facts), methods=["GET"]),
        Route("/words", _named(server.words), methods=["GET"]),
        Route("/{page:str}/{name:str}", server.enter, methods=["GET"]),
        Route("/health", _named(server.health), methods=["GET"]),
        Route("/{path:path}", server.page, methods=["GET"]),
    ]
    return _with_headers(Starlette(routes=routes))


class ExplorerServer:
    """What answers requests."""

    def __init__(self, config: ExplorerConfig, proxy: Proxy, faucet: Faucet | None) -> None:
        self._config = config
        self._proxy = proxy
        self._faucet = faucet
        self._pages = load_pages()
        self._facts: dict[str, Any] | None = None

    async def page(self, request: Request) -> Response:
        """A file."""
        page = self._pages.get(request.url.path)
        if page is None:
            return Response("there is no such page", 404, media_type="text/plain")
        headers = {"etag": page.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == page.etag:
            return Response(status_code=304, headers=headers)
        return Response(page.content, headers=headers, media_type=page.media_type)

    async def enter(self, request: Request) -> Response:
        """Addresses that wallets make, such as /tx/0x…, lead to the page; the rest are files."""
        page, name = request.path_params["page"], request.path_params["name"]
        if page in {"tx", "address", "block"} and re.fullmatch("[0-9a-zA-Z]{1,66}", name):
            return RedirectResponse(f"/#/{page}/{name}", 302)
        return await self.page(request)

    async def rpc(self, request: Request) -> Response:
        """A question to the node."""
        return Response(await self._proxy.ask(await _body(request, BODY_BYTES)), media_type="application/json")

    async def faucet(self, request: Request) -> Response:
        """A payment."""
        if self._faucet is None:
            raise NoFaucet("this explorer has no faucet")
        body = await _body(request, _FAUCET_BYTES)
        try:
            address = json.loads(body)["address"]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise BadRequest('the body is {"address": "0x…"}') from error
        if not isinstance(address, str):
            raise BadRequest('the body is {"address": "0x…"}')
        return JSONResponse({"transaction": await self._faucet.give(address)})

    async def facts(self, _request: Request) -> Response:
        """ABIs, graphs, addresses."""
        if self._facts is None:
            self._facts = await trio.to_thread.run_sync(self._gather)
        return JSONResponse(self._facts, headers={"cache-control": "no-cache"})

    def _gather(self) -> dict[str, Any]:
        from hyperdust.explorer.facts import gather
        from hyperdust.wallet import parse_key

        key = self._config.faucet_key
        return gather(self._config.public_rpc, None if key is None else str(parse_key(key).address))

    async def words(self, request: Request) -> Response:
        """The text of token ids."""
        from hyperdust.explorer.facts import read_tokens

        query = request.query_params
        return JSONResponse(await trio.to_thread.run_sync(read_tokens, query.get("graph", ""), query.get("ids", "")))

    async def health(self, _request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "alive"})


def _named(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Refusals become answers with their name and status."""

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except Refused as refusal:
            headers = {"retry-after": str(refusal.wait_s)} if isinstance(refusal, TooSoon) else {}
            return JSONResponse(refusal.as_json(), refusal.status, headers=headers)

    return endpoint


async def _body(request: Request, limit: int) -> bytes:
    # A page of another site may not send this type without asking first, and is never allowed to.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("the content type has to be application/json")
    received = bytearray()
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            received += chunk
            if len(received) > limit:
                raise TooLarge(f"the body is larger than {limit} bytes")
    return bytes(received)


def _with_headers(application: ASGIApp) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await application(scope, receive, send_with)

    return wrapped


def _listen(host: str, port: int) -> int:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise PortTaken(f"explorer port {host}:{port}: {error.strerror}; choose another --port") from error
    return listener.detach()
