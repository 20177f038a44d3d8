"""A block's way from a stranger's bytes to a valid one; each stage is a type, so none is skipped or repeated.

Block --check_block_header--> HeaderChecked --check_work--> WorkChecked --check_block_origin--> OriginChecked
--check_block_peg--> PegChecked --execute_block--> Executed and compared
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.view import BitcoinView
from chain.blocks import Block, Header
from chain.engine import (
    BlockEnvironment,
    Executed,
    ReadMany,
    StateCache,
    Transaction,
    decode_transactions,
    execute,
)
from chain.errors import Mismatch
from chain.params import ChainParams
from consensus import errors
from consensus.certificate import Certificate, Operand, check_certificate, decode_certificate
from consensus.headers import check_header
from consensus.origin import check_origin
from consensus.peg import PegTransition, compute_transition, load_parent
from consensus.rewards import opening_call
from precompiles.registry import precompiles_for


@dataclass(frozen=True, slots=True)
class HeaderChecked:
    """A block whose header may follow its parent's."""

    block: Block
    parent: Header


@dataclass(frozen=True, slots=True)
class WorkChecked:
    """A block whose certificate proves its work."""

    block: Block
    parent: Header
    certificate: Certificate
    ticket: bytes


@dataclass(frozen=True, slots=True)
class OriginChecked:
    """A block whose origin is one as this node sees Bitcoin."""

    block: Block
    parent: Header
    bitcoin: BitcoinView | None
    """What the origin was checked against, and what contracts read below it; None: this node has no Bitcoin."""


@dataclass(frozen=True, slots=True)
class PegChecked:
    """A block whose evidence keeps the peg's rules, and that credits exactly what is due."""

    block: Block
    parent: Header
    bitcoin: BitcoinView | None
    transition: PegTransition


def check_block_header(
    block: Block, parent: Header, parent_ticket: bytes, params: ChainParams, now: int
) -> HeaderChecked:
    """First stage: header rules.

    Raises:
        FromTheFuture: retry later.
        Invalid: the class named after the rule.
    """
    check_header(block.header, parent, parent_ticket, params, now)
    return HeaderChecked(block, parent)


def check_work(checked: HeaderChecked, operand_of: Callable[[bytes, int], Operand | None]) -> WorkChecked:
    """Second stage: the certificate, against weights that `operand_of(graph, operator)` finds in the parent's state.

    Raises:
        Invalid: the class named after the rule.
    """
    body = checked.block.body
    encoded = body.certificate
    certificate = decode_certificate(encoded)
    operand = operand_of(certificate.graph, certificate.operator)
    if operand is None:
        raise errors.UnknownOperand("(graph, operator)", (certificate.graph, certificate.operator), "a registered one")
    ticket = check_certificate(checked.block.header, certificate, encoded, operand, body.evidence)
    return WorkChecked(checked.block, checked.parent, certificate, ticket)


def check_block_origin(checked: WorkChecked, params: ChainParams, bitcoin: BitcoinView | None) -> OriginChecked:
    """Third stage: the origin. After the work, so that what waits for Bitcoin has cost its sender something.

    Raises:
        OriginDropped, OriginBelowParents: never valid.
        NotYet: retry later; the class says why.
    """
    origin, parents = checked.block.header.parent_beacon_block_root, checked.parent.parent_beacon_block_root
    has_evidence = bool(checked.block.body.evidence)
    check_origin(origin, parents, params.origin_depth_blocks, bitcoin, has_evidence=has_evidence)
    return OriginChecked(checked.block, checked.parent, bitcoin)


def check_block_peg(
    checked: OriginChecked, params: ChainParams, read_many: ReadMany, cache: StateCache | None = None
) -> PegChecked:
    """Fourth stage: evidence and credits, on the parent's state.

    Raises:
        EvidenceUnexpected, EvidenceRefused, WithdrawalsRefused: never valid.
        OriginNotFollowed, OriginUnknown: this node does not see the origin that the peg would follow.
        NodeFault: the database's state of the peg is damaged.
    """
    header, body = checked.block.header, checked.block.body
    transition = plan_peg(
        checked.parent, header.parent_beacon_block_root, body.evidence, checked.bitcoin, params, read_many, cache
    )
    if body.withdrawals != transition.withdrawals:
        raise errors.WithdrawalsRefused("withdrawals", body.withdrawals, transition.withdrawals)
    return PegChecked(checked.block, checked.parent, checked.bitcoin, transition)


def plan_peg(
    parent: Header,
    origin: bytes,
    evidence: Sequence[bytes],
    bitcoin: BitcoinView | None,
    params: ChainParams,
    read_many: ReadMany,
    cache: StateCache | None = None,
) -> PegTransition:
    """What a block on `parent` does to the peg; nothing where the network has none.

    Raises:
        As `check_block_peg`.
    """
    if params.peg is None:
        if evidence:
            raise errors.EvidenceUnexpected("evidence", len(evidence), "none: the network has no peg")
        return PegTransition()
    before = load_parent(parent, environment_of(parent, params), read_many, cache)
    return compute_transition(before, origin, evidence, bitcoin, params)


def environment_of(header: Header, params: ChainParams) -> BlockEnvironment:
    """What the engine has to know of a block."""
    return BlockEnvironment(
        chain_id=params.chain_id,
        fork=params.fork,
        number=header.number,
        timestamp=header.timestamp,
        coinbase=header.coinbase,
        gas_limit=header.gas_limit,
        base_fee=header.base_fee_per_gas,
        prev_randao=header.mix_hash,
        parent_hash=header.parent_hash,
        parent_beacon_root=header.parent_beacon_block_root,
    )


def execute_block(
    checked: PegChecked, params: ChainParams, read_many: ReadMany, cache: StateCache | None = None
) -> tuple[Sequence[Transaction], Executed]:
    """Last stage: execute on the parent's state (whose `cache` may be given) and compare with the header.

    Raises:
        Invalid: a transaction's rule, or the header field that differs.
    """
    header = checked.block.header
    transactions = decode_transactions(checked.block.body.transactions)
    executed = execute(
        environment_of(header, params),
        transactions,
        read_many,
        precompiles=precompiles_for(checked.bitcoin, header.parent_beacon_block_root),
        before=(opening_call(checked.parent), *checked.transition.opening),
        after=checked.transition.closing,
        withdrawals=checked.transition.credited,
        cache=cache,
    )
    comparisons: tuple[tuple[type[Mismatch], str, object, object], ...] = (
        (errors.WrongTransactionsRoot, "transactions_root", header.transactions_root, executed.transactions_root),
        (errors.WrongWithdrawalsRoot, "withdrawals_root", header.withdrawals_root, executed.withdrawals_root),
        (errors.WrongGasUsed, "gas_used", header.gas_used, executed.gas_used),
        (errors.WrongReceiptsRoot, "receipts_root", header.receipts_root, executed.receipts_root),
        (errors.WrongBloom, "logs_bloom", header.logs_bloom, executed.logs_bloom),
        (errors.WrongRequestsHash, "requests_hash", header.requests_hash, executed.requests_hash),
        (errors.WrongStateRoot, "state_root", header.state_root, executed.state_root),
    )
    for rule, what, got, expected in comparisons:
        if got != expected:
            raise rule(what, got, expected)
    return transactions, executed
