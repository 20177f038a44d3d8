"""hyperdust_* of the peg: its state, evidence, addresses, deposits, withdrawals, anchors. Amounts in sats."""

from collections.abc import Mapping
from typing import Final

from bridge.anchors import AnchoredFacts
from bridge.deposits import Evidence, Outpoint, read_charge
from bridge.errors import HeaderUnknown
from bridge.params import NETWORKS, SPACING_S
from bridge.peg_state import PegState, Sweep, SweepStatus, VaultRecord
from bridge.peg_state import Withdrawal as QueuedPayout
from bridge.scripts import Binding, address_of, deposit_output
from bridge.transactions import Transaction
from bridge.work import show_hash
from chain.errors import HyperdustError
from chain.state import PEG_KEY
from consensus.peg import load_peg
from consensus.peg_contract import hash_outpoint
from consensus.peg_terms import rules_of
from hyperdust.node.anchors import compute_facts
from hyperdust.node.bitcoin import BitcoinChain
from hyperdust.node.contracts import view
from hyperdust.node.peg import Peg
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.errors import InvalidParams, ServerError
from hyperdust.node.rpc.parameters import LATEST, BlockReference, Data
from hyperdust.node.rpc.shapes import Json

_NO_ORIGIN: Final = bytes(32)
_NO_PREVIOUS: Final = Data(b"")
_STATUSES: Final = (None, "queued", "given up", "paid", "refunded")
_SWEEP_STATES: Final = {
    SweepStatus.UNCLAIMED: "unclaimed",
    SweepStatus.CLAIMED: "swept",
    SweepStatus.CREDITED: "credited",
}
_ROUND_BLOCKS: Final = 6  # signers build a vault transaction about so often


class NoPeg(ServerError):
    """A node without Bitcoin, or a network without a peg."""


def _peg(request: Request) -> Peg:
    if request.backend.peg is None:
        raise NoPeg("this node has no peg: start it with --bitcoin-rpc, on a network whose genesis names signers")
    return request.backend.peg


def _head_state(request: Request) -> PegState:
    return load_peg(request.state(LATEST).read_many)


def get_peg_state(request: Request, block: BlockReference) -> Json | None:
    """The peg's state after a block in its one encoding (`bridge.peg_codec`); null on a network without a peg."""
    if request.backend.params.peg is None:
        return None
    block_hash, header = request.require_header(block)
    (encoded,) = request.state(block).read_many([PEG_KEY])
    if encoded is None:
        return None
    return {"state": shapes.data(encoded), "height": header.number, "hash": shapes.data(block_hash)}


def submit_evidence(request: Request, evidence: Data) -> str:
    """Give the node one item of evidence as block bodies carry it (`consensus.evidence`); its id."""
    peg = _peg(request)
    try:
        return shapes.data(peg.evidence.add(evidence))
    except HyperdustError as error:
        raise ServerError(f"evidence refused: {error}") from error


def get_pending_evidence(request: Request) -> list[Json]:
    """What this node holds of evidence, waiting or applied of late."""
    return [
        {
            "id": shapes.data(one.id),
            "size": len(one.raw),
            "txid": show_hash(one.txid) if one.txid else None,
            "raw": shapes.data(one.raw),
        }
        for one in _peg(request).evidence.items
    ]


def announce_deposit(request: Request, deposit: object) -> Json:
    """Tell signers what a deposit address stands for: {userKey, address, maxFee, epoch?}; the address on Bitcoin."""
    peg, state = _peg(request), _head_state(request)
    binding = _read_binding(deposit, state.custody.epoch)
    try:
        peg.announced.add(binding, state)
    except HyperdustError as error:
        raise InvalidParams(str(error)) from error
    return _announced(peg, binding, state)


def get_announced_deposits(request: Request) -> list[Json]:
    """All deposit addresses that this node was told of."""
    peg, state = _peg(request), _head_state(request)
    return [_announced(peg, one, state) for one in peg.announced.bindings if one.epoch < len(state.custodies)]


def _announced(peg: Peg, binding: Binding, state: PegState) -> Json:
    output = deposit_output(state.custodies[binding.epoch], binding, rules_of(peg.params))
    return {
        "bitcoinAddress": address_of(output, NETWORKS[peg.params.bitcoin_network]),
        "script": shapes.data(output.script),
        "userKey": shapes.data(binding.user_key),
        "address": shapes.data(binding.address),
        "maxFee": binding.max_fee,
        "epoch": binding.epoch,
    }


def _read_binding(deposit: object, epoch: int) -> Binding:
    if not isinstance(deposit, Mapping) or set(deposit) - {"userKey", "address", "maxFee", "epoch"}:
        raise InvalidParams('want {"userKey", "address", "maxFee"} and perhaps "epoch"')
    try:
        key, address = (bytes.fromhex(str(deposit[name]).removeprefix("0x")) for name in ("userKey", "address"))
        numbers = deposit["maxFee"], deposit.get("epoch", epoch)
    except (KeyError, ValueError) as error:
        raise InvalidParams(f"{error} is missing or no hex") from error
    if len(address) != 20:
        raise InvalidParams("address has 20 bytes")
    values = [int(one, 0) if isinstance(one, str) and one.removeprefix("0x").isalnum() else one for one in numbers]
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in values):
        raise InvalidParams("maxFee and epoch are numbers")
    return Binding(key, address, values[0], values[1])


