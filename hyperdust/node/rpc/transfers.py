"""hyperdust_getDeposit and getWithdrawal: how far a coin is on its way in or out, and what it waits for. In sats."""

from typing import Final

from bridge.deposits import Evidence, Outpoint, read_charge
from bridge.errors import HeaderUnknown
from bridge.params import SPACING_S
from bridge.peg_state import PegState, Sweep, SweepStatus, VaultRecord
from bridge.peg_state import Withdrawal as QueuedPayout
from bridge.transactions import Transaction
from bridge.work import show_hash
from consensus.peg_contract import hash_outpoint
from consensus.peg_terms import rules_of
from hyperdust.node.bitcoin import BitcoinChain
from hyperdust.node.contracts import view
from hyperdust.node.peg import Peg
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.errors import InvalidParams
from hyperdust.node.rpc.parameters import LATEST
from hyperdust.node.rpc.peg import load_head, require_peg
from hyperdust.node.rpc.shapes import Json

_ROUND_BLOCKS: Final = 6  # signers build a vault transaction about so often
_SWEEP_STATES: Final = {
    SweepStatus.UNCLAIMED: "unclaimed",
    SweepStatus.CLAIMED: "swept",
    SweepStatus.CREDITED: "credited",
}
_STATUSES: Final = (None, "queued", "given up", "paid", "refunded")


def get_deposit(request: Request, outpoint: str) -> Json | None:
    """What has become of a deposit ("txid:n") since signers swept it; null while nothing here knows of a sweep."""
    peg, place = require_peg(request), _read_outpoint(outpoint)
    state = load_head(request)
    (block,) = view(request.state(LATEST), peg.params, "Bridge", "credited_at", hash_outpoint(place))
    for record in reversed(state.records):
        for sweep in record.sweeps:
            if sweep.outpoint == place:
                return _swept(peg, record, sweep, int(str(block)))
    for pooled in peg.evidence.items:
        if isinstance(pooled.item, Evidence) and place in _outpoints(pooled.item.transaction):
            return _being_swept(peg, pooled.item, place)
    if block:
        return {"outpoint": str(place), "status": "credited", "block": block, "reason": None, "expected_s": 0}
    return None


def _swept(peg: Peg, record: VaultRecord, sweep: Sweep, block: int) -> Json:
    rules = rules_of(peg.params)
    needed = rules.depth_of(sweep.sats) + 1
    confirmations = _confirmations(peg.bitcoin, record.block_hash)
    reason = None
    if sweep.status is SweepStatus.UNCLAIMED:
        reason = "nobody has shown whose deposit it is: submit a claim"
    elif sweep.status is SweepStatus.CLAIMED:
        reason = f"its sweep needs {needed} confirmations, and the L2's origin above it"
    return {
        "outpoint": str(sweep.outpoint),
        "status": _SWEEP_STATES[sweep.status],
        "amount_sats": sweep.sats,
        "credit_sats": sweep.worth,
        "fee_sats": sweep.sats - sweep.worth,
        "address": None if sweep.status is SweepStatus.UNCLAIMED else shapes.data(sweep.address),
        "sweep": show_hash(record.coin.txid),
        "confirmations": confirmations,
        "needed": needed,
        "reason": reason,
        "expected_s": 0 if reason is None else max(0, needed - confirmations) * SPACING_S,
        "block": block or None,
    }


def _being_swept(peg: Peg, item: Evidence, place: Outpoint) -> Json:
    made = {one.txid: one for one in item.funding}.get(place.txid)
    sats = made.outputs[place.index].sats if made else 0
    needed = rules_of(peg.params).depth_of(sats) + 1
    confirmations = _confirmations(peg.bitcoin, item.block_hash)
    claim = next((one for one in item.claims if one.outpoint == place), None)
    fee = min(read_charge(item.transaction), claim.binding.max_fee) if claim else None
    return {
        "outpoint": str(place),
        "status": "swept",
        "amount_sats": sats,
        "credit_sats": None if fee is None else sats - fee,
        "fee_sats": fee,
        "address": shapes.data(claim.binding.address) if claim else None,
        "sweep": show_hash(item.transaction.txid),
        "confirmations": confirmations,
        "needed": needed,
        "reason": f"its sweep needs {needed} confirmations",
        "expected_s": max(0, needed - confirmations) * SPACING_S,
        "block": None,
    }


