"""Who holds the vault next: an announcement, who has to sign it, and what may change at once.

k of the present signers name the next set, one key at a time, and it takes over after a public notice. Once the vault
has lain still for `emergency_blocks`, k of the council name anyone, without notice, for their own spend of that output.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Self

from btclib_ecc.hashes import tagged_hash

from bridge.errors import TransactionMalformed
from bridge.peg_errors import (
    AnnouncementExpired,
    AnnouncementMalformed,
    BadSignature,
    RotationRefused,
    SignaturesMissing,
    VaultNotStill,
)
from bridge.peg_state import PegState
from bridge.rules import PegRules
from bridge.scripts import MAX_SIGNERS, Custody, SignerSet
from bridge.taproot import SIGNATURE_BYTES, check_signature
from bridge.transactions import Reader

ANNOUNCEMENT_VERSION: Final = 1
MAX_ANNOUNCED: Final = 8
"""Announcements that wait at once, each in the place of the one before; as many of the council's."""
MAX_ANNOUNCEMENT_BYTES: Final = 4_096
"""40 keys, a common one, 20 signatures, and room."""
_TAG: Final = b"hyperdust/custody"
_KEYS_CHANGED_AT_ONCE: Final = 1
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Announcement:
    """A custody that somebody wants, and the signatures of those who decide."""

    epoch: int
    """Of the new custody: the next free one, so that each announcement counts once."""
    signers: SignerSet
    council: SignerSet
    valid_until: int
    """Bitcoin height of the last origin that takes it: what nobody hands in ends by itself."""
    by_council: bool = False
    """Signed by the council, else by the signers that hold the vault."""
    signatures: tuple[tuple[int, bytes], ...] = ()
    """Place of the key in its set, ascending, and 64 bytes (BIP-340) over `digest`."""

    @property
    def custody(self) -> Custody:
        """What it announces; the state adds from when on."""
        return Custody(self.epoch, self.signers, self.council)

    def digest(self, chain_id: int) -> bytes:
        """What is signed: the chain, and everything but the signatures."""
        return tagged_hash(_TAG, chain_id.to_bytes(8, "little") + self._encode_unsigned())

    def encode(self) -> bytes:
        """Version 1, by council 1, epoch 3, valid until 4, signers, council, count 1, each: place 1, signature 64."""
        parts = [bytes([at]) + signature for at, signature in self.signatures]
        return b"".join((self._encode_unsigned(), bytes([len(parts)]), *parts))

    def _encode_unsigned(self) -> bytes:
        numbers = self.epoch.to_bytes(3, "little") + self.valid_until.to_bytes(4, "little")
        head = bytes([ANNOUNCEMENT_VERSION, self.by_council]) + numbers
        return head + _encode_set(self.signers) + _encode_set(self.council)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read exactly one.

        Raises:
            AnnouncementMalformed: none, or not in its one encoding.
        """
        if len(raw) > MAX_ANNOUNCEMENT_BYTES:
            raise AnnouncementMalformed("announcement", f"{len(raw)} bytes, at most {MAX_ANNOUNCEMENT_BYTES}")
        reader = Reader(raw)
        try:
            if (version := reader.number(1)) != ANNOUNCEMENT_VERSION:
                raise AnnouncementMalformed("announcement", f"version {version}")
            by_council = _read_flag(reader)
            epoch, valid_until = reader.number(3), reader.number(4)
            signers, council = _read_set(reader), _read_set(reader)
            signatures = tuple((reader.number(1), reader.take(SIGNATURE_BYTES)) for _ in range(_read_count(reader)))
            reader.end()
        except TransactionMalformed as error:
            raise AnnouncementMalformed("announcement", str(error)) from error
        if any(left >= right for left, right in pairwise(at for at, _ in signatures)):
            raise AnnouncementMalformed("announcement", "signatures are not in the order of keys, each once")
        return cls(epoch, signers, council, valid_until, by_council, signatures)


def deciders_of(state: PegState, *, by_council: bool) -> SignerSet:
    """Whose signatures an announcement needs."""
    return state.custody.council if by_council else state.custody.signers


def check_terms(state: PegState, announcement: Announcement, height: int, rules: PegRules) -> Custody:
    """Check everything but the signatures at an origin's height; the custody as the state will hold it.

    Raises:
        PegFrozen: nothing is announced while it is.
        AnnouncementExpired: nobody handed it in in time.
        And the rules of `make_successor`.
    """
    state.check_running()
    if height > announcement.valid_until:
        raise AnnouncementExpired("origin's height", height, f"at most {announcement.valid_until}")
    return make_successor(state, announcement.custody, height, rules, by_council=announcement.by_council)


def apply_announcement(state: PegState, announcement: Announcement, height: int, rules: PegRules) -> PegState:
    """Take an announcement in, in a block whose origin has that height.

    Raises:
        SignaturesMissing, BadSignature: not k of those who decide.
        And the rules of `check_terms`.
    """
    successor = check_terms(state, announcement, height, rules)
    deciders = deciders_of(state, by_council=announcement.by_council)
    if len(announcement.signatures) != deciders.threshold:
        text = f"exactly {deciders.threshold} of {len(deciders.keys)}"
        raise SignaturesMissing("signatures of the announcement", len(announcement.signatures), text)
    message = announcement.digest(rules.chain_id)
    for at, signature in announcement.signatures:
        if at >= len(deciders.keys):
            raise BadSignature("place of a key", at, f"below {len(deciders.keys)}")
        check_signature(deciders.keys[at], message, signature)
    return replace(state, custodies=(*state.custodies, successor))


def announce_custody(
    state: PegState, custody: Custody, height: int, rules: PegRules, *, by_council: bool = False
) -> PegState:
    """Announce a custody at a Bitcoin height as if those who decide had signed.

    Raises:
        The rules of `make_successor`.
    """
    successor = make_successor(state, custody, height, rules, by_council=by_council)
    return replace(state, custodies=(*state.custodies, successor))


def make_successor(
    state: PegState, custody: Custody, height: int, rules: PegRules, *, by_council: bool = False
) -> Custody:
    """The next custody with what the state adds to it, if it may follow the present one.

    By the signers: in the place of one that waits, if there is one; its notice starts anew.

    Raises:
        RotationRefused: another epoch than the next free one, more than one key changes, nothing does, too many wait.
        VaultNotStill: the council's time has not come.
        SignerSetInvalid: it can hold nothing.
    """
    custody.signers.check()
    custody.council.check()
    present, waiting = state.custody, state.rescuers if by_council else state.announced
    if custody.epoch != (free := len(state.custodies)):
        raise RotationRefused("epoch", custody.epoch, f"{free}, the next free one")
    if len(waiting) >= MAX_ANNOUNCED:
        raise RotationRefused("announcements that wait", len(waiting), f"below {MAX_ANNOUNCED}")
    _check_change("council", present.council, custody.council)
    if custody.council.group_key:
        raise RotationRefused("council's common key", custody.council.group_key, "none: its leaf asks for k signatures")
    if by_council:
        return replace(custody, starts_at=height, named_by=present.epoch, rescues=_still_vault(state, height, rules))
    _check_change("signers", present.signers, custody.signers)
    if not waiting and (custody.signers, custody.council) == (present.signers, present.council):
        raise RotationRefused("change", "none", "one, or an announcement to take back")
    return replace(custody, starts_at=height + rules.notice_blocks, named_by=present.epoch, rescues=b"")


def choose_signatures(deciders: SignerSet, found: Mapping[bytes, bytes]) -> tuple[tuple[int, bytes], ...]:
    """The first k signatures in the order of keys, as an announcement carries them; `found` is by key."""
    chosen = [(at, found[key]) for at, key in enumerate(deciders.keys) if key in found]
    return tuple(chosen[: deciders.threshold])


def _still_vault(state: PegState, height: int, rules: PegRules) -> bytes:
    if (vault := state.vault) is None:
        raise VaultNotStill(0, rules.emergency_blocks)
    if (still := height - vault.height) < rules.emergency_blocks:
        raise VaultNotStill(still, rules.emergency_blocks)
    return vault.txid


def _check_change(who: str, before: SignerSet, after: SignerSet) -> None:
    """One key joins, leaves, or takes another's place; the threshold moves by one at most."""
    gone = sum(key not in after.keys for key in before.keys)
    new = sum(key not in before.keys for key in after.keys)
    if max(gone, new) > _KEYS_CHANGED_AT_ONCE:
        raise RotationRefused(f"{who}: keys changed", max(gone, new), f"at most {_KEYS_CHANGED_AT_ONCE}")
    if abs(after.threshold - before.threshold) > _KEYS_CHANGED_AT_ONCE:
        raise RotationRefused(f"{who}: threshold", after.threshold, f"{before.threshold}, or one more or less")


def _encode_set(keys: SignerSet) -> bytes:
    group = bytes([1]) + keys.group_key if keys.group_key else b"\x00"
    return b"".join((bytes([keys.threshold, len(keys.keys)]), *keys.keys, group))


def _read_set(reader: Reader) -> SignerSet:
    threshold = reader.number(1)
    keys = tuple(reader.take(_KEY_BYTES) for _ in range(_read_count(reader)))
    return SignerSet(threshold, keys, reader.take(_KEY_BYTES) if _read_flag(reader) else b"")


def _read_count(reader: Reader) -> int:
    if (count := reader.number(1)) > MAX_SIGNERS:
        raise AnnouncementMalformed("announcement", f"{count} keys or signatures, at most {MAX_SIGNERS}")
    return count


def _read_flag(reader: Reader) -> bool:
    if (flag := reader.number(1)) > 1:
        raise AnnouncementMalformed("announcement", f"flag {flag}")
    return bool(flag)
