"""hyperdust_*: jobs, certificates, usefulness; what is not built yet answers null or [] (interfaces.md)."""

from typing import Any, Final

from chain.blocks import Block
from consensus.certificate import decode_certificate
from hyperdust.contracts_abi import load_abi
from hyperdust.node.contracts import State, view
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.blocks import FullBlock
from hyperdust.node.rpc.errors import InvalidParams, LimitExceeded
from hyperdust.node.rpc.job_events import STATE_BY_STATUS, find_transitions, find_verdict
from hyperdust.node.rpc.parameters import LATEST, Address, BlockReference
from hyperdust.node.rpc.shapes import Json
from pouw.fraud import VerdictKind
from pouw.ticket import slice_width

_NO_HASH: Final = bytes(32)
_NO_ACCOUNT: Final = "0x" + 40 * "0"
# What became of a companion's check, and of a dispute, by the contracts' numbers.
_CHECK_STATES: Final = (None, "committed", "agrees", "differs", "refuted")
_VERDICTS: Final = (None, "guilty", "innocent")


def get_certificate(request: Request, block: BlockReference) -> Json | None:
    """The proof of useful work that a block carries; null for genesis and unknown blocks."""
    found = request.find_block(block)
    if found is None or not found.body.certificate:
        return None
    certificate = decode_certificate(found.body.certificate)
    proof = certificate.proof
    return {
        "graph": shapes.data(certificate.graph),
        "operator": certificate.operator,
        "label": certificate.label,
        "m": proof.m,
        "n": proof.n,
        "k": proof.k,
        "r": slice_width(proof.k),
        "tile": [proof.row_block, proof.column_block],
        "macs": proof.m * proof.n * proof.k,
        "ticket": shapes.data(request.snapshot.load_ticket(found.hash)),
        "rootA": shapes.data(proof.root_a),
        "rootB": shapes.data(proof.root_b),
        "creditSpent": _credit_spent(request, found),
        "size": len(found.body.certificate),
        "raw": shapes.data(found.body.certificate),
    }


def get_raw_block(request: Request, block: BlockReference) -> str | None:
    """A block in its own encoding, with certificate and evidence; null for unknown blocks."""
    found = request.find_block(block)
    return None if found is None else shapes.data(Block(found.header, found.body).encode())


def _credit_spent(request: Request, block: FullBlock) -> int | None:
    """What the next block's system call spent for a block; null while no next block is known."""
    number = block.header.number
    if number >= request.snapshot.head.number or request.snapshot.canonical_hash(number) != block.hash:
        return None
    return int(_reward(request, request.state(LATEST), number)[2])


def _reward(request: Request, state: State, number: int) -> tuple[Any, ...]:
    return view(state, request.backend.params, "Dust", "reward_of", number)


def get_reward(request: Request, block: BlockReference) -> Json | None:
    """What a block earned its coinbase; null while no next block is known."""
    number = request.resolve_number(block)
    if not 0 < number < request.snapshot.head.number:
        return None
    coinbase, minted, spent, unlock, claimed = _reward(request, request.state(LATEST), number)
    return {
        "block": number,
        "coinbase": _address(coinbase),
        "minted": shapes.quantity(minted),
        "creditSpent": spent,
        "unlockBlock": unlock,
        "claimed": claimed,
    }


def usefulness(request: Request, first: BlockReference, last: BlockReference) -> Json:
    """Credit spent over difficulty, of a range of blocks; the head, whose credit is not known yet, is left out."""
    head = request.snapshot.head.number
    start, end = request.resolve_number(first), request.resolve_number(last)
    if start > end or end > head:
        raise InvalidParams("invalid block range params")
    if end - start >= request.backend.limits.usefulness_blocks:
        raise LimitExceeded(f"exceed maximum block range: {request.backend.limits.usefulness_blocks}")
    state = request.state(LATEST)
    difficulty = spent = 0
    for number in range(max(start, 1), min(end, head - 1) + 1):  # genesis has no work
        request.check_time()
        difficulty += request.require_header(BlockReference(number=number))[1].difficulty
        spent += _reward(request, state, number)[2]
    ratio = spent / difficulty if difficulty else None
    return {"difficulty_macs": difficulty, "credit_spent_macs": spent, "ratio": ratio}


