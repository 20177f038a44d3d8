"""One class per rule of the peg, each carrying what it got and what it expected."""

from chain.errors import Invalid, Malformed, Mismatch, NotYet, OutOfRange


class SignerSetInvalid(OutOfRange):
    """Keys or threshold that can hold no vault."""


class PayoutScriptRefused(Mismatch):
    """A script of another kind than the five standard ones; `got` names it."""


class AnchorMalformed(Malformed):
    """80 bytes that are no anchor, or another number of them."""


class AnchorMismatch(Mismatch):
    """An anchor that does not commit to what it is said to commit to."""


class EvidenceMalformed(Malformed):
    """Bytes that are no evidence in its one encoding."""


class EvidenceTooLarge(OutOfRange):
    """Evidence, or a transaction in it, above its bound."""


class SweepNotOnBranch(NotYet):
    """The block named as the sweep's is not below the origin: stale, unknown, or above it."""

    def __init__(self, block: str, reason: str) -> None:
        super().__init__(f"SweepNotOnBranch: block {block}: {reason}")


class SweepTooShallow(NotYet):
    """The sweep does not lie deep enough yet."""

    def __init__(self, got: int, expected: int) -> None:
        super().__init__(f"SweepTooShallow: depth: got {got}, expected at least {expected}")


class CoinbaseDeposit(Mismatch):
    """A deposit made by a coinbase transaction."""


class CoinbaseSweep(Mismatch):
    """A coinbase transaction in the place of a vault transaction."""


class WrongDepositScript(Mismatch):
    """The output spent is not the deposit address of that binding."""


class DepositTooSmall(OutOfRange):
    """Below the minimum, or eaten up by its fee."""


class UnknownSweep(Mismatch):
    """No swept output of that outpoint waits for its binding."""


class AlreadyClaimed(Mismatch):
    """The outpoint has its credit, or waits for it: once, ever."""


class UnknownEpoch(Mismatch):
    """No signer set of that epoch."""


class NoVaultTransaction(Mismatch):
    """The transaction does not continue the list of vault transactions."""


class VaultSpendRefused(Invalid):
    """A proven spend of the vault that breaks its rules: it freezes the peg."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"VaultSpendRefused: {reason}: {detail}")
        self.reason = reason
        self.detail = detail


class PegFrozen(NotYet):
    """The peg stands still; carries why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"PegFrozen: {reason}")


class NotMadeGood(NotYet):
    """The vault transactions of the new branch leave the vault below what it owes."""

    def __init__(self, vault: int, owed: int) -> None:
        super().__init__(f"NotMadeGood: vault: got {vault} sats, owes {owed}")


class SurplusTooSmall(NotYet):
    """Something would be paid from a surplus that is not there."""

    def __init__(self, got: int, expected: int) -> None:
        super().__init__(f"SurplusTooSmall: surplus: got {got} sats, expected at least {expected}")


class NotRefundable(NotYet):
    """A refused withdrawal that a proven anchor does not show yet."""

    def __init__(self, number: int, anchored: int, refused_at: int) -> None:
        super().__init__(f"NotRefundable: withdrawal {number}: anchored height is {anchored}, refused at {refused_at}")


class WithdrawalInvalid(OutOfRange):
    """A withdrawal outside of its bounds, or more than there is."""


class UnknownWithdrawal(Mismatch):
    """No withdrawal of that number is in the state that the step needs."""


class BurnTooLarge(OutOfRange):
    """More is burned than there is."""


class RotationRefused(Mismatch):
    """A signer set that may not follow the present one; `what` says the rule."""


class AnnouncementMalformed(Malformed):
    """Bytes that are no announcement of a custody in its one encoding."""


class AnnouncementExpired(OutOfRange):
    """Handed in after the Bitcoin height until which its signers wanted it."""


class VaultNotStill(NotYet):
    """The council speaks before the vault has lain still for long enough."""

    def __init__(self, got: int, expected: int) -> None:
        super().__init__(f"VaultNotStill: blocks that the vault has lain still: got {got}, expected {expected}")


class NothingToDo(NotYet):
    """A round with nothing in it that can be paid for."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"NothingToDo: {reason}")


class FeeAboveCap(OutOfRange):
    """A fee above what a user, or the surplus, pays at most; `what` names whose."""


class FeeTooLow(OutOfRange):
    """A replacement that does not pay enough more than what it replaces."""


class NoGroupKey(Mismatch):
    """A key-path spend of a custody whose signers have no common key."""


class SignaturesMissing(OutOfRange):
    """Fewer valid signatures than the threshold."""


class BadSignature(Mismatch):
    """A signature that does not fit its key and the transaction."""


class EnvelopeMalformed(Malformed):
    """A script that is no data envelope in its one encoding, or data that does not unpack."""


class BatchMalformed(Malformed):
    """A payload that holds no blocks in their one encoding."""


class DataTooLarge(OutOfRange):
    """More data than one envelope takes, or than it may unpack to."""


class StateMalformed(Malformed):
    """Bytes that are no peg state in its one encoding."""
