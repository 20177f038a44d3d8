"""The node, put together: the one place where its parts meet, start and stop."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog
import trio

from chain.params import ChainParams
from hyperdust.node.bitcoin import BitcoinChain, Follower, open_bitcoin
from hyperdust.node.builder import Builder
from hyperdust.node.config import NodeConfig
from hyperdust.node.foreign import import_chain, load_foreign, open_foreign
from hyperdust.node.foreign_pool import ForeignBuilder, ForeignPool, StillChain
from hyperdust.node.genesis import Network, build_genesis, load_network
from hyperdust.node.importer import Importer
from hyperdust.node.mempool import Mempool
from hyperdust.node.metrics import MetricsServer
from hyperdust.node.peg import Peg, open_peg
from hyperdust.node.rpc.backend import ForeignChain
from hyperdust.node.rpc.server import NodeParts, serve_rpc
from hyperdust.node.store import Store, StoreFault, open_store
from hyperdust.node.syncing import sync_from_bitcoin
from hyperdust.node.votes import Votes
from hyperdust.node.work_api import WorkServer

log = structlog.get_logger()

_SWITCH_INTERVAL_S: Final = (
    0.0005  # execution calls back for state: Python's 5 ms make each call wait ten times as long
)


@dataclass(frozen=True, slots=True)
class Node:
    """Every part of a running node; each is safe to use from any thread."""

    config: NodeConfig
    network: Network
    store: Store
    importer: Importer
    mempool: Mempool
    builder: Builder
    votes: Votes
    bitcoin: BitcoinChain | None
    """None: this chain has nothing to do with Bitcoin here."""
    follower: Follower | None
    """None: no bitcoind is configured."""
    peg: Peg | None
    """None: the network has no peg, or the node no Bitcoin."""

    @property
    def params(self) -> ChainParams:
        """The network's constants."""
        return self.network.params


@contextmanager
def open_node(config: NodeConfig) -> Iterator[Node]:
    """Open the database (writing genesis into an empty one) and wire the parts.

    Raises:
        NodeFault: genesis file or data folder cannot be used; nothing was changed.
    """
    network = load_network(config.genesis)
    genesis = build_genesis(network)
    store = open_store(config.data_dir / "chain", archive=config.archive)
    try:
        if store.latest.is_empty:
            store.write_genesis(genesis)
        elif store.latest.genesis_hash != genesis.hash:
            found = store.latest.genesis_hash.hex()
            raise StoreFault(
                f"{config.data_dir} holds another chain (genesis 0x{found}, this network's is 0x{genesis.hash.hex()}); "
                "choose another --data-dir or the genesis file it was made with"
            )
        bitcoin, follower = open_bitcoin(config, network.params, store)
        importer = Importer(store, network.params, bitcoin=bitcoin)
        mempool = Mempool(network.params, store)
        peg = open_peg(network.params, store, bitcoin)
        builder = Builder(
            network.params,
            store,
            mempool,
            block_time_s=config.block_time_s,
            bitcoin=bitcoin,
            evidence=None if peg is None else peg.evidence,
        )
        if bitcoin is not None:
            bitcoin.subscribe(importer.retry)
        importer.subscribe(mempool.on_imported)
        if peg is not None:
            importer.subscribe(peg.on_imported)
        votes = Votes(network.params, store, importer)
        yield Node(config, network, store, importer, mempool, builder, votes, bitcoin, follower, peg)
    finally:
        store.close()


async def run_node(config: NodeConfig) -> None:
    """Serve until SIGINT or SIGTERM, then stop in order: doors first, database last.

    Raises:
        NodeFault: a port is taken, or the data folder cannot be used.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    if config.import_file is not None:
        await _run_foreign(config, config.import_file)
        return
    with open_node(config) as node:
        head = node.store.latest.head
        log.info(
            "node", network=node.params.network, chain_id=node.params.chain_id, head=head.number, hash=_hex(head.hash)
        )
        if config.sync_from is not None:
            sync_from_bitcoin(
                node.store, node.importer, node.params, node.bitcoin, node.follower, config.sync_start_height
            )
        work = WorkServer(node.params, node.store, node.importer, node.mempool, node.builder, node.votes)
        metrics = MetricsServer(
            node.store, node.importer, node.mempool, node.votes, node.bitcoin, has_peg=node.peg is not None
        )
        work.start(config.host, config.work_grpc_port)
        metrics.start(config.host, config.metrics_port)
        if node.follower is not None:
            node.follower.start()
        try:
            await _serve_until_signal(node, None)
        finally:
            work.stop()
            metrics.stop()
            node.importer.stop()
            if node.follower is not None:
                node.follower.stop()
    log.info("stopped", threads=threading.active_count())


@dataclass(frozen=True, slots=True)
class _ForeignNode:
    """The parts of a node on an imported chain: no importer of blocks, no work API, no metrics."""

    config: NodeConfig
    params: ChainParams
    store: Store
    importer: StillChain
    mempool: Mempool
    builder: ForeignBuilder
    bitcoin: None = None
    votes: None = None
    peg: None = None


async def _run_foreign(config: NodeConfig, chain: Path) -> None:
    network = load_foreign(Path(config.genesis))
    with open_foreign(config.data_dir, network) as store:
        import_chain(chain, store, network.rules)
        params = replace(network.params, gas_limit=store.latest.head.header.gas_limit)
        pool = ForeignPool(params, store)
        builder = ForeignBuilder(network.rules, store, pool)
        node = _ForeignNode(config, params, store, StillChain(), pool, builder)
        await _serve_until_signal(node, ForeignChain(network.rules, builder))


async def _serve_until_signal(node: NodeParts, foreign: ForeignChain | None) -> None:
    config = node.config
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_rpc, node, foreign)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            ports = {} if foreign else {"work_grpc": config.work_grpc_port}
            log.info("ready", rpc=config.rpc_port, ws=config.ws_port, **ports)
            async for received in signals:
                log.info("stopping", signal=signal.Signals(received).name)
                nursery.cancel_scope.cancel()
                break


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
