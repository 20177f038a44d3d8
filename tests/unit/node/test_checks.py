"""What the node tells a companion to do, and a provider to wait for, from the request to the verdict."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_abi.abi import encode

from chain.hashing import keccak256
from chain.params import BONDS, COURT, JOB_MARKET
from hyperdust.contracts_abi import encode_call
from hyperdust.node.contracts import view
from hyperdust.node.jobs import Check, CheckStep, JobIndex
from pouw.fraud import Question, QuestionKind
from pouw.fraud_codec import Path as TracePath
from pouw.fraud_question import encode_demand
from pouw.graph_encoding import encode_top_layer
from tests.small_chain import MINER, OTHER_MINER, K, graph, graph_id
from tests.unit.miner_harness import ASKER, WorkChain, small_miner, turn

ROWS = 5
COMPANION = OTHER_MINER
RIGHT, WRONG = b"\1" * 32, b"\2" * 32


class Scene:
    """A chain with one provider, one companion and an index of its own."""

    def __init__(self, folder: Path) -> None:
        self.chain = WorkChain(folder / "chain")
        self.sealer = small_miner(self.chain, folder / "sealer", ASKER)  # makes blocks and takes no step
        self.chain.bond(MINER)
        self.send(COMPANION, BONDS, "Bonds", "deposit", value=10**18)
        self.send(COMPANION, BONDS, "Bonds", "serve_as_companion", graph_id())
        self.blocks()
        self.index = JobIndex(self.chain.params, self.chain.store)

    def send(self, account: Any, to: bytes, contract: str, function: str, *args: object, value: int = 0) -> None:
        self.chain.send(account, to, encode_call(contract, function, *args), value, gas=8_000_000)

    def market(self, account: Any, function: str, *args: object) -> None:
        self.send(account, JOB_MARKET, "JobMarket", function, *args)

    def blocks(self, count: int = 1) -> None:
        turn(self.chain, self.sealer, count)

    @property
    def head(self) -> int:
        return self.chain.store.latest.head.number

    def window(self, name: str, contract: str = "JobMarket") -> int:
        return int(view(self.chain.state, self.chain.params, contract, name)[0])

    def claim(self, root: bytes = RIGHT) -> None:
        """A job is asked for and answered."""
        rows = np.ones((ROWS, K), np.int8).tobytes()
        self.chain.ask(rows, ROWS, MINER)
        self.blocks()
        self.market(MINER, "submit", 1, b"\0" * 8, commitment(root, MINER))
        self.blocks(3)

    def check(self) -> Check | None:
        self.index.catch_up()
        found = self.index.checks(address(COMPANION), [graph_id()])
        assert len(found) <= 1
        return found[0] if found else None

    def step(self) -> CheckStep | None:
        found = self.check()
        return found.step if found else None

    def provider_ready_at(self) -> int | None:
        self.index.catch_up()
        offers = self.index.offers(address(MINER), [graph_id()])
        return offers[0].ready_at if offers else None


def address(account: Any) -> bytes:
    return bytes.fromhex(account.address[2:])


def commitment(root: bytes, account: Any) -> bytes:
    return keccak256(encode(["bytes32", "address"], [root, account.address]))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


def test_a_companion_commits_while_the_provider_waits(scene: Scene) -> None:
    scene.claim()
    submitted = scene.head - 2
    check = scene.check()
    assert check is not None
    assert (check.step, check.ready_at) == (CheckStep.COMMIT, submitted + 3)
    assert check.until == submitted + scene.window("companion_window")
    assert scene.provider_ready_at() == check.until + 1
    scene.market(COMPANION, "commit", 1, commitment(RIGHT, COMPANION))
    scene.blocks()
    assert scene.provider_ready_at() == submitted + 3
    late = scene.check()
    assert late is not None  # opens alone only if the provider never does
    assert (late.step, late.ready_at) == (CheckStep.REVEAL, submitted + scene.window("reveal_window") + 1)


def test_a_companion_that_does_not_commit_is_waited_for_no_longer_than_its_window(scene: Scene) -> None:
    scene.claim()
    until = scene.check().until
    scene.blocks(until - scene.head)
    assert scene.check() is None
    scene.market(MINER, "reveal", 1, RIGHT)
    scene.blocks()
    assert scene.step() is CheckStep.PROVE  # it may still challenge, like anybody


def test_equal_roots_leave_only_the_output_to_be_looked_at_until_the_job_is_final(scene: Scene) -> None:
    scene.claim()
    scene.market(COMPANION, "commit", 1, commitment(RIGHT, COMPANION))
    scene.blocks()
    scene.market(MINER, "reveal", 1, RIGHT)
    scene.blocks()
    revealed = scene.head
    check = scene.check()
    assert (check.step, check.ready_at) == (CheckStep.REVEAL, revealed + 1)
    assert check.until == revealed + scene.window("reveal_window")
    scene.market(COMPANION, "companion_reveal", 1, RIGHT)
    scene.blocks()
    final_at = revealed + scene.chain.params.final_window_blocks
    assert (scene.step(), scene.check().until) == (CheckStep.PROVE, final_at - 1)
    assert scene.provider_ready_at() == final_at
    scene.blocks(final_at - 1 - scene.head)
    assert scene.check() is None


def test_another_root_holds_the_job_and_demands_hold_it_longer(scene: Scene) -> None:
    scene.claim(WRONG)
    scene.market(COMPANION, "commit", 1, commitment(RIGHT, COMPANION))
    scene.blocks()
    scene.market(MINER, "reveal", 1, WRONG)
    scene.blocks()
    scene.market(COMPANION, "companion_reveal", 1, RIGHT)
    scene.blocks()
    held_until = scene.head + scene.window("dispute_window")
    assert (scene.step(), scene.check().until) == (CheckStep.PROVE, held_until)
    assert scene.provider_ready_at() == held_until + 1
    deposit = scene.window("demand_deposit", "Court")
    question = encode_demand(Question(QuestionKind.TRACE_CHILDREN), TracePath(encode_top_layer(graph())))
    scene.send(COMPANION, COURT, "Court", "demand", 1, question, value=deposit)
    scene.blocks()
    (demand,) = scene.check().demands
    assert demand.question == question
    assert demand.deadline == scene.head + scene.window("demand_window", "Court")
    assert scene.provider_ready_at() is None  # nothing is final while a demand is open
    assert scene.index.challenges(address(COMPANION), [1]) == [scene.check()]
    assert scene.index.challenges(address(ASKER), [1, 2])[0].demands == ()


def test_a_provider_that_hides_another_root_is_convicted_by_a_refund(scene: Scene) -> None:
    scene.claim(WRONG)
    submitted = scene.head - 2
    scene.market(COMPANION, "commit", 1, commitment(RIGHT, COMPANION))
    scene.blocks()
    scene.blocks(submitted + scene.window("reveal_window") - scene.head)
    assert scene.provider_ready_at() is None
    assert scene.check().ready_at == scene.head + 1
    scene.market(COMPANION, "companion_reveal", 1, RIGHT)
    scene.blocks()
    check = scene.check()
    assert (check.step, check.ready_at) == (CheckStep.REFUND, scene.head + scene.window("dispute_window") + 1)
    scene.blocks(check.ready_at - 1 - scene.head)
    scene.market(COMPANION, "refund", 1)
    scene.blocks()
    assert scene.check() is None
    assert view(scene.chain.state, scene.chain.params, "JobMarket", "status", 1)[0] == 6
    assert scene.index.get(1).status == 6


def test_nobody_else_is_told_anything(scene: Scene) -> None:
    scene.claim()
    for account in (MINER, ASKER):
        assert scene.index.checks(address(account), [graph_id()]) == []
    assert scene.index.checks(address(COMPANION), [b"\7" * 32]) == []
    assert scene.index.challenges(address(ASKER), [1]) == []  # not revealed
