"""Who holds the vault, who is announced, which clocks run; and what an announcement would change."""

from dataclasses import dataclass, replace
from typing import Any, Final

from bridge.custody import Announcement
from bridge.peg_state import PegState
from bridge.scripts import Custody, SignerSet
from bridge.taproot import is_key
from bridge.work import show_hash
from hyperdust.bridging.addresses import show_sats
from hyperdust.bridging.errors import PaperRefused
from hyperdust.bridging.papers import show_set
from hyperdust.bridging.terms import Terms
from hyperdust.signer.musig import aggregate_key

_PREFIX: Final = 8


@dataclass(frozen=True, slots=True)
class Change:
    """What a person wants to be another; None: as it is."""

    replace: tuple[str, str] | None = None
    """Old key or the start of it, new key."""
    add: str | None = None
    remove: str | None = None
    threshold: int | None = None
    council_replace: tuple[str, str] | None = None
    council_threshold: int | None = None
    keys: tuple[str, ...] = ()
    """All signers anew: for the council, which answers for the loss of all."""
    group_key: str | None = None
    """A common key of k, made by a ceremony (FROST)."""
    shares_key: bool = True
    """Whether the common key is BIP-327's aggregate of all, where none is given."""
    by_council: bool = False
    takes_back: bool = False
    """The present set once more: what was announced is taken back."""


def propose(terms: Terms, change: Change, valid_blocks: int) -> Announcement:
    """An announcement without signatures; the chain's rules are for `papers.check_announcement`.

    Raises:
        PaperRefused: it names keys that are none, or that are not there.
    """
    present = terms.state.custody
    signers = present.signers if change.takes_back else _change_signers(present.signers, change)
    council = present.council
    if change.council_replace is not None:
        council = replace(council, keys=_replace(council.keys, *change.council_replace))
    if change.council_threshold is not None:
        council = replace(council, threshold=change.council_threshold)
    until = terms.height + valid_blocks
    return Announcement(len(terms.state.custodies), signers, council, until, change.by_council)


def _change_signers(present: SignerSet, change: Change) -> SignerSet:
    keys = present.keys
    if change.keys:
        keys = tuple(sorted(map(parse_key, change.keys)))
    if change.replace is not None:
        keys = _replace(keys, *change.replace)
    if change.add is not None:
        keys = _with(keys, parse_key(change.add))
    if change.remove is not None:
        gone = _find(keys, change.remove)
        keys = tuple(key for key in keys if key != gone)
    threshold = present.threshold if change.threshold is None else change.threshold
    if change.group_key is not None:
        group = parse_key(change.group_key)
    elif change.shares_key and keys == present.keys:
        group = present.group_key
    else:
        group = aggregate_key(keys) if change.shares_key and keys else b""
    return SignerSet(threshold, keys, group)


def parse_key(text: str) -> bytes:
    """An x-only public key in hex.

    Raises:
        PaperRefused: none.
    """
    try:
        key = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        key = b""
    if not is_key(key):
        raise PaperRefused(f"{text!r} is no public key: 64 hex digits, as `hyperdust custody key` prints them")
    return key


def _replace(keys: tuple[bytes, ...], old: str, new: str) -> tuple[bytes, ...]:
    gone = _find(keys, old)
    return _with(tuple(key for key in keys if key != gone), parse_key(new))


def _with(keys: tuple[bytes, ...], key: bytes) -> tuple[bytes, ...]:
    if key in keys:
        raise PaperRefused(f"key {key.hex()} stands in the set already")
    return tuple(sorted((*keys, key)))


def _find(keys: tuple[bytes, ...], start: str) -> bytes:
    bare = start.removeprefix("0x").lower()
    found = [key for key in keys if key.hex().startswith(bare)] if len(bare) >= _PREFIX else []
    if len(found) != 1:
        those = ", ".join(key.hex() for key in keys)
        raise PaperRefused(f"{start!r} names none of the set, or not one alone ({_PREFIX} digits at least): {those}")
    return found[0]


# --- shown


def describe_change(state: PegState, announcement: Announcement) -> list[str]:
    """What would be another, for who is asked to sign."""
    present = state.custody
    head = "the council names" if announcement.by_council else "the signers announce"
    lines = [f"{head} epoch {announcement.epoch}, in the place of epoch {present.epoch}"]
    lines += _describe_set("signers", present.signers, announcement.signers)
    lines += _describe_set("council", present.council, announcement.council)
    if len(lines) == 1:
        lines.append("  nothing changes: what was announced is taken back")
    if state.announced and not announcement.by_council:
        lines.append(f"  replaces the announced epoch {state.announced[-1].epoch}; its notice starts anew")
    lines.append(f"  taken in until Bitcoin height {announcement.valid_until}")
    return lines


