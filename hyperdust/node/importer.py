"""The only way into the database: import -> validate -> execute -> commit, one block at a time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

import structlog

from bridge.view import BitcoinView
from chain.blocks import Block
from chain.engine import StateCache
from chain.errors import Invalid, NodeFault, NotYet
from chain.params import ChainParams
from consensus.certificate import Certificate
from consensus.errors import UnknownParent
from consensus.finality import Finality
from consensus.fork_choice import check_extends_final, is_heavier
from consensus.validation import (
    check_block_header,
    check_block_origin,
    check_block_peg,
    check_work,
    execute_block,
)
from hyperdust.node.contracts import State, load_operand
from hyperdust.node.store import ChainSnapshot, ExecutedBlock, Reorganisation, Store
from hyperdust.node.waiting import WaitingBlocks

log = structlog.get_logger()


class Outcome(Enum):
    """What became of a valid block."""

    HEAD = "head"
    SIDE = "side"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Imported:
    """A block's fate, and what it changed."""

    outcome: Outcome
    block_hash: bytes
    certificate: Certificate | None
    reorganisation: Reorganisation | None


Listener = Callable[[Imported], None]


class Importer:
    """Single writer. `import_block` may be called from any thread; listeners run in the caller's, after the commit."""

    def __init__(
        self,
        store: Store,
        params: ChainParams,
        clock: Callable[[], float] = time.time,
        bitcoin: BitcoinView | None = None,
        waiting: WaitingBlocks | None = None,
    ) -> None:
        self._store = store
        self._waiting = WaitingBlocks() if waiting is None else waiting
        self._stopping = False
        self._params = params
        self._bitcoin = bitcoin
        self._clock = clock
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._head_cache = StateCache()  # state as of the head; only the single writer uses it

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` after every commit."""
        self._listeners.append(listener)

    def import_block(self, block: Block) -> Imported:
        """Validate, execute and commit one block.

        Raises:
            ConflictsWithFinal: its branch leaves the chain below the final checkpoint; nothing was written.
            Invalid: the rule that the block breaks; nothing was written.
            NotYet: unknown parent, a timestamp ahead of the clock, or an origin that this node does not see: as long
                as there is room such a block, and what builds on it, is kept for `retry`.
            NodeFault: our own trouble; nothing was written.
        """
        with self._lock:
            imported = self._import(block)
            is_awaited = self._waiting.has_child(imported.block_hash)
        self._tell(imported)
        if is_awaited:
            self.retry()
        return imported

    def retry(self) -> int:
        """Try blocks again that waited for this node's view of Bitcoin; how many are in now."""
        done = 0
        with self._lock:
            waiting = self._waiting.by_height()
        for block in waiting:
            if self._stopping:
                break
            with self._lock:
                imported = self._try_again(block)
            if imported is not None:
                done += 1
                self._tell(imported)
        return done

    def stop(self) -> None:
        """Have a retry end after the block that it is at: the database is about to be closed."""
        self._stopping = True

    def _try_again(self, block: Block) -> Imported | None:
        block_hash = block.header.hash
        if block.header.parent_hash in self._waiting:
            return None
        if block.header.number <= self._store.latest.finality.final.number:
            self._waiting.drop(block_hash)
            return None
        try:
            imported = self._import(block)
        except NotYet:
            return None
        except (Invalid, NodeFault) as error:
            log.warning("a block that waited is dropped", number=block.header.number, reason=str(error))
            self._waiting.drop(block_hash)
            return None
        return imported

    def _tell(self, imported: Imported) -> None:
        if imported.outcome is not Outcome.KNOWN:
            for listener in self._listeners:
                listener(imported)

    def settle(self, finality: Finality) -> bool:
        """Write what votes have settled; False where the chain moved away from it meanwhile.

        Raises:
            NodeFault: our own trouble; nothing was written.
        """
        final = finality.final
        with self._lock:
            view = self._store.latest
            if final.number < view.finality.final.number or view.canonical_hash(final.number) != final.hash:
                return False
            self._store.write_finality(finality)
        return True

    def _import(self, block: Block) -> Imported:
        view = self._store.latest
        block_hash = block.header.hash
        if view.load_header(block_hash) is not None:
            self._waiting.drop(block_hash)
            return Imported(Outcome.KNOWN, block_hash, None, None)
        parent = view.load_header(block.header.parent_hash)
        if parent is None:
            if block.header.parent_hash in self._waiting:
                self._waiting.keep(block, has_shown_work=False)
            raise UnknownParent(block.header.parent_hash)
        _check_fork(view, block.header.parent_hash)
        executed, certificate = self._execute(view, block, block_hash)
        self._waiting.drop(block_hash)
        if not is_heavier(executed.total_difficulty, view.head.total_difficulty):
            self._store.keep_side(executed)
            return Imported(Outcome.SIDE, block_hash, certificate, None)
        reorganisation = self._store.adopt(executed)
        if reorganisation.abandoned:
            self._head_cache.clear()
        else:
            self._head_cache.apply(executed.writes)
        log.info(
            "imported",
            number=block.header.number,
            hash="0x" + block_hash.hex(),
            transactions=len(block.body.transactions),
            gas=block.header.gas_used,
            abandoned=len(reorganisation.abandoned),
        )
        return Imported(Outcome.HEAD, block_hash, certificate, reorganisation)

    def _execute(self, view: ChainSnapshot, block: Block, block_hash: bytes) -> tuple[ExecutedBlock, Certificate]:
        parent_hash = block.header.parent_hash
        parent = view.require_header(parent_hash)
        headed = check_block_header(block, parent, view.load_ticket(parent_hash), self._params, int(self._clock()))
        state = view.state_at(parent_hash)
        cache = self._head_cache if parent_hash == view.head.hash else None
        worked = check_work(headed, partial(load_operand, State(parent, state.read_many), self._params))
        try:
            placed = check_block_origin(worked, self._params, self._bitcoin)
        except NotYet as error:
            if self._bitcoin is not None and self._waiting.keep(block, has_shown_work=True):
                log.info("a block waits for Bitcoin", number=block.header.number, reason=str(error))
            raise
        pegged = check_block_peg(placed, self._params, state.read_many, cache)
        transactions, executed = execute_block(pegged, self._params, state.read_many, cache)
        result = ExecutedBlock(
            block=block,
            hash=block_hash,
            ticket=worked.ticket,
            total_difficulty=view.load_total_difficulty(parent_hash) + block.header.difficulty,
            transaction_hashes=tuple(transaction.hash for transaction in transactions),
            receipts=tuple(receipt.encode() for receipt in executed.receipts),
            writes=(*executed.writes, *pegged.transition.writes),
        )
        return result, worked.certificate


def _check_fork(view: ChainSnapshot, parent_hash: bytes) -> None:
    """Refuse a branch below the final checkpoint before it costs an execution."""
    fork_hash = view.path_to_canonical(parent_hash)[-1]
    check_extends_final(view.require_header(fork_hash).number, fork_hash, view.finality.final)
