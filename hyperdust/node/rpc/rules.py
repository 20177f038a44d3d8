"""What methods have to know of a chain's rules: ours, or those of an imported one (`hyperdust.node.foreign_rules`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Protocol

from bridge.view import BitcoinView
from chain.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, ZERO_HASH, Body, Header
from chain.engine import BlockEnvironment, Precompile, ReadMany, SystemCall
from chain.params import ChainParams
from consensus import validation
from consensus.headers import compute_base_fee
from consensus.rewards import opening_call
from hyperdust.node.settled import Anchors, SettledBlocks
from hyperdust.node.store import ChainSnapshot
from precompiles.registry import precompiles_for

_MIN_BLOB_BASE_FEE: Final = 1  # EIP-4844
_NO_REQUESTS: Final = sha256(b"").digest()  # EIP-7685


class ChainRules(Protocol):
    """A chain's rules, as far as answers depend on them."""

    def precompiles_of(self, header: Header) -> Sequence[Precompile]:
        """Those of a block, beside Ethereum's."""

    @property
    def spacing_s(self) -> int:
        """Seconds between simulated blocks."""

    @property
    def has_predeploys(self) -> bool:
        """Whether our contracts, and so the hyperdust namespace, are there."""

    def environment_of(self, header: Header) -> BlockEnvironment:
        """What the engine has to know of a block."""

    def opening_calls(self, parent: Header, header: Header, body: Body, read_many: ReadMany) -> tuple[SystemCall, ...]:
        """What the system calls before a block's transactions, beside Ethereum's own contracts.

        `read_many` is the state of `parent`.
        """

    def base_fee_after(self, parent: Header) -> int:
        """Wei a gas in the next block."""

    def blob_base_fee(self, header: Header) -> int:
        """Wei a blob gas in a block."""

    def blob_base_fee_after(self, parent: Header) -> int:
        """The same, in the next block."""

    def max_blob_gas(self, header: Header) -> int:
        """That a block may hold."""

    def header_after(self, parent: Header, number: int, timestamp: int) -> Header:
        """An empty header that follows another, with base fee 0; the roots are those of nothing."""

    def reward_credits(self, header: Header, ommers: Sequence[Header]) -> list[tuple[int, int, bytes, int]]:
        """What a block credits beside its withdrawals, in their form."""

    def safe_hash(self, snapshot: ChainSnapshot) -> bytes:
        """The block that `safe` means."""

    def final_hash(self, snapshot: ChainSnapshot) -> bytes:
        """The block that `finalized` means."""


@dataclass(frozen=True, slots=True)
class OwnRules:
    """Our chain's."""

    params: ChainParams
    bitcoin: BitcoinView | None = None
    """None: a node without Bitcoin."""
    anchors: Anchors | None = None
    """None: nothing is anchored here."""

    def precompiles_of(self, header: Header) -> Sequence[Precompile]:
        """Native calls."""
        return precompiles_for(self.bitcoin, header.parent_beacon_block_root)

    @property
    def spacing_s(self) -> int:
        """The network's target."""
        return self.params.spacing_s

    @property
    def has_predeploys(self) -> bool:
        """True."""
        return True

    def environment_of(self, header: Header) -> BlockEnvironment:
        """As validation has it."""
        return validation.environment_of(header, self.params)

    def opening_calls(self, parent: Header, header: Header, body: Body, read_many: ReadMany) -> tuple[SystemCall, ...]:
        """The call that pays the parent's coinbase, and what the peg does."""
        origin = header.parent_beacon_block_root
        planned = validation.plan_peg(parent, origin, body.evidence, self.bitcoin, self.params, read_many)
        return (opening_call(parent), *planned.opening)

    def base_fee_after(self, parent: Header) -> int:
        """EIP-1559."""
        return compute_base_fee(parent)

    def blob_base_fee(self, _header: Header) -> int:
        """The minimum: this chain takes no blobs."""
        return _MIN_BLOB_BASE_FEE

    def blob_base_fee_after(self, _parent: Header) -> int:
        """The minimum."""
        return _MIN_BLOB_BASE_FEE

    def max_blob_gas(self, _header: Header) -> int:
        """None."""
        return 0

    def header_after(self, parent: Header, number: int, timestamp: int) -> Header:
        """The parent's coinbase, difficulty, gas limit and origin; all else empty."""
        return replace(
            parent,
            parent_hash=parent.hash,
            ommers_hash=EMPTY_OMMERS_HASH,
            state_root=ZERO_HASH,
            transactions_root=EMPTY_TRIE_ROOT,
            receipts_root=EMPTY_TRIE_ROOT,
            logs_bloom=bytes(256),
            number=number,
            gas_used=0,
            timestamp=timestamp,
            extra_data=ZERO_HASH,
            mix_hash=ZERO_HASH,
            nonce=bytes(8),
            base_fee_per_gas=0,
            withdrawals_root=EMPTY_TRIE_ROOT,
            requests_hash=_NO_REQUESTS,
        )

    def reward_credits(self, _header: Header, _ommers: Sequence[Header]) -> list[tuple[int, int, bytes, int]]:
        """None: DUST is minted by a contract."""
        return []

    def safe_hash(self, snapshot: ChainSnapshot) -> bytes:
        """The last block with an anchor on Bitcoin; while there is none, the last justified checkpoint."""
        return SettledBlocks(snapshot, self.anchors).safe().hash

    def final_hash(self, snapshot: ChainSnapshot) -> bytes:
        """The last block with a deep anchor on Bitcoin; while there is none, the last final checkpoint."""
        return SettledBlocks(snapshot, self.anchors).finalized().hash
