"""`--sync-from bitcoin` when a node starts: headers, then the rebuild; a bar for people, lines for logs."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

import structlog

from chain.errors import NodeFault
from chain.params import ChainParams
from hyperdust.node.bitcoin import BitcoinChain, Follower, State
from hyperdust.node.importer import Importer
from hyperdust.node.rebuild import DataMissing, Rebuild, Rebuilt
from hyperdust.node.store import Store

log = structlog.get_logger()

_TRIES: Final = 5
_BAR: Final = 30
_REDRAW_S: Final = 0.2
_LINE_S: Final = 10.0


class NoBitcoinToSync(NodeFault):
    """There is no bitcoind to sync from, or not the right one."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"--sync-from bitcoin: {reason}")


class ProgressBar:
    """Height, goal and blocks/s on one line of a terminal, or a line now and then."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = self._last = time.monotonic()
        self._count = 0

    def __call__(self, height: int, goal: int) -> None:
        """Take note of one more block."""
        self._count += 1
        now = time.monotonic()
        if now - self._last < (_REDRAW_S if self._terminal else _LINE_S) and height < goal:
            return
        self._last = now
        speed = self._count / max(now - self._start, 1e-9)
        text = f"{height}/{goal} blocks, {speed:.0f} blocks/s"
        if self._terminal:
            done = min(_BAR, _BAR * height // max(goal, 1))
            text = f"\r[{'#' * done}{'.' * (_BAR - done)}] {text}" + ("\n" if height >= goal else "")
        else:
            text += "\n"
        self._stream.write(text)
        self._stream.flush()


def sync_from_bitcoin(
    store: Store,
    importer: Importer,
    params: ChainParams,
    bitcoin: BitcoinChain | None,
    follower: Follower | None,
    start_height: int,
) -> Rebuilt | None:
    """Rebuild what Bitcoin has; None where a part of it is missing, which is said, and the node goes on with the rest.

    Raises:
        NoBitcoinToSync: there is no bitcoind, or it is refused.
        RebuildDiffers: Bitcoin and the rules disagree; the node must not go on.
        NodeFault: our own trouble, or the bitcoind's.
    """
    if bitcoin is None or follower is None:
        raise NoBitcoinToSync("name a bitcoind by --bitcoin-rpc URL")
    _follow_headers(bitcoin, follower)
    log.info("rebuilding from bitcoin", headers=bitcoin.height, head=store.latest.head.number)
    rebuild = Rebuild(store, importer, params, follower.client, bitcoin, start_height, ProgressBar())
    missing: DataMissing | None = None
    try:
        with _warnings_only():
            rebuild.run()
    except DataMissing as error:
        missing = error
    done = rebuild.done
    speed = round(done.blocks / max(done.seconds, 1e-9), 1)
    log.info("rebuilt", head=store.latest.head.number, anchored=done.anchored_height, blocks_per_second=speed)
    if missing is not None:
        log.warning("data missing on bitcoin", from_block=missing.height, reason=str(missing))
        return None
    return done


def _follow_headers(bitcoin: BitcoinChain, follower: Follower) -> None:
    for _ in range(_TRIES):
        wait_s = follower.step()
        if bitcoin.state is State.FOLLOWING:
            return
        if bitcoin.state is not State.UNREACHABLE:
            break
        time.sleep(wait_s)
    raise NoBitcoinToSync(f"{bitcoin.state.value}: {bitcoin.reason}")


@contextmanager
def _warnings_only() -> Iterator[None]:
    """The importer says every block; of a whole chain that is too much."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.configure(wrapper_class=before)
