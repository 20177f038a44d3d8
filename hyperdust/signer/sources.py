"""What a signer knows of the world: its own node and its own bitcoind, behind two Protocols; tests have others."""

from dataclasses import dataclass
from typing import Protocol

from bridge.anchors import AnchoredFacts
from bridge.deposits import Outpoint
from bridge.peg_state import PegState
from bridge.scripts import Binding
from bridge.transactions import Output, Transaction


@dataclass(frozen=True, slots=True)
class Place:
    """An L2 block."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class PegAt:
    """The peg's state at an L2 block."""

    place: Place
    state: PegState


@dataclass(frozen=True, slots=True)
class Coin:
    """An unspent output of Bitcoin's best chain; what the mempool spends counts as unspent."""

    output: Output
    confirmations: int
    from_coinbase: bool


@dataclass(frozen=True, slots=True)
class Mined:
    """Where a transaction stands on the best chain."""

    block_hash: bytes
    height: int


@dataclass(frozen=True, slots=True)
class Spend:
    """A transaction of a block, and what it spends."""

    txid: bytes
    inputs: tuple[Outpoint, ...]


class Node(Protocol):
    """The signer's own L2 node. Each call may raise `HyperdustError` while it is away."""

    def load_chain(self) -> bytes:
        """Hash of the genesis block."""

    def load_peg(self, number: int | None = None) -> PegAt:
        """The peg at a height of the node's chain; None: at its head."""

    def load_place(self, number: int) -> Place:
        """The block of the node's chain at a height."""

    def load_block(self, number: int) -> bytes:
        """A block of the node's chain, encoded whole."""

    def load_facts(self, number: int, previous: bytes) -> AnchoredFacts:
        """What an anchor of that block commits to, after the anchor of an id."""

    def load_final(self) -> Place:
        """The last block that votes made final."""

    def load_finalized(self) -> Place:
        """The last block that withdrawals may be paid below: anchored deeply, where there are anchors."""

    def load_announced(self) -> tuple[Binding, ...]:
        """Deposits that users announced."""

    def submit_evidence(self, raw: bytes) -> None:
        """Hand evidence in for a block."""


class Bitcoin(Protocol):
    """The signer's own bitcoind, with a transaction index. Each call may raise `NodeFault` while it is away."""

    def load_height(self) -> int:
        """Of its best chain."""

    def load_block_hash(self, height: int) -> bytes:
        """Of its best chain at a height."""

    def load_block(self, block_hash: bytes) -> bytes:
        """A whole block, with witnesses."""

    def load_spends(self, block_hash: bytes) -> tuple[Spend, ...]:
        """All transactions of a block."""

    def load_coin(self, outpoint: Outpoint) -> Coin | None:
        """An unspent output; None: there is none."""

    def load_spender(self, outpoint: Outpoint) -> bytes | None:
        """Id of the transaction of the mempool that spends a coin."""

    def load_transaction(self, txid: bytes) -> Transaction | None:
        """A transaction of the mempool or of a block; None: it knows none."""

    def load_mined(self, txid: bytes) -> Mined | None:
        """The block that has it; None: none of the best chain."""

    def find_coins(self, scripts: tuple[bytes, ...]) -> tuple[tuple[Outpoint, Coin], ...]:
        """All unspent outputs with one of these scripts; slow."""

    def load_rate(self) -> int | None:
        """Sat per 1,000 vB to be mined within some blocks; None: it cannot tell."""

    def send(self, transaction: Transaction) -> None:
        """Broadcast; harmless where it is known already."""

    def prove(self, txid: bytes, block_hash: bytes) -> tuple[bytes, bytes]:
        """Header of 80 bytes, and header with partial tree (BIP-37)."""
