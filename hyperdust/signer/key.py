"""A signer's key: BIP-340 signatures by the same private key that a keystore holds for an account."""

import secrets
from typing import Final

import coincurve
from btclib_ecc.hashes import tagged_hash
from eth_account.signers.local import LocalAccount

from bridge.peg_errors import BadSignature
from bridge.taproot import check_signature

_PROPOSAL: Final = b"hyperdust/proposal"
_PRESENCE: Final = b"hyperdust/presence"


class SigningKey:
    """One private key. Safe from any thread."""

    def __init__(self, account: LocalAccount) -> None:
        self._private = coincurve.PrivateKey(bytes(account.key))
        self.public: bytes = self._private.public_key.format()[1:]
        """x-only, 32 bytes: as the signer set lists it."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes over 32; with fresh randomness (BIP-340)."""
        return bytes(self._private.sign_schnorr(message, secrets.token_bytes(32)))


def proposal_digest(proposal: bytes) -> bytes:
    """What a leader signs."""
    return bytes(tagged_hash(_PROPOSAL, proposal))


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
