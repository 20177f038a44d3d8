"""A miner against a real node in one process: jobs done, killed at any step, bad results, labels."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chain.params import BONDS
from consensus.certificate import decode_certificate
from hyperdust.contracts_abi import encode_call
from hyperdust.journal import Journal
from hyperdust.lies import FaultRefused, ProviderLie
from hyperdust.miner.config import MinerConfig
from hyperdust.miner.draw import Drawer
from hyperdust.miner.fault import Liar
from hyperdust.miner.jobs import Entry
from hyperdust.miner.role import run_miner
from hyperdust.node.contracts import view
from hyperdust.proto import work_pb2 as messages
from hyperdust.work_client import Work
from pouw.backends.reference import NumpyBackend
from pouw.execution import run, trace_root
from pouw.fraud import Question, QuestionKind
from pouw.ticket import verify
from pouw.trace import tensor_root
from tests.small_chain import MINER, OTHER_MINER, K, N, graph, graph_id, weights
from tests.unit.miner_harness import WorkChain, small_miner, turn

ROWS = 5
WRONG_VALUE = Liar(ProviderLie.VALUE, 0)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[WorkChain]:
    chain = WorkChain(tmp_path / "chain")
    yield chain
    chain.close()


def rows(seed: int = 1, count: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).integers(-63, 64, (count, K), np.int8)


def status(chain: WorkChain, job: int = 1) -> int:
    return view(chain.state, chain.params, "JobMarket", "status", job)[0]


def nonce(chain: WorkChain, account: object = MINER) -> int:
    return chain.mempool.pending_nonce(bytes.fromhex(account.address[2:]))


def test_a_job_is_answered_revealed_and_paid(chain: WorkChain, tmp_path: Path) -> None:
    miner = small_miner(chain, tmp_path / "miner")
    chain.bond(MINER)
    turn(chain, miner)
    chain.ask(rows().tobytes(), ROWS)
    turn(chain, miner, 4)
    assert status(chain) == 2
    (output,) = view(chain.state, chain.params, "JobMarket", "output_of", 1)
    expected = rows().astype(np.int32) @ weights().astype(np.int32).T
    assert output == expected.astype("<i4").tobytes()
    turn(chain, miner, 3)
    assert status(chain) == 2  # a companion might be drawn by the second block; the reveal is in the pool
    turn(chain, miner)
    assert status(chain) == 3
    found = view(chain.state, chain.params, "JobMarket", "job", 1)[0]
    own = run(graph(), {tensor_root(weights()): weights()}, {"x": rows()}, {"S": ROWS}, NumpyBackend())
    assert trace_root(own) in found
    before = nonce(chain)
    turn(chain, miner, chain.params.final_window_blocks + 2)
    assert status(chain) == 4
    assert nonce(chain) == before + 1
    held, *_ = view(chain.state, chain.params, "Dust", "credit_of", MINER.address)
    assert held >= 0


def test_a_block_found_in_a_job_carries_its_label_and_rows(chain: WorkChain, tmp_path: Path) -> None:
    miner = small_miner(chain, tmp_path / "miner")
    chain.bond(MINER)
    turn(chain, miner)
    labels = {}
    for job in range(1, 9):
        chain.ask(rows(job, 16).tobytes(), 16, MINER)
        turn(chain, miner, 2)
        certificates = [
            decode_certificate(chain.store.latest.load_body(chain.store.latest.canonical_hash(number)).certificate)
            for number in range(1, chain.store.latest.head.number + 1)
        ]
        labels = {certificate.label: certificate for certificate in certificates if certificate.label}
        if labels:
            break
    assert labels
    for job, certificate in labels.items():
        assert rows(job, 16)[0].tobytes() in certificate.proof.rows_a


@pytest.mark.parametrize("keep_journal", [True, False])
def test_killed_after_any_step_it_finishes_the_job_and_pays_once(
    chain: WorkChain, tmp_path: Path, *, keep_journal: bool
) -> None:
    chain.bond(MINER)
    turn(chain, small_miner(chain, tmp_path / "miner"))
    chain.ask(rows().tobytes(), ROWS, MINER)
    start = nonce(chain)
    for _ in range(chain.params.final_window_blocks + 8):
        if not keep_journal:
            shutil.rmtree(tmp_path / "miner", ignore_errors=True)
        miner = small_miner(chain, tmp_path / "miner")
        template = chain.offer()
        miner._client._set(template)
        miner._provider_on(template).act(template)
        turn(chain, small_miner(chain, tmp_path / "miner"))  # another life of the same key finds the block
    assert status(chain) == 4
    if keep_journal:
        assert nonce(chain) == start + 3  # submit, reveal, settle: nothing twice


def test_a_pool_that_forgot_gets_the_same_transaction_again(chain: WorkChain, tmp_path: Path) -> None:
    miner = small_miner(chain, tmp_path / "miner")
    chain.bond(MINER)
    turn(chain, miner)
    chain.ask(rows().tobytes(), ROWS, MINER)
    turn(chain, miner)
    template = chain.offer()
    miner._client._set(template)
    miner._provider_on(template).act(template)
    (sent,) = chain.mempool.best(template.number)
    chain.mempool.evict(sent.hash, "test")
    template = chain.offer()
    miner._provider_on(template).act(template)
    assert chain.mempool.get(sent.hash) is not None


def test_a_job_with_impossible_input_is_declined_once_and_holds_up_no_other(chain: WorkChain, tmp_path: Path) -> None:
    miner = small_miner(chain, tmp_path / "miner")
    chain.bond(MINER)
    turn(chain, miner)
    chain.ask(b"short", ROWS)
    chain.ask(np.full((ROWS, K), 127, np.int8).tobytes(), ROWS, MINER)
    before = nonce(chain)
    turn(chain, miner, 6)
    assert nonce(chain) == before + 2
    chain.ask(rows().tobytes(), ROWS, MINER)
    turn(chain, miner, 3)
    # Drawn: open to others until its deadline. Named: refunded at once.
    assert (status(chain, 1), status(chain, 2), status(chain, 3)) == (1, 5, 2)
    assert nonce(chain) == before + 3


def test_another_miner_takes_over_after_the_window(chain: WorkChain, tmp_path: Path) -> None:
    chain.bond(MINER)
    chain.bond(OTHER_MINER)
    other = small_miner(chain, tmp_path / "other", OTHER_MINER)
    turn(chain, other)
    for _ in range(6):
        chain.ask(rows().tobytes(), ROWS)
    turn(chain, other, 12)
    assert {status(chain, job) for job in range(1, 7)} <= {2, 3}


def test_a_fault_changes_the_trace_and_nothing_before_it(chain: WorkChain, tmp_path: Path) -> None:
    miner = small_miner(chain, tmp_path / "miner", liar=WRONG_VALUE)
    chain.bond(MINER)
    turn(chain, miner)
    chain.ask(rows().tobytes(), ROWS, MINER)
    turn(chain, miner, 3)
    (output,) = view(chain.state, chain.params, "JobMarket", "output_of", 1)
    wrong = np.frombuffer(output, "<i4") != (rows().astype(np.int32) @ weights().astype(np.int32).T).ravel()
    assert wrong.sum() == 1


def test_products_are_exact_whatever_the_rows(chain: WorkChain) -> None:
    miner_key = b"\x11" * 32
    operands = {operand.operator: operand for operand in graph().mining_operands()}
    drawer = Drawer(graph_id(), operands, {tensor_root(weights()): weights()}, miner_key)
    work = Work(1, b"\1" * 32, b"\2" * 32, 1, chain.params.difficulty_floor)
    found = 0
    for count in (1, 15, 16, 17, 40, 64):
        a = rows(count, count)
        product, ticket = drawer.multiply(work, 0, a, 9)
        assert product.shape == (count, N)
        assert np.array_equal(product, a.astype(np.int32) @ weights().astype(np.int32).T)
        if ticket is not None:
            found += 1
            certificate = decode_certificate(ticket.certificate)
            verify(certificate.proof, work.parent_hash, work.seal_hash, ticket.nonce, work.difficulty)
            assert certificate.label == (9 if certificate.proof.row_block * 16 < count else 0)
    assert found


def test_a_torn_journal_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    journal = Journal(path, Entry)
    journal.put(Entry(3, trace_root="07"))
    assert Journal(path, Entry).get(3).trace_root == "07"
    path.write_text(path.read_text()[:20])
    assert Journal(path, Entry).get(3) == Entry(3)
    path.write_text('[{"job": 1, "unknown": 2}]')
    assert Journal(path, Entry).get(1) == Entry(1)


def test_a_fault_is_for_devnets_and_for_operators_that_exist(chain: WorkChain, tmp_path: Path) -> None:
    miner = small_miner(chain, tmp_path / "miner", liar=WRONG_VALUE)
    template = chain.offer()
    template.chain_id = 21_000_000
    with pytest.raises(FaultRefused, match="chain 21000000"):
        miner._provider_on(template)
    liar = Liar(ProviderLie.VALUE, 10_000)
    with pytest.raises(FaultRefused, match="has operators 0 to"):
        run_miner(MinerConfig(account=MINER, graphs=("minilm",), data_dir=tmp_path, liar=liar), threading.Event())


def test_who_is_not_bonded_is_offered_no_job_that_is_anybodys(chain: WorkChain, tmp_path: Path) -> None:
    chain.bond(OTHER_MINER)  # drawn, and silent
    miner = small_miner(chain, tmp_path / "miner")
    turn(chain, miner)
    chain.ask(rows().tobytes(), ROWS)
    before = nonce(chain)
    turn(chain, miner, 9)
    assert nonce(chain) == before  # a submission would be reverted, and cost gas
    chain.bond(MINER)
    turn(chain, miner, 3)
    assert status(chain) == 2


def test_a_job_whose_result_is_refused_for_good_is_declined(chain: WorkChain, tmp_path: Path) -> None:
    chain.bond(MINER)
    miner = small_miner(chain, tmp_path / "miner")
    turn(chain, miner)
    chain.ask(rows().tobytes(), ROWS, MINER)
    turn(chain, miner)
    chain.send(MINER, BONDS, encode_call("Bonds", "leave", graph_id()))  # as after a slash
    turn(chain, miner, 8)
    assert status(chain) == 5  # the asker need not wait for the deadline


def test_questions_about_two_jobs_in_turns_cost_an_execution_each(
    chain: WorkChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    miner = small_miner(chain, tmp_path / "miner")
    chain.bond(MINER)
    turn(chain, miner)
    for seed in (1, 2):
        chain.ask(rows(seed).tobytes(), ROWS, MINER)
    turn(chain, miner)
    executed = []
    monkeypatch.setattr("hyperdust.miner.answers.run", lambda *args, **kinds: executed.append(1) or run(*args, **kinds))
    answers = miner._answers_on(chain.offer())
    for kind in (QuestionKind.TRACE_CHILDREN, QuestionKind.PORT_ROOTS, QuestionKind.FORM):
        asked = [messages.DataRequest(job=job, question=Question(kind).encode()) for job in (1, 2)]
        answers.answer(messages.Template(chain_id=chain.params.chain_id, questions=asked))
    assert not answers._refused
    assert len(executed) == 2
