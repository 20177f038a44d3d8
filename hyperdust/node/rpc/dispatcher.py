"""Bytes of a request to bytes of its answer: JSON-RPC 2.0, batches, limits, errors. No sockets here."""

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from chain.errors import HyperdustError, Invalid, NodeFault, NotYet
from chain.json_text import nests_deeper
from hyperdust.node.rpc.backend import Backend, Request, Subscriptions
from hyperdust.node.rpc.errors import (
    InternalError,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    ParseError,
    ResponseTooLarge,
    RpcError,
    ServerError,
    TimedOut,
)
from hyperdust.node.rpc.openrpc import build_document
from hyperdust.node.rpc.table import build_table

log = structlog.get_logger()

_VERSION: Final = "2.0"
_MAX_DEPTH: Final = 64  # the deepest parameter is a topic in a list in a filter in a request in a batch


class Dispatcher:
    """Answers requests. Blocking and safe to use from any thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._methods = build_table(debug_enabled=backend.debug, foreign=backend.foreign is not None)
        self._document = build_document(self._methods.values(), backend.version)
        self._modules = {name.partition("_")[0]: "1.0" for name in self._methods} | {"rpc": "1.0"}

    def answer(self, payload: bytes, subscriptions: Subscriptions | None = None) -> bytes | None:
        """The answer to a request or a batch; None where only notifications came."""
        deadline = time.monotonic() + self._backend.limits.call_s
        try:
            content = _parse(payload)
        except ValueError:
            return _encode(None, ParseError("parse error"))
        if not isinstance(content, list):
            return self._answer_one(content, subscriptions, deadline)
        if not content:
            return _encode(None, InvalidRequest("empty batch"))
        if len(content) > self._backend.limits.batch:
            first = next((one for one in map(_id_of, content) if one is not None), None)
            return b"[" + _encode(first, InvalidRequest("batch too large")) + b"]"  # geth's form: one error in a list
        return self._answer_batch(content, subscriptions, deadline)

    def _answer_batch(self, items: list[object], subscriptions: Subscriptions | None, deadline: float) -> bytes | None:
        answers: list[bytes] = []
        left = self._backend.limits.response_bytes
        for item in items:
            encoded = self._answer_one(item, subscriptions, deadline)
            if encoded is None:
                continue
            if len(encoded) > left:
                encoded = _encode(_id_of(item), ResponseTooLarge(self._backend.limits.response_bytes))
            left -= len(encoded)
            answers.append(encoded)
        return b"[" + b",".join(answers) + b"]" if answers else None

    def _answer_one(self, item: object, subscriptions: Subscriptions | None, deadline: float) -> bytes | None:
        identifier = _id_of(item)
        try:
            method, params = _check_request(item)
            outcome: object = self._call(method, params, subscriptions, deadline)
        except RpcError as error:
            outcome = error
        except (Invalid, NotYet) as error:
            outcome = ServerError(str(error))
        except NodeFault as error:
            log.exception("request failed", error=str(error))
            outcome = InternalError(str(error))
        except Exception as error:  # the server's main loop: one bad request must not end it
            log.exception("request failed", error=repr(error))
            outcome = InternalError("internal error")
        if isinstance(item, Mapping) and "id" not in item and "method" in item:
            return None  # a notification is done and not answered
        encoded = _encode(identifier, outcome)
        if len(encoded) > self._backend.limits.response_bytes:
            return _encode(identifier, ResponseTooLarge(self._backend.limits.response_bytes))
        return encoded

    def _call(self, name: str, params: list[object], subscriptions: Subscriptions | None, deadline: float) -> object:
        if time.monotonic() > deadline:
            raise TimedOut
        if name == "rpc.discover":
            return self._document
        if name == "rpc_modules":
            return self._modules
        method = self._methods.get(name)
        if method is None:
            raise MethodNotFound(name)
        return method.call(Request(self._backend, self._backend.store.latest, deadline, subscriptions), params)


def _parse(payload: bytes) -> Any:
    """JSON, refused before the parser recurses too deep: the interpreter's own limit may be above what the stack holds.

    Raises:
        ValueError
    """
    if nests_deeper(payload, _MAX_DEPTH):
        raise ValueError
    return json.loads(payload)


def _check_request(item: object) -> tuple[str, list[object]]:
    if not isinstance(item, Mapping) or item.get("jsonrpc") != _VERSION or not isinstance(item.get("method"), str):
        raise InvalidRequest("invalid request")
    if not isinstance(item.get("id"), str | int | float | None) or isinstance(item.get("id"), bool):
        raise InvalidRequest("invalid request")
    params = item.get("params")
    if params is None:
        params = []
    if not isinstance(params, list):
        raise InvalidParams("non-array args")
    return item["method"], params


def _id_of(item: object) -> object:
    identifier = item.get("id") if isinstance(item, Mapping) else None
    return identifier if isinstance(identifier, str | int | float) and not isinstance(identifier, bool) else None


def _encode(identifier: object, outcome: object) -> bytes:
    answer: dict[str, object] = {"jsonrpc": _VERSION, "id": identifier}
    if isinstance(outcome, RpcError):
        answer["error"] = outcome.as_json()
    else:
        answer["result"] = outcome
    return json.dumps(answer, separators=(",", ":")).encode()


def encode_notification(subscription: str, result: object) -> bytes:
    """What a subscription sends."""
    params = {"subscription": subscription, "result": result}
    return json.dumps({"jsonrpc": _VERSION, "method": "eth_subscription", "params": params}).encode()


def encode_failure(error: HyperdustError) -> bytes:
    """The answer to a request that was never looked at."""
    return _encode(None, error if isinstance(error, RpcError) else InternalError(str(error)))
