"""Transactions that wait for a block: which are kept, in what order they are offered, when they leave.

Bounded everywhere. Refusals use geth's words, since tools match on them. Execution decides validity; the pool only
keeps out what cannot pay.
"""

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from chain import transactions as rules
from chain.engine import Transaction, decode_transactions
from chain.errors import HyperdustError
from chain.params import ChainParams
from chain.state import Account, account_key, decode_account
from chain.transactions import TransactionInvalid
from hyperdust.node.importer import Imported, Outcome
from hyperdust.node.store import ChainSnapshot, StateView, Store

log = structlog.get_logger()

MAX_TRANSACTIONS: Final = 16_384
MAX_POOL_BYTES: Final = 128 * 1024 * 1024
MAX_TRANSACTION_BYTES: Final = 256 * 1024  # evidence, answers and graph files have up to 128 KiB, geth's limit
MAX_QUEUED_PER_SENDER: Final = 64  # geth's AccountQueue: transactions beyond a nonce gap
MAX_PER_SENDER: Final = 1_024
MAX_TRANSACTION_GAS: Final = 1 << 24  # EIP-7825
MAX_INITCODE_BYTES: Final = 49_152  # EIP-3860
REPLACEMENT_PERCENT: Final = 10  # geth's PriceBump
_BLOB: Final = 3
_SET_CODE: Final = 4
_MAX_NONCE: Final = (1 << 64) - 1


class PoolRefused(TransactionInvalid):
    """A valid transaction that the pool does not take; the text is geth's."""


class AlreadyKnown(PoolRefused):
    """The pool, or the chain, has it."""


class ReplacementUnderpriced(PoolRefused):
    """The pool has that nonce, for nearly the same price."""


class Underpriced(PoolRefused):
    """The pool is full of better paid ones."""


class PoolFull(PoolRefused):
    """The sender fills its share of the pool."""


class QueueFull(PoolRefused):
    """Too many transactions of this sender wait beyond a nonce gap."""


class Oversize(PoolRefused):
    """Too many bytes."""


class GasAboveBlock(PoolRefused):
    """It can fit no block."""


class NotReplayProtected(PoolRefused):
    """Signed for all chains at once (before EIP-155)."""


@dataclass(slots=True)
class _Account:
    """One sender's share: state as of the head, transactions by nonce, and two sums over them."""

    nonce: int
    balance: int
    gap: int = 0
    """First nonce that is neither on chain nor in the run of executable transactions."""
    committed: int = 0
    """Wei that all its transactions can take."""
    entries: dict[int, Transaction] = field(default_factory=dict)

    def put(self, transaction: Transaction) -> None:
        """Add a transaction whose nonce is free."""
        self.entries[transaction.nonce] = transaction
        self.committed += cost(transaction)
        while self.gap in self.entries:
            self.gap += 1

    def take(self, transaction: Transaction) -> None:
        """Remove a transaction."""
        del self.entries[transaction.nonce]
        self.committed -= cost(transaction)
        if self.nonce <= transaction.nonce < self.gap:
            self.gap = transaction.nonce

    def move(self, nonce: int, balance: int) -> None:
        """Follow the state."""
        self.nonce = self.gap = nonce
        self.balance = balance
        while self.gap in self.entries:
            self.gap += 1


