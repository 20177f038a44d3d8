"""Bitcoin as this node sees it: checked headers, kept in the node's database, and a thread that follows one bitcoind.

The bitcoind is believed in nothing: its headers go through `bridge`, and whatever it does, the node goes on with what
it has. Records: `Oh` and a counter -> headers in the order in which they came, `Of` -> why the peg is frozen.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final

import structlog

from bridge.header_chain import HeaderChain, Reorganisation, Update
from bridge.headers import HEADER_BYTES
from bridge.params import MAX_FUTURE_S, NETWORKS, BitcoinParams
from bridge.work import sha256d, show_hash
from chain.errors import HyperdustError, Invalid, NodeFault, NotYet
from chain.params import ChainParams
from hyperdust.bitcoind import AnswerMalformed, Bitcoind, KnotsRefused, Login, Unauthorised, WrongNetwork
from hyperdust.node.config import NodeConfig
from hyperdust.node.store import Store, StoreFault

log = structlog.get_logger()

_HEADERS: Final = b"Oh"
_FROZEN: Final = b"Of"
_BATCH: Final = 2_000
"""Headers asked for at a time."""
_POLL_S: Final = 1.0
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_TIMEOUT_S: Final = 10.0
_STOP_S: Final = 2.0
_END_OF_TIME: Final = (1 << 32) - 1 - MAX_FUTURE_S  # what the database holds was checked against the clock when it came


class UnknownNetwork(NodeFault):
    """The genesis file names a Bitcoin network whose rules we do not have."""


class AnotherChain(NodeFault):
    """The bitcoind's first block is not the network's."""


class State(Enum):
    """How the bitcoind is."""

    OFF = "off"
    """None is configured."""
    CONNECTING = "connecting"
    FOLLOWING = "following"
    UNREACHABLE = "unreachable"
    """It does not answer, or refuses calls."""
    REFUSED = "refused"
    """It answers and is not the one that we need: network, fork, login."""
    INVALID = "invalid"
    """Its answers or headers break rules."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Why the peg is frozen: a reorganisation that reached blocks which may have been origins."""

    fork_height: int
    """Of the last Bitcoin block that both branches share."""
    depth: int
    """Blocks that lost their place."""
    abandoned: str
    """The lost tip, as bitcoind writes it."""

    def __str__(self) -> str:
        return f"Bitcoin abandoned {self.depth} blocks above height {self.fork_height}, up to {self.abandoned}"


class BitcoinChain:
    """The node's `BitcoinView`: a header chain that survives restarts. Safe to use from any thread; one writes."""

    def __init__(self, store: Store, params: BitcoinParams, depth_blocks: int) -> None:
        """Read what the database holds.

        Raises:
            StoreFault: it holds something else.
        """
        self.params = params
        self.state = State.OFF
        self.reason = ""
        self._store = store
        self._depth_blocks = depth_blocks
        self._lock = threading.Lock()
        self._chain = HeaderChain(params)
        self._unwritten = b""
        self._count = 0
        self._frozen: Frozen | None = None
        self._listeners: list[Callable[[], object]] = []
        self._load()

    def _load(self) -> None:
        try:
            for key, raw in self._store.load_records(_HEADERS):
                self._chain.extend(raw, _END_OF_TIME)
                self._count = int.from_bytes(key[len(_HEADERS) :], "big") + 1
            for _, record in self._store.load_records(_FROZEN):
                self._frozen = Frozen(**json.loads(record))
        except (HyperdustError, ValueError, TypeError) as error:
            raise StoreFault(
                f"the Bitcoin headers in the database are damaged ({error}); restore a copy, or delete the data folder"
            ) from error

    @property
    def height(self) -> int:
        """Of the best chain's tip."""
        with self._lock:
            return self._chain.height

    @property
    def tip(self) -> bytes:
        """Hash of the best chain's last block."""
        with self._lock:
            return self._chain.tip

    @property
    def frozen(self) -> Frozen | None:
        """Why no credit may be given and no payout signed; blocks go on. It outlives a restart."""
        return self._frozen

    def subscribe(self, listener: Callable[[], object]) -> None:
        """Call `listener` in the writer's thread whenever there are new headers."""
        self._listeners.append(listener)

    def thaw(self) -> None:
        """Take the freeze back: for the peg's rules, once all that was credited is deep enough again or made good."""
        self._store.write_records({_FROZEN: None})
        self._frozen = None
        log.info("peg thawed")

    def hash_at(self, height: int) -> bytes:
        """As `BitcoinView`."""
        with self._lock:
            return self._chain.hash_at(height)

    def height_of(self, block_hash: bytes) -> int:
        """As `BitcoinView`."""
        with self._lock:
            return self._chain.height_of(block_hash)

    def raw_header(self, block_hash: bytes) -> bytes:
        """As `BitcoinView`."""
        with self._lock:
            return self._chain.raw_header(block_hash)

    def ancestor(self, block_hash: bytes, height: int) -> bytes:
        """As `BitcoinView`."""
        with self._lock:
            return self._chain.ancestor(block_hash, height)

    def confirmations(self, block_hash: bytes) -> int:
        """As `BitcoinView`."""
        with self._lock:
            return self._chain.confirmations(block_hash)

    def extend(self, raw: bytes, now: int) -> Update:
        """Check headers in a row, take them in and write them down; a deep reorganisation freezes the peg.

        Raises:
            Invalid, NotYet: by the rule that a header breaks; nothing changed.
            StoreFault: they could not be written; they are kept in memory and written with the next.
        """
        with self._lock:
            while raw and sha256d(raw[:HEADER_BYTES]) in self._chain:
                raw = raw[HEADER_BYTES:]
            update = self._chain.extend(raw, now)
            self._unwritten += raw
        records: dict[bytes, bytes | None] = {}
        if (reorganisation := update.reorganisation) is not None:
            log.warning("bitcoin reorganised", depth=reorganisation.depth, fork=reorganisation.fork_height)
            if reorganisation.depth > self._depth_blocks:
                self._freeze(reorganisation)
        if self._frozen is not None:
            records[_FROZEN] = json.dumps(asdict(self._frozen)).encode()
        if self._unwritten:
            records[_HEADERS + self._count.to_bytes(8, "big")] = self._unwritten
            self._store.write_records(records)
            self._unwritten = b""
            self._count += 1
        if update.added:
            for listener in self._listeners:
                listener()
        return update

    def _freeze(self, reorganisation: Reorganisation) -> None:
        lost = show_hash(reorganisation.abandoned[-1])
        self._frozen = Frozen(reorganisation.fork_height, reorganisation.depth, lost)
        log.error("peg frozen, blocks go on", reason=str(self._frozen))


