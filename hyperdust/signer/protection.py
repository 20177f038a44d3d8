"""What a signer's key has signed: on disk before a signature leaves, so that neither crash nor node turns it on itself.

Vault transactions are one list: of any two that a key signs, one spends an output of the other, or both spend the same
coin. So a vault is signed for only if it is one that was signed for before, or follows from one on Bitcoin; versions of
the first round, which have no vault to share, share an input. The file lives with the key, not with the node.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from bridge.deposits import Outpoint
from bridge.taproot import Path as SpendPath
from bridge.work import show_hash
from hyperdust.durable import hold_and_load, replace_durably
from hyperdust.signer.errors import AnotherRound, NotContinued, ProtectionFault, RoundWithheld
from hyperdust.signer.proposal import inputs_of
from hyperdust.signer.sources import Bitcoin

_VERSION: Final = 1
_KEPT_ROUNDS: Final = 48
"""With their proposals; a vault has few versions."""
_KEPT_VAULTS: Final = 20_000
"""Two years of a round an hour; 70 bytes each."""
_WALK: Final = 2_016
"""Vault transactions between two that this key signed: longer absent than that, it is as good as a new one."""
_WITHHELD: Final = 4
"""For so many times the blocks between versions, who withheld a round gets no signature for another."""
FIRST: Final = ""
"""In the place of a vault's outpoint: there is none yet."""


@dataclass(frozen=True, slots=True)
class Version:
    """One transaction of a round, as far as this signer knows of it. Bytes as hex, since the file is JSON."""

    vault: str
    """Outpoint that it spends, or `FIRST`."""
    txid: str
    inputs: tuple[str, ...]
    """Of a first round; empty otherwise: the vault says enough."""
    leader: str
    rate: int
    height: int
    """Of Bitcoin when it was signed, or heard of."""
    proposal: str
    """As the leader sent it."""
    signature: str
    """The leader's."""
    signed: bool
    """By this key; else heard of."""
    raw: str = ""
    """With witnesses, once somebody completed it."""
    seen: bool = False
    """Bitcoin's mempool or a block had it."""
    path: str = "script"
    """`Path` by which its inputs are spent: by k signatures, or by one of all signers together."""


class Walk(Protocol):
    """The inputs of a vault's transaction, of the one before, and so on."""

    def __call__(self, vault: Outpoint) -> Iterator[tuple[str, ...]]:
        """From the newest on."""


