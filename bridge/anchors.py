"""The 80 bytes by which a vault transaction commits to the L2, and to what. Which one is final: consensus."""

from dataclasses import dataclass
from typing import Final, Self

from bridge.peg_errors import AnchorMalformed, AnchorMismatch
from bridge.scripts import MAGIC, data_script
from bridge.transactions import Transaction
from chain.hashing import H

ANCHOR_BYTES: Final = 80
VERSION_AND_TYPE: Final = 0x11
"""Version 1 in the upper four bits, type 1 (anchor) in the lower ones."""
NO_DATA: Final = bytes(32)
_SCRIPT_START: Final = b"\x6a\x4c\x50"  # OP_RETURN, PUSHDATA1 of 80


@dataclass(frozen=True, slots=True)
class AnchoredFacts:
    """What an anchor commits to by one hash."""

    block_hash: bytes
    """Of the L2 block."""
    state_root: bytes
    """Of the same block."""
    peg_out_root: bytes
    """`peg.compute_peg_out_root` of its state."""
    work_root: bytes
    """Of the committee's work and votes (`consensus.finality`)."""
    vault_sats: int
    """The vault as that state knows it."""
    previous: bytes
    """`Anchor.id` of the anchor before; zero for the first."""

    @property
    def commitment(self) -> bytes:
        """32 bytes."""
        sats = self.vault_sats.to_bytes(8, "little")
        return H("anchor", self.block_hash, self.state_root, self.peg_out_root, self.work_root, sats, self.previous)


@dataclass(frozen=True, slots=True)
class Anchor:
    """80 bytes; numbers little-endian."""

    epoch: int
    """3 bytes: of the signers that hold the vault output beside it."""
    height: int
    """8 bytes: of the L2 block."""
    commitment: bytes
    """32 bytes: `AnchoredFacts.commitment`."""
    data_root: bytes = NO_DATA
    """32 bytes: `data.data_root` of a batch on Bitcoin; zero: hash only."""

    def encode(self) -> bytes:
        """`"HYPD" 4 ‖ version and type 1 ‖ epoch 3 ‖ height 8 ‖ commitment 32 ‖ data root 32`."""
        numbers = bytes([VERSION_AND_TYPE]) + self.epoch.to_bytes(3, "little") + self.height.to_bytes(8, "little")
        return MAGIC + numbers + self.commitment + self.data_root

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read exactly 80 bytes.

        Raises:
            AnchorMalformed: another size, magic, version or type.
        """
        if len(raw) != ANCHOR_BYTES:
            raise AnchorMalformed("anchor", f"{len(raw)} bytes instead of {ANCHOR_BYTES}")
        if raw[:4] != MAGIC:
            raise AnchorMalformed("anchor", f"starts with {raw[:4].hex()} instead of {MAGIC.hex()}")
        if raw[4] != VERSION_AND_TYPE:
            raise AnchorMalformed("anchor", f"version and type are {raw[4]:#04x} instead of {VERSION_AND_TYPE:#04x}")
        epoch, height = int.from_bytes(raw[5:8], "little"), int.from_bytes(raw[8:16], "little")
        return cls(epoch, height, raw[16:48], raw[48:])

    @property
    def id(self) -> bytes:
        """By which the next anchor names this one."""
        return H("anchor-id", self.encode())

    @property
    def script(self) -> bytes:
        """Script of its output."""
        return data_script(self.encode())

    def check_facts(self, facts: AnchoredFacts) -> None:
        """Check what it commits to.

        Raises:
            AnchorMismatch: something else.
        """
        if self.commitment != facts.commitment:
            raise AnchorMismatch("commitment", self.commitment, facts.commitment)


def find_anchor(transaction: Transaction) -> Anchor | None:
    """The anchor of a vault transaction: its output 1, if that is data; None where there is none.

    Raises:
        AnchorMalformed: data there that is no anchor.
    """
    if len(transaction.outputs) < 2 or not (script := transaction.outputs[1].script).startswith(b"\x6a"):
        return None
    if transaction.outputs[1].sats or not script.startswith(_SCRIPT_START):
        raise AnchorMalformed("anchor output", f"{transaction.outputs[1].sats} sats, script {script[:3].hex()}")
    return Anchor.decode(script[3:])