class Follower:
    """Takes headers from one bitcoind, in a thread of its own."""

    def __init__(
        self, client: Bitcoind, chain: BitcoinChain, clock: Callable[[], float] = time.time, poll_s: float = _POLL_S
    ) -> None:
        self._client = client
        self._chain = chain
        self._clock = clock
        self._poll_s = poll_s
        self._stopping = threading.Event()
        self._greeted = False
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="bitcoin", daemon=True)
        chain.state = State.CONNECTING

    @property
    def client(self) -> Bitcoind:
        """The bitcoind that is followed."""
        return self._client

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it; a call that still waits for an answer is left behind."""
        self._stopping.set()
        self._client.close()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                wait_s = self.step()
            except Exception as error:  # noqa: BLE001  # the role's main loop: no answer may end it
                wait_s = self._failed(State.INVALID, f"{type(error).__name__}: {error}")
            self._stopping.wait(wait_s)

    def step(self) -> float:
        """Catch up once; how many seconds to wait before the next time."""
        try:
            if not self._greeted:
                self._greet()
            self._catch_up()
        except (WrongNetwork, KnotsRefused, Unauthorised, AnotherChain) as error:
            return self._failed(State.REFUSED, str(error))
        except (Invalid, NotYet, AnswerMalformed) as error:
            return self._failed(State.INVALID, str(error))
        except HyperdustError as error:
            return self._failed(State.UNREACHABLE, str(error))
        self._failures = 0
        if self._chain.state is not State.FOLLOWING:
            log.info(
                "bitcoin followed", url=self._client.url, height=self._chain.height, tip=show_hash(self._chain.tip)
            )
        self._chain.state, self._chain.reason = State.FOLLOWING, ""
        return self._poll_s

    def _greet(self) -> None:
        info = self._client.check_network(self._chain.params.name)
        if info.lowest_block:
            log.warning(
                "bitcoind is pruned: enough for headers; signers and --sync-from bitcoin need one with all blocks",
                blocks_from=info.lowest_block,
            )
        self._greeted = True

    def _catch_up(self) -> None:
        if self._client.best_block_hash() == self._chain.tip:
            return
        target = self._client.chain_info().height
        height = self._shared_height(target)
        while height < target and not self._stopping.is_set():
            raw = self._client.raw_headers(height + 1, _BATCH)
            if not raw or self._stopping.is_set():
                return  # the database may be closed by now
            self._chain.extend(raw, int(self._clock()))
            height += len(raw) // HEADER_BYTES
            if (
                true := self._chain.height_of(sha256d(raw[-HEADER_BYTES:]))
            ) != height:  # else it could lead us in circles
                raise AnswerMalformed("getblockhash", f"a block of height {true} for height {height}")

    def _shared_height(self, target: int) -> int:
        """A height at which both chains agree, not far below the highest such."""
        height, step = min(self._chain.height, target), 1
        while self._client.block_hash(height) != self._chain.hash_at(height):
            if not height:
                raise AnotherChain(
                    f"bitcoind at {self._client.url} has another first block than {self._chain.params.name}"
                )
            height, step = max(0, height - step), 2 * step
        return height

    def _failed(self, state: State, reason: str) -> float:
        if self._stopping.is_set():
            return 0.0
        if (state, reason) != (self._chain.state, self._chain.reason):
            log.warning("bitcoin not followed; blocks go on with the last origin", state=state.value, reason=reason)
        self._chain.state, self._chain.reason = state, reason
        self._greeted = False
        self._failures += 1
        return _BACKOFF_S[min(self._failures, len(_BACKOFF_S)) - 1]


def open_bitcoin(config: NodeConfig, params: ChainParams, store: Store) -> tuple[BitcoinChain | None, Follower | None]:
    """What a node's options ask for: the view of Bitcoin, and who keeps it up to date.

    Without a bitcoind a node keeps the view that it had; (None, None) where it never had one.

    Raises:
        UnknownNetwork, StoreFault, Unreachable: the genesis file, the database or the URL cannot be used.
    """
    if config.bitcoin_rpc is None and not store.load_records(_HEADERS):
        return None, None
    if (network := NETWORKS.get(params.bitcoin_network)) is None:
        raise UnknownNetwork(f"bitcoin_network {params.bitcoin_network!r} is none of {', '.join(NETWORKS)}")
    chain = BitcoinChain(store, network, params.origin_depth_blocks)
    if config.bitcoin_rpc is None:
        return chain, None
    login = Login(config.bitcoin_user, config.bitcoin_password.get_secret_value(), config.bitcoin_cookie)
    client = Bitcoind(config.bitcoin_rpc, login, timeout_s=_TIMEOUT_S, backoff_s=())
    return chain, Follower(client, chain)
