"""Blocks with real tickets: what is accepted, what each rule refuses, and that a refusal changes nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chain.blocks import Block, certificate_commitment, decode_block
from chain.errors import Malformed
from chain.transactions import TransactionInvalid
from consensus import errors
from consensus.certificate import Certificate, decode_certificate
from consensus.errors import UnknownParent
from hyperdust.node.contracts import view
from hyperdust.node.importer import Outcome
from pouw import ticket
from tests.small_chain import MINER, OTHER_MINER, K, SmallChain, find_ticket, weights


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[SmallChain]:
    chain = SmallChain(tmp_path / "chain")
    yield chain
    chain.close()


def test_a_mined_block_becomes_the_head(chain: SmallChain) -> None:
    block = chain.mine()
    imported = chain.importer.import_block(decode_block(block.encode()))
    assert imported.outcome is Outcome.HEAD
    assert chain.store.latest.head.hash == block.header.hash
    assert chain.importer.import_block(block).outcome is Outcome.KNOWN
    assert chain.extend(3).header.number == 4


def test_the_beacon_is_the_parents_ticket(chain: SmallChain) -> None:
    chain.extend(2)
    view_now = chain.store.latest
    from consensus.headers import compute_beacon

    assert view_now.head.header.mix_hash == compute_beacon(view_now.load_ticket(view_now.head.header.parent_hash))


def test_a_block_of_another_branch_is_kept_and_wins_when_heavier(chain: SmallChain, tmp_path: Path) -> None:
    other = SmallChain(tmp_path / "other")
    chain.extend(1)
    ours = chain.store.latest.head
    theirs = [other.extend(1, OTHER_MINER), other.extend(1, OTHER_MINER)]
    assert chain.importer.import_block(theirs[0]).outcome is Outcome.SIDE
    imported = chain.importer.import_block(theirs[1])
    assert imported.outcome is Outcome.HEAD
    assert imported.reorganisation is not None
    assert imported.reorganisation.abandoned == (ours.hash,)
    assert chain.store.latest.head.hash == other.store.latest.head.hash
    assert chain.extend(1).header.number == 3
    other.close()


def test_unknown_parent_is_not_yet(chain: SmallChain) -> None:
    block = chain.mine()
    with pytest.raises(UnknownParent):
        chain.importer.import_block(replace(block, header=replace(block.header, parent_hash=b"\1" * 32)))


def reseal(chain: SmallChain, **header_changes: object) -> Callable[[], Block]:
    """A block whose header is changed before the ticket is found: only the rule itself can refuse it."""
    return lambda: chain.mine(
        change=lambda template: replace(template, header=replace(template.header, **header_changes))
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"mix_hash": b"\1" * 32}, errors.WrongBeacon),
        ({"state_root": b"\1" * 32}, errors.WrongStateRoot),
        ({"receipts_root": b"\1" * 32}, errors.WrongReceiptsRoot),
        ({"transactions_root": b"\1" * 32}, errors.WrongTransactionsRoot),
        ({"withdrawals_root": b"\1" * 32}, errors.WrongWithdrawalsRoot),
        ({"logs_bloom": b"\1" * 256}, errors.WrongBloom),
        ({"requests_hash": b"\1" * 32}, errors.WrongRequestsHash),
        ({"gas_used": 21_000}, errors.WrongGasUsed),
        ({"coinbase": b"\1" * 20}, errors.WrongSigner),
    ],
)
def test_a_header_that_execution_contradicts_is_refused(
    chain: SmallChain, changes: dict[str, object], rule: type[Exception]
) -> None:
    chain.extend(1)
    block = reseal(chain, **changes)()
    before = chain.store.latest.head
    with pytest.raises(rule):
        chain.importer.import_block(block)
    assert chain.store.latest.head == before
    assert chain.store.latest.load_header(block.header.hash) is None
    chain.extend(1)


def with_certificate(block: Block, certificate: bytes) -> Block:
    header = replace(block.header, extra_data=certificate_commitment(certificate))
    return Block(header, replace(block.body, certificate=certificate))


def test_every_field_of_a_certificate_counts(chain: SmallChain) -> None:
    """Vector 4: another parent, root(B), seal hash, nonce, shape or tile; each byte of the prefix flipped."""
    chain.extend(1)
    block = chain.mine()
    good = decode_certificate(block.body.certificate)
    proof = good.proof

    def changed(**changes: object) -> Certificate:
        return replace(good, proof=replace(proof, **changes))

    def flip(data: bytes) -> bytes:
        return bytes((data[0] ^ 1,)) + data[1:]

    cases: list[tuple[Certificate, type[Exception]]] = [
        (replace(good, graph=b"\1" * 32), errors.UnknownOperand),
        (replace(good, operator=1), errors.UnknownOperand),
        (replace(good, signature=flip(good.signature)), Exception),
        (changed(m=32, rows_a=proof.rows_a), ticket.TicketAboveTarget),
        (changed(root_b=flip(proof.root_b)), errors.WrongOperand),
        (changed(root_a=flip(proof.root_a)), ticket.WrongRootA),
        (changed(rows_a=flip(proof.rows_a)), Exception),
        (changed(columns_b=flip(proof.columns_b)), Exception),
        (changed(row_block=1), ticket.TileOffLattice),
        (changed(column_block=(proof.column_block + 1) % 4), Exception),
    ]
    for certificate, rule in cases:
        with pytest.raises(Exception) as caught:
            chain.importer.import_block(with_certificate(block, certificate.encode()))
        assert isinstance(caught.value, (errors.Mismatch, errors.OutOfRange, Malformed)), certificate
        if certificate.proof.m == proof.m:
            assert isinstance(caught.value, rule), (caught.value, rule)
    chain.importer.import_block(block)


def test_a_second_encoding_of_a_certificate_does_not_exist(chain: SmallChain) -> None:
    """Vector 2: trailing bytes, another version, a signature with s in the upper half or another parity."""
    block = chain.mine()
    encoded = block.body.certificate
    certificate = decode_certificate(encoded)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    r, s, parity = certificate.signature[:32], certificate.signature[32:64], certificate.signature[64]
    upper = (order - int.from_bytes(s, "big")).to_bytes(32, "big")
    twins = [
        encoded + b"\0",
        b"\2" + encoded[1:],
        replace(certificate, signature=r + upper + bytes((parity ^ 1,))).encode(),
        replace(certificate, signature=r + s + bytes((parity + 27,))).encode(),
        b"",
    ]
    for twin in twins:
        with pytest.raises(Malformed):
            chain.importer.import_block(with_certificate(block, twin))
    unbound = replace(block, body=replace(block.body, certificate=replace(certificate, label=9).encode()))
    with pytest.raises(errors.WrongCommitment):
        chain.importer.import_block(unbound)
    assert decode_certificate(encoded).encode() == encoded


def test_a_ticket_of_another_parent_or_seal_is_refused(chain: SmallChain) -> None:
    first = chain.mine()
    chain.importer.import_block(first)
    template = chain.template()
    stale = decode_certificate(first.body.certificate)
    with pytest.raises(errors.WrongSigner):
        chain.importer.import_block(chain.builder.assemble(template, first.header.nonce, stale.encode()))
    certificate, nonce = find_ticket(template, MINER)
    nonces = (bytes((nonce[0] ^ 0x80, salt, *nonce[2:])) for salt in range(64))
    seal, difficulty = template.seal_hash, template.header.difficulty
    losing = next(
        other for other in nonces if not draws_win(certificate, template.parent_hash, seal, other, difficulty)
    )
    with pytest.raises(ticket.TicketAboveTarget):
        chain.importer.import_block(chain.builder.assemble(template, losing, certificate.encode()))


def draws_win(certificate: Certificate, parent_hash: bytes, seal_hash: bytes, nonce: bytes, difficulty: int) -> bool:
    try:
        ticket.verify(certificate.proof, parent_hash, seal_hash, nonce, difficulty)
    except ticket.TicketAboveTarget:
        return False
    return True


def test_operand_65_is_refused(chain: SmallChain) -> None:
    import numpy as np

    rows = np.full((16, K), 65, np.int8)
    proof = ticket.open_ticket(rows, weights(), 0, 0)
    template = chain.template()
    certificate = replace(find_ticket(template, MINER)[0], proof=proof)
    with pytest.raises(ticket.OperandOutOfRange, match="65"):
        chain.importer.import_block(chain.builder.assemble(template, bytes(8), certificate.encode()))


def test_a_bad_transaction_refuses_the_block_by_name(chain: SmallChain) -> None:
    block = chain.mine(change=lambda template: replace(template, transactions=(b"\x02\xc0",)))
    with pytest.raises((TransactionInvalid, Malformed)):
        chain.importer.import_block(block)


def test_subsidy_is_a_tenth_without_credit(chain: SmallChain) -> None:
    chain.extend(2)
    coinbase, minted, spent, unlock, claimed = view(chain.state, chain.params, "Dust", "reward_of", 1)
    (subsidy,) = view(chain.state, chain.params, "Dust", "subsidy_of", 1)
    assert (coinbase, minted, spent, claimed) == (MINER.address.lower(), subsidy // 10, 0, False)
    assert unlock > 1


def test_restart_keeps_the_head(tmp_path: Path) -> None:
    chain = SmallChain(tmp_path / "chain")
    head = chain.extend(3).header.hash
    chain.close()
    again = SmallChain(tmp_path / "chain")
    assert again.store.latest.head.hash == head
    again.extend(1)
    again.close()
