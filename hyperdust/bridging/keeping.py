"""Deposit files: all that it takes to get an unswept deposit back, with no node and no signer left to ask.

One JSON file a deposit address, readable by its owner alone, written before the address is shown.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from bridge.deposits import Outpoint
from bridge.params import NETWORKS
from bridge.rules import PegRules
from bridge.scripts import Binding, Custody, address_of, deposit_output
from bridge.taproot import Leaf
from hyperdust.bridging.errors import BridgeRefused, KeyRefused, NotOurs
from hyperdust.durable import PRIVATE, replace_durably

_VERSION: Final = 1
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1's group."""


class DepositFileDamaged(BridgeRefused):
    """A file in the folder that is no deposit file of this version."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a deposit file says."""

    chain_id: int
    network: str
    """Bitcoin's."""
    binding: Binding
    secret: int | None
    """Of `binding.user_key`; None: its owner keeps it elsewhere."""
    bitcoin_address: str
    script: bytes
    """scriptPubKey of the deposit."""
    reclaim: Leaf
    """The user's way back."""
    reclaim_blocks: int
    sats: int
    """What was meant to be paid."""
    outpoints: tuple[Outpoint, ...] = ()
    """Payments that this program made."""

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "version": _VERSION,
            "what": "a deposit into Hyperdust; secret_key takes an unswept coin back: keep this file to yourself",
            "chain_id": self.chain_id,
            "bitcoin_network": self.network,
            "bitcoin_address": self.bitcoin_address,
            "sats": self.sats,
            "l2_address": "0x" + self.binding.address.hex(),
            "max_fee_sats": self.binding.max_fee,
            "signer_epoch": self.binding.epoch,
            "user_key": self.binding.user_key.hex(),
            "secret_key": None if self.secret is None else f"{self.secret:064x}",
            "script": self.script.hex(),
            "reclaim_script": self.reclaim.script.hex(),
            "reclaim_control_block": self.reclaim.control.hex(),
            "reclaim_after_blocks": self.reclaim_blocks,
            "outpoints": [str(outpoint) for outpoint in self.outpoints],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read `as_json`; `KeyError`, `ValueError` or `TypeError` where it is none."""
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}")
        binding = Binding(
            bytes.fromhex(content["user_key"]),
            bytes.fromhex(content["l2_address"][2:]),
            int(content["max_fee_sats"]),
            int(content["signer_epoch"]),
        )
        return cls(
            int(content["chain_id"]),
            str(content["bitcoin_network"]),
            binding,
            None if content["secret_key"] is None else int(content["secret_key"], 16),
            str(content["bitcoin_address"]),
            bytes.fromhex(content["script"]),
            Leaf(bytes.fromhex(content["reclaim_script"]), bytes.fromhex(content["reclaim_control_block"])),
            int(content["reclaim_after_blocks"]),
            int(content["sats"]),
            tuple(parse_outpoint(text) for text in content["outpoints"]),
        )


def make_kept(
    chain_id: int,
    network: str,
    custody: Custody,
    rules: PegRules,
    binding: Binding,
    secret: int | None,
    sats: int,
) -> Kept:
    """The file of a deposit that is to be made."""
    output = deposit_output(custody, binding, rules)
    address = address_of(output, NETWORKS[network])
    return Kept(chain_id, network, binding, secret, address, output.script, output.fallback, rules.reclaim_blocks, sats)


def make_secret() -> tuple[int, bytes]:
    """A fresh secret key and its x-only public key."""
    from btclib_ecc.ecc import ssa  # noqa: PLC0415  # loads curve code

    secret, x = ssa.gen_keys(secrets.randbelow(_ORDER - 1) + 1)
    return secret, x.to_bytes(32, "big")


def read_secret(path: Path) -> int:
    """A secret key in hex, the first line of a file.

    Raises:
        KeyRefused: it is none.
    """
    line = path.read_text(encoding="utf-8").partition("\n")[0].strip().removeprefix("0x")
    try:
        secret = int(line, 16) if len(line) == 64 else 0
    except ValueError:
        secret = 0
    if not 0 < secret < _ORDER:
        raise KeyRefused(f"{path} holds no secret key: 64 hex digits are expected in its first line")
    return secret


def save(kept: Kept, folder: Path) -> Path:
    """Write a deposit file, or replace it by one that knows more payments, so that a power cut leaves one of both."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"deposit-{kept.bitcoin_address}.json"
    replace_durably(path, json.dumps(kept.as_json(), indent=2) + "\n", PRIVATE)
    return path


def add_outpoint(kept: Kept, outpoint: Outpoint, folder: Path) -> Kept:
    """Note a payment."""
    known = kept if outpoint in kept.outpoints else replace(kept, outpoints=(*kept.outpoints, outpoint))
    save(known, folder)
    return known


def load(path: Path) -> Kept:
    """Read one file.

    Raises:
        DepositFileDamaged: it is none.
    """
    try:
        return Kept.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DepositFileDamaged(f"{path} is no deposit file ({error}); restore it from a copy") from error


def list_kept(folder: Path) -> Iterator[tuple[Path, Kept]]:
    """Every deposit file of a folder, by name.

    Raises:
        DepositFileDamaged: one cannot be read.
    """
    if folder.is_dir():
        for path in sorted(folder.glob("deposit-*.json")):
            yield path, load(path)


def find(folder: Path, *, script: bytes = b"", address: str = "", outpoint: Outpoint | None = None) -> Kept:
    """The deposit that fits a script, an address or a payment.

    Raises:
        NotOurs: none does.
    """
    for _, kept in list_kept(folder):
        if (script and kept.script == script) or kept.bitcoin_address == address or outpoint in kept.outpoints:
            return kept
    wanted = address or outpoint or f"script {script.hex()}"
    raise NotOurs(f"no deposit file in {folder} fits {wanted}; name the right folder with --folder")


def parse_outpoint(text: str) -> Outpoint:
    """`txid:n` as `bridge deposit` prints it; `ValueError` where it is none."""
    txid, _, index = text.partition(":")
    raw = bytes.fromhex(txid)[::-1]
    if len(raw) != 32 or not index.isdecimal() or int(index) >= 1 << 32:
        raise ValueError(f"{text!r} is no outpoint")
    return Outpoint(raw, int(index))
