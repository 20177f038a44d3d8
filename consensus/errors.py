"""One class per rule of consensus, each carrying what it got and what it expected."""

from chain.errors import HyperdustError, Invalid, Malformed, Mismatch, NotYet, OutOfRange


class WrongParent(Mismatch):
    """`parent_hash` is not the parent's hash."""


class WrongNumber(Mismatch):
    """`number` is not the parent's plus one."""


class TimestampNotAfterParent(OutOfRange):
    """`timestamp` is not greater than the parent's."""


class FromTheFuture(NotYet):
    """`timestamp` lies too far ahead of the node's clock."""

    def __init__(self, got: int, latest: int) -> None:
        super().__init__(f"FromTheFuture: timestamp: got {got}, latest accepted now is {latest}")


class UnknownParent(NotYet):
    """The parent has not been seen."""

    def __init__(self, parent_hash: bytes) -> None:
        super().__init__(f"UnknownParent: 0x{parent_hash.hex()}")


class WrongDifficulty(Mismatch):
    """`difficulty` is not what ASERT says."""


class WrongBeacon(Mismatch):
    """`mix_hash` does not come from the parent's ticket."""


class WrongGasLimit(Mismatch):
    """`gas_limit` is not the network's."""


class WrongBaseFee(Mismatch):
    """`base_fee_per_gas` is not what EIP-1559 says."""


class GasAboveLimit(OutOfRange):
    """`gas_used` exceeds `gas_limit`."""


class BlobsRefused(Mismatch):
    """A blob field is not zero."""


class OmmersRefused(Mismatch):
    """`ommers_hash` is not the empty list's."""


class OriginDropped(Mismatch):
    """`parent_beacon_block_root` is zero although the parent has an origin."""


class OriginBelowParents(OutOfRange):
    """The origin lies lower in Bitcoin than the parent's."""


class OriginNotFollowed(NotYet):
    """The block has an origin, and this node follows no Bitcoin."""

    def __init__(self, origin: bytes) -> None:
        super().__init__(
            f"OriginNotFollowed: {origin[::-1].hex()}: this node follows no Bitcoin; start it with --bitcoin-rpc"
        )


class OriginUnknown(NotYet):
    """The origin, or the parent's, has not been seen on Bitcoin."""

    def __init__(self, block_hash: bytes) -> None:
        super().__init__(f"OriginUnknown: no Bitcoin header {block_hash[::-1].hex()}")
        self.block_hash = block_hash


class OriginStale(NotYet):
    """The origin lies on a branch that is not Bitcoin's best chain."""

    def __init__(self, origin: bytes, height: int) -> None:
        super().__init__(f"OriginStale: {origin[::-1].hex()} at height {height} is not on Bitcoin's best chain")


class OriginTooShallow(NotYet):
    """The origin has too few Bitcoin blocks on top."""

    def __init__(self, height: int, got: int, expected: int) -> None:
        super().__init__(f"OriginTooShallow: height {height}: got {got} blocks on top, expected at least {expected}")


class WithdrawalsRefused(Mismatch):
    """The body's credits are not those that are due: one too many, one missing, another amount or order."""


class EvidenceUnexpected(Mismatch):
    """Evidence on a network without a peg, or before the first origin."""


class EvidenceRefused(Invalid):
    """An item of the body's evidence breaks a rule of the peg; the cause says which."""

    def __init__(self, index: int, cause: HyperdustError | str) -> None:
        super().__init__(f"EvidenceRefused: item {index}: {cause}")
        self.index = index
        self.cause = cause


class WrongCommitment(Mismatch):
    """`extra_data` does not commit to the certificate and the evidence in the body."""


class UnknownOperand(Mismatch):
    """The certificate names a product that no registered graph has."""


class WrongOperand(Mismatch):
    """The certificate's weights are not the registered ones."""


class WrongSigner(Mismatch):
    """The seal is not signed by the coinbase."""


class WrongTransactionsRoot(Mismatch):
    """`transactions_root` is not the body's."""


class WrongWithdrawalsRoot(Mismatch):
    """`withdrawals_root` is not the body's."""


class WrongReceiptsRoot(Mismatch):
    """`receipts_root` is not what execution gives."""


class WrongBloom(Mismatch):
    """`logs_bloom` is not what execution gives."""


class WrongGasUsed(Mismatch):
    """`gas_used` is not what execution gives."""


class WrongRequestsHash(Mismatch):
    """`requests_hash` is not what execution gives."""


class WrongStateRoot(Mismatch):
    """`state_root` is not what execution gives."""


class WrongCheckpoint(Mismatch):
    """A vote's source or target is no checkpoint, or the source does not lie below the target."""


class BadVoteSignature(Malformed):
    """A vote's signature is none."""


class UnknownVoter(Mismatch):
    """The signer is not in the committee of the link that it votes for."""


class DoubleVote(Invalid):
    """A voter signed two votes with one target height: slashable."""


class SurroundVote(Invalid):
    """A voter signed a vote whose link surrounds that of another, or lies within it: slashable."""


class VoteTooLate(OutOfRange):
    """The target is not above the final checkpoint: the vote can change nothing any more."""


class UnknownCheckpoint(NotYet):
    """A vote's target, or its source, is not on the chain that is followed."""


class ConflictsWithFinal(Mismatch):
    """The block's chain does not contain the final checkpoint, however heavy it is."""
