"""One signature of all signers instead of k (MuSig2, BIP-327): contexts of inputs, secret nonces that sign once.

The cryptography is btclib's. Here is when a nonce may be used: it lives in memory alone, is made for one input of one
proposal, signs once, and is forgotten after a while, with the next proposal of the same leader, and with the process.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from btclib_ecc.ecc import musig2
from btclib_ecc.exceptions import BTClibEccException
from btclib_ecc.hashes import tagged_hash

from bridge.rounds import SigningInput
from bridge.scripts import SignerSet
from bridge.vault import Draft
from hyperdust.signer.errors import NonceSpent, NonceUnknown, NonceWrong, SignatureWrong, WrongPath

NONCE_BYTES: Final = 66
PART_BYTES: Final = 32
NONCE_S: Final = 90.0
"""For so long a secret nonce waits for the others' nonces: two deadlines of a leader's calls, and room."""
_MOST: Final = 64
"""Leaders of whom a proposal is open at once: more than one chain of signer sets has."""
_EVEN: Final = b"\x02"


@lru_cache(maxsize=256)
def aggregate_key(keys: tuple[bytes, ...]) -> bytes:
    """BIP-327's aggregate of x-only keys, each lifted to even y, in their order; x-only."""
    return musig2.key_agg([_EVEN + key for key in keys]).x_only_pub_key


def is_shared(signers: SignerSet) -> bool:
    """Whether the signers' common key is the aggregate of all of them: no ceremony made it, all sign for it."""
    return bool(signers.group_key) and signers.group_key == aggregate_key(signers.keys)


def check_shared(draft: Draft) -> None:
    """Check that all signers of a round can sign it together.

    Raises:
        WrongPath: it is spent by scripts, or the common key is another one.
    """
    for one in draft.inputs:
        if not is_shared(one.custody.signers):
            raise WrongPath("common key", one.custody.signers.group_key, "the aggregate of the signers' keys")


def make_context(one: SigningInput, message: bytes, nonce: bytes) -> musig2.SessionContext:
    """What all signers of an input have to agree on; `nonce`: 66 bytes, the aggregate of all.

    Raises:
        NonceWrong: no two points.
    """
    tweak = tagged_hash(b"TapTweak", one.output.internal_key + one.output.merkle_root)
    try:
        context = musig2.SessionContext(
            nonce, [_EVEN + key for key in one.custody.signers.keys], [tweak], [True], message
        )
        musig2.session_values(context)
    except BTClibEccException as error:
        raise NonceWrong(f"aggregate nonce of input {one.outpoint}", nonce, "two points") from error
    return context


def aggregate_nonces(nonces: Sequence[bytes]) -> bytes:
    """Of all signers of one input; each was checked by `check_nonce`."""
    return musig2.nonce_agg(nonces)


def check_nonce(nonce: bytes) -> None:
    """Check a public nonce that somebody sent.

    Raises:
        NonceWrong: no two points.
    """
    try:
        musig2.nonce_agg([nonce])
    except BTClibEccException as error:
        raise NonceWrong("nonce", nonce, f"two points, {NONCE_BYTES} bytes") from error


def check_part(context: musig2.SessionContext, key: bytes, nonce: bytes, part: bytes) -> None:
    """Check a signer's part of a signature, against the nonce that it gave.

    Raises:
        SignatureWrong: it is none.
    """
    if len(part) != PART_BYTES or not musig2.partial_sig_verify_(part, nonce, _EVEN + key, context):
        raise SignatureWrong("part of a signature", part, f"one of {key.hex()}")


def join_parts(context: musig2.SessionContext, parts: Sequence[bytes]) -> bytes:
    """The signature of all, 64 bytes."""
    return musig2.partial_sig_agg(parts, context).serialize()


@dataclass(slots=True)
class Commitment:
    """This signer's nonces for one proposal: secret, and at most once."""

    proposal: bytes
    """Its digest."""
    draft: Draft
    vault: str
    public: tuple[bytes, ...]
    """One an input; empty where the key has no part."""
    secret: tuple[bytearray, ...]
    until: float
    asked: tuple[bytes, ...] = ()
    """The aggregates that were signed over; empty: none yet."""
    parts: tuple[bytes, ...] = ()

    def open(self, nonces: tuple[bytes, ...]) -> tuple[musig2.SessionContext, ...]:
        """Contexts to sign in, one an input.

        Raises:
            NonceSpent: these nonces have signed with others.
            NonceWrong: an aggregate that is none; nothing is spent by it.
        """
        if self.asked and self.asked != nonces:
            raise NonceSpent("aggregate nonces", b"".join(nonces)[:NONCE_BYTES], "those that were signed over")
        if len(nonces) != len(self.draft.inputs):
            raise NonceWrong("aggregate nonces", len(nonces), f"{len(self.draft.inputs)}, one an input")
        messages = self.draft.compute_sighashes()
        return tuple(
            make_context(one, message, nonce)
            for one, message, nonce in zip(self.draft.inputs, messages, nonces, strict=True)
        )

    def forget(self) -> None:
        """Overwrite what is secret."""
        for one in self.secret:
            one[:] = bytes(len(one))


@dataclass(slots=True)
class Commitments:
    """One open commitment a leader."""

    _by_leader: dict[bytes, Commitment] = field(default_factory=dict)

    def find(self, leader: bytes, proposal: bytes, now: float) -> Commitment:
        """The commitment to a proposal.

        Raises:
            NonceUnknown: there is none, or no longer.
        """
        for old in [key for key, one in self._by_leader.items() if one.until <= now]:
            self._by_leader.pop(old).forget()
        known = self._by_leader.get(leader)
        if known is None or known.proposal != proposal:
            raise NonceUnknown("proposal", proposal, "one that this signer has open nonces for")
        return known

    def put(self, leader: bytes, made: Commitment) -> None:
        """Keep one in the place of the leader's last."""
        if (old := self._by_leader.pop(leader, None)) is not None:
            old.forget()
        while len(self._by_leader) >= _MOST:
            self._by_leader.pop(next(iter(self._by_leader))).forget()
        self._by_leader[leader] = made

    def clear(self) -> None:
        """Forget all."""
        for one in self._by_leader.values():
            one.forget()
        self._by_leader.clear()
