"""One class per rule about Bitcoin data, each carrying what it got and what it expected."""

from chain.errors import Invalid, Malformed, Mismatch, NotYet, OutOfRange


class HeaderMalformed(Malformed):
    """Bytes that are not whole 80-byte headers."""


class BadTarget(OutOfRange):
    """`bits` is negative, zero, overflows, or is easier than the network allows."""


class WrongBits(Mismatch):
    """`bits` is not what the retarget rule says."""


class InsufficientWork(OutOfRange):
    """The block hash lies above the header's own target."""


class TimestampTooOld(OutOfRange):
    """`timestamp` is not after the median of the eleven blocks before."""


class TimeWarp(OutOfRange):
    """The first block of a period lies too far before its parent (BIP-94)."""


class TimestampTooNew(NotYet):
    """`timestamp` lies more than two hours ahead of the node's clock."""

    def __init__(self, got: int, latest: int) -> None:
        super().__init__(f"TimestampTooNew: timestamp: got {got}, latest accepted now is {latest}")


class ObsoleteVersion(OutOfRange):
    """`version` is below what BIP-34, BIP-66 or BIP-65 ask for at this height."""


class HeadersUnconnected(Mismatch):
    """A header in a row does not name the one before as its parent."""


class UnknownParentHeader(NotYet):
    """The header's parent has not been seen."""

    def __init__(self, parent_hash: bytes) -> None:
        super().__init__(f"UnknownParentHeader: {parent_hash[::-1].hex()}")


class ForkTooDeep(OutOfRange):
    """A branch leaves the best chain below what is kept."""


class CheckpointInvalid(Mismatch):
    """A checkpoint contradicts itself or its network."""


class ChainMalformed(Malformed):
    """Bytes that are no encoded header chain."""


class HeaderUnknown(Mismatch):
    """No header of that hash or height is known."""


class ProofMalformed(Malformed):
    """Bytes that are no inclusion proof in its one encoding."""


class TransactionCountWrong(OutOfRange):
    """A proof speaks of no transactions, or of more than a block can hold."""


class TreeMalformed(Malformed):
    """The flags and hashes of a partial Merkle tree do not fit each other."""


class DuplicateSubtree(Mismatch):
    """Left and right are equal where both exist (CVE-2012-2459)."""


class IndexOutsideTree(OutOfRange):
    """A branch's index or length does not fit the number of transactions."""


class WrongMerkleRoot(Mismatch):
    """A proof leads to another root than the header's."""


class NotIncluded(Invalid):
    """The proof does not prove that transaction."""

    def __init__(self, txid: bytes) -> None:
        super().__init__(f"NotIncluded: {txid[::-1].hex()}")


class AmbiguousTransaction(Mismatch):
    """A transaction of exactly 64 bytes, which an inner node of the tree could pass for."""


class TransactionMalformed(Malformed):
    """Bytes that are no Bitcoin transaction in its one encoding."""
