"""JSON-RPC over HTTP and WebSocket: Starlette on Hypercorn under trio. Methods block, so they run in worker threads.

Both ports serve the same application: POST / and WebSocket /, GET /health and /ready.
"""

import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, Final, Protocol

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from chain.engine import Transaction
from chain.errors import NodeFault
from chain.params import ChainParams
from hyperdust.node.bitcoin import BitcoinChain
from hyperdust.node.config import NodeConfig
from hyperdust.node.importer import Imported
from hyperdust.node.mempool import Mempool
from hyperdust.node.peg import Peg
from hyperdust.node.rpc.backend import Backend, ForeignChain, HeadSource, PendingSource, Subscriptions
from hyperdust.node.rpc.dispatcher import Dispatcher, encode_failure, encode_notification
from hyperdust.node.rpc.errors import LimitExceeded, TimedOut
from hyperdust.node.store import Store
from hyperdust.node.votes import Votes

log = structlog.get_logger()

_CONTENT_TYPES: Final = ("application/json", "application/json-rpc", "application/jsonrequest")
_GRACE_S: Final = 2.0  # for connections at shutdown, and beyond a call's own time limit
_READY_AGE_S: Final = 60  # or ten blocks, whichever is more
_BACKLOG: Final = 512
_JSON: Final = "application/json"


class NodeParts(Protocol):
    """What the server takes of `hyperdust.node.app.Node`."""

    @property
    def config(self) -> NodeConfig: ...  # noqa: D102 - the field's own name says it
    @property
    def params(self) -> ChainParams: ...  # noqa: D102
    @property
    def store(self) -> Store: ...  # noqa: D102
    @property
    def importer(self) -> HeadSource: ...  # noqa: D102
    @property
    def mempool(self) -> Mempool: ...  # noqa: D102
    @property
    def builder(self) -> PendingSource: ...  # noqa: D102
    @property
    def bitcoin(self) -> BitcoinChain | None: ...  # noqa: D102
    @property
    def votes(self) -> Votes | None: ...  # noqa: D102
    @property
    def peg(self) -> Peg | None: ...  # noqa: D102


class PortTaken(NodeFault):
    """Another process listens there."""