def _describe_set(name: str, before: SignerSet, after: SignerSet) -> list[str]:
    lines = [f"  {name}: out  {key.hex()}" for key in before.keys if key not in after.keys]
    lines += [f"  {name}: in   {key.hex()}" for key in after.keys if key not in before.keys]
    if (before.threshold, len(before.keys)) != (after.threshold, len(after.keys)):
        lines.append(f"  {name}: {_of(before)} becomes {_of(after)}")
    if before.group_key != after.group_key:
        lines.append(f"  {name}: common key {after.group_key.hex() or 'none'}")
    return lines


def _of(keys: SignerSet) -> str:
    return f"{keys.threshold} of {len(keys.keys)}"


def show_custody(terms: Terms) -> dict[str, Any]:
    """As `custody show --json` prints it; heights and blocks are Bitcoin's."""
    state, rules, height = terms.state, terms.rules, terms.height
    vault, announced = state.vault, state.announced
    return {
        "bitcoin_height": height,
        "origin_height": terms.origin_height,
        "frozen": terms.frozen,
        "surplus_sats": state.surplus_sats,
        "vault": None
        if vault is None
        else {"outpoint": f"{show_hash(vault.txid)}:0", "height": vault.height, "sats": vault.sats},
        "present": _show_custody(state.custody),
        "announced": _show_announced(terms, announced[-1]) if announced else None,
        "replaced": [one.epoch for one in announced[:-1]],
        "named_by_council": [_show_custody(one) for one in state.rescuers],
        "takeover_due": state.is_takeover_due(height, rules),
        "refresh": _clock(None if vault is None else vault.height + rules.emergency_blocks // 2, height),
        "emergency": _clock(None if vault is None else vault.height + rules.emergency_blocks, height),
    }


def _show_custody(custody: Custody) -> dict[str, Any]:
    return {"epoch": custody.epoch, "signers": show_set(custody.signers), "council": show_set(custody.council)}


def _show_announced(terms: Terms, custody: Custody) -> dict[str, Any]:
    margin = terms.rules.takeover_margin_blocks
    return _show_custody(custody) | {
        "may_hold": _clock(custody.starts_at, terms.height),
        "handed_over": _clock(custody.starts_at + margin, terms.height),
    }


def _clock(at: int | None, height: int) -> dict[str, int] | None:
    return None if at is None else {"height": at, "blocks": max(0, at - height)}


def describe_custody(terms: Terms) -> str:
    """The same for people."""
    state, shown = terms.state, show_custody(terms)
    vault = state.vault
    where = "there is no vault yet" if vault is None else f"vault of {show_sats(vault.sats)} since {vault.height}"
    lines = [f"present    epoch {state.custody.epoch}, {_of(state.custody.signers)} signers, {where}"]
    lines += [f"             {key.hex()}" for key in state.custody.signers.keys]
    if state.custody.signers.group_key:
        lines.append(f"             common key {state.custody.signers.group_key.hex()}")
    lines.append(f"council    {_of(state.custody.council)}")
    lines += [f"             {key.hex()}" for key in state.custody.council.keys]
    if state.announced:
        following = state.announced[-1]
        lines.append(
            f"announced  epoch {following.epoch}: may hold the vault in {shown['announced']['may_hold']['blocks']} "
            f"blocks, handed over in {shown['announced']['handed_over']['blocks']}"
        )
        lines += _describe_set("signers", state.custody.signers, following.signers)
        lines += _describe_set("council", state.custody.council, following.council)
    else:
        lines.append("announced  nobody")
    if shown["replaced"]:
        lines.append(f"replaced   epochs {', '.join(map(str, shown['replaced']))}")
    for one in state.rescuers:
        lines.append(f"rescue     the council has named epoch {one.epoch}, {_of(one.signers)}, for the vault of now")
    if vault is not None:
        lines.append(f"refresh    in {shown['refresh']['blocks']} blocks the signers move the vault, whatever is due")
        lines.append(f"emergency  in {shown['emergency']['blocks']} blocks the council may")
    lines.append(f"surplus    {show_sats(max(0, state.surplus_sats))}: pays a move that nobody else pays")
    if terms.frozen is not None:
        lines.append(f"warning    the peg is frozen ({terms.frozen}): nothing is announced or handed over")
    return "\n".join(lines)
