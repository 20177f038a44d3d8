"""Each kind of lie against a companion that checks: who is slashed, who is paid, who is merely late."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chain.params import JOB_MARKET
from hyperdust.contracts_abi import encode_call
from hyperdust.lies import CompanionLie, FaultRefused, ProviderLie
from hyperdust.miner.fault import Liar
from tests.small_chain import MINER, K
from tests.unit.miner_harness import ASKER, small_miner
from tests.unit.test_companion import COMPANION, FINAL, GUILTY, REVEALED, ROWS, SLASHED, Scene, balance

REFUNDED = 5
FEE = 10**12
BOND = 10**18
ELEMENT, OUTPUT, WITHHELD = 1, 5, 8


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[Any]:
    made: list[Scene] = []

    def make(kind: ProviderLie | None = None, **options: Any) -> Scene:
        liar = None if kind is None else Liar(kind, 0 if kind is not ProviderLie.DOUBLE else None)
        made.append(Scene(tmp_path, liar=liar, **options))
        made[-1].bond_companion()
        made[-1].turn()
        return made[-1]

    yield make
    for scene in made:
        scene.chain.close()


def ask(scene: Scene, seed: int = 1, rows: int = ROWS, deadline: int | None = None) -> None:
    data = np.random.default_rng(seed).integers(-63, 64, (rows, K), np.int8)
    scene.chain.ask(data.tobytes(), rows, MINER, deadline)


def kind_of(scene: Scene, job: int) -> int:
    *_, kind, verdict, _ = scene.view("dispute_of", job, contract="Court")
    assert verdict == GUILTY
    return int(kind)


def credit(scene: Scene) -> int:
    return sum(scene.view("credit_of", MINER.address, contract="Dust"))


def test_the_right_trace_under_another_output_is_proven(scenes: Any) -> None:
    scene = scenes(ProviderLie.OUTPUT)
    ask(scene)
    scene.until(REVEALED)
    scene.turn(2)
    assert scene.view("check_of", 1)[4] == 2  # its companion agrees about the trace, and convicts all the same
    scene.until(SLASHED)
    assert kind_of(scene, 1) == OUTPUT
    assert (scene.bond(MINER), credit(scene)) == (0, 0)
    assert scene.bond(COMPANION) == BOND


def test_who_lies_and_answers_nothing_is_convicted_by_time(scenes: Any) -> None:
    scene = scenes(ProviderLie.WITHHOLD)
    ask(scene)
    scene.turn()
    asked = balance(scene, ASKER)
    scene.until(SLASHED, limit=120)
    assert kind_of(scene, 1) == WITHHELD
    assert scene.bond(MINER) == 0
    assert balance(scene, ASKER) == asked + FEE


def test_who_lies_and_hides_it_is_slashed_without_a_reveal(scenes: Any) -> None:
    scene = scenes(ProviderLie.HIDE)
    ask(scene)
    scene.turn()
    asked = balance(scene, ASKER)
    scene.until(SLASHED, limit=120)
    assert scene.view("facts", 1)[1] == bytes(32)  # its trace root was never shown
    assert scene.bond(MINER) == 0
    assert balance(scene, ASKER) == asked + FEE


def test_who_is_silent_is_paused_and_the_fee_comes_back(scenes: Any) -> None:
    scene = scenes(ProviderLie.SILENT)
    ask(scene, deadline=scene.chain.store.latest.head.number + 15)
    scene.turn()
    asked = balance(scene, ASKER)
    scene.turn(18)
    assert scene.status() == 1
    refund(scene, 1)
    assert scene.status() == REFUNDED
    assert balance(scene, ASKER) == asked + FEE
    assert scene.bond(MINER) == BOND  # never slashed for being late
    graph = scene.view("job", 1)[0]
    assert not scene.view("is_provider", graph, MINER.address, contract="Bonds")


def refund(scene: Scene, job: int) -> None:
    scene.chain.send(COMPANION, JOB_MARKET, encode_call("JobMarket", "refund", job))
    scene.turn()


@pytest.mark.parametrize("rows", [ROWS, ROWS + 1])
def test_one_result_for_two_jobs_is_paid_once(scenes: Any, rows: int) -> None:
    scene = scenes(ProviderLie.DOUBLE)
    ask(scene)
    scene.until(FINAL)
    paid = credit(scene)
    ask(scene, seed=2, rows=rows)
    scene.until(SLASHED, job=2, limit=120)
    assert kind_of(scene, 2) != WITHHELD
    assert credit(scene) == paid
    assert scene.bond(MINER) == 0


def test_submitting_twice_changes_nothing(scenes: Any) -> None:
    scene = scenes(ProviderLie.DOUBLE)
    before = scene.nonce(MINER)
    ask(scene)
    scene.until(FINAL)
    assert scene.nonce(MINER) == before + 4  # submit, submit, reveal, settle
    assert scene.view("exposure_of", MINER.address)[0] == 0


def test_a_copied_commitment_cannot_be_opened_and_earns_nothing(scenes: Any) -> None:
    scene = scenes(lie=CompanionLie.COPY)
    ask(scene)
    scene.until(REVEALED)
    before = balance(scene, MINER)
    scene.until(FINAL)
    found = scene.view("check_of", 1)
    assert (found[1].lower(), found[4]) == (COMPANION.address.lower(), 1)  # committed, and never more
    assert balance(scene, MINER) > before  # the provider gets what no companion earned
    assert (scene.bond(MINER), scene.bond(COMPANION)) == (BOND, BOND)


def test_a_false_accusation_costs_the_companion_its_bond(scenes: Any) -> None:
    scene = scenes(lie=CompanionLie.ACCUSE)
    ask(scene)
    scene.until(FINAL, limit=80)
    assert scene.view("check_of", 1)[4] == 4  # refuted by time
    assert (scene.bond(MINER), scene.bond(COMPANION)) == (BOND, 0)
    assert scene.view("owed", MINER.address, contract="Bonds") == BOND // 2
    assert credit(scene) > 0


def test_a_rate_lies_about_that_share_and_tells_the_same_story_again() -> None:
    liar = Liar(ProviderLie.VALUE, rate=30, seed=7)
    lied = [job for job in range(2_000) if liar.lies(job)]
    assert 500 < len(lied) < 700
    assert lied == [job for job in range(2_000) if Liar(ProviderLie.VALUE, rate=30, seed=7).lies(job)]
    assert lied != [job for job in range(2_000) if Liar(ProviderLie.VALUE, rate=30, seed=8).lies(job)]


def test_lies_stay_on_devnets(scenes: Any, tmp_path: Path) -> None:
    scene = scenes()
    template = scene.offer()
    template.chain_id = 21_004_800
    scene.duties._lie = CompanionLie.COPY
    scene.duties._genesis_hash = b""
    with pytest.raises(FaultRefused, match="--fault-kind is for a devnet"):
        scene.duties.act(template)
    miner = small_miner(scene.chain, tmp_path / "other", liar=Liar(ProviderLie.OUTPUT))
    with pytest.raises(FaultRefused, match="--fault is for a devnet"):
        miner._provider_on(template)
