"""Every way to cheat, on one running devnet: caught, slashed where the protocol slashes, the asker whole, no credit."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from hyperdust.lies import ProviderLie
from hyperdust.rpc_client import RpcError
from hyperdust.wallet import role_key
from tests.functional.roles_fixture import BTC, FEE, Roles, roles_of, show_times

pytestmark = pytest.mark.functional

DEVNET_OPTIONS: Final = ("--miners", "1", "--companions", "0", "--no-demo", "--no-explorer")
HONEST: Final = role_key(0)
CAUGHT: Final = (ProviderLie.VALUE, ProviderLie.OUTPUT, ProviderLie.WITHHOLD, ProviderLie.HIDE, ProviderLie.DOUBLE)


def wait(done: Callable[[], object], limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, f"nothing within {limit_s:.0f} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def roles(own_devnet: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    with roles_of(own_devnet, tmp_path_factory.mktemp("roles")) as roles:
        yield roles


def event(roles: Roles, name: str, job: int) -> dict[str, Any]:
    (found,) = [event for event in roles.events("JobMarket", name) if event["job"] == job]
    return found


def check_with(roles: Roles, *options: str) -> tuple[Any, int]:
    """A companion that cheats, alone in the list; the honest job that it was drawn for, at its end."""
    cheat = roles.fund()
    process = roles.start("companion", cheat, *options)
    wait(lambda: roles.serves(cheat, "is_companion"))
    job = roles.ask("nothing but the truth", HONEST, roles.fund(BTC))
    wait(lambda: roles.status(job) == "final")
    process.kill()
    return cheat, job


def test_a_copied_commitment_cannot_be_opened_and_is_not_paid(roles: Roles) -> None:
    cheat, job = check_with(roles, "--fault-kind", "copy")
    found = roles.client.call("hyperdust_getJob", job)
    assert (found["companion"], found["check"]) == (cheat.address.lower(), "committed")
    split = event(roles, "FeeSplit", job)
    assert (split["companion"], split["burned"] + split["provider"]) == (0, FEE)
    graph = bytes.fromhex(found["graph"][2:])
    roles.send(cheat, "Bonds", "leave", graph)  # for the tests to come: a draw of it would meet nobody


def test_a_false_accusation_costs_the_bond_and_the_provider_gets_half(roles: Roles) -> None:
    cheat, job = check_with(roles, "--fault-kind", "accuse")
    assert event(roles, "CompanionRefuted", job)["slashed"] == BTC
    assert roles.view("Bonds", "bond_of", cheat.address) == 0
    assert roles.view("Bonds", "bond_of", HONEST.address) == BTC
    assert roles.view("Bonds", "owed", HONEST.address) == BTC // 2
    split = event(roles, "FeeSplit", job)
    assert (split["companion"], split["burned"] + split["provider"]) == (0, FEE)
    assert roles.client.call("hyperdust_getDispute", job)["verdict"] == "innocent"


@dataclass
class Lie:
    """One liar, its asker, and the job that it lied about."""

    key: Any
    asker: Any
    jobs: list[int] = field(default_factory=list)
    asked: int = 0
    """The asker's wei, the fee of the last job paid."""


def ask(roles: Roles, lie: Lie, text: str) -> None:
    lie.jobs.append(roles.ask(text, lie.key, lie.asker, blocks=25))
    lie.asked = roles.balance(lie.asker)


@pytest.fixture(scope="module")
def lies(roles: Roles) -> dict[ProviderLie, Lie]:
    """All liars at once, beside an honest companion; each has its end."""
    checker = roles.fund()
    roles.start("companion", checker, "--backend", "numpy")
    told = {kind: Lie(roles.fund(), roles.fund(BTC)) for kind in ProviderLie}
    for kind, lie in told.items():
        roles.start("miner", lie.key, "--fault-kind", kind.value)
    wait(lambda: roles.serves(checker, "is_companion"))
    for kind, lie in told.items():
        wait(lambda lie=lie: roles.serves(lie.key))  # type: ignore[misc]
        ask(roles, lie, f"a question to {kind.value}")
    double = told[ProviderLie.DOUBLE]
    wait(lambda: roles.status(double.jobs[0]) != "requested")
    ask(roles, double, "the same again, please")
    silent = told[ProviderLie.SILENT].jobs[0]

    anybody = roles.fund(BTC)

    def is_over() -> bool:
        if roles.status(silent) == "requested":
            with suppress(RpcError):  # before its deadline
                roles.send(anybody, "JobMarket", "refund", silent)
        return all(roles.status(lie.jobs[-1]) in {"slashed", "refunded", "final"} for lie in told.values())

    wait(is_over, 200)
    wait(lambda: roles.status(double.jobs[0]) == "final")
    print(show_times(roles))
    return told


@pytest.mark.parametrize("kind", CAUGHT)
def test_a_lie_is_slashed_and_its_asker_is_whole(roles: Roles, lies: dict[ProviderLie, Lie], kind: ProviderLie) -> None:
    lie = lies[kind]
    job = lie.jobs[-1]
    assert roles.status(job) == "slashed"
    convicted = event(roles, "Convicted", job)
    assert (convicted["provider"].lower(), convicted["slashed"]) == (lie.key.address.lower(), BTC)
    assert roles.view("Bonds", "bond_of", lie.key.address) == 0
    assert not roles.serves(lie.key)
    proofs = [verdict for verdict in roles.events("Court", "Verdict") if verdict["job"] == job]
    if kind is ProviderLie.HIDE:
        assert not proofs  # nobody had to prove anything: what both committed to was enough
    else:
        assert len(proofs) == 1
        wanted = {ProviderLie.OUTPUT: 5, ProviderLie.WITHHOLD: 8}.get(kind)
        assert wanted in {None, proofs[0]["kind"]}
        print(f"{kind.value}: convicted of kind {proofs[0]['kind']}")


def test_the_askers_fees_are_back(roles: Roles, lies: dict[ProviderLie, Lie]) -> None:
    for kind, lie in lies.items():
        assert roles.balance(lie.asker) == lie.asked + FEE, kind
        credit = roles.client.call("hyperdust_getCredit", lie.key.address)
        if kind is not ProviderLie.DOUBLE:
            assert credit["held"] == credit["spent"] == 0, kind


def test_who_is_silent_is_paused_and_never_slashed(roles: Roles, lies: dict[ProviderLie, Lie]) -> None:
    lie = lies[ProviderLie.SILENT]
    assert roles.status(lie.jobs[0]) == "refunded"
    assert roles.view("Bonds", "bond_of", lie.key.address) == BTC
    assert [event["account"].lower() for event in roles.events("Bonds", "Paused")] == [lie.key.address.lower()]


def test_a_result_is_paid_once_however_often_it_is_submitted(roles: Roles, lies: dict[ProviderLie, Lie]) -> None:
    lie = lies[ProviderLie.DOUBLE]
    first, second = lie.jobs
    assert (roles.status(first), roles.status(second)) == ("final", "slashed")
    assert event(roles, "Submitted", first)["provider"].lower() == lie.key.address.lower()  # one log: one had effect
    assert event(roles, "FeeSplit", first)["provider"] > 0
    assert not [split for split in roles.events("JobMarket", "FeeSplit") if split["job"] == second]
    credit = roles.client.call("hyperdust_getCredit", lie.key.address)
    assert credit["held"] + credit["spent"] == roles.view("JobMarket", "job", first)[4]