def get_withdrawal(request: Request, identifier: int) -> Json | None:
    """A withdrawal by its number: amounts, what it waits for; null where there is none."""
    if request.backend.params.peg is None:
        return None
    found = view(request.state(LATEST), request.backend.params, "Bridge", "withdrawal_of", identifier)
    account, script, sats, max_fee, number, changed = found
    status = _STATUSES[int(str(number))]
    if status is None:
        return None
    answer: Json = {
        "id": identifier,
        "status": status,
        "account": str(account).lower(),
        "script": shapes.data(bytes(script)),  # type: ignore[call-overload]  # the ABI says bytes
        "sats": sats,
        "fee_sats": max_fee,
        "changed_at": changed,
        "txid": None,
        "confirmations": 0,
        "needed": request.backend.params.origin_depth_blocks + 1,
        "reason": None,
        "expected_s": 0,
    }
    if request.backend.peg is None:
        return answer
    return answer | _progress(request.backend.peg, load_head(request), identifier, status)


def _progress(peg: Peg, state: PegState, number: int, status: str) -> Json:
    for record in state.records:
        if any(one.number == number for one in record.paid):
            return {
                "txid": show_hash(record.coin.txid),
                "confirmations": _confirmations(peg.bitcoin, record.block_hash),
            }
    if status not in {"queued", "given up"}:
        return {}
    waiting = state.find_withdrawal(number)
    seen = _find_payment(peg, waiting)
    if seen is not None:
        confirmations = _confirmations(peg.bitcoin, seen.block_hash)
        needed = peg.params.origin_depth_blocks + 1
        return {
            "status": "paying",
            "txid": show_hash(seen.transaction.txid),
            "confirmations": confirmations,
            "reason": f"paid on Bitcoin; {needed} confirmations make it final here",
            "expected_s": max(0, needed - confirmations) * SPACING_S,
        }
    return {"reason": _why_queued(state, waiting), "expected_s": 2 * _ROUND_BLOCKS * SPACING_S}


def _why_queued(state: PegState, waiting: QueuedPayout | None) -> str:
    if state.frozen is not None:
        return f"the peg is frozen: {state.frozen.reason.name.lower().replace('_', ' ')}"
    if waiting is None:
        return "the next block takes it in"
    if waiting.refused_at:
        anchored = 0 if state.vault is None else state.vault.anchor_height
        return f"given up at block {waiting.refused_at}; refunded once a deep anchor knows of it (now {anchored})"
    if state.vault is None or state.vault_sats < waiting.sats:
        return f"the vault holds {state.vault_sats} sats"
    return "its block has to be final; then the signers pay it in their next round that its maximum fee allows"


def _find_payment(peg: Peg, waiting: QueuedPayout | None) -> Evidence | None:
    if waiting is None:
        return None
    for pooled in peg.evidence.items:
        if isinstance(pooled.item, Evidence):
            outputs = pooled.item.transaction.outputs[1:]
            if any((one.script, one.sats) == (waiting.script, waiting.sats) for one in outputs):
                return pooled.item
    return None


def _read_outpoint(text: str) -> Outpoint:
    txid, _, index = text.partition(":")
    try:
        place = Outpoint(bytes.fromhex(txid)[::-1], int(index))
    except ValueError as error:
        raise InvalidParams('an outpoint is "txid:n"') from error
    if len(place.txid) != 32 or not 0 <= place.index < 1 << 32:
        raise InvalidParams('an outpoint is "txid:n"')
    return place


def _outpoints(transaction: Transaction) -> list[Outpoint]:
    return [Outpoint(one.txid, one.index) for one in transaction.inputs]


def _confirmations(bitcoin: BitcoinChain, block_hash: bytes) -> int:
    try:
        return bitcoin.confirmations(block_hash)
    except HeaderUnknown:
        return 0
