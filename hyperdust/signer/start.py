"""A signer's process: its sources, its key with the protection file, its server and its loop, from start to end."""

import signal
import threading
import time
from typing import Final

import structlog

from bridge.params import NETWORKS
from chain.errors import HyperdustError
from hyperdust.bitcoind import KnotsRefused, NoTransactionIndex, WrongNetwork
from hyperdust.signer.bitcoin import BitcoindSource
from hyperdust.signer.config import SignerConfig, load_network
from hyperdust.signer.key import SigningKey
from hyperdust.signer.node import RpcNode
from hyperdust.signer.peers import Peers, serve
from hyperdust.signer.protection import Protection
from hyperdust.signer.rebuild import Sources
from hyperdust.signer.role import Signer
from hyperdust.signer.session import Session

log = structlog.get_logger()

_START_S: Final = 60.0
"""Node and bitcoind may be starting too."""
_STOP_S: Final = 2.0


def run_signer(config: SignerConfig, stop: threading.Event | None = None) -> None:
    """Sign, lead and follow rounds until SIGINT, SIGTERM or `stop`.

    Raises:
        NodeFault: no peg in the genesis table, another Bitcoin network, the protection file is held or damaged.
    """
    ended = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: ended.set())
    network = load_network(config.genesis)
    node, bitcoin = RpcNode(config.rpc), BitcoindSource(config.bitcoin_rpc, config.login)
    key = SigningKey(config.account)
    chain = _wait_for_sources(node, bitcoin, network.bitcoin, ended)
    if chain is None:
        return
    path = config.data_dir / f"signed-{chain.hex()[:16]}-{key.public.hex()[:16]}.json"
    protection = Protection(path)
    session = Session(key, chain, Sources(node, bitcoin, network.rules, config.limits), protection)
    server = serve(session, config.listen)
    peers = Peers(config.peers, chain)
    signer = Signer(session, peers, NETWORKS[network.bitcoin])
    log.info("signer", key=key.public.hex(), listen=config.listen, peers=list(config.peers), protection=str(path))
    try:
        signer.run(config.poll_s, ended)
    finally:
        ended.set()
        server.stop(_STOP_S).wait()
        peers.close()
        session.close()
        node.close()
        bitcoin.close()
        log.info("signer stopped")


def _wait_for_sources(node: RpcNode, bitcoin: BitcoindSource, network: str, stop: threading.Event) -> bytes | None:
    """The chain's genesis hash, once both answer; None: told to stop."""
    deadline, said = time.monotonic() + _START_S, ""
    while not stop.is_set():
        try:
            chain = node.load_chain()
            bitcoin.check_network(network)
        except (WrongNetwork, KnotsRefused, NoTransactionIndex):
            raise  # waiting mends none of them
        except HyperdustError as error:
            if time.monotonic() > deadline:
                raise
            if str(error) != said:
                said = str(error)
                log.info("waiting", reason=said)
            stop.wait(1.0)
        else:
            return chain
    return None
