"""How fast a chain is rebuilt from Bitcoin, against importing the same blocks from a file in the same process.

The chain: jobs, deposits, withdrawals and anchors on a real regtest bitcoind (tests/functional/rebuild_story.py), whose
blocks are small: what is measured is what the way over Bitcoin adds. Both databases and bitcoind lie in one folder.
"""

import logging
import os
import shutil
import statistics
import tempfile
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import structlog

from benchmarks.skip import Skipped
from chain.blocks import decode_block
from chain.errors import NodeFault
from hyperdust.bitcoind import NoBitcoind, locate_bitcoind, start_regtest
from hyperdust.node.app import open_node
from hyperdust.node.syncing import sync_from_bitcoin
from tests.functional.bitcoin_fixture import MATURE, Bitcoin
from tests.functional.ports import free_ports
from tests.functional.rebuild_story import config_of, open_story

Row = dict[str, object]
ROOT = Path(__file__).parents[1]
CYCLES = 8
ROUNDS = 3
SIZE_BYTES = 4


def rebuild_vs_file_import() -> Row:
    """About 270 blocks, rounds interleaved; the median of each counts."""
    try:
        program = locate_bitcoind()
    except NoBitcoind as error:
        raise Skipped(str(error)) from error
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    tmpfs = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="hyperdust-", dir=tmpfs if os.access(tmpfs, os.W_OK) else None))
    node = start_regtest(folder / "bitcoin", *free_ports(2), program=program)
    try:
        with node.client.wallet("test") as wallet:
            bitcoin = Bitcoin(node, wallet, wallet.new_address())
            bitcoin.mine(MATURE)
            return _measure(bitcoin, folder)
    finally:
        node.stop()
        shutil.rmtree(folder)
        structlog.reset_defaults()


def _measure(bitcoin: Bitcoin, folder: Path) -> Row:
    chain = folder / "l2"
    chain.mkdir()
    with open_story(bitcoin, chain, ROOT) as story:
        story.start()
        for cycle in range(CYCLES):
            story.go_on(2 + cycle)
        count = story.publisher.entries[-1].last
        blocks = [story.block(number).encode() for number in range(1, count + 1)]
        entries = story.publisher.entries
    file = chain / "blocks"
    file.write_bytes(b"".join(len(raw).to_bytes(SIZE_BYTES, "little") + raw for raw in blocks))
    ours, peer = [], []
    for at in range(ROUNDS):
        ours.append(_rebuild(bitcoin, chain, f"ours{at}", count))
        peer.append(_import(bitcoin, chain, f"peer{at}", file))
    on_bitcoin, plain = sum(one.size for one in entries), sum(map(len, blocks))
    vbytes, fee = sum(one.vsize for one in entries), sum(one.fee for one in entries)
    print(
        f"  {count} blocks: {plain / count:.0f} bytes each, {on_bitcoin / count:.0f} on Bitcoin, "
        f"{vbytes / count:.0f} vB, {fee / count:.0f} sats at 2 sat/vB; {len(entries)} payloads"
    )
    speed, peer_speed = statistics.median(ours), statistics.median(peer)
    return {
        "name": "rebuild_vs_file_import",
        "ours": speed,
        "peer": peer_speed,
        "ratio": speed / peer_speed,
        "unit": "blocks/s",
        "peer_name": "the same blocks from a file through the same importer",
    }


def _rebuild(bitcoin: Bitcoin, chain: Path, name: str, count: int) -> float:
    """Blocks a second, from the first header on."""
    with open_node(config_of(bitcoin, chain / "genesis.json", chain / name)) as node:
        begin = time.perf_counter()
        with redirect_stderr(StringIO()):
            rebuilt = sync_from_bitcoin(node.store, node.importer, node.params, node.bitcoin, node.follower, 0)
        seconds = time.perf_counter() - begin
        if rebuilt is None or rebuilt.blocks != count or node.follower is None:
            raise NodeFault(f"the rebuild made {rebuilt}, not {count} blocks")
        node.follower.client.close()
    return count / seconds


def _import(bitcoin: Bitcoin, chain: Path, name: str, file: Path) -> float:
    """Blocks a second, reading and decoding included; headers of Bitcoin are there already."""
    with open_node(config_of(bitcoin, chain / "genesis.json", chain / name)) as node:
        if node.follower is None:
            raise NodeFault("no bitcoind")
        node.follower.step()
        begin, count = time.perf_counter(), 0
        with file.open("rb") as opened:
            while size := opened.read(SIZE_BYTES):
                node.importer.import_block(decode_block(opened.read(int.from_bytes(size, "little"))))
                count += 1
        seconds = time.perf_counter() - begin
        node.follower.client.close()
    return count / seconds


BENCHMARKS = {"rebuild_vs_file_import": rebuild_vs_file_import}
