"""The proof of useful work that a block carries: its one encoding, and what makes it valid for a header."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eth_keys.datatypes import PrivateKey, Signature
from eth_keys.exceptions import BadSignature, ValidationError

from chain.blocks import Header, certificate_commitment
from chain.errors import Malformed
from chain.hashing import keccak256
from consensus.errors import WrongCommitment, WrongOperand, WrongSigner
from pouw import ticket

_PREFIX_BYTES: Final = 1 + 32 + 4 + 8 + 65
_VERSION: Final = 1
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # secp256k1 n // 2


@dataclass(frozen=True, slots=True)
class Certificate:
    """A winning ticket, the openings that prove it, the proposer's signature."""

    graph: bytes
    """Id of the registered graph whose weights were multiplied."""
    operator: int
    """Global index of the product in that graph."""
    label: int
    """Job that the miner says it worked on; 0 for rows of its own."""
    signature: bytes
    """r ‖ s ‖ y-parity over the header's seal hash, by the coinbase's key; s in the lower half."""
    proof: ticket.TicketProof
    """Opened rows and columns of the winning tile."""

    def encode(self) -> bytes:
        """Encoding: version 1 ‖ graph 32 ‖ operator u32 ‖ label u64 ‖ signature 65 ‖ ticket proof; little-endian."""
        return b"".join(
            (
                _VERSION.to_bytes(1, "little"),
                self.graph,
                self.operator.to_bytes(4, "little"),
                self.label.to_bytes(8, "little"),
                self.signature,
                self.proof.encode(),
            )
        )


def decode_certificate(data: bytes) -> Certificate:
    """The inverse of `Certificate.encode`; a second encoding of the same certificate does not exist.

    Raises:
        Malformed: truncated, unknown version, or a proof that does not decode.
    """
    if len(data) < _PREFIX_BYTES:
        raise Malformed("certificate", f"{len(data)} bytes, at least {_PREFIX_BYTES}")
    if data[0] != _VERSION:
        raise Malformed("certificate", f"version {data[0]}, expected {_VERSION}")
    return Certificate(
        graph=data[1:33],
        operator=int.from_bytes(data[33:37], "little"),
        label=int.from_bytes(data[37:45], "little"),
        signature=data[45:110],
        proof=ticket.TicketProof.decode(data[110:]),
    )


@dataclass(frozen=True, slots=True)
class Operand:
    """Weights of a mining product as the GraphRegistry holds them."""

    root: bytes
    """Tensor root of B transposed, int8[n, k]."""
    k: int
    """Inner dimension."""
    n: int
    """Columns of B."""


def sign_seal(seal_hash: bytes, private_key: bytes) -> bytes:
    """The coinbase's signature for a certificate: r ‖ s ‖ y-parity."""
    return bytes(PrivateKey(private_key).sign_msg_hash(seal_hash).to_bytes())


def recover_signer(seal_hash: bytes, signature: bytes) -> bytes:
    """The address that signed a seal hash.

    Raises:
        Malformed: not 65 bytes, s in the upper half, y-parity above 1, or no such point.
    """
    if len(signature) != 65 or signature[64] > 1:
        raise Malformed("seal signature", "not r ‖ s ‖ y-parity")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise Malformed("seal signature", "s in the upper half")
    try:
        public_key = Signature(signature).recover_public_key_from_msg_hash(seal_hash)
    except (BadSignature, ValidationError, ValueError) as error:
        raise Malformed("seal signature", str(error)) from error
    return keccak256(public_key.to_bytes())[12:]


def check_certificate(
    header: Header, certificate: Certificate, encoded: bytes, operand: Operand, evidence: Sequence[bytes] = ()
) -> bytes:
    """Check a certificate against its header and the registered weights; cheapest first. Returns the ticket.

    `evidence` is the body's: the header commits to both at once.

    Raises:
        WrongCommitment, WrongOperand, WrongSigner, Malformed: the rule's class.
        Invalid: what `pouw.ticket.verify` refuses.
    """
    commitment = certificate_commitment(encoded, evidence)
    if header.extra_data != commitment:
        raise WrongCommitment("extra_data", header.extra_data, commitment)
    proof = certificate.proof
    claimed = (proof.root_b, proof.k, proof.n)
    if claimed != (operand.root, operand.k, operand.n):
        raise WrongOperand("root(B), k, n", claimed, (operand.root, operand.k, operand.n))
    seal_hash = header.seal_hash
    signer = recover_signer(seal_hash, certificate.signature)
    if signer != header.coinbase:
        raise WrongSigner("seal signature", signer, header.coinbase)
    return ticket.verify(proof, header.parent_hash, seal_hash, header.nonce, header.difficulty)
