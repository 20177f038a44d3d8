"""The gateway's server: Starlette on Hypercorn under trio. Takes OpenAI's requests, makes jobs of them, answers."""

import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, TextIO, TypeVar

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from chain.errors import HyperdustError
from hyperdust.durable import hold
from hyperdust.gateway.answering import Answered, Waiter
from hyperdust.gateway.budget import Budget
from hyperdust.gateway.collecting import Collector, collect
from hyperdust.gateway.config import GatewayConfig
from hyperdust.gateway.errors import (
    BadRequest,
    Failed,
    KeyTaken,
    NoNode,
    NoPage,
    PortTaken,
    Refused,
    TooLarge,
    TooSlow,
    WrongMethod,
)
from hyperdust.gateway.guard import Guard
from hyperdust.gateway.metrics import Metrics
from hyperdust.gateway.models import EMBEDDING, TEXT, Asked, Catalog
from hyperdust.gateway.pay import Paid, Payer
from hyperdust.gateway.payments import Payments
from hyperdust.gateway.schemas import Generation, parse_chat, parse_completion, parse_embeddings
from hyperdust.gateway.shapes import Form, embeddings, pieces
from hyperdust.gateway.stream import Emit, EventStream, comment, event
from hyperdust.rpc_client import RpcClient, Unreachable

log = structlog.get_logger()

JOB_HEADER: Final = "x-hyperdust-job"
_GRACE_S: Final = 0.5
_BACKLOG: Final = 128
_BODY_S: Final = 15.0
"""How long a body may take."""
_HEALTH_S: Final = 5.0

_Found = TypeVar("_Found")

Endpoint = Callable[[Request], Coroutine[Any, Any, ASGIApp]]


