"""What a frozen peg would owe more than it has, as this node sees Bitcoin: what a gift has to bring.

By the evidence that waits, up to the tip of the best chain: sooner than a block may take it, so that nobody pays late.
"""

from collections.abc import Sequence

from bridge.deposits import Evidence, check_evidence, check_on_branch
from bridge.peg_errors import NoVaultTransaction, SweepNotOnBranch, VaultSpendRefused
from bridge.peg_repair import apply_row, undo
from bridge.peg_state import PegState, Reason
from bridge.rules import PegRules
from bridge.shortage import compute_missing
from bridge.view import BitcoinView
from chain.errors import Invalid, NotYet
from hyperdust.node.evidence import Pooled


def find_missing(
    state: PegState, waiting: Sequence[Pooled], view: BitcoinView, height: int, rules: PegRules
) -> int | None:
    """Sats that one gift has to bring if what Bitcoin dropped does not come back; None: nobody can tell, or none helps.

    Args:
        state: the peg at the head.
        waiting: the node's evidence.
        view: the node's Bitcoin.
        height: of its tip.
        rules: of the network.
    """
    if state.frozen is None:
        return 0
    tip = view.hash_at(height)
    kept = next(
        (at for at, one in enumerate(state.records) if not _holds(one.block_hash, view, tip)), len(state.records)
    )
    owing = undo(state, kept)
    if state.frozen.reason is Reason.UNKNOWN_SPEND or owing.vault is None:
        return None
    items = [one.item for one in waiting if isinstance(one.item, Evidence)]
    followers = {one.transaction.inputs[0].txid: one for one in items if _holds(one.block_hash, view, tip)}
    while owing.vault is not None and (item := followers.pop(owing.vault.txid, None)) is not None:
        try:
            owing = apply_row(owing, [check_evidence(item, view, tip, rules)], rules)
        except (NoVaultTransaction, VaultSpendRefused):
            return None
        except (Invalid, NotYet):
            break
    return compute_missing(owing, height, rules)


def _holds(block_hash: bytes, view: BitcoinView, tip: bytes) -> bool:
    try:
        check_on_branch(block_hash, view, tip)
    except SweepNotOnBranch:
        return False
    return True