def get_job(request: Request, job: int) -> Json | None:
    """A job, its state and how it came there; null where there is no such job."""
    values = _job(request, job)
    state = STATE_BY_STATUS[values["status"]]
    if state is None:
        return None
    trace_root = values["trace_root"]
    return {
        "job": job,
        "status": state,
        "trace_root": None if trace_root == _NO_HASH else shapes.data(trace_root),
        "transitions": [
            {
                "state": transition.state,
                "block": transition.block_number,
                "transaction": shapes.data(transition.transaction_hash),
            }
            for transition in find_transitions(request, job, values)
        ],
        "graph": shapes.data(values["graph"]),
        "requester": _address(values["requester"]),
        "provider": _address(values["provider"]),
        "fee_wei": values["fee"],
        "credit_macs": values["credit"],
        "deadline": values["deadline"],
        "companion": _account(_market(request, "companion_of", job)[0]),
        "check": _CHECK_STATES[_market(request, "check_of", job)[0][4]],
    }


def _market(request: Request, function: str, job: int) -> tuple[Any, ...]:
    return view(request.state(LATEST), request.backend.params, "JobMarket", function, job)


def _job(request: Request, job: int) -> dict[str, Any]:
    (values,) = view(request.state(LATEST), request.backend.params, "JobMarket", "job", job)
    (abi,) = [entry for entry in load_abi("JobMarket") if entry["type"] == "function" and entry["name"] == "job"]
    names = [component["name"] for component in abi["outputs"][0]["components"]]
    return dict(zip(names, values, strict=True))  # type: ignore[call-overload]  # the ABI says a struct


def get_providers(request: Request, graph: str) -> list[str]:
    """Bonded providers of a graph, by its name or id."""
    state = request.state(LATEST)
    identifier = _find_graph(request, state, graph)
    (providers,) = view(state, request.backend.params, "Bonds", "providers", identifier)
    return [_address(provider) for provider in providers]  # type: ignore[attr-defined]  # the ABI says address[]


def _find_graph(request: Request, state: State, graph: str) -> bytes:
    if graph.startswith("0x"):
        try:
            identifier = bytes.fromhex(graph[2:])
        except ValueError:
            identifier = b""
        if len(identifier) != 32:
            raise InvalidParams("a graph's id has 32 bytes")
        return identifier
    params = request.backend.params
    (count,) = view(state, params, "GraphRegistry", "graph_count")
    for index in range(count):  # type: ignore[call-overload]  # the ABI says uint256
        request.check_time()
        (known,) = view(state, params, "GraphRegistry", "graph_at", index)
        if view(state, params, "GraphRegistry", "name_of", known) == (graph,):
            return known  # type: ignore[return-value]  # the ABI says bytes32
    raise InvalidParams(f'no graph is registered as "{graph}"')


def get_credit(request: Request, account: Address) -> Json:
    """MACs of final jobs that an account holds, has spent, and let lapse."""
    held, spent, lapsed = view(request.state(LATEST), request.backend.params, "Dust", "credit_of", account)
    return {"held": held, "spent": spent, "lapsed": lapsed}


def get_dispute(request: Request, job: int) -> Json | None:
    """Who accuses whom of what, and the verdict; null where nobody does. While undecided, block and kind are null."""
    found = view(request.state(LATEST), request.backend.params, "Court", "dispute_of", job)
    accused, challenger, operator, element, kind, verdict, block = found
    if _account(accused) is None:
        return None
    decided = int(str(block)) or None
    transaction = None if decided is None else find_verdict(request, job, decided)
    return {
        "accused": _account(accused),
        "challenger": _account(challenger),
        "operator": operator,
        "element": element,
        "kind": VerdictKind(int(str(kind))).name.lower() if kind else None,
        "verdict": _VERDICTS[int(str(verdict))],
        "block": decided,
        "transaction": None if transaction is None else shapes.data(transaction),
    }


def _address(value: object) -> str:
    """eth_abi gives addresses as checksummed or plain hex text."""
    return str(value).lower()


def _account(value: object) -> str | None:
    """An address, or null for that of nobody."""
    address = _address(value)
    return None if address == _NO_ACCOUNT else address
