"""Three miners, one lying at random, jobs of every graph: the honest are paid, each lie costs a bond, no wei is lost.

HYPERDUST_TEST_JOBS jobs, 30 if not said otherwise; `make soak` asks a hundred.
"""

import json
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from eth_account import Account

from hyperdust.graph import input_bytes
from hyperdust.rpc_client import RpcError
from hyperdust.wallet import role_key
from tests.functional.roles_fixture import (
    BTC,
    FEE,
    GENESIS,
    GRAPHS,
    Ledger,
    Roles,
    checked_in,
    job_of,
    roles_of,
    show_times,
    supply,
)

pytestmark = [pytest.mark.functional, pytest.mark.timeout(1_500)]

JOBS: Final = int(os.environ.get("HYPERDUST_TEST_JOBS", "30"))
DEVNET_OPTIONS: Final = ("--miners", "2", "--companions", "2", "--no-demo", "--no-explorer")
LIE_PERCENT: Final = 50
IN_FLIGHT: Final = 6
"""Jobs without a reveal at a time: what two cores compute twice within the companion's window."""
WORDS: Final = ("block", "ticket", "proof", "river", "bridge", "the", "a", "of", "miner", "light")
OVER: Final = {"final", "slashed", "refunded"}


@dataclass
class Run:
    """Asks the jobs and follows them to their ends."""

    roles: Roles
    liar: Any
    dice: random.Random
    folder: Path
    states: dict[int, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    """Requests in no block yet."""

    def ask(self, number: int) -> None:
        graph = self.dice.choice(GRAPHS)
        asker = Account.from_key(self.roles.devnet.accounts[number % 5].private_key)
        if graph == "render_island":
            view = self.folder / "view.json"
            view.write_text(json.dumps({"yaw": self.dice.randrange(360), "width": 24, "height": 20}))
            wanted = input_bytes(graph, None, view)
        else:
            wanted = input_bytes(graph, " ".join(self.dice.choices(WORDS, k=self.dice.randint(2, 8))), None)
        miners = (role_key(0).address, role_key(1).address, self.liar.address)
        named = self.dice.choice((None, None, *miners, self.liar.address))
        if named == self.liar.address and not self.roles.serves(self.liar, graph=graph):
            named = None  # slashed, and not bonded again yet
        self.waiting.append(self.roles.request(asker, wanted, graph, named))

    def look(self) -> None:
        """Follow what was asked; fees that only time gives back are fetched."""
        for sent in list(self.waiting):
            receipt = self.roles.client.call("eth_getTransactionReceipt", sent)
            if receipt is not None:
                self.waiting.remove(sent)
                if int(receipt["status"], 16):  # the liar was slashed in between: nothing was asked
                    self.states[job_of(receipt)] = "requested"
        head = self.roles.client.quantity("eth_blockNumber")
        for job, state in self.states.items():
            if state not in OVER:
                found = self.roles.client.call("hyperdust_getJob", job)
                self.states[job] = found["status"]
                if found["status"] == "requested" and head > found["deadline"]:
                    self._refund(job)

    def _refund(self, job: int) -> None:
        try:
            self.roles.send(Account.from_key(self.roles.devnet.accounts[5].private_key), "JobMarket", "refund", job)
        except RpcError as error:
            print(f"job {job}: {error}")

    def in_flight(self) -> int:
        return len(self.waiting) + sum(state in {"requested", "claimed"} for state in self.states.values())

    def is_over(self) -> bool:
        return not self.waiting and all(state in OVER for state in self.states.values())


def test_a_hundred_jobs_with_a_liar_among_three_miners(own_devnet: Any, tmp_path: Path) -> None:
    seed = int(os.environ.get("HYPERDUST_TEST_SEED", str(time.time_ns() % 10**9)))
    print(f"seed {seed}, {JOBS} jobs")
    with roles_of(own_devnet, tmp_path) as roles:
        liar = roles.fund(100 * BTC)
        lies = ("--fault-kind", "value", "--fault-rate", str(LIE_PERCENT), "--fault-seed", str(seed), "--rebond")
        roles.start("miner", liar, *lies, graphs=GRAPHS)
        wait(lambda: all(roles.serves(liar, graph=graph) for graph in GRAPHS), 60)
        run = Run(roles, liar, random.Random(seed), tmp_path)
        started = time.monotonic()
        asked = 0
        while len(run.states) + len(run.waiting) < JOBS or not run.is_over():
            assert time.monotonic() < started + 30 + 10 * JOBS, run.states
            if len(run.states) + len(run.waiting) < JOBS and run.in_flight() < IN_FLIGHT:
                run.ask(asked)
                asked += 1
            else:
                time.sleep(0.2)
            run.look()
        print(f"{JOBS} jobs in {time.monotonic() - started:.0f} s")
        check_verdicts(run)
        check_money(run)
        show_work(run)


def wait(done: Any, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, f"nothing within {limit_s} s"
        time.sleep(0.2)


def check_verdicts(run: Run) -> None:
    """Each lie that was submitted is convicted by one transaction; nothing else is; the honest are final."""
    roles = run.roles
    submitted = {event["job"]: event["provider"].lower() for event in roles.events("JobMarket", "Submitted")}
    said = {line["job"] for line in roles.log(run.liar) if line["event"] == "lying"}
    lied = {job for job in said if submitted.get(job) == run.liar.address.lower()}
    verdicts = roles.events("Court", "Verdict")
    print(f"{len(lied)} lies; {len(verdicts)} verdicts; {show_times(roles)}")
    assert len(lied) >= max(1, JOBS // 50), "the liar hardly lied"
    assert sorted(verdict["job"] for verdict in verdicts) == sorted(lied)
    assert len({verdict["transaction"] for verdict in verdicts}) == len(lied)
    assert all(verdict["accused"].lower() == run.liar.address.lower() for verdict in verdicts)
    assert {job for job, state in run.states.items() if state == "slashed"} == lied
    for job, state in run.states.items():
        if state == "refunded":  # a job of the liar's, asked while its bond was gone
            assert roles.view("JobMarket", "job", job)[2].lower() == run.liar.address.lower(), job
        elif job not in lied:
            assert state == "final", (job, state)
    slashed = [event for event in roles.events("Bonds", "Slashed") if event["amount"]]
    assert {event["account"].lower() for event in slashed} == {run.liar.address.lower()}
    print(f"slashed: {sum(event['amount'] for event in slashed) / BTC:.0f} BTC in {len(slashed)} bonds")


def check_money(run: Run) -> None:
    """Everybody's balance is what blocks and events say; all of them with what was burned are genesis' supply."""
    roles, ledger = run.roles, Ledger()
    block = roles.client.quantity("eth_blockNumber")
    ledger.read(roles, block)
    total = supply(roles, ledger, block)
    assert total + ledger.burned == int(json.loads(GENESIS.read_text())["genesis_supply_wei"])
    honest = [role_key(index).address for index in (0, 1, 10, 11)]
    askers = [account.address for account in roles.devnet.accounts]
    for address in (*honest, *askers, run.liar.address):
        held = int(roles.client.call("eth_getBalance", address, hex(block)), 16)
        assert held == ledger.due[address.lower()], address
    for address in honest:
        assert roles.view("Bonds", "bond_of", address) == BTC
    market = int(roles.client.call("eth_getBalance", "0x" + (0x5003).to_bytes(20, "big").hex(), hex(block)), 16)
    assert market == roles.view("JobMarket", "escrow") + roles.view("JobMarket", "total_owed") == 0
    final = [job for job, state in run.states.items() if state == "final"]
    splits = {event["job"]: event for event in roles.events("JobMarket", "FeeSplit")}
    assert sorted(splits) == sorted(final)
    for job in final:
        split = splits[job]
        assert split["provider"] > 0
        assert split["companion"] > 0, f"job {job} was not checked"
        assert sum(split[part] for part in ("burned", "companion", "royalties", "provider")) == FEE
    paid = {address.lower(): 0 for address in honest[:2]}
    for job in final:
        if (provider := ledger.providers[job]) in paid:
            paid[provider] += splits[job]["provider"]
    print(f"final: {len(final)}; honest providers earned {[*paid.values()]} wei, gas burned {ledger.burned} wei")
    assert all(paid.values())


def show_work(run: Run) -> None:
    """MACs that companions computed, over those of the jobs."""
    roles = run.roles
    macs = {}
    for job in run.states:
        head = roles.view("JobMarket", "job", job)
        macs[job] = roles.view("GraphRegistry", "macs", head[0], roles.view("JobMarket", "symbols_of", job))
    submitted = {event["job"] for event in roles.events("JobMarket", "Submitted")}
    logs = (roles.devnet.folder / "data" / "logs").glob("companion*.log")
    checks = [check for log in logs for check in checked_in(log.read_text(errors="replace"))]
    provided = sum(macs[job] for job in submitted)
    checked = sum(macs[job] for job, _ in checks)
    again = sum(macs[job] for job, differs in checks if differs)  # by the reference, before anybody is accused
    print(f"MACs: providers {provided}, companions {checked / provided:.3f} of that, {again / provided:.3f} to be sure")
