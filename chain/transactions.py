"""Why a transaction is refused: one class per rule, in geth's words, since tools match on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from chain.errors import Invalid, Malformed


class TransactionInvalid(Invalid):
    """A rule about one transaction is broken; `index` is its place in the list that was given, if there is one."""

    index: int | None = None


@dataclass
class MalformedTransaction(TransactionInvalid, Malformed):
    """Bytes that are no transaction."""

    what: str
    reason: str


class BadSignature(TransactionInvalid):
    """No sender: r, s or v out of range, or a high s (EIP-2)."""

    def __str__(self) -> str:
        return "invalid sender: invalid transaction v, r, s values"


@dataclass
class WrongChainId(TransactionInvalid):
    """Signed for another chain (EIP-155)."""

    got: int
    expected: int

    def __str__(self) -> str:
        return f"invalid chain id for signer: have {self.got} want {self.expected}"


@dataclass
class TypeNotSupported(TransactionInvalid):
    """A type that the fork does not know."""

    got: int

    def __str__(self) -> str:
        return f"transaction type not supported: {self.got}"


class BlobTransactionRefused(TransactionInvalid):
    """Our chain has no blobs."""

    def __str__(self) -> str:
        return "transaction type not supported: blob transactions are refused"


@dataclass
class NonceTooLow(TransactionInvalid):
    """The nonce has been used."""

    got: int
    expected: int

    def __str__(self) -> str:
        return f"nonce too low: next nonce {self.expected}, tx nonce {self.got}"


@dataclass
class NonceTooHigh(TransactionInvalid):
    """An earlier transaction of the sender is missing."""

    got: int
    expected: int

    def __str__(self) -> str:
        return f"nonce too high: next nonce {self.expected}, tx nonce {self.got}"


class NonceOverflow(TransactionInvalid):
    """EIP-2681: the nonce is 2^64 - 1."""

    def __str__(self) -> str:
        return "nonce has max value"


@dataclass
class InsufficientFunds(TransactionInvalid):
    """The balance does not cover gas at the maximum fee, value and blobs."""

    got: int
    expected: int

    def __str__(self) -> str:
        overshot = self.expected - self.got
        return (
            f"insufficient funds for gas * price + value: balance {self.got}, tx cost {self.expected}, "
            f"overshot {overshot}"
        )


class PaymentOverflow(TransactionInvalid):
    """Gas, fee and value together exceed 256 bits."""

    def __str__(self) -> str:
        return "insufficient funds for gas * price + value: required balance exceeds 256 bits"


@dataclass
class FeeCapBelowBaseFee(TransactionInvalid):
    """The maximum fee is below the block's base fee (EIP-1559)."""

    got: int
    expected: int

    def __str__(self) -> str:
        return f"max fee per gas less than block base fee: maxFeePerGas: {self.got}, baseFee: {self.expected}"


@dataclass
class TipAboveFeeCap(TransactionInvalid):
    """The tip is above the maximum fee (EIP-1559)."""

    got: int
    expected: int

    def __str__(self) -> str:
        return (
            "max priority fee per gas higher than max fee per gas: "
            f"maxPriorityFeePerGas: {self.got}, maxFeePerGas: {self.expected}"
        )


@dataclass
class IntrinsicGasTooLow(TransactionInvalid):
    """The gas limit does not cover what every such transaction costs."""

    got: int
    expected: int

    def __str__(self) -> str:
        return f"intrinsic gas too low: gas {self.got}, minimum needed {self.expected}"


@dataclass
class FloorDataGasTooLow(TransactionInvalid):
    """The gas limit does not cover the floor of calldata (EIP-7623)."""

    got: int
    expected: int

    def __str__(self) -> str:
        return f"insufficient gas for floor data gas cost: gas {self.got}, minimum needed {self.expected}"


@dataclass
class GasLimitTooHigh(TransactionInvalid):
    """The gas limit is above 2^24 (EIP-7825)."""

    got: int
    expected: int

    def __str__(self) -> str:
        return f"transaction gas limit too high (cap: {self.expected}, tx: {self.got})"


@dataclass
class BlockGasLimitReached(TransactionInvalid):
    """The block has less gas left than the transaction's limit."""

    got: int
    expected: int

    def __str__(self) -> str:
        return f"gas limit reached: have {self.expected}, want {self.got}"


class SenderNotEOA(TransactionInvalid):
    """The sender has code that is no delegation (EIP-3607)."""

    def __str__(self) -> str:
        return "sender not an eoa"


@dataclass
class InitcodeTooLarge(TransactionInvalid):
    """More than 49,152 bytes of initcode (EIP-3860)."""

    got: int

    def __str__(self) -> str:
        return f"max initcode size exceeded: code size {self.got} limit 49152"


class EmptyAuthorizationList(TransactionInvalid):
    """A type 4 transaction authorizes nothing (EIP-7702)."""

    def __str__(self) -> str:
        return "EIP-7702 transaction with empty auth list"


class MissingBlobHashes(TransactionInvalid):
    """A type 3 transaction carries no blob (EIP-4844)."""

    def __str__(self) -> str:
        return "blob transaction missing blob hashes"


class BlobCreate(TransactionInvalid):
    """A type 3 transaction creates a contract (EIP-4844)."""

    def __str__(self) -> str:
        return "input string too short for common.Address, decoding into (types.BlobTx).To"


class BlobVersion(TransactionInvalid):
    """A blob hash has an unknown version (EIP-4844)."""

    def __str__(self) -> str:
        return "blob has invalid hash version"


@dataclass
class TooManyBlobs(TransactionInvalid):
    """More blobs than the fork permits."""

    got: int
    expected: int

    def __str__(self) -> str:
        return f"too many blobs in transaction: have {self.got}, permitted {self.expected}"


@dataclass
class BlobFeeCapTooLow(TransactionInvalid):
    """The maximum fee per blob gas is below the block's (EIP-4844)."""

    got: int
    expected: int

    def __str__(self) -> str:
        return (
            "max fee per blob gas less than block blob gas fee: "
            f"maxFeePerBlobGas: {self.got}, blobBaseFee: {self.expected}"
        )


_RULES: Final[Mapping[str, Callable[..., TransactionInvalid]]] = {
    rule.__name__: rule
    for rule in (
        BadSignature,
        WrongChainId,
        TypeNotSupported,
        BlobTransactionRefused,
        NonceTooLow,
        NonceTooHigh,
        NonceOverflow,
        InsufficientFunds,
        PaymentOverflow,
        FeeCapBelowBaseFee,
        TipAboveFeeCap,
        IntrinsicGasTooLow,
        FloorDataGasTooLow,
        GasLimitTooHigh,
        BlockGasLimitReached,
        SenderNotEOA,
        InitcodeTooLarge,
        EmptyAuthorizationList,
        MissingBlobHashes,
        BlobCreate,
        BlobVersion,
        TooManyBlobs,
        BlobFeeCapTooLow,
    )
}


def transaction_error(index: int | None, rule: str, values: tuple[int | str, ...]) -> TransactionInvalid:
    """The error that the engine calls `rule`."""
    if rule == "Malformed":
        return _at(index, MalformedTransaction("transaction", str(values[0])))
    return _at(index, _RULES[rule](*values))


def _at(index: int | None, error: TransactionInvalid) -> TransactionInvalid:
    error.index = index
    return error
