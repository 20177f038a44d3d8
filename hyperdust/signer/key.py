"""A signer's key: BIP-340 signatures by the same private key that a keystore holds for an account."""

import secrets
from collections.abc import Sequence
from typing import Final

import coincurve
from btclib_ecc.ecc import musig2, ssa
from btclib_ecc.hashes import tagged_hash
from eth_account.signers.local import LocalAccount

from bridge.peg_errors import BadSignature
from bridge.taproot import check_signature

_PROPOSAL: Final = b"hyperdust/proposal"
_PRESENCE: Final = b"hyperdust/presence"
_NONCES: Final = b"hyperdust/nonces"
_EVEN: Final = b"\x02"


class SigningKey:
    """One private key. Safe from any thread."""

    def __init__(self, account: LocalAccount) -> None:
        self._private = coincurve.PrivateKey(bytes(account.key))
        self.public: bytes = self._private.public_key.format()[1:]
        """x-only, 32 bytes: as the signer set lists it."""
        self._even, _ = ssa.gen_keys(self._private.to_int())  # signs for the public key with even y

    def sign(self, message: bytes) -> bytes:
        """64 bytes over 32; with fresh randomness (BIP-340)."""
        return bytes(self._private.sign_schnorr(message, secrets.token_bytes(32)))

    def make_nonce(self, message: bytes) -> tuple[bytearray, bytes]:
        """A secret nonce for one message, and the public one, 66 bytes (BIP-327)."""
        return musig2.nonce_gen(self._even, _EVEN + self.public, msg=message)

    def sign_part(self, nonce: bytearray, context: musig2.SessionContext) -> bytes:
        """This key's part of a signature of all, 32 bytes; the secret nonce is overwritten by it."""
        return musig2.sign(nonce, self._even, context)


def proposal_digest(proposal: bytes) -> bytes:
    """What a leader signs."""
    return bytes(tagged_hash(_PROPOSAL, proposal))


def nonces_digest(proposal: bytes, nonces: Sequence[bytes]) -> bytes:
    """What a leader signs in the second exchange; `proposal`: its digest."""
    return bytes(tagged_hash(_NONCES, proposal + b"".join(nonces)))


def presence_digest(chain: bytes, nonce: bytes, key: bytes, *numbers: int) -> bytes:
    """What a presence is signed over, so that nobody answers in another's name."""
    return bytes(tagged_hash(_PRESENCE, chain + nonce + key + b"".join(one.to_bytes(8, "big") for one in numbers)))


def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a BIP-340 signature fits."""
    try:
        check_signature(key, message, signature)
    except BadSignature:
        return False
    return True
