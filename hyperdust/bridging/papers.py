"""Papers that change who holds the vault: files passed around until k have signed; each reader builds it anew.

Two kinds: an announcement (`bridge.custody`), which a block takes in, and the council's spend (`bridge.rescue`), which
Bitcoin does. What is signed is built anew from the node's state by whoever signs or hands in.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import coincurve
from eth_account.signers.local import LocalAccount

from bridge.custody import Announcement, apply_announcement, check_terms, choose_signatures, deciders_of
from bridge.peg_codec import decode_state
from bridge.peg_errors import BadSignature
from bridge.rescue import Rescue, build_rescue
from bridge.scripts import SignerSet
from bridge.taproot import check_signature
from bridge.transactions import Transaction
from bridge.work import show_hash
from chain.errors import Invalid, NotYet
from consensus.evidence import encode_evidence_item
from hyperdust.bridging.errors import PaperDamaged, PaperRefused
from hyperdust.bridging.terms import Terms, ask_peg
from hyperdust.durable import create_durably, replace_durably
from hyperdust.rpc_client import RpcClient

_VERSION: Final = 1
_ANNOUNCEMENT: Final = "announcement"
_RESCUE: Final = "rescue"
_MAX_BYTES: Final = 64 * 1024
_WHAT: Final = {
    _ANNOUNCEMENT: "who holds the vault next; `hyperdust custody sign FILE` adds a signature, `submit` hands it in",
    _RESCUE: "the council's spend of the vault; `hyperdust custody emergency FILE` adds a signature, --send sends it",
}


@dataclass(frozen=True, slots=True)
class AnnouncementPaper:
    """An announcement on its way to k signatures."""

    chain_id: int
    announcement: Announcement
    """Without signatures."""
    signatures: Mapping[bytes, bytes] = field(default_factory=dict)
    """By x-only key; not checked yet."""

    @property
    def digest(self) -> bytes:
        """What is signed."""
        return self.announcement.digest(self.chain_id)

    def as_json(self) -> dict[str, Any]:
        """The file's content, and what commands print."""
        one = self.announcement
        return {
            "version": _VERSION,
            "kind": _ANNOUNCEMENT,
            "what": _WHAT[_ANNOUNCEMENT],
            "chain_id": self.chain_id,
            "by": "council" if one.by_council else "signers",
            "epoch": one.epoch,
            "valid_until": one.valid_until,
            "signers": show_set(one.signers),
            "council": show_set(one.council),
            "signatures": _show_signatures(self.signatures),
        }


@dataclass(frozen=True, slots=True)
class RescuePaper:
    """The council's spend on its way to k signatures."""

    chain_id: int
    rate: int
    """Sat per 1,000 vB: with the chain's state it says every byte."""
    txid: bytes
    """Of what was signed."""
    signatures: Mapping[bytes, bytes] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "version": _VERSION,
            "kind": _RESCUE,
            "what": _WHAT[_RESCUE],
            "chain_id": self.chain_id,
            "rate": self.rate,
            "txid": show_hash(self.txid),
            "signatures": _show_signatures(self.signatures),
        }


def show_set(keys: SignerSet) -> dict[str, Any]:
    """A signer set as files and answers write it."""
    return {
        "threshold": keys.threshold,
        "keys": ["0x" + key.hex() for key in keys.keys],
        "group_key": "0x" + keys.group_key.hex() if keys.group_key else None,
    }


def create_paper(path: Path, paper: AnnouncementPaper | RescuePaper) -> None:
    """Write a new file; one that is there may hold signatures, and is never replaced.

    Raises:
        PaperRefused: it is there.
    """
    try:
        create_durably(path, _text(paper))
    except FileExistsError as error:
        raise PaperRefused(f"{path} is there already; choose another name, it may hold signatures") from error


def keep_paper(path: Path, paper: AnnouncementPaper | RescuePaper) -> None:
    """Write a file anew with what was added to it."""
    replace_durably(path, _text(paper))


