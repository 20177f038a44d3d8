"""Why a signer does not sign: one class per rule. Those that are `NotYet` may pass when the leader asks again."""

from collections.abc import Collection, Mapping

from chain.errors import HyperdustError, Malformed, Mismatch, NodeFault, NotYet, OutOfRange


class Later(NotYet):
    """A refusal that time can end; carries what it got and what it waits for."""

    def __init__(self, what: str, got: object, expected: object) -> None:
        super().__init__(f"{type(self).__name__}: {what}: got {got}, expected {expected}")
        self.got = got


class ProposalMalformed(Malformed):
    """Bytes that are no proposal, or above its bounds."""


class OtherChain(Mismatch):
    """The proposal is about another L2."""


class UnknownLeader(Mismatch):
    """It is not signed by a key that may hold the vault."""


class NotMine(Mismatch):
    """No input of it is this key's to sign."""


class StateNotFinal(Later):
    """The L2 block that the round is built on, and anchors, is not final by this signer's node."""


class StateNotMine(Mismatch):
    """At that height this signer's node has another block."""


class WithdrawalNotFinal(Later):
    """The L2 block below which withdrawals would be paid is not finalized by this signer's node."""


class WrongVaultCoin(Mismatch):
    """The round does not spend the vault that this signer's node and its bitcoind know."""


class VaultNotDeep(Later):
    """The vault's transaction does not lie deep enough on this signer's bitcoind."""


class DepositUnknown(Mismatch):
    """This signer's bitcoind has no such unspent coin, or another one there."""


class DepositNotDeep(Later):
    """A deposit is not confirmed deeply enough on this signer's bitcoind."""


class GiftUnknown(Mismatch):
    """This signer's bitcoind has no such coin paid to a vault's script, or more than one round's evidence carries."""


class GiftNotDeep(Later):
    """A gift is not confirmed deeply enough on this signer's bitcoind."""


class NothingMissing(Later):
    """The peg is frozen and nothing has to be given: it thaws once its transactions are back, and deep."""


class FirstRoundLost(Later):
    """A reorganisation took the first vault transaction away: there is no vault that gifts could be taken into."""


class DataUnknown(Later):
    """This signer's bitcoind has no such payload of blocks, or does not have it deep enough."""


class DataDiffers(Mismatch):
    """A payload that an anchor would name holds other blocks than this signer's node, or does not follow the last."""


class WrongPath(Mismatch):
    """What is asked for does not go with the way that the round's inputs are spent."""


class RateTooHigh(OutOfRange):
    """A fee rate above what this signer pays at most, or far above what it holds to be needed."""


class HeightUnlikely(OutOfRange):
    """The Bitcoin height named is above this signer's, or long past."""


class RoundDiffers(Mismatch):
    """Built anew from this signer's own sources, the transaction is another one."""


class AnotherRound(Later):
    """This signer has just signed another round of the same vault."""


class RoundWithheld(Later):
    """The same leader got signatures for another round of the same vault, and never sent it."""


class NotContinued(Mismatch):
    """The vault named does not follow, on Bitcoin, from what this signer signed before."""


class SignatureWrong(Mismatch):
    """An answer that is no signature of that key over that input."""


class NonceWrong(Mismatch):
    """A nonce, or an aggregate of all, that is none."""


class NonceUnknown(Mismatch):
    """A part of a signature is asked for, and this signer holds no nonces for the proposal: never, or no longer."""


class NonceSpent(Mismatch):
    """The nonces for this proposal have signed already, with other nonces of the others: never twice."""


class NotTogether(Later):
    """The signers did not sign all together; carries who did not, and whether parts of signatures were given."""

    def __init__(self, reasons: Mapping[bytes, str], *, given: bool, refused: Collection[bytes] = ()) -> None:
        """`refused`: who named a rule before anything was given, which costs nobody time."""
        said = "; ".join(f"{key.hex()[:16]}: {reason}" for key, reason in reasons.items())
        super().__init__("signers", f"without {len(reasons)} of them: {said}", "all")
        self.keys = tuple(reasons)
        self.given = given
        self.spoilers = tuple(key for key in reasons if given or key not in refused)


class TooFewSignatures(Later):
    """Not enough signers answered with signatures."""


class ProtectionFault(NodeFault):
    """The file that keeps a key from signing against itself cannot be used: nothing is signed until it can."""


class SourceFault(NodeFault):
    """This signer's own node does not say what is needed."""


class ScanBusy(NotYet):
    """Bitcoind looks through its coins for somebody else: one at a time."""

    def __init__(self) -> None:
        super().__init__("ScanBusy: bitcoind scans its coins for another program")


class PeerFault(HyperdustError):
    """Another signer does not answer, or not as one."""


class PeerRefused(HyperdustError):
    """Another signer refuses; carries the rule that it named."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(text or rule)
        self.rule = rule