async def run_gateway(config: GatewayConfig, on_ready: Callable[[str, list[str]], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` gets the base URL and the models once requests are taken.

    Raises:
        PortTaken, KeyTaken, NotServable, UnknownGraph, WeightsMissing, Unreachable.
    """
    descriptor = _listen(config.host, config.port)
    hypercorn = Config()
    hypercorn.bind = [f"fd://{descriptor}"]
    hypercorn.graceful_timeout = _GRACE_S
    hypercorn.keep_alive_timeout = 30.0
    hypercorn.errorlog = logging.getLogger("hypercorn.error")
    hypercorn.include_server_header = False
    with RpcClient(config.rpc) as client:
        catalog = Catalog.load(client, config.graphs)
        config.data_dir.mkdir(parents=True, exist_ok=True)
        with _hold(config.data_dir / f"{name_of(client, config)}.lock"):
            server = build_server(config, client, catalog)
            application: Any = build_application(config, server)  # Starlette and Hypercorn type ASGI each in their way
            async with trio.open_nursery() as nursery:
                await nursery.start(
                    lambda task_status: serve(application, hypercorn, task_status=task_status, mode="asgi")
                )
                host = f"[{config.host}]" if ":" in config.host else config.host
                nursery.start_soon(collect, server.collector)
                on_ready(f"http://{host}:{config.port}/v1", catalog.names())
                with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for received in signals:
                        log.info("stopping", signal=signal.Signals(received).name)
                        nursery.cancel_scope.cancel()
                        break


def build_server(config: GatewayConfig, client: RpcClient, catalog: Catalog) -> "GatewayServer":
    """What answers requests, with everything that it stands on."""
    files = config.data_dir / name_of(client, config)
    budget = Budget(config.budget_wei, time.time, files.with_suffix(".budget.json"))
    payments = Payments(files.with_suffix(".payments.json"))
    payer = Payer(
        client,
        config.account,
        budget,
        payments,
        config.max_fee_wei,
        provider=config.provider,
        deadline_blocks=config.deadline_blocks,
    )
    waiter = Waiter(client, until_final=config.until_final, timeout_s=config.timeout_s)
    return GatewayServer(config, client, catalog, payer, waiter, Collector(client, payer, payments), Metrics(budget))


def name_of(client: RpcClient, config: GatewayConfig) -> str:
    """What the files of a key on a chain begin with."""
    genesis = str(client.call("eth_getBlockByNumber", "0x0", False)["hash"])
    return f"{genesis[2:18]}-{config.account.address[2:].lower()}"


def build_application(config: GatewayConfig, server: "GatewayServer") -> ASGIApp:
    """The ASGI application."""
    routes = [
        Route("/v1/models", server.answered(server.models), methods=["GET"]),
        Route("/v1/models/{name:path}", server.answered(server.model), methods=["GET"]),
        Route("/v1/chat/completions", server.answered(server.chat), methods=["POST"]),
        Route("/v1/completions", server.answered(server.complete), methods=["POST"]),
        Route("/v1/embeddings", server.answered(server.embed), methods=["POST"]),
        Route("/metrics", server.answered(server.metrics), methods=["GET"]),
        Route("/health", server.answered(server.health), methods=["GET"]),
    ]
    handlers: Any = {HTTPException: _no_route, Exception: _our_fault}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), config)


class GatewayServer:
    """What answers requests."""

    def __init__(
        self,
        config: GatewayConfig,
        client: RpcClient,
        catalog: Catalog,
        payer: Payer,
        waiter: Waiter,
        collector: Collector,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._client = client
        self._catalog = catalog
        self._payer = payer
        self._waiter = waiter
        self.collector = collector
        self._metrics = metrics

    async def models(self, _request: Request) -> Response:
        """GET /v1/models."""
        found = await _thread(lambda: [model.as_json() for model in self._catalog.listed()])
        return JSONResponse({"object": "list", "data": found})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/NAME."""
        found = await _thread(lambda: self._catalog.get(request.path_params["name"][:200]))
        return JSONResponse(found.as_json())

    async def chat(self, request: Request) -> ASGIApp:
        """POST /v1/chat/completions."""
        return await self._generate(parse_chat(await self._body(request)), chat=True)

    async def complete(self, request: Request) -> ASGIApp:
        """POST /v1/completions."""
        return await self._generate(parse_completion(await self._body(request)), chat=False)

    async def embed(self, request: Request) -> ASGIApp:
        """POST /v1/embeddings."""
        wanted = parse_embeddings(await self._body(request))
        fee = self._config.fee_wei

        def prepare() -> list[Asked]:
            model = self._catalog.find(wanted.model, EMBEDDING)
            return [model.question(text, fee) for text in wanted.texts]

        deadline = trio.current_time() + self._config.timeout_s
        paid = await self._pay(await _thread(prepare))
        found = []
        try:
            # All are paid and executed side by side: waiting in order takes as long as the slowest.
            for one in paid:
                answered = await self._waiter.wait_answer(one, deadline)
                found.append(await self._waiter.wait_root(answered, deadline))
        except Refused as refusal:
            refusal.facts = (refusal.facts or {}) | {"jobs": [one.facts() for one in paid]}
            raise
        return JSONResponse(embeddings(found, base64_wanted=wanted.base64), headers=_job_header(paid))

    async def metrics(self, _request: Request) -> Response:
        """GET /metrics."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def health(self, _request: Request) -> Response:
        """GET /health: whether this process and its node answer."""
        with trio.move_on_after(_HEALTH_S):
            try:
                block = await _thread(lambda: self._client.quantity("eth_blockNumber"))
            except HyperdustError:
                return JSONResponse({"status": "the node does not answer"}, 503)
            return JSONResponse({"status": "ok", "block": block, "models": self._catalog.names()})
        return JSONResponse({"status": "the node does not answer in time"}, 503)

    async def _generate(self, wanted: Generation, *, chat: bool) -> ASGIApp:
        deadline = trio.current_time() + self._config.timeout_s
        fee = self._config.fee_wei

        def prepare() -> Asked:
            model = self._catalog.find(wanted.model, TEXT)
            return model.question(wanted.text, fee, wanted.max_tokens, wanted.seed)

        (paid,) = await self._pay([await _thread(prepare)])
        form = Form(chat=chat, created=int(time.time()))
        if not wanted.stream:
            found = await self._waiter.wait_answer(paid, deadline)
            rooted = await self._waiter.wait_root(found, deadline)
            return JSONResponse(form.whole(rooted), headers=_job_header([paid]))

        async def produce(emit: Emit) -> None:
            await emit(comment(f"job {paid.job} is in block {paid.block}"))
            found = await self._waiter.wait_answer(paid, deadline)
            await self._say(emit, form, found)
            rooted = await self._waiter.wait_root(found, deadline)
            await emit(event(form.last(rooted)))
            if wanted.usage_chunk:
                await emit(event(form.counted(rooted)))

        return EventStream(produce, _job_header([paid]))

    @staticmethod
    async def _say(emit: Emit, form: Form, found: Answered) -> None:
        """Token by token: the whole answer came on chain at once, and none is held back to look alive."""
        first = True
        for text in await _thread(lambda: list(pieces(found))):
            await emit(event(form.chunk(found, text, first=first)))
            first = False

    async def _pay(self, questions: Sequence[Asked]) -> list[Paid]:
        paid = await _thread(lambda: self._payer.pay(questions))
        self._metrics.jobs.inc(len(paid))
        log.info("asked", model=questions[0].model.id, jobs=[one.job for one in paid])
        return paid

    async def _body(self, request: Request) -> bytes:
        # A page of another site may not send this type without asking first, and is never allowed to.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise BadRequest("the content type has to be application/json")
        received = bytearray()
        with trio.move_on_after(_BODY_S):
            try:
                async with aclosing(request.stream()) as chunks:
                    async for chunk in chunks:
                        received += chunk
                        if len(received) > self._config.body_bytes:
                            raise TooLarge(f"the body is larger than {self._config.body_bytes} bytes")
            except ClientDisconnect as error:
                raise BadRequest("the client went away before its request was whole") from error
            return bytes(received)
        raise TooSlow(f"the body took longer than {_BODY_S:.0f} s")

    def answered(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Any]]:
        """Refusals become answers with their code and status."""

        async def named(request: Request) -> Any:
            try:
                answer = await endpoint(request)
            except Refused as refusal:
                answer = _refusal(refusal)
            except Unreachable as error:
                answer = _refusal(NoNode(f"{error}. Nothing was spent"))
            except HyperdustError as error:
                # Whether it was paid is not known here: clients should not ask again by themselves.
                answer = _refusal(Failed(str(error), facts={"job": None}))
            self._metrics.requests.labels(endpoint.__name__, _status(answer)).inc()
            return answer

        return named


def _refusal(refusal: Refused) -> JSONResponse:
    log.info("refused", status=refusal.status, code=refusal.code, reason=str(refusal))
    return JSONResponse(refusal.as_json(), refusal.status, headers=refusal.headers())


async def _no_route(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        return _refusal(WrongMethod(f"{request.url.path[:100]} does not take {request.method}"))
    return _refusal(NoPage(f"there is no {request.url.path[:100]} here"))


async def _our_fault(_request: Request, error: Exception) -> Response:
    log.error("a request failed", reason=repr(error))
    body = {"message": "the gateway failed; its log says why", "type": "api_error", "param": None, "code": "internal"}
    # It may have paid: asking again by itself could pay twice.
    return JSONResponse({"error": body}, 500, headers={"x-should-retry": "false"})


def _status(answer: object) -> str:
    return str(answer.status_code) if isinstance(answer, Response) else "200"


def _job_header(paid: Sequence[Paid]) -> dict[str, str]:
    return {JOB_HEADER: ",".join(str(one.job) for one in paid)}


async def _thread(work: Callable[[], _Found]) -> _Found:
    # A stop does not wait for a thread; what it has sent is on chain.
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


def _hold(path: Path) -> TextIO:
    try:
        return hold(path)
    except OSError as error:
        raise KeyTaken(
            f"{path}: {error.strerror}; another gateway may pay with this key: stop it, or choose another --keystore"
        ) from error


def _listen(host: str, port: int) -> int:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise PortTaken(f"gateway port {host}:{port}: {error.strerror}; choose another --port") from error
    return listener.detach()
