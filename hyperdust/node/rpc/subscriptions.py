"""eth_subscribe and eth_unsubscribe: cursors that the WebSocket server polls whenever something happened."""

from collections.abc import Callable

from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.errors import InvalidParams, MethodNotFound, ServerError
from hyperdust.node.rpc.feeds import Cursor, HeadCursor, LogCursor, PendingCursor
from hyperdust.node.rpc.parameters import Anything, LogFilter
from hyperdust.node.rpc.parsing import parse_flag, parse_log_filter
from hyperdust.node.store import ChainSnapshot


class SilentCursor:
    """`syncing`: this node has no peers, so it never starts or stops to sync."""

    def advance(self, _snapshot: ChainSnapshot) -> list[object]:
        """Nothing."""
        return []


def _heads(request: Request, _options: object) -> Cursor:
    return HeadCursor(request.snapshot.head.hash)


def _logs(request: Request, options: object) -> Cursor:
    wanted = LogFilter() if options is None else parse_log_filter(options)
    return LogCursor(request.snapshot.head.hash, wanted, request.backend.blocks)


def _pending(request: Request, options: object) -> Cursor:
    full = options is not None and parse_flag(options)
    return PendingCursor(request.backend.pending, full=full)


def _syncing(_request: Request, _options: object) -> Cursor:
    return SilentCursor()


_KINDS: dict[str, Callable[[Request, object], Cursor]] = {
    "newHeads": _heads,
    "logs": _logs,
    "newPendingTransactions": _pending,
    "syncing": _syncing,
}


def subscribe(request: Request, kind: str, options: Anything = None) -> str:
    """Be told of newHeads, logs, newPendingTransactions or syncing; over WebSocket only."""
    if request.subscriptions is None:
        raise NotificationsUnsupported
    if kind not in _KINDS:
        raise InvalidParams(f'no "{kind}" subscription in eth namespace')
    return request.subscriptions.add(_KINDS[kind](request, options), request.backend.limits.subscriptions)


def unsubscribe(request: Request, identifier: str) -> bool:
    """End a subscription."""
    if request.subscriptions is None:
        raise NotificationsUnsupported
    if not request.subscriptions.remove(identifier):
        raise ServerError("subscription not found")
    return True


class NotificationsUnsupported(MethodNotFound):
    """A subscription over HTTP."""

    def __init__(self) -> None:
        super().__init__("eth_subscribe")
        self.message = "notifications not supported"
