"""The scripts of the peg: deposit addresses, the vault, and what may be paid to. Source: docs/spec/bridge.md."""

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

from btclib.b32 import p2tr

from bridge.params import BitcoinParams
from bridge.peg_errors import PayoutScriptRefused, SignerSetInvalid
from bridge.rules import PegRules
from bridge.taproot import NUMS, TaprootOutput, is_key, make_output

MAX_SIGNERS: Final = 20
MAGIC: Final = b"HYPD"
BINDING_VERSION: Final = 1
ADDRESS_BYTES: Final = 20
_OP_RETURN: Final = b"\x6a"
_CSV_DROP: Final = b"\xb2\x75"
_CHECKSIG: Final = b"\xac"
_CHECKSIGADD: Final = b"\xba"
_NUMEQUAL: Final = b"\x9c"
_NETWORKS: Final = {
    "main": "mainnet",
    "test": "testnet",
    "testnet4": "testnet",
    "signet": "signet",
    "regtest": "regtest",
}


@dataclass(frozen=True, slots=True)
class SignerSet:
    """k of n keys."""

    threshold: int
    """k."""
    keys: tuple[bytes, ...]
    """x-only, ascending; their order is that of the script."""
    group_key: bytes = b""
    """x-only key that all of them (MuSig2, BIP-327) or k of them (FROST) sign for together; empty: none."""

    def check(self) -> None:
        """Check that it can hold coins.

        Raises:
            SignerSetInvalid: by rule.
        """
        if not 1 <= len(self.keys) <= MAX_SIGNERS:
            raise SignerSetInvalid("number of keys", len(self.keys), f"1 to {MAX_SIGNERS}")
        if not 1 <= self.threshold <= len(self.keys):
            raise SignerSetInvalid("threshold", self.threshold, f"1 to {len(self.keys)}")
        if any(left >= right for left, right in pairwise(self.keys)):
            raise SignerSetInvalid("order of keys", [key.hex() for key in self.keys], "ascending, none twice")
        for key in (*self.keys, *([self.group_key] if self.group_key else [])):
            if not is_key(key):
                raise SignerSetInvalid("key", key, "32 bytes, x of a point of secp256k1")


@dataclass(frozen=True, slots=True)
class Custody:
    """Who holds a vault output, and the deposits of its time."""

    epoch: int
    """Counts the signer sets from 0."""
    signers: SignerSet
    council: SignerSet
    """Of the emergency leaf; its group key is not used."""
    starts_at: int = 0
    """Bitcoin height from which it may hold the vault: the end of its notice."""
    named_by: int = 0
    """Epoch of the custody that held the vault when this one was announced: it follows that one alone."""
    rescues: bytes = b""
    """Named by the council: id of the vault transaction whose output 0 it may take over by their leaf; empty: not."""

    @property
    def internal_key(self) -> bytes:
        """The signers' common key, or a key of nobody."""
        return self.signers.group_key or NUMS


@dataclass(frozen=True, slots=True)
class Binding:
    """What a deposit address stands for. Anyone can recompute the address from it; nothing is registered first."""

    user_key: bytes
    """x-only: takes an unswept deposit back."""
    address: bytes
    """20 bytes on L2."""
    max_fee: int
    """Most sats of the sweep's fee that the deposit pays."""
    epoch: int
    """Of the signers that sweep it."""


def binding_script(binding: Binding) -> bytes:
    """Leaf A, which is never revealed: it only makes the address depend on the recipient."""
    text = MAGIC + bytes([BINDING_VERSION]) + binding.max_fee.to_bytes(8, "little") + binding.address
    return _OP_RETURN + _push(text)


def reclaim_script(binding: Binding, rules: PegRules) -> bytes:
    """Leaf B: the user alone, after a while."""
    return push_number(rules.reclaim_blocks) + _CSV_DROP + _push(binding.user_key) + _CHECKSIG


def threshold_script(signers: SignerSet) -> bytes:
    """Leaf C: k of n signatures."""
    first, *others = signers.keys
    added = b"".join(_push(key) + _CHECKSIGADD for key in others)
    return _push(first) + _CHECKSIG + added + push_number(signers.threshold) + _NUMEQUAL


def emergency_script(council: SignerSet, rules: PegRules) -> bytes:
    """The council's leaf of the vault: k of n, once nobody has moved the vault for long."""
    return push_number(rules.emergency_blocks) + _CSV_DROP + threshold_script(council)


def deposit_output(custody: Custody, binding: Binding, rules: PegRules) -> TaprootOutput:
    """Where a deposit is paid to: tree `[[C], [[B], [A]]]`."""
    ours, back, hidden = threshold_script(custody.signers), reclaim_script(binding, rules), binding_script(binding)
    return make_output(custody.internal_key, ours, back, hidden)


def vault_output(custody: Custody, rules: PegRules) -> TaprootOutput:
    """Where the vault lies: tree `[[k of n], [emergency]]`."""
    return make_output(
        custody.internal_key, threshold_script(custody.signers), emergency_script(custody.council, rules)
    )


def address_of(output: TaprootOutput, network: BitcoinParams) -> str:
    """As people write it."""
    return p2tr(output.output_key, _NETWORKS[network.name])


def data_script(data: bytes) -> bytes:
    """OP_RETURN with one push."""
    return _OP_RETURN + _push(data)


class PayoutKind(Enum):
    """What a withdrawal may be paid to."""

    P2PKH = "P2PKH"
    P2SH = "P2SH"
    P2WPKH = "P2WPKH"
    P2WSH = "P2WSH"
    P2TR = "P2TR"

    @property
    def dust_sats(self) -> int:
        """The least that Bitcoin's nodes relay to it."""
        return _DUST_SATS[self.value]


_DUST_SATS: Final = {"P2PKH": 546, "P2SH": 540, "P2WPKH": 294, "P2WSH": 330, "P2TR": 330}


def check_payout_script(script: bytes) -> PayoutKind:
    """The kind of a script that a withdrawal may be paid to.

    Raises:
        PayoutScriptRefused: any other, by its name.
    """
    size = len(script)
    if size == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return PayoutKind.P2PKH
    if size == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return PayoutKind.P2SH
    if size == 22 and script[:2] == b"\x00\x14":
        return PayoutKind.P2WPKH
    if size == 34 and script[:2] == b"\x00\x20":
        return PayoutKind.P2WSH
    if size == 34 and script[:2] == b"\x51\x20":
        return PayoutKind.P2TR
    raise PayoutScriptRefused("payout script", name_script(script), "P2PKH, P2SH, P2WPKH, P2WSH or P2TR")


def name_script(script: bytes) -> str:
    """What a script is that is none of the five."""
    if not script:
        return "nothing"
    if script[:1] == _OP_RETURN:
        return "OP_RETURN"
    if script[-1:] == _CHECKSIG and len(script) in {35, 67}:
        return "P2PK"
    if script[-1:] == b"\xae":
        return "bare multisig"
    if script == b"\x51\x02\x4e\x73":
        return "P2A"
    version = script[0]
    if 4 <= len(script) <= 42 and script[1] == len(script) - 2 and (not version or 0x51 <= version <= 0x60):
        return f"witness version {version and version - 0x50} of {len(script) - 2} bytes"
    return "no standard script"


def push_number(value: int) -> bytes:
    """A number above 0 in its shortest push."""
    if value <= 16:
        return bytes([0x50 + value])
    return _push(value.to_bytes(value.bit_length() // 8 + 1, "little"))  # the top bit is the sign


def _push(data: bytes) -> bytes:
    return (bytes([len(data)]) if len(data) <= 75 else b"\x4c" + bytes([len(data)])) + data
