"""A companion, a miner and a node in one process: honest jobs are paid, each lie is proven by one transaction."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chain.params import BONDS
from hyperdust.companion.role import Duties
from hyperdust.contracts_abi import encode_call
from hyperdust.graph import LoadedGraph
from hyperdust.lies import CompanionLie, ProviderLie
from hyperdust.miner.fault import Liar
from hyperdust.miner.jobs import Answer, Provider
from hyperdust.miner.role import Miner
from hyperdust.node.contracts import view
from hyperdust.proto import work_pb2 as messages
from hyperdust.work_client import WorkClient
from pouw.backends.reference import NumpyBackend
from pouw.execution import Tensor
from pouw.fraud import Outside, Question, QuestionKind
from pouw.fraud_own import OwnTrace
from pouw.graph_encoding import encode_top_layer
from pouw.trace import tensor_root
from tests.small_chain import MINER, OTHER_MINER, K, graph, graph_id, weights
from tests.unit.miner_harness import ASKER, Context, DirectStub, WorkChain, small_miner, turn

ROWS = 5
COMPANION = OTHER_MINER
REVEALED, FINAL, SLASHED = 3, 4, 6
WRONG_VALUE = Liar(ProviderLie.VALUE, 0)
GUILTY = 1


class BrokenBackend(NumpyBackend):
    """Own hardware that flips a bit in every product."""

    def compute(self, rule: Any, tensors: tuple[Tensor, ...], attributes: tuple[int, ...]) -> Tensor:
        output = super().compute(rule, tensors, attributes).copy()
        output.reshape(-1)[0] ^= 1
        return output


@dataclass
class Scene:
    """A chain whose provider is `miner`; a companion that may be replaced by another life of itself."""

    folder: Path
    liar: Liar | None = None
    answers: bool = True
    """Whether the miner answers what is relayed."""
    backend: Any = field(default_factory=NumpyBackend)
    watch: tuple[int, ...] = ()
    lie: CompanionLie | None = None
    chain: WorkChain = field(init=False)
    miner: Miner = field(init=False)
    client: WorkClient = field(init=False)
    duties: Duties = field(init=False)

    def __post_init__(self) -> None:
        self.chain = WorkChain(self.folder / "chain")
        self.miner = small_miner(self.chain, self.folder / "miner", liar=self.liar)
        self.chain.bond(MINER)
        self.be_born()

    def bond_companion(self) -> None:
        self.chain.send(COMPANION, BONDS, encode_call("Bonds", "deposit"), 10**18)
        self.chain.send(COMPANION, BONDS, encode_call("Bonds", "serve_as_companion", graph_id()))

    def be_born(self) -> None:
        """A new process of the companion: nothing but its folder survives."""
        self.client = WorkClient("none", address(COMPANION), [graph_id()], threading.Event(), companion=True)
        self.client._channel.close()
        self.client._stub = DirectStub(self.chain.server)
        loaded = LoadedGraph(graph(), {tensor_root(weights()): weights()}, graph_id(), encode_top_layer(graph()))
        folder = self.folder / "companion"
        self.duties = Duties(COMPANION, self, folder, {graph_id(): loaded}, self.backend, self.client, self.lie)

    def load_deposit(self) -> int:
        return self.view("demand_deposit", contract="Court")

    def load_announced(self, job: int) -> bytes:
        return self.view("commitment_of", job, COMPANION.address, contract="Court")[0]

    def turn(self, blocks: int = 1) -> None:
        """The companion acts, as often as answers come; then the miner acts and finds a block."""
        for _ in range(blocks):
            for _ in range(30):
                template = self.offer()
                self.client._set(template)
                if not self.duties.act(template) or not self.answers:
                    break
                asked = self.chain.offer(MINER)
                self.miner._client._set(asked)
                self.miner._answers_on(asked).answer(asked)
            asked = self.chain.offer(MINER)
            self.miner._client._set(asked)
            answers = self.miner._answers_on(asked)
            demands = [question for question in asked.questions if question.demand]
            answers.answer(messages.Template(chain_id=asked.chain_id, questions=demands))
            answers.send_demanded(asked, self.miner._provider_on(asked).outbox)
            turn(self.chain, self.miner)

    def offer(self) -> messages.Template:
        request = messages.TemplateRequest(
            coinbase=address(COMPANION), graphs=[graph_id()], companion=True, watch=self.watch
        )
        stream = self.chain.server.get_template(request.SerializeToString(), Context())
        message = next(stream)
        stream.close()
        return message

    def ask(self) -> None:
        rows = np.random.default_rng(1).integers(-63, 64, (ROWS, K), np.int8)
        self.chain.ask(rows.tobytes(), ROWS, MINER)

    def until(self, status: int, limit: int = 60, job: int = 1) -> int:
        """Blocks until a job has this status."""
        for blocks in range(limit):
            if self.status(job) == status:
                return blocks
            self.turn()
        raise AssertionError(f"job {job} is {self.status(job)} after {limit} blocks")

    def status(self, job: int = 1) -> int:
        return self.view("status", job)

    def view(self, function: str, *args: object, contract: str = "JobMarket") -> Any:
        found = view(self.chain.state, self.chain.params, contract, function, *args)
        return found[0] if len(found) == 1 else found

    def nonce(self, account: Any = COMPANION) -> int:
        return self.chain.mempool.pending_nonce(address(account))

    def bond(self, account: Any) -> int:
        return self.view("bond_of", account.address, contract="Bonds")


def address(account: Any) -> bytes:
    return bytes.fromhex(account.address[2:])


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[Any]:
    made: list[Scene] = []

    def make(**options: Any) -> Scene:
        made.append(Scene(tmp_path, **options))
        made[-1].bond_companion()
        made[-1].turn()
        return made[-1]

    yield make
    for scene in made:
        scene.chain.close()


def test_an_honest_job_takes_two_transactions_and_pays_the_companion(scenes: Any) -> None:
    scene = scenes()
    scene.ask()
    before = scene.nonce()
    scene.until(FINAL)
    assert scene.nonce() == before + 2  # commit, reveal
    assert scene.view("companion_of", 1).lower() == COMPANION.address.lower()
    assert scene.view("check_of", 1)[4] == 2  # agrees
    assert scene.bond(MINER) == scene.bond(COMPANION) == 10**18


def test_a_lie_is_proven_by_one_transaction(scenes: Any) -> None:
    scene = scenes(liar=WRONG_VALUE)
    scene.ask()
    before = scene.nonce()
    scene.until(REVEALED)
    blocks = scene.until(SLASHED)
    assert blocks <= 5
    assert scene.nonce() == before + 4  # commit, reveal, announce, prove
    accused, challenger, operator, _, kind, verdict, _ = scene.view("dispute_of", 1, contract="Court")
    assert (accused.lower(), challenger.lower()) == (MINER.address.lower(), COMPANION.address.lower())
    assert (operator, kind, verdict) == (0, 1, GUILTY)
    assert scene.bond(MINER) == 0
    held, *_ = scene.view("credit_of", MINER.address, contract="Dust")
    assert held == 0


@pytest.mark.parametrize("keep_notes", [True, False])
def test_killed_after_any_step_it_proves_all_the_same(scenes: Any, tmp_path: Path, *, keep_notes: bool) -> None:
    scene = scenes(liar=WRONG_VALUE)
    scene.ask()
    before = scene.nonce()
    for _ in range(30):
        if not keep_notes:
            shutil.rmtree(tmp_path / "companion", ignore_errors=True)
        scene.be_born()
        scene.turn()
        if scene.status() == SLASHED:
            break
    assert scene.status() == SLASHED
    if keep_notes:
        assert scene.nonce() == before + 4


def test_own_broken_hardware_accuses_nobody(scenes: Any) -> None:
    scene = scenes(backend=BrokenBackend())
    scene.ask()
    scene.until(FINAL)
    assert scene.view("check_of", 1)[4] == 2
    assert scene.bond(COMPANION) == 10**18


def test_a_provider_alive_answers_demands_on_chain_and_is_convicted_for_its_lie_alone(scenes: Any) -> None:
    scene = scenes(liar=WRONG_VALUE, answers=False)
    scene.ask()
    scene.until(REVEALED)
    scene.until(SLASHED, limit=200)
    _, _, _, _, kind, verdict, _ = scene.view("dispute_of", 1, contract="Court")
    assert (kind, verdict) == (1, GUILTY)
    assert scene.view("demands_count", contract="Court") >= 1


def test_who_withholds_is_convicted_by_time(scenes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scenes(liar=WRONG_VALUE, answers=False)
    monkeypatch.setattr("hyperdust.miner.answers.Answers.answer", lambda *_: None)
    scene.ask()
    scene.until(SLASHED, limit=120)
    _, challenger, _, _, kind, verdict, _ = scene.view("dispute_of", 1, contract="Court")
    assert (challenger.lower(), kind, verdict) == (COMPANION.address.lower(), 8, GUILTY)


def test_who_signs_a_list_and_then_falls_silent_is_convicted_by_time(
    scenes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = OwnTrace.answer

    def fall_silent(own: OwnTrace, question: Question) -> Any:
        if own.on_output is not None and question.kind > QuestionKind.OPERATOR_ROOTS:
            raise Outside("question", question.kind, "one that hurts less")
        return answer(own, question)

    monkeypatch.setattr(OwnTrace, "answer", fall_silent)
    scene = scenes(liar=WRONG_VALUE)
    scene.ask()
    scene.until(SLASHED, limit=120)
    _, challenger, _, _, kind, verdict, _ = scene.view("dispute_of", 1, contract="Court")
    assert (challenger.lower(), kind, verdict) == (COMPANION.address.lower(), 8, GUILTY)
    assert scene.bond(COMPANION) >= 10**18


def test_a_job_that_no_companion_checked_may_be_challenged_by_anybody(tmp_path: Path) -> None:
    scene = Scene(tmp_path, liar=WRONG_VALUE, watch=(1,))
    scene.turn(2)
    scene.ask()
    scene.until(SLASHED)
    assert scene.view("companion_of", 1) == "0x" + 40 * "0"
    _, challenger, *_ = scene.view("dispute_of", 1, contract="Court")
    assert challenger.lower() == COMPANION.address.lower()
    scene.chain.close()


def test_a_challenge_of_an_honest_job_ends_with_no_transaction(tmp_path: Path) -> None:
    scene = Scene(tmp_path, watch=(1,))
    scene.turn(2)
    scene.ask()
    before = scene.nonce()
    scene.until(REVEALED)
    scene.turn()
    assert scene.duties.note(1).is_right
    scene.until(FINAL)
    assert scene.nonce() == before
    scene.chain.close()


def test_a_wrong_output_under_a_right_trace_is_proven(scenes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = Provider.execute

    def lie(provider: Provider, job: messages.Job) -> Answer:
        answer = execute(provider, job)
        return replace(answer, output=bytes([answer.output[0] ^ 1]) + answer.output[1:])

    monkeypatch.setattr(Provider, "execute", lie)
    scene = scenes()
    scene.ask()
    scene.until(SLASHED)
    _, challenger, _, _, kind, verdict, _ = scene.view("dispute_of", 1, contract="Court")
    assert (challenger.lower(), kind, verdict) == (COMPANION.address.lower(), 5, GUILTY)
    assert scene.bond(COMPANION) == 10**18  # it vouched for the trace, which is right


def test_a_result_for_an_input_that_the_graph_does_not_take_is_proven(
    scenes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Provider, "execute", lambda *_: Answer(b"made up", b"\7" * 32, ()))
    scene = scenes()
    scene.chain.ask(b"short", ROWS, MINER)
    scene.until(SLASHED)
    _, _, _, _, kind, verdict, _ = scene.view("dispute_of", 1, contract="Court")
    assert (kind, verdict) == (7, GUILTY)


def test_the_asker_of_a_false_job_is_whole(scenes: Any) -> None:
    scene = scenes(liar=WRONG_VALUE)
    scene.ask()
    scene.turn()
    after_asking = balance(scene, ASKER)
    scene.until(SLASHED)
    assert balance(scene, ASKER) == after_asking + 10**12


def balance(scene: Scene, account: Any) -> int:
    from hyperdust.node.mempool import load_account

    latest = scene.chain.store.latest
    return load_account(latest.state_at(latest.head.hash), address(account)).balance
