"""What a provider signs for the Court: roots of a subgraph's operators (EIP-712). Source: docs/spec/contracts.md."""

from typing import Final

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from chain.hashing import keccak256
from chain.params import COURT
from consensus.certificate import recover_signer, sign_seal

_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_DOMAIN_NAME: Final = keccak256(b"Hyperdust Court")
_DOMAIN_VERSION: Final = keccak256(b"1")
_OPERATORS_TYPE: Final = keccak256(b"Operators(uint256 job,uint256 step,uint256 subgraph,bytes32 roots)")


def operators_digest(chain_id: int, job: int, step: int, subgraph: int, roots: bytes) -> bytes:
    """EIP-712 digest of a list of operators; `roots` is keccak256 of the concatenated operator roots."""
    domain = keccak256(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "address"],
            [_DOMAIN_TYPE, _DOMAIN_NAME, _DOMAIN_VERSION, chain_id, COURT],
        )
    )
    message = keccak256(
        encode(
            ["bytes32", "uint256", "uint256", "uint256", "bytes32"],
            [_OPERATORS_TYPE, job, step, subgraph, roots],
        )
    )
    return keccak256(b"\x19\x01" + domain + message)


def sign_operators(account: LocalAccount, digest: bytes) -> bytes:
    """The provider's signature: r ‖ s ‖ y-parity."""
    return sign_seal(digest, bytes(account.key))


def recover_provider(digest: bytes, signature: bytes) -> bytes:
    """The address that signed a list of operators.

    Raises:
        Malformed: not 65 bytes, s in the upper half, y-parity above 1, or no such point.
    """
    return recover_signer(digest, signature)
