"""Blob fees of calls that nobody signed: overridden prices, and calls that pay none."""

from dataclasses import dataclass, replace
from typing import Final

from chain.engine import BlobSchedule, BlockEnvironment
from hyperdust.node.foreign_rules import GAS_PER_BLOB, compute_blob_base_fee
from hyperdust.node.rpc.errors import InvalidParams

_FRACTION: Final = 10**12  # fine enough that every price up to it is some excess' price, and 128 bits suffice
_MOST_BITS: Final = 45  # of the excess: 10^12 * ln(10^12) < 2^45


@dataclass(frozen=True, slots=True)
class BlobFees:
    """What the engine has to be told so that a call pays what it should."""

    environment: BlockEnvironment
    cap: int
    """Maximum fee per blob gas."""
    credit: int
    """Wei to give the sender before: the engine knows no price of 0, so this pays what it takes."""


def set_blob_base_fee(environment: BlockEnvironment, price: int | None) -> BlockEnvironment:
    """The environment with another price of blob gas; its least is 1, as EIP-4844 has it."""
    if price is None:
        return environment
    if price > _FRACTION:
        raise InvalidParams(f"blobBaseFee: {price}, at most {_FRACTION}")
    low, high = 0, 1 << _MOST_BITS
    while low < high:  # the least excess whose price is not below
        middle = (low + high) // 2
        if compute_blob_base_fee(middle, _FRACTION) < price:
            low = middle + 1
        else:
            high = middle
    maximum = environment.max_blobs
    return replace(environment, excess_blob_gas=low, blob_schedule=BlobSchedule(maximum, maximum, _FRACTION))


def prepare_blob_fees(
    environment: BlockEnvironment, price: int | None, blobs: int, cap: int, *, validates: bool
) -> BlobFees:
    """Fees of a call with some blobs, under an overridden price; without validation a cap of 0 means to pay nothing."""
    priced = set_blob_base_fee(environment, price)
    actual = compute_blob_base_fee(priced.excess_blob_gas, priced.blob_update_fraction)
    if not blobs or (price != 0 and (cap or validates)):
        return BlobFees(priced, cap, 0)
    return BlobFees(priced, max(cap, actual), blobs * GAS_PER_BLOB * actual)
