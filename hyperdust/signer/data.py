"""Which payload of blocks an anchor may name: it lies deep on Bitcoin, and it and those before it hold this chain.

A rebuild follows the data roots of anchors and stops where one leads nowhere, so a signer looks for itself: from the
payload that an earlier anchor named, or from block 1, each next one follows, and every block in them is its node's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bridge.anchors import NO_DATA, find_anchor
from bridge.batch import BatchHead, LoadBody, read_batch, read_head, rebuild_block
from bridge.data import find_payload
from bridge.peg_errors import AnchorMalformed
from bridge.peg_state import PegState
from bridge.rules import PegRules
from bridge.scripts import vault_output
from bridge.work import show_hash
from chain.blocks import Block, Header, decode_block, encode_body
from chain.errors import Invalid
from hyperdust.signer.errors import DataDiffers, DataUnknown
from hyperdust.signer.proposal import PayloadPlace
from hyperdust.signer.sources import Bitcoin, Node

_WALK: Final = 2_016
"""Vault transactions in which the last anchor with data is looked for: 84 days of a round an hour."""
_KEPT: Final = 4_096


@dataclass(slots=True)
class Known:
    """What was found out before; answers are the same without it. Safe from any thread."""

    checked: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    """Of batches whose blocks are this chain's: last block, by root before them and their own last root."""
    bases: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    """By a vault's transaction: the last data root that an anchor up to it names, and the vault transaction."""


@dataclass(frozen=True, slots=True)
class DataView:
    """Where a signer looks for payloads."""

    node: Node
    bitcoin: Bitcoin
    rules: PegRules
    depth: int
    """Confirmations of a payload before an anchor names it."""
    known: Known


def check_data(root: bytes, places: Sequence[PayloadPlace], state: PegState, number: int, view: DataView) -> None:
    """Check what an anchor of block `number` says of data; none at all is always right.

    Raises:
        DataUnknown: a payload is not on this signer's bitcoind, or not deep enough.
        DataDiffers: other blocks than those of this signer's node, a gap, or no way from what was anchored before.
    """
    if root == NO_DATA and not places:
        return
    base, _ = find_base(state, view)
    if root == base and not places:
        return
    if not places or places[-1].root != root:
        raise DataDiffers("payloads that lead to the data root", len(places), f"some, the last one {root.hex()}")
    before, last, rest = NO_DATA, 0, tuple(places)
    if base != NO_DATA and places[0].root == base:
        before, last, rest = base, head_of(places[0], view).last, rest[1:]
    while rest:
        parts = head_of(rest[0], view).parts
        last = check_batch(before, last, rest[:parts], number, view)
        before, rest = rest[:parts][-1].root, rest[parts:]


def check_batch(before: bytes, last: int, batch: Sequence[PayloadPlace], number: int, view: DataView) -> int:
    """Check the payloads of one batch, which follow the one of root `before` and block `last`; gives their last block.

    Raises:
        DataUnknown, DataDiffers: as `check_data`.
    """
    known = before, batch[-1].root
    if (found := view.known.checked.get(known)) is not None and found <= number:
        for place in batch:
            _check_depth(place, view)
        return found
    head = head_of(batch[0], view)
    if (head.previous, head.first) != (before, last + 1) or head.last > number:
        got = f"blocks {head.first} to {head.last} after {head.previous.hex()}"
        raise DataDiffers("payload", got, f"from {last + 1} to at most {number}, after {before.hex()}")
    _check_blocks([load_payload(place, view) for place in batch], head, view.node)
    if len(view.known.checked) >= _KEPT:
        view.known.checked.clear()
    view.known.checked[known] = head.last
    return head.last


def find_base(state: PegState, view: DataView) -> tuple[bytes, bytes]:
    """The last data root that an anchor of the vault's list names, and the transaction that does; zeros for none."""
    if state.vault is None:
        return NO_DATA, NO_DATA
    known, found = view.known.bases, (NO_DATA, NO_DATA)
    scripts = {vault_output(one, view.rules).script for one in state.custodies}
    txid, passed = state.vault.txid, list[bytes]()
    while len(passed) < _WALK:
        if (before := known.get(txid)) is not None:
            found = before
            break
        made = view.bitcoin.load_transaction(txid)
        if made is None:
            return found  # looked for again: bitcoind may still be reading
        if made.outputs[0].script not in scripts:
            break  # the list begins with deposits
        passed.append(txid)
        try:
            anchor = find_anchor(made)
        except AnchorMalformed:
            anchor = None
        if anchor is not None and anchor.data_root != NO_DATA:
            found = anchor.data_root, txid
            break
        if made.inputs[0].index:
            break
        txid = made.inputs[0].txid
    if len(known) >= _KEPT:
        known.clear()
    known.update(dict.fromkeys(passed[:1], found))
    return found


def head_of(place: PayloadPlace, view: DataView) -> BatchHead:
    """What stands in front of a payload.

    Raises:
        DataUnknown, DataDiffers: it is not there, or none of blocks.
    """
    payload = load_payload(place, view)
    try:
        return read_head(payload)
    except Invalid as error:
        raise DataDiffers(f"payload {place.root.hex()}", str(error), "blocks") from error


def load_payload(place: PayloadPlace, view: DataView) -> bytes:
    """A payload that lies deep on this signer's bitcoind.

    Raises:
        DataUnknown: it does not.
    """
    _check_depth(place, view)
    made = view.bitcoin.load_transaction(place.txid)
    payload = None if made is None else find_payload(made, place.root)
    if payload is None:
        raise DataUnknown(f"payload {place.root.hex()}", f"none in {show_hash(place.txid)}", "one")
    return payload


def _check_depth(place: PayloadPlace, view: DataView) -> None:
    mined = view.bitcoin.load_mined(place.txid)
    depth = 0 if mined is None else view.bitcoin.load_height() - mined.height + 1
    if depth < view.depth:
        raise DataUnknown(f"confirmations of payload {place.root.hex()}", depth, f"at least {view.depth}")


def _check_blocks(payloads: Sequence[bytes], head: BatchHead, node: Node) -> None:
    own: dict[int, bytes] = {}

    def load(number: int) -> bytes:
        if number not in own:
            own[number] = node.load_block(number)
        return own[number]

    def load_body(number: int) -> bytes | None:
        return None if number < 0 else encode_body(decode_block(load(number)).body)

    parent = decode_block(load(head.first - 1)).header
    if parent.hash != head.parent:
        raise DataDiffers(f"block {head.first - 1}", head.parent, parent.hash)
    for number, block in enumerate(_rebuild(payloads, head, parent, load_body), head.first):
        if block.encode() != load(number):
            raise DataDiffers(f"block {number}", block.header.hash, "the block of this signer's node")


def _rebuild(payloads: Sequence[bytes], head: BatchHead, parent: Header, load_body: LoadBody) -> Iterator[Block]:
    try:
        batch = read_batch(payloads)
        for index in range(head.count):
            block = rebuild_block(batch, index, parent, load_body)
            parent = block.header
            yield block
    except Invalid as error:
        raise DataDiffers(f"payload of blocks {head.first} to {head.last}", str(error), "blocks") from error