class Mempool:
    """Safe to use from any thread. Listeners run in the thread that added, outside of the lock."""

    def __init__(self, params: ChainParams, store: Store) -> None:
        self._params = params
        self._store = store
        self._lock = threading.RLock()
        self._accounts: dict[bytes, _Account] = {}
        self._by_hash: dict[bytes, Transaction] = {}
        self._arrival: dict[bytes, int] = {}
        self._arrivals = 0
        self._bytes = 0
        self._version = 0
        self._listeners: list[Callable[[Transaction], None]] = []

    @property
    def version(self) -> int:
        """Grows with every change: whoever caches `best` compares it."""
        return self._version

    def subscribe(self, listener: Callable[[Transaction], None]) -> None:
        """Call `listener` for every transaction that is added."""
        self._listeners.append(listener)

    def add(self, raw: bytes) -> Transaction:
        """Take a stranger's transaction.

        Raises:
            TransactionInvalid: malformed, badly signed, or refused by a rule of chain or pool; the text is geth's.
        """
        if len(raw) > MAX_TRANSACTION_BYTES:
            raise Oversize(f"oversized data: transaction size {len(raw)}, limit {MAX_TRANSACTION_BYTES}")
        (transaction,) = decode_transactions([raw])
        check_alone(transaction, self._params)
        with self._lock:
            self._insert(transaction)
        for listener in self._listeners:
            listener(transaction)
        return transaction

    def get(self, transaction_hash: bytes) -> Transaction | None:
        """A transaction by its hash."""
        return self._by_hash.get(transaction_hash)

    def pending_nonce(self, address: bytes) -> int:
        """First nonce of an account that neither chain nor executable pool has used."""
        with self._lock:
            account = self._accounts.get(address)
            if account is not None:
                return account.gap
        view = self._store.latest
        return load_account(view.state_at(view.head.hash), address).nonce

    def best(self, base_fee: int) -> list[Transaction]:
        """Executable transactions that pay `base_fee`: highest tip first, then first come, nonces in order."""
        with self._lock:
            heads = []
            for address, account in self._accounts.items():
                first = account.entries.get(account.nonce)
                if first is not None and first.max_fee_per_gas >= base_fee:
                    heads.append((-effective_tip(first, base_fee), self._arrival[first.hash], address, account.nonce))
            heapq.heapify(heads)
            ordered = []
            while heads:
                _, _, address, nonce = heapq.heappop(heads)
                entries = self._accounts[address].entries
                ordered.append(entries[nonce])
                following = entries.get(nonce + 1)
                if following is not None and following.max_fee_per_gas >= base_fee:
                    place = (-effective_tip(following, base_fee), self._arrival[following.hash], address, nonce + 1)
                    heapq.heappush(heads, place)
            return ordered

    def content(self) -> tuple[dict[bytes, dict[int, Transaction]], dict[bytes, dict[int, Transaction]]]:
        """(pending, queued): sender -> nonce -> transaction."""
        pending: dict[bytes, dict[int, Transaction]] = {}
        queued: dict[bytes, dict[int, Transaction]] = {}
        with self._lock:
            for address, account in self._accounts.items():
                for nonce in sorted(account.entries):
                    kind = pending if nonce < account.gap else queued
                    kind.setdefault(address, {})[nonce] = account.entries[nonce]
        return pending, queued

    def counts(self) -> tuple[int, int]:
        """(pending, queued)."""
        with self._lock:
            executable = sum(account.gap - account.nonce for account in self._accounts.values())
            return executable, len(self._by_hash) - executable

    def evict(self, transaction_hash: bytes, reason: str) -> None:
        """Drop a transaction that the engine refuses."""
        with self._lock:
            transaction = self._by_hash.get(transaction_hash)
            if transaction is not None:
                self._remove(transaction)
                log.info("transaction dropped", hash="0x" + transaction_hash.hex(), reason=reason)

    def on_imported(self, imported: Imported) -> None:
        """Follow the head: what was mined leaves, what a reorganisation abandoned comes back."""
        if imported.outcome is not Outcome.HEAD or imported.reorganisation is None:
            return
        view = self._store.latest
        adopted = {one for block in imported.reorganisation.adopted for one in view.load_transaction_hashes(block)}
        returning = []
        for block_hash in reversed(imported.reorganisation.abandoned):
            body = view.load_body(block_hash)
            returning += [
                one for one in decode_transactions(body.transactions if body else ()) if one.hash not in adopted
            ]
        with self._lock:
            for transaction_hash in adopted:
                mined = self._by_hash.get(transaction_hash)
                if mined is not None:
                    self._remove(mined)
            self._refresh(view)
            for transaction in returning:
                self._return(transaction)
            self._version += 1

    def _return(self, transaction: Transaction) -> None:
        try:
            self._insert(transaction)
        except HyperdustError as error:
            log.info("abandoned transaction not kept", hash="0x" + transaction.hash.hex(), reason=str(error))

    def _refresh(self, view: ChainSnapshot) -> None:
        state = view.state_at(view.head.hash)
        for address in list(self._accounts):
            account = self._accounts[address]
            current = load_account(state, address)
            account.move(current.nonce, current.balance)
            for nonce in sorted(account.entries):
                entry = account.entries[nonce]
                if nonce < account.nonce or cost(entry) > account.balance:
                    self._remove(entry)

    def _insert(self, transaction: Transaction) -> None:
        view = self._store.latest
        if transaction.hash in self._by_hash or view.locate_transaction(transaction.hash) is not None:
            raise AlreadyKnown("already known")
        account = self._accounts.get(transaction.sender)
        if account is None:
            current = load_account(view.state_at(view.head.hash), transaction.sender)
            account = _Account(current.nonce, current.balance, current.nonce)
        replaced = account.entries.get(transaction.nonce)
        _check_against_account(transaction, account, replaced)
        if replaced is None:
            self._make_room(transaction)
        else:
            self._remove(replaced)
        self._accounts[transaction.sender] = account
        account.put(transaction)
        self._by_hash[transaction.hash] = transaction
        self._arrivals += 1
        self._arrival[transaction.hash] = self._arrivals
        self._bytes += len(transaction.raw)
        self._version += 1

    def _make_room(self, transaction: Transaction) -> None:
        while len(self._by_hash) >= MAX_TRANSACTIONS or self._bytes + len(transaction.raw) > MAX_POOL_BYTES:
            # Only the last nonce of a sender may go, so that no gap opens.
            tails = (account.entries[max(account.entries)] for account in self._accounts.values() if account.entries)
            worst = min(tails, key=lambda one: (one.max_priority_fee_per_gas, -self._arrival[one.hash]))
            if worst.max_priority_fee_per_gas >= transaction.max_priority_fee_per_gas:
                raise Underpriced("transaction underpriced")
            if worst.sender == transaction.sender:
                raise PoolFull("txpool is full")
            self._remove(worst)

    def _remove(self, transaction: Transaction) -> None:
        del self._by_hash[transaction.hash]
        del self._arrival[transaction.hash]
        self._bytes -= len(transaction.raw)
        account = self._accounts[transaction.sender]
        account.take(transaction)
        if not account.entries:
            del self._accounts[transaction.sender]
        self._version += 1