def load_announcement(path: Path) -> AnnouncementPaper:
    """Read an announcement's file.

    Raises:
        PaperDamaged: none.
    """
    raw = _load(path, _ANNOUNCEMENT)
    try:
        announcement = Announcement(
            int(raw["epoch"]),
            _read_set(raw["signers"]),
            _read_set(raw["council"]),
            int(raw["valid_until"]),
            {"signers": False, "council": True}[raw["by"]],
        )
        paper = AnnouncementPaper(int(raw["chain_id"]), announcement, _read_signatures(raw["signatures"]))
        if Announcement.decode(announcement.encode()) != announcement or not paper.digest:
            raise PaperDamaged(f"{path} names numbers or keys out of their bounds")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, Invalid) as error:
        raise PaperDamaged(f"{path} is no announcement that can be read: {error!r}") from error
    return paper


def load_rescue(path: Path) -> RescuePaper:
    """Read the file of the council's spend.

    Raises:
        PaperDamaged: none.
    """
    raw = _load(path, _RESCUE)
    try:
        txid = bytes.fromhex(raw["txid"])[::-1]
        return RescuePaper(int(raw["chain_id"]), int(raw["rate"]), txid, _read_signatures(raw["signatures"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PaperDamaged(f"{path} is no council's spend that can be read: {error!r}") from error


# --- announcements


def check_announcement(terms: Terms, paper: AnnouncementPaper) -> SignerSet:
    """Check that a block could take it in once it is signed; who has to sign.

    Raises:
        PaperRefused: another chain's, or by the rule that it breaks.
    """
    _check_chain(terms, paper.chain_id)
    try:
        check_terms(terms.state, paper.announcement, origin_of(terms), terms.rules)
    except (Invalid, NotYet) as error:
        raise PaperRefused(f"the chain would not take this in: {error}") from error
    return deciders_of(terms.state, by_council=paper.announcement.by_council)


def sign_announcement(terms: Terms, paper: AnnouncementPaper, account: LocalAccount) -> AnnouncementPaper:
    """With one signature more.

    Raises:
        PaperRefused: the key has no say, or the rules of `check_announcement`.
    """
    deciders = check_announcement(terms, paper)
    return replace(paper, signatures=_sign(paper.signatures, deciders, paper.digest, account))


def complete_announcement(terms: Terms, paper: AnnouncementPaper) -> bytes:
    """The item that a block carries.

    Raises:
        PaperRefused: signatures are missing or wrong, or the rules of `check_announcement`.
    """
    deciders = check_announcement(terms, paper)
    good = _good(paper.signatures, deciders, paper.digest)
    _check_enough(good, deciders)
    signed = replace(paper.announcement, signatures=choose_signatures(deciders, good))
    try:
        apply_announcement(terms.state, signed, origin_of(terms), replace(terms.rules, chain_id=terms.chain_id))
    except (Invalid, NotYet) as error:
        raise PaperRefused(f"the chain would not take this in: {error}") from error
    return encode_evidence_item(signed)


# --- the council's spend


def plan_rescue(terms: Terms, rate: int) -> Rescue:
    """The council's spend as the node's state has it.

    Raises:
        PaperRefused: by the rule that it would break.
    """
    try:
        return build_rescue(terms.state, rate, terms.rules)
    except (Invalid, NotYet) as error:
        raise PaperRefused(f"there is nothing for the council to sign: {error}") from error


def check_rescue(terms: Terms, paper: RescuePaper) -> Rescue:
    """What a file is about, built anew.

    Raises:
        PaperRefused: another chain's, or the vault, its new signers or the rate are others now.
    """
    _check_chain(terms, paper.chain_id)
    rescue = plan_rescue(terms, paper.rate)
    if rescue.transaction.txid != paper.txid:
        raise PaperRefused(
            f"the file is about {show_hash(paper.txid)}, and by the chain's state of now the council's spend is "
            f"{show_hash(rescue.transaction.txid)}: the vault moved, or others were named; build it anew"
        )
    return rescue


def sign_rescue(terms: Terms, paper: RescuePaper, account: LocalAccount) -> RescuePaper:
    """With one signature more.

    Raises:
        PaperRefused: the key is not of the council, or the rules of `check_rescue`.
    """
    rescue = check_rescue(terms, paper)
    return replace(paper, signatures=_sign(paper.signatures, rescue.council, rescue.sighash, account))


def complete_rescue(terms: Terms, paper: RescuePaper) -> Transaction:
    """The transaction to send.

    Raises:
        PaperRefused: signatures are missing or wrong, or the rules of `check_rescue`.
    """
    rescue = check_rescue(terms, paper)
    good = _good(paper.signatures, rescue.council, rescue.sighash)
    _check_enough(good, rescue.council)
    return rescue.complete(good)


def check_final(client: RpcClient, terms: Terms) -> None:
    """Check that votes made the block final that names whom the vault goes to: a spend nobody was named for freezes.

    Raises:
        PaperRefused: not yet.
    """
    final = ask_peg(client, "hyperdust_finality")["final"]["block"]
    answer = ask_peg(client, "hyperdust_getPegState", hex(final))
    named = decode_state(bytes.fromhex(answer["state"][2:])).rescuers if answer else ()
    if terms.state.rescuers[-1] not in named:
        raise PaperRefused(f"the council's announcement is not in block {final} yet, the last final one; wait a minute")


# --- parts


def origin_of(terms: Terms) -> int:
    """Height of the origin that the next block can have."""
    return max(terms.origin_height or 0, terms.height - terms.rules.origin_depth)


def public_key(account: LocalAccount) -> bytes:
    """x-only, as signer sets list it."""
    return coincurve.PrivateKey(bytes(account.key)).public_key.format()[1:]


def count_signed(paper: AnnouncementPaper | RescuePaper, deciders: SignerSet, message: bytes) -> int:
    """How many of those who decide have signed."""
    return len(_good(paper.signatures, deciders, message))


def _sign(
    signatures: Mapping[bytes, bytes], deciders: SignerSet, message: bytes, account: LocalAccount
) -> dict[bytes, bytes]:
    if (key := public_key(account)) not in deciders.keys:
        those = ", ".join(one.hex()[:16] + "…" for one in deciders.keys)
        raise PaperRefused(f"key {key.hex()} is none of those who decide here: {those}")
    signature = coincurve.PrivateKey(bytes(account.key)).sign_schnorr(message)
    return {**_good(signatures, deciders, message), key: bytes(signature)}


def _good(signatures: Mapping[bytes, bytes], deciders: SignerSet, message: bytes) -> dict[bytes, bytes]:
    """Those that fit; a file passed around may have been changed on its way."""
    good = {}
    for key in deciders.keys:
        if (signature := signatures.get(key)) is not None:
            try:
                check_signature(key, message, signature)
            except BadSignature as error:
                raise PaperRefused(
                    f"the signature of {key.hex()} does not fit what the file says: it was changed after that"
                ) from error
            good[key] = signature
    return good


def _check_enough(good: Mapping[bytes, bytes], deciders: SignerSet) -> None:
    if len(good) < deciders.threshold:
        missing = ", ".join(key.hex()[:16] + "…" for key in deciders.keys if key not in good)
        raise PaperRefused(f"{len(good)} of {deciders.threshold} signatures; not signed by {missing}")


def _check_chain(terms: Terms, chain_id: int) -> None:
    if chain_id != terms.chain_id:
        raise PaperRefused(f"the file is for chain {chain_id}, and the node serves chain {terms.chain_id}")


def _text(paper: AnnouncementPaper | RescuePaper) -> str:
    return json.dumps(paper.as_json(), indent=1) + "\n"


def _load(path: Path, kind: str) -> Any:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        raw = json.loads(text) if len(text) <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise PaperDamaged(f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict) or (raw.get("version"), raw.get("kind")) != (_VERSION, kind):
        raise PaperDamaged(f"{path} is no file of kind {kind!r}, version {_VERSION}")
    return raw


def _show_signatures(signatures: Mapping[bytes, bytes]) -> dict[str, str]:
    return {"0x" + key.hex(): "0x" + signature.hex() for key, signature in sorted(signatures.items())}


def _read_signatures(raw: Any) -> dict[bytes, bytes]:
    return {_bytes(key): _bytes(signature) for key, signature in raw.items()}


def _read_set(raw: Any) -> SignerSet:
    group = raw.get("group_key")
    return SignerSet(int(raw["threshold"]), tuple(map(_bytes, raw["keys"])), _bytes(group) if group else b"")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