async def serve_rpc(
    node: NodeParts, foreign: ForeignChain | None = None, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve a node's two ports until cancelled; `foreign` where its chain is an imported one.

    Raises:
        PortTaken
    """
    backend = Backend(
        params=node.params,
        store=node.store,
        importer=node.importer,
        mempool=node.mempool,
        builder=node.builder,
        version=f"hyperdust/v{version('hyperdust')}/python",
        debug=node.config.dev or foreign is not None,
        archive=node.config.archive or foreign is not None,
        foreign=foreign,
        bitcoin=node.bitcoin,
        votes=node.votes,
        peg=node.peg,
    )
    ports = (("JSON-RPC", "--rpc-port", node.config.rpc_port), ("WebSocket", "--ws-port", node.config.ws_port))
    descriptors = [_listen(node.config.host, port, what, option) for what, option, port in ports]
    config = Config()
    config.bind = [f"fd://{descriptor}" for descriptor in descriptors]
    config.graceful_timeout = _GRACE_S
    config.keep_alive_timeout = 60.0
    config.websocket_max_message_size = backend.limits.body_bytes
    config.websocket_ping_interval = 30.0
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    application: Any = RpcServer(backend).application()  # Starlette and Hypercorn type ASGI each in their own way
    await serve(application, config, task_status=_Started(task_status), mode="asgi")


def _listen(host: str, port: int, what: str, option: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(f"{what} port {host}:{port}: {error.strerror}; choose another {option}") from error
    return listener.detach()


class _Started:
    """Hypercorn reports its addresses; a node only wants to know that they answer."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status

    def started(self, _binds: list[str] | None = None) -> None:
        self._task_status.started()


class _Session:
    """One WebSocket connection: its subscriptions and the bell that rings when something happened."""

    def __init__(self) -> None:
        self.subscriptions = Subscriptions()
        self.bell = trio.Event()


class RpcServer:
    """The application over a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._dispatcher = Dispatcher(backend)
        self._limiter = trio.CapacityLimiter(backend.limits.concurrent)
        self._sessions: set[_Session] = set()
        token = trio.lowlevel.current_trio_token()
        backend.importer.subscribe(partial(self._on_imported, token))
        backend.mempool.subscribe(partial(self._on_transaction, token))

    def application(self) -> Starlette:
        """The ASGI application."""
        cors = Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["GET", "POST"], allow_headers=["*"])
        routes = [
            Route("/", self._post, methods=["POST"]),
            Route("/health", self._health, methods=["GET"]),
            Route("/ready", self._ready, methods=["GET"]),
            WebSocketRoute("/", self._websocket),
        ]
        return Starlette(routes=routes, middleware=[cors])

    async def _post(self, http: HttpRequest) -> Response:
        kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _CONTENT_TYPES:
            return PlainTextResponse(f"invalid content type, only {_CONTENT_TYPES[0]} is supported", 415)
        payload = await self._read_body(http)
        if payload is None:
            return PlainTextResponse("request body too large", 413)
        if self._limiter.statistics().tasks_waiting >= self._backend.limits.waiting:
            return Response(encode_failure(LimitExceeded("too many requests")), 429, media_type=_JSON)
        answer = await self._answer(payload, None)
        return Response(status_code=204) if answer is None else Response(answer, media_type=_JSON)

    async def _read_body(self, http: HttpRequest) -> bytes | None:
        limit = self._backend.limits.body_bytes
        received = bytearray()
        async for chunk in http.stream():
            received += chunk
            if len(received) > limit:
                return None
        return bytes(received)

    async def _answer(self, payload: bytes, subscriptions: Subscriptions | None) -> bytes | None:
        # Methods watch their own time; this bound is for the one that cannot. Its thread keeps its place until it ends.
        with trio.move_on_after(self._backend.limits.call_s + _GRACE_S):
            return await trio.to_thread.run_sync(
                self._dispatcher.answer, payload, subscriptions, limiter=self._limiter, abandon_on_cancel=True
            )
        return encode_failure(TimedOut())

    async def _health(self, _http: HttpRequest) -> Response:
        return JSONResponse({"status": "alive"})

    async def _ready(self, _http: HttpRequest) -> Response:
        head = self._backend.store.latest.head
        age_s = int(time.time()) - head.header.timestamp
        still = self._backend.foreign is not None  # an imported chain never gets another block
        ready = still or age_s <= max(_READY_AGE_S, 10 * self._backend.params.spacing_s)
        report = {"ready": ready, "head": head.number, "hash": "0x" + head.hash.hex(), "age_s": age_s}
        if (bitcoin := self._backend.bitcoin) is not None:  # what it is makes no difference: blocks go on without it
            report["bitcoin"] = {"state": bitcoin.state.value, "reason": bitcoin.reason or None}
        return JSONResponse(report, 200 if ready else 503)

    async def _websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        session = _Session()
        self._sessions.add(session)
        lock = trio.Lock()  # one writer at a time
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._notify, session, websocket, lock)
                await self._converse(session, websocket, lock)
                nursery.cancel_scope.cancel()
        finally:
            self._sessions.discard(session)

    async def _converse(self, session: _Session, websocket: WebSocket, lock: trio.Lock) -> None:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            payload = message.get("bytes") or (message.get("text") or "").encode()
            answer = await self._answer(payload, session.subscriptions)
            if answer is not None and not await _send(websocket, lock, [answer]):
                return
            if session.subscriptions.activate():
                session.bell.set()

    async def _notify(self, session: _Session, websocket: WebSocket, lock: trio.Lock) -> None:
        while True:
            await session.bell.wait()
            session.bell = trio.Event()
            news = await trio.to_thread.run_sync(self._news, session.subscriptions, limiter=self._limiter)
            if news and not await _send(websocket, lock, news):
                return

    def _news(self, subscriptions: Subscriptions) -> list[bytes]:
        news = subscriptions.advance(self._backend.store.latest)
        return [encode_notification(identifier, result) for identifier, results in news for result in results]

    def _on_imported(self, token: trio.lowlevel.TrioToken, _imported: Imported) -> None:
        _call_soon(token, self._ring)

    def _on_transaction(self, token: trio.lowlevel.TrioToken, transaction: Transaction) -> None:
        self._backend.pending.add(transaction)
        _call_soon(token, self._ring)

    def _ring(self) -> None:
        for session in self._sessions:
            session.bell.set()


def _call_soon(token: trio.lowlevel.TrioToken, call: Callable[[], None]) -> None:
    try:
        token.run_sync_soon(call, idempotent=True)
    except trio.RunFinishedError:
        return  # the server has stopped; nobody listens


async def _send(websocket: WebSocket, lock: trio.Lock, messages: list[bytes]) -> bool:
    async with lock:
        try:
            for message in messages:
                await websocket.send_text(message.decode())
        except (WebSocketDisconnect, RuntimeError):  # starlette raises RuntimeError once a close was sent
            return False
    return True
