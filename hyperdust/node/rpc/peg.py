"""hyperdust_* of the peg: its state, evidence, addresses, anchors. Amounts in sats. Single transfers: `transfers`."""

from collections.abc import Mapping
from typing import Final

from bridge.anchors import AnchoredFacts
from bridge.errors import HeaderUnknown
from bridge.params import NETWORKS
from bridge.peg_state import PegState
from bridge.rules import WEI_PER_SAT
from bridge.scripts import Binding, Custody, address_of, deposit_output
from bridge.work import show_hash
from chain.errors import HyperdustError
from chain.state import PEG_KEY
from consensus.peg import load_peg
from consensus.peg_terms import rules_of
from hyperdust.node.anchors import compute_facts
from hyperdust.node.bitcoin import BitcoinChain
from hyperdust.node.contracts import view
from hyperdust.node.owing import find_missing
from hyperdust.node.peg import Peg
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.errors import InvalidParams, ServerError
from hyperdust.node.rpc.parameters import LATEST, BlockReference, Data
from hyperdust.node.rpc.shapes import Json

_NO_ORIGIN: Final = bytes(32)
_NO_PREVIOUS: Final = Data(b"")


class NoPeg(ServerError):
    """A node without Bitcoin, or a network without a peg."""


def require_peg(request: Request) -> Peg:
    """The node's.

    Raises:
        NoPeg
    """
    if request.backend.peg is None:
        raise NoPeg("this node has no peg: start it with --bitcoin-rpc, on a network whose genesis names signers")
    return request.backend.peg


def load_head(request: Request) -> PegState:
    """The peg after the head."""
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
    peg = require_peg(request)
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
        for one in require_peg(request).evidence.items
    ]


def announce_deposit(request: Request, deposit: object) -> Json:
    """Tell signers what a deposit address stands for: {userKey, address, maxFee, epoch?}; the address on Bitcoin."""
    peg, state = require_peg(request), load_head(request)
    binding = _read_binding(deposit, state.custody.epoch)
    try:
        peg.announced.add(binding, state)
    except HyperdustError as error:
        raise InvalidParams(str(error)) from error
    return _announced(peg, binding, state)


def get_announced_deposits(request: Request) -> list[Json]:
    """All deposit addresses that this node was told of."""
    peg, state = require_peg(request), load_head(request)
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
        state = load_head(request)
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
        "supply_sats": -(-int(str(supply_wei)) // WEI_PER_SAT),
        "owed_sats": state.owed_sats,
        "surplus_sats": state.surplus_sats,
        "covered": state.surplus_sats >= 0,
        "missing_sats": _missing(request, state),
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
        "signers": _signers(custody),
        "announced": _announcement(state.announced[-1]) if state.announced else None,
        "named_by_council": [_announcement(one) for one in state.rescuers],
    }


def _signers(custody: Custody) -> Json:
    return {
        "epoch": custody.epoch,
        "threshold": custody.signers.threshold,
        "keys": [shapes.data(key) for key in custody.signers.keys],
        "group_key": shapes.data(custody.signers.group_key) if custody.signers.group_key else None,
    }


def _announcement(custody: Custody) -> Json:
    return {**_signers(custody), "starts_at": custody.starts_at}


def _missing(request: Request, state: PegState) -> int | None:
    peg = request.backend.peg
    if peg is None or state.frozen is None:
        return 0
    return find_missing(state, peg.evidence.items, peg.bitcoin, peg.bitcoin.height, rules_of(peg.params))


def _origin(bitcoin: BitcoinChain, origin: bytes) -> Json | None:
    """Hashes of Bitcoin as bitcoind writes them; height null and no confirmations where it is on no known branch."""
    if origin == _NO_ORIGIN:
        return None
    try:
        height = bitcoin.height_of(origin)
    except HeaderUnknown:
        return {"height": None, "hash": show_hash(origin), "confirmations": 0}
    return {"height": height, "hash": show_hash(origin), "confirmations": bitcoin.confirmations(origin)}


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
    peg = require_peg(request)
    block_hash, header = request.require_header(block)
    vault = load_head(request).vault
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