def peg_status(request: Request) -> Json | None:
    """Bitcoin as the node sees it, the head's origin, the vault and what it owes; null without Bitcoin."""
    bitcoin = request.backend.bitcoin
    if bitcoin is None:
        return None
    frozen = bitcoin.frozen
    answer: Json = {
        "bitcoin": {
            "network": bitcoin.params.name,
            "state": bitcoin.state.value,
            "reason": bitcoin.reason or None,
            "height": bitcoin.height,
            "tip": show_hash(bitcoin.tip),
        },
        "origin": _origin(bitcoin, request.snapshot.head.header.parent_beacon_block_root),
        "origin_depth_blocks": request.backend.params.origin_depth_blocks,
        "frozen": frozen is not None,
        "frozen_reason": None if frozen is None else str(frozen),
    }
    if request.backend.params.peg is not None:
        state = _head_state(request)
        if state.frozen is not None:
            reason = state.frozen.reason.name.lower().replace("_", " ")
            answer |= {"frozen": True, "frozen_reason": f"{reason}: {show_hash(state.frozen.txid)}"}
        answer |= _book(request, state)
    return answer


def _book(request: Request, state: PegState) -> Json:
    (supply_wei,) = view(request.state(LATEST), request.backend.params, "Bridge", "supply_wei")
    custody, vault = state.custody, state.vault
    return {
        "vault_sats": state.vault_sats,
        "genesis_sats": state.genesis_sats,
        "supply_wei": shapes.quantity(int(str(supply_wei))),
        "supply_sats": -(-int(str(supply_wei)) // 10**10),
        "owed_sats": state.owed_sats,
        "surplus_sats": state.surplus_sats,
        "covered": state.surplus_sats >= 0,
        "vault": None
        if vault is None
        else {
            "txid": show_hash(vault.txid),
            "height": vault.height,
            "epoch": vault.epoch,
            "anchored_block": vault.anchor_height or None,
        },
        "queued_withdrawals": len(state.queue),
        "queued_sats": sum(one.value for one in state.queue),
        "next_withdrawal": state.next_number,
        "signers": {
            "epoch": custody.epoch,
            "threshold": custody.signers.threshold,
            "keys": [shapes.data(key) for key in custody.signers.keys],
            "group_key": shapes.data(custody.signers.group_key) if custody.signers.group_key else None,
        },
    }


def _origin(bitcoin: BitcoinChain, origin: bytes) -> Json | None:
    """Hashes of Bitcoin as bitcoind writes them; height null and no confirmations where it is on no known branch."""
    if origin == _NO_ORIGIN:
        return None
    try:
        height = bitcoin.height_of(origin)
    except HeaderUnknown:
        return {"height": None, "hash": show_hash(origin), "confirmations": 0}
    return {"height": height, "hash": show_hash(origin), "confirmations": bitcoin.confirmations(origin)}


def get_deposit(request: Request, outpoint: str) -> Json | None:
    """What has become of a deposit ("txid:n") since signers swept it; null while nothing here knows of a sweep."""
    peg, place = _peg(request), _read_outpoint(outpoint)
    state = _head_state(request)
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
    return answer | _progress(request.backend.peg, _head_state(request), identifier, status)


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


def get_anchors(request: Request, first: BlockReference, last: BlockReference) -> list[Json]:
    """Anchors of blocks of a range, by L2 height; empty without a peg."""
    peg = request.backend.peg
    if peg is None:
        return []
    start, end = request.resolve_number(first), request.resolve_number(last)
    return [
        {
            "txid": show_hash(one.txid),
            "block": one.place.number,
            "hash": shapes.data(one.place.hash),
            "confirmations": one.confirmations,
            "bitcoin_block": show_hash(one.block_hash),
        }
        for one in peg.anchors.seen(request.snapshot)
        if start <= one.place.number <= end
    ]


def get_anchor_facts(request: Request, block: BlockReference, previous: Data = _NO_PREVIOUS) -> Json:
    """What an anchor of a block commits to, after the vault's last one or `previous` (the id of an anchor)."""
    peg = _peg(request)
    block_hash, header = request.require_header(block)
    vault = _head_state(request).vault
    before = bytes(previous) or (vault.anchor_id if vault else bytes(32))
    facts: AnchoredFacts = compute_facts(request.snapshot, peg.params, block_hash, before)
    return {
        "height": header.number,
        "blockHash": shapes.data(facts.block_hash),
        "stateRoot": shapes.data(facts.state_root),
        "pegOutRoot": shapes.data(facts.peg_out_root),
        "workRoot": shapes.data(facts.work_root),
        "vaultSats": facts.vault_sats,
        "previous": shapes.data(facts.previous),
        "commitment": shapes.data(facts.commitment),
    }


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
