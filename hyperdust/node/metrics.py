"""Prometheus metrics of a node, on a port of their own."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from bridge.errors import HeaderUnknown
from bridge.peg_state import PegState
from chain.errors import NodeFault
from consensus.peg import load_peg
from hyperdust.node.bitcoin import BitcoinChain, State
from hyperdust.node.importer import Imported, Importer, Outcome
from hyperdust.node.mempool import Mempool
from hyperdust.node.store import Store
from hyperdust.node.votes import Votes


class MetricsPortTaken(NodeFault):
    """Another process listens on the metrics port."""


class MetricsServer:
    """Counts imports and shows head and mempool; Prometheus reads it over HTTP at /metrics."""

    def __init__(
        self,
        store: Store,
        importer: Importer,
        mempool: Mempool,
        votes: Votes,
        bitcoin: BitcoinChain | None = None,
        *,
        has_peg: bool = False,
    ) -> None:
        self._registry = CollectorRegistry()
        gauge = self._gauge
        gauge("hyperdust_head_number", "Height of the head").set_function(lambda: store.latest.head.number)
        gauge("hyperdust_head_timestamp_seconds", "Timestamp of the head").set_function(
            lambda: store.latest.head.header.timestamp
        )
        gauge("hyperdust_difficulty_macs", "Difficulty of the head").set_function(
            lambda: store.latest.head.header.difficulty
        )
        gauge("hyperdust_mempool_pending", "Executable transactions").set_function(lambda: mempool.counts()[0])
        gauge("hyperdust_mempool_queued", "Transactions with a nonce gap").set_function(lambda: mempool.counts()[1])
        gauge("hyperdust_justified_number", "Height of the last justified checkpoint").set_function(
            lambda: votes.report().justified.number
        )
        gauge("hyperdust_final_number", "Height of the final checkpoint").set_function(
            lambda: store.latest.finality.final.number
        )
        gauge("hyperdust_votes", "Finality votes held above the final checkpoint").set_function(
            lambda: len(votes.report().votes)
        )
        gauge("hyperdust_equivocations", "Voters known to have signed against themselves").set_function(
            lambda: len(votes.report().equivocations)
        )
        if bitcoin is not None:
            self._show_bitcoin(store, bitcoin)
            if has_peg:
                self._show_peg(store)
        self._blocks = Counter("hyperdust_blocks", "Blocks imported", ["outcome"], registry=self._registry)
        self._reorganised = Counter("hyperdust_blocks_abandoned", "Blocks reorganised away", registry=self._registry)
        importer.subscribe(self._on_imported)

    def _show_bitcoin(self, store: Store, bitcoin: BitcoinChain) -> None:
        gauge = self._gauge
        gauge("hyperdust_bitcoin_height", "Height of Bitcoin's best chain here").set_function(lambda: bitcoin.height)
        gauge("hyperdust_origin_height", "Height of the head's origin; -1 while it is none that is known").set_function(
            lambda: _origin_height(store, bitcoin)
        )
        gauge("hyperdust_peg_frozen", "1 after a Bitcoin reorganisation that reached origins").set_function(
            lambda: int(bitcoin.frozen is not None)
        )
        states = Gauge(
            "hyperdust_bitcoin_follower", "1 for the state that the follower is in", ["state"], registry=self._registry
        )
        for state in State:
            states.labels(state=state.value).set_function(partial(_is_in, bitcoin, state))

    def _show_peg(self, store: Store) -> None:
        gauge = self._gauge
        gauge("hyperdust_vault_sats", "The vault as of the head's origin").set_function(
            lambda: _peg_of(store).vault_sats
        )
        gauge("hyperdust_supply_sats", "BTC on this chain as the peg has counted it").set_function(
            lambda: _peg_of(store).supply_sats
        )
        gauge(
            "hyperdust_surplus_sats", "Vault and genesis supply less all that is owed: an alarm below 0"
        ).set_function(lambda: _peg_of(store).surplus_sats)
        gauge("hyperdust_withdrawals_queued", "Withdrawals that wait for their payout").set_function(
            lambda: len(_peg_of(store).queue)
        )
        gauge("hyperdust_peg_stopped", "Why the chain's peg is frozen, by number: an alarm above 0").set_function(
            lambda: 0 if (frozen := _peg_of(store).frozen) is None else int(frozen.reason)
        )

    def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            MetricsPortTaken
        """
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=self._registry)
        except OSError as error:
            raise MetricsPortTaken(f"metrics port {host}:{port}: {error.strerror}; choose --metrics-port") from error

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self._registry)

    def _on_imported(self, imported: Imported) -> None:
        self._blocks.labels(outcome=imported.outcome.value).inc()
        if imported.outcome is Outcome.HEAD and imported.reorganisation is not None:
            self._reorganised.inc(len(imported.reorganisation.abandoned))


def _origin_height(store: Store, bitcoin: BitcoinChain) -> int:
    try:
        return bitcoin.height_of(store.latest.head.header.parent_beacon_block_root)
    except HeaderUnknown:
        return -1


def _peg_of(store: Store) -> PegState:
    view = store.latest
    return load_peg(view.state_at(view.head.hash).read_many)


def _is_in(bitcoin: BitcoinChain, state: State) -> int:
    return int(bitcoin.state is state)
