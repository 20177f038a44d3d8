"""What a header has to be, given its parent: all that needs neither state, certificate nor Bitcoin (`origin`)."""

from typing import Final

from chain.blocks import EMPTY_OMMERS_HASH, Header
from chain.hashing import H
from chain.params import ChainParams
from consensus.difficulty import compute_difficulty
from consensus.errors import (
    BlobsRefused,
    FromTheFuture,
    GasAboveLimit,
    OmmersRefused,
    TimestampNotAfterParent,
    WrongBaseFee,
    WrongBeacon,
    WrongDifficulty,
    WrongGasLimit,
    WrongNumber,
    WrongParent,
)

_ELASTICITY: Final = 2  # EIP-1559
_MAX_CHANGE: Final = 8  # EIP-1559: at most 1/8 a block


def compute_beacon(parent_ticket: bytes) -> bytes:
    """`mix_hash` of the block after one whose ticket is given (genesis' ticket is 32 zero bytes)."""
    return H("beacon", parent_ticket)


def compute_base_fee(parent: Header) -> int:
    """Base fee, in wei a gas, of the block after `parent`. Source: EIP-1559."""
    target = parent.gas_limit // _ELASTICITY
    fee = parent.base_fee_per_gas
    if parent.gas_used == target:
        return fee
    change = fee * abs(parent.gas_used - target) // target // _MAX_CHANGE
    return fee + max(change, 1) if parent.gas_used > target else fee - change


def check_header(header: Header, parent: Header, parent_ticket: bytes, params: ChainParams, now: int) -> None:
    """Check what header and parent alone decide; `now` is the node's clock in Unix seconds.

    Raises:
        FromTheFuture: the block may become valid.
        Mismatch, OutOfRange: the class named after the rule.
    """
    _expect(WrongParent, "parent_hash", header.parent_hash, parent.hash)
    _expect(WrongNumber, "number", header.number, parent.number + 1)
    if header.timestamp <= parent.timestamp:
        raise TimestampNotAfterParent("timestamp", header.timestamp, f"> {parent.timestamp}")
    _expect(OmmersRefused, "ommers_hash", header.ommers_hash, EMPTY_OMMERS_HASH)
    _expect(BlobsRefused, "blob_gas_used", header.blob_gas_used, 0)
    _expect(BlobsRefused, "excess_blob_gas", header.excess_blob_gas, 0)
    _expect(WrongGasLimit, "gas_limit", header.gas_limit, params.gas_limit)
    if header.gas_used > header.gas_limit:
        raise GasAboveLimit("gas_used", header.gas_used, f"<= {header.gas_limit}")
    _expect(WrongBaseFee, "base_fee_per_gas", header.base_fee_per_gas, compute_base_fee(parent))
    difficulty = compute_difficulty(params, parent.number, parent.timestamp)
    _expect(WrongDifficulty, "difficulty", header.difficulty, difficulty)
    _expect(WrongBeacon, "mix_hash", header.mix_hash, compute_beacon(parent_ticket))
    if header.timestamp > now + params.max_future_s:
        raise FromTheFuture(header.timestamp, now + params.max_future_s)


def _expect(
    rule: type[WrongParent | WrongNumber | OmmersRefused | BlobsRefused | WrongGasLimit | WrongBaseFee]
    | type[WrongDifficulty | WrongBeacon],
    what: str,
    got: object,
    expected: object,
) -> None:
    if got != expected:
        raise rule(what, got, expected)