def load_account(state: StateView, address: bytes) -> Account:
    """An account as of a block."""
    (encoded,) = state.read_many([account_key(address)])
    return decode_account(encoded)


def cost(transaction: Transaction) -> int:
    """The most that a transaction can take from its sender, in wei."""
    return transaction.gas_limit * transaction.max_fee_per_gas + transaction.value


def effective_tip(transaction: Transaction, base_fee: int) -> int:
    """What the proposer gets for a gas, in wei."""
    return min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - base_fee)


def check_alone(transaction: Transaction, params: ChainParams) -> None:
    """Check what needs no state.

    Raises:
        TransactionInvalid: the rule's class.
    """
    if transaction.blob_hashes or transaction.type == _BLOB:
        raise rules.BlobTransactionRefused
    if transaction.chain_id is None:
        raise NotReplayProtected("only replay-protected (EIP-155) transactions allowed over RPC")
    if transaction.chain_id != params.chain_id:
        raise rules.WrongChainId(transaction.chain_id, params.chain_id)
    if transaction.to is None and len(transaction.data) > MAX_INITCODE_BYTES:
        raise rules.InitcodeTooLarge(len(transaction.data))
    if transaction.gas_limit > params.gas_limit:
        raise GasAboveBlock("exceeds block gas limit")
    if transaction.gas_limit > MAX_TRANSACTION_GAS:
        raise rules.GasLimitTooHigh(transaction.gas_limit, MAX_TRANSACTION_GAS)
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        raise rules.TipAboveFeeCap(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas)
    if transaction.type == _SET_CODE and not transaction.authorization_list:
        raise rules.EmptyAuthorizationList
    _check_minimum_gas(transaction)


def _check_minimum_gas(transaction: Transaction) -> None:
    intrinsic, floor = _minimum_gas(transaction)
    if transaction.gas_limit < intrinsic:
        raise rules.IntrinsicGasTooLow(transaction.gas_limit, intrinsic)
    if transaction.gas_limit < floor:
        raise rules.FloorDataGasTooLow(transaction.gas_limit, floor)


def _minimum_gas(transaction: Transaction) -> tuple[int, int]:
    """(intrinsic gas, floor for data): EIP-2028, 2930, 3860, 7702, 7623."""
    zeros = transaction.data.count(0)
    tokens = zeros + 4 * (len(transaction.data) - zeros)
    intrinsic = 21_000 + 4 * tokens
    if transaction.to is None:
        intrinsic += 32_000 + 2 * ((len(transaction.data) + 31) // 32)
    for _, keys in transaction.access_list:
        intrinsic += 2_400 + 1_900 * len(keys)
    intrinsic += 25_000 * len(transaction.authorization_list)
    return intrinsic, 21_000 + 10 * tokens


def _check_against_account(transaction: Transaction, account: _Account, replaced: Transaction | None) -> None:
    nonce = transaction.nonce
    if nonce < account.nonce:
        raise rules.NonceTooLow(nonce, account.nonce)
    if nonce >= _MAX_NONCE:
        raise rules.NonceOverflow
    if replaced is None:
        _check_share(transaction, account)
    else:
        _check_replacement(transaction, replaced)
    if account.balance < account.committed + cost(transaction):  # perhaps; only lower nonces come before it
        below = sum(cost(entry) for entry in account.entries.values() if entry.nonce < nonce)
        if account.balance < below + cost(transaction):
            raise rules.InsufficientFunds(max(account.balance - below, 0), cost(transaction))


def _check_replacement(transaction: Transaction, replaced: Transaction) -> None:
    for new, old in (
        (transaction.max_fee_per_gas, replaced.max_fee_per_gas),
        (transaction.max_priority_fee_per_gas, replaced.max_priority_fee_per_gas),
    ):
        if new <= old or new * 100 < old * (100 + REPLACEMENT_PERCENT):
            raise ReplacementUnderpriced("replacement transaction underpriced")


def _check_share(transaction: Transaction, account: _Account) -> None:
    if len(account.entries) >= MAX_PER_SENDER:
        raise PoolFull("txpool is full")
    beyond = len(account.entries) - (account.gap - account.nonce)
    if transaction.nonce > account.gap and beyond >= MAX_QUEUED_PER_SENDER:
        raise QueueFull("txpool is full")
