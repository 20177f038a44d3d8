"""eth_*: logs and filters."""

from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.errors import InvalidParams, LimitExceeded, ServerError
from hyperdust.node.rpc.feeds import HashCursor, LogCursor, LogMatcher, PendingCursor, find_logs
from hyperdust.node.rpc.parameters import LogFilter
from hyperdust.node.rpc.shapes import Json


def get_logs(request: Request, wanted: LogFilter) -> list[Json]:
    """Logs of a block or of a range of blocks."""
    matcher = LogMatcher(wanted)
    if wanted.block_hash is not None:
        header = request.snapshot.load_header(wanted.block_hash)
        if header is None:
            raise ServerError("unknown block")
        found = find_logs(request.snapshot, request.backend.blocks, wanted.block_hash, header, matcher)
        return [log.as_json() for log in found]
    return _logs_in_range(request, _range(request, wanted), matcher)


def _range(request: Request, wanted: LogFilter) -> range:
    head = request.snapshot.head.number
    first = request.resolve_number(wanted.from_block) if wanted.from_block else head
    last = request.resolve_number(wanted.to_block) if wanted.to_block else head
    if first > last:
        raise InvalidParams("invalid block range params")
    if last > head:
        raise InvalidParams("block range extends beyond current head block")
    if last - first >= request.backend.limits.log_blocks:
        raise LimitExceeded(f"exceed maximum block range: {request.backend.limits.log_blocks}")
    return range(first, last + 1)


def _logs_in_range(request: Request, numbers: range, matcher: LogMatcher) -> list[Json]:
    snapshot, limit = request.snapshot, request.backend.limits.log_results
    results: list[Json] = []
    for number in numbers:
        request.check_time()
        block_hash = snapshot.canonical_hash(number)
        if block_hash is None:
            continue
        header = snapshot.require_header(block_hash)
        results.extend(
            log.as_json() for log in find_logs(snapshot, request.backend.blocks, block_hash, header, matcher)
        )
        if len(results) > limit:
            raise LimitExceeded(
                f"query returned more than {limit} results; "
                f"try with this block range [{numbers.start:#x}, {number - 1:#x}]"
            )
    return results


def new_filter(request: Request, wanted: LogFilter) -> str:
    """Install a filter for logs."""
    cursor = LogCursor(request.snapshot.head.hash, wanted, request.backend.blocks)
    return request.backend.filters.install(cursor, wanted)


def new_block_filter(request: Request) -> str:
    """Install a filter for hashes of new blocks."""
    return request.backend.filters.install(HashCursor(request.snapshot.head.hash))


def new_pending_transaction_filter(request: Request, full: bool = False) -> str:
    """Install a filter for transactions that enter the mempool."""
    return request.backend.filters.install(PendingCursor(request.backend.pending, full=full))


def get_filter_changes(request: Request, identifier: str) -> list[object]:
    """What is new for a filter since the last call."""
    return request.backend.filters.changes(identifier, request.snapshot)


def get_filter_logs(request: Request, identifier: str) -> list[Json]:
    """All logs that a filter matches."""
    return get_logs(request, request.backend.filters.log_filter(identifier))


def uninstall_filter(request: Request, identifier: str) -> bool:
    """Remove a filter; false where there was none."""
    return request.backend.filters.uninstall(identifier)
