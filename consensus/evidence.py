"""Evidence in a block's body: its items, and what they do to the peg, one after another.

Item: kind 1 ‖ rest. Kind 1: a vault transaction (`bridge.deposits.Evidence`). Kind 2: a claim of a swept output: txid
32 ‖ index u32 ‖ binding 63, little-endian. Kind 3: a custody that is announced (`bridge.custody.Announcement`). What
an item means follows from the peg before it, so no item says it.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from bridge.custody import Announcement, apply_announcement
from bridge.deposits import Claim, Evidence, Outpoint, check_evidence, encode_binding, read_binding
from bridge.errors import TransactionMalformed
from bridge.peg import apply_vault_transaction, claim_sweep
from bridge.peg_errors import EvidenceMalformed
from bridge.peg_repair import confirm_again, follow_origin, restore
from bridge.peg_state import PegState
from bridge.rules import PegRules
from bridge.transactions import Reader
from bridge.view import BitcoinView
from chain.errors import HyperdustError, NodeFault
from consensus.errors import EvidenceRefused

VAULT_TRANSACTION: Final = 1
CLAIM: Final = 2
ANNOUNCEMENT: Final = 3

Item: TypeAlias = Evidence | Claim | Announcement


def encode_evidence_item(item: Item) -> bytes:
    """Canonical bytes."""
    if isinstance(item, Evidence):
        return bytes([VAULT_TRANSACTION]) + item.encode()
    if isinstance(item, Announcement):
        return bytes([ANNOUNCEMENT]) + item.encode()
    outpoint = item.outpoint.txid + item.outpoint.index.to_bytes(4, "little")
    return bytes([CLAIM]) + outpoint + encode_binding(item.binding)


def decode_evidence_item(raw: bytes, rules: PegRules) -> Item:
    """Read exactly one.

    Raises:
        EvidenceMalformed, EvidenceTooLarge, ProofMalformed, AnnouncementMalformed: none, or not in its one encoding.
    """
    if raw[:1] == bytes([VAULT_TRANSACTION]):
        return Evidence.decode(raw[1:], rules)
    if raw[:1] == bytes([ANNOUNCEMENT]):
        return Announcement.decode(raw[1:])
    if raw[:1] != bytes([CLAIM]):
        raise EvidenceMalformed("evidence", f"kind {raw[:1].hex() or 'missing'}")
    reader = Reader(raw[1:])
    try:
        claim = Claim(Outpoint(reader.take(32), reader.number(4)), read_binding(reader))
        reader.end()
    except TransactionMalformed as error:
        raise EvidenceMalformed("claim", str(error)) from error
    return claim


def apply_evidence(
    state: PegState, raws: Sequence[bytes], view: BitcoinView, origin: bytes, rules: PegRules
) -> PegState:
    """Apply a block's evidence in its order, on a peg that follows the block's origin, which `view` knows.

    Whatever `NotYet` a rule of the peg says: for a block it is final, since its origin decides all of it.

    Raises:
        EvidenceRefused: an item breaks a rule, or changes nothing.
    """
    at = 0
    while at < len(raws):
        try:
            changed, taken = _apply(state, raws[at:], view, origin, rules)
        except NodeFault:
            raise
        except HyperdustError as error:
            raise EvidenceRefused(at, error) from error
        if changed == state:
            raise EvidenceRefused(at, "it changes nothing")
        state, at = changed, at + taken
    return state


def _apply(
    state: PegState, raws: Sequence[bytes], view: BitcoinView, origin: bytes, rules: PegRules
) -> tuple[PegState, int]:
    """The state after the first item, and how many were taken: to repair a peg can take all that are left."""
    item = decode_evidence_item(raws[0], rules)
    if isinstance(item, Claim):
        return claim_sweep(state, item, rules), 1
    if isinstance(item, Announcement):
        return apply_announcement(state, item, view.height_of(origin), rules), 1
    proven = check_evidence(item, view, origin, rules)
    if state.frozen is None:
        return apply_vault_transaction(state, proven, rules), 1
    if any(record.coin.txid == proven.txid for record in state.records):
        return follow_origin(confirm_again(state, proven), view, origin, rules), 1
    items = [decode_evidence_item(raw, rules) for raw in raws]
    chained = [check_evidence(one, view, origin, rules) for one in items if isinstance(one, Evidence)]
    if len(chained) < len(items):
        raise EvidenceMalformed("evidence", "something else among vault transactions that repair the peg")
    return restore(state, chained, view, origin, rules), len(raws)