class Protection:
    """One key's file on one chain. One process, a thread at a time; a lock beside the file keeps others out."""

    def __init__(self, path: Path) -> None:
        """Open or begin the file.

        Raises:
            ProtectionFault: held by another process, or damaged. A damaged one is never replaced.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock, (self._vaults, self._versions) = hold_and_load(path, _load)
        except OSError as error:
            raise ProtectionFault(
                f"{path}: {error.strerror}; another signer may run with this key: stop one of the two"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise ProtectionFault(f"{path} is damaged ({error}); restore a copy: this key signs nothing") from error

    @property
    def vaults(self) -> tuple[str, ...]:
        """Outpoints of the vaults signed for, `FIRST` among them, in the order of time."""
        return self._vaults

    @property
    def all_versions(self) -> tuple[Version, ...]:
        """All that is kept, oldest first."""
        return self._versions

    def versions(self, vault: str) -> tuple[Version, ...]:
        """What is known of the rounds of a vault, oldest first."""
        return tuple(one for one in self._versions if one.vault == vault)

    def check(self, version: Version, bump_blocks: int, walk: Walk, dead: frozenset[str] = frozenset()) -> None:
        """Check that a transaction may be signed.

        Args:
            version: what would be signed.
            bump_blocks: blocks between two versions of one vault.
            walk: reads the list on Bitcoin.
            dead: ids of first rounds that can never be mined any more.

        Raises:
            NotContinued: it does not conflict with, nor follow from, what was signed before.
            AnotherRound, RoundWithheld: not now.
        """
        if any(one.txid == version.txid and one.signed for one in self._versions):
            return
        firsts = [one for one in self._firsts() if one.txid not in dead]
        if version.vault == FIRST:
            if any(one != FIRST for one in self._vaults):
                raise NotContinued("vault", "none", f"one after {self._vaults[-1]}")
            for one in firsts:
                if not set(one.inputs) & set(version.inputs):
                    raise NotContinued("first round", version.txid, f"one that shares an input with {one.txid}")
        elif self._vaults and version.vault not in self._vaults:
            self._check_follows(version.vault, walk, firsts)
        same = [one for one in self.versions(version.vault) if one.signed]
        if same:
            self._check_patience(version, same, bump_blocks)

    def record(self, version: Version) -> None:
        """Write a version down; returns once it is on disk, and only then may a signature leave.

        Raises:
            ProtectionFault: the disk does not take it.
        """
        known = next((one for one in self._versions if one.txid == version.txid), None)
        if known is not None:
            version = replace(known, signed=known.signed or version.signed, raw=known.raw or version.raw)
        self._put(version)

    def mark_seen(self, txid: str) -> None:
        """Note that Bitcoin has a version."""
        known = next((one for one in self._versions if one.txid == txid), None)
        if known is not None and not known.seen:
            self._put(replace(known, seen=True))

    def close(self) -> None:
        """Let another process have it."""
        self._lock.close()

    def _firsts(self) -> list[Version]:
        return [one for one in self._versions if one.vault == FIRST and one.signed]

    def _check_follows(self, vault: str, walk: Walk, firsts: list[Version]) -> None:
        own = {one for one in self._vaults if one != FIRST}
        if not own and not firsts:
            return
        for inputs in walk(read_outpoint(vault)):
            if own.intersection(inputs):
                return
            if not own and firsts and all(set(one.inputs) & set(inputs) for one in firsts):
                return
        raise NotContinued("vault", vault, f"one that follows from {self._vaults[-1] or 'the first round'}")

    @staticmethod
    def _check_patience(version: Version, same: list[Version], bump_blocks: int) -> None:
        last = same[-1]
        if _stands_in(version, last):
            return
        if version.height < (due := last.height + bump_blocks):
            raise AnotherRound(f"Bitcoin height, {last.txid} being signed", version.height, f"at least {due}")
        for one, after in zip(same, [*same[1:], version], strict=True):
            if _stands_in(after, one) and after is not version:
                continue  # what stood in for it is looked at itself
            if one.leader == version.leader and not one.seen and version.height < one.height + _WITHHELD * bump_blocks:
                raise RoundWithheld(f"round {one.txid} of the same leader", "not sent", "seen on Bitcoin")

    def _put(self, version: Version) -> None:
        vaults = self._vaults
        if version.signed and version.vault not in vaults:
            vaults = (*vaults, version.vault)[-_KEPT_VAULTS:]
        kept = [one for one in self._versions if one.txid != version.txid]
        at = next((at for at, one in enumerate(self._versions) if one.txid == version.txid), len(kept))
        versions = (*kept[:at], version, *kept[at:])
        spare = len(versions) - _KEPT_ROUNDS
        if spare > 0:  # what was not signed goes first; first rounds stay until there is a vault
            droppable = [one for one in versions if one.txid != version.txid and self._may_forget(one, vaults)]
            droppable.sort(key=lambda one: one.signed)
            gone = {one.txid for one in droppable[:spare]}
            versions = tuple(one for one in versions if one.txid not in gone)
        try:
            _write(self._path, vaults, versions)
        except OSError as error:
            raise ProtectionFault(f"{self._path}: {error.strerror}") from error
        self._vaults, self._versions = vaults, versions

    @staticmethod
    def _may_forget(one: Version, vaults: tuple[str, ...]) -> bool:
        return not one.signed or one.vault != FIRST or any(vault != FIRST for vault in vaults)


def _stands_in(version: Version, last: Version) -> bool:
    """Whether a version by k signatures takes the place of one that all should have signed together.

    Once for each, by the same leader and no dearer, it need not wait: who gave a part cannot know whether the others
    did, so waiting would let any one signer hold up every payment. Both spend the same coin: one of them is mined.
    """
    same = (last.path, version.path) == (SpendPath.KEY.value, SpendPath.SCRIPT.value) and last.leader == version.leader
    return same and version.rate <= last.rate and not last.seen


def read_list(bitcoin: Bitcoin) -> Walk:
    """The list of vault transactions, as a signer's bitcoind has it."""

    def walk(vault: Outpoint) -> Iterator[tuple[str, ...]]:
        place = vault
        for _ in range(_WALK):
            made = bitcoin.load_transaction(place.txid)
            if made is None or made.is_coinbase:
                return
            spent = inputs_of(made)
            yield tuple(map(show_outpoint, spent))
            place = spent[0]
            if place.index:
                return

    return walk


def show_outpoint(place: Outpoint | None) -> str:
    """`txid:index` as people write it; `FIRST` for none."""
    return FIRST if place is None else str(place)


def read_outpoint(text: str) -> Outpoint:
    """Back from `show_outpoint`."""
    txid, _, index = text.partition(":")
    return Outpoint(bytes.fromhex(txid)[::-1], int(index))


def show_txid(txid: bytes) -> str:
    """As people write it."""
    return show_hash(txid)


def _load(path: Path) -> tuple[tuple[str, ...], tuple[Version, ...]]:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return (), ()
    if raw["version"] != _VERSION:
        raise ValueError(f"version {raw['version']}, this program reads {_VERSION}")
    vaults = tuple(str(one) for one in raw["vaults"])
    for one in vaults:
        if one != FIRST:
            read_outpoint(one)
    versions = tuple(Version(**{**one, "inputs": tuple(one["inputs"])}) for one in raw["versions"])
    if {one.vault for one in versions if one.signed} - set(vaults):
        raise ValueError("a signed round of a vault that is not listed")
    return vaults, versions


def _write(path: Path, vaults: tuple[str, ...], versions: tuple[Version, ...]) -> None:
    content = {"version": _VERSION, "vaults": vaults, "versions": [asdict(one) for one in versions]}
    replace_durably(path, json.dumps(content, indent=1))
