import pytest
from eth_abi import encode
from eth_utils import keccak
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from vyper.compiler import compile_code

from tests.unit.contracts.harness import (
    BTC,
    NOBODY,
    Contract,
    Network,
    Reverted,
    commit,
    join,
    register,
    reverts,
)

BASE_FEE = 10**9  # of the test's EVM
RUN_GAS = 100_000
NEVER = 2**256 - 1
GAS = 200_000
REVERTS = bytes.fromhex("5f5ffd")
BURNS_GAS = bytes.fromhex("5b5f56")
ACCEPTS = bytes.fromhex("00")
RETURNS_MUCH = bytes.fromhex("61ffff5ff3")  # 64 KiB of zeros
TRACE_ROOT = b"\5" * 32

TARGET = """
# pragma version 0.4.3
interface Scheduler:
    def run(id: uint256) -> bool: nonpayable
    def cancel(id: uint256): nonpayable
    def withdraw(): nonpayable
    def schedule(
        target: address, data: Bytes[1024], gas_limit: uint256, first_block: uint256, interval: uint256, times: uint256
    ) -> uint256: payable

SCHEDULER: constant(Scheduler) = Scheduler(0x0000000000000000000000000000000000005008)

count: public(uint256)
last: public(Bytes[64])
refused: public(uint256)

@external
@payable
def __default__():
    pass

@external
def hit(data: Bytes[64]):
    self.count += 1
    self.last = data

@external
def reenter(id: uint256):
    ok: bool = raw_call(SCHEDULER.address, abi_encode(id, method_id=method_id("run(uint256)")), revert_on_failure=False)
    if not ok:
        self.refused += 1
    ok = raw_call(SCHEDULER.address, abi_encode(id, method_id=method_id("cancel(uint256)")), revert_on_failure=False)
    if not ok:
        self.refused += 1
    ok = raw_call(SCHEDULER.address, method_id("withdraw()"), revert_on_failure=False)
    if not ok:
        self.refused += 1

@external
def again(amount: uint256):
    self.count += 1
    extcall SCHEDULER.schedule(
        self, abi_encode(amount, method_id=method_id("again(uint256)")), 900_000, block.number + 1, 0, 1, value=amount
    )
"""
OUTPUT = compile_code(TARGET, output_formats=["bytecode_runtime", "abi"])


@pytest.fixture
def network():
    network = Network(base_fee=BASE_FEE)
    network.skip_to(100)
    return network


@pytest.fixture
def target(network):
    return deploy_target(network)


@pytest.fixture
def owner(network):
    return network.account("owner")


def deploy_target(network, label="target"):
    address = network.deploy(bytes.fromhex(OUTPUT["bytecode_runtime"][2:]), label)
    return Contract(network, address, OUTPUT["abi"])


def call_data(function, *arguments):
    (entry,) = [part for part in OUTPUT["abi"] if part.get("name") == function]
    types = [part["type"] for part in entry["inputs"]]
    return keccak(text=f"{function}({','.join(types)})")[:4] + encode(types, arguments)


def schedule(network, target, data=b"", *, gas=GAS, at=0, interval=0, times=1, value=BTC, sender=None, refund_to=None):
    sender = sender or network.account("owner")
    address = target if isinstance(target, str) else target.address
    return network.Scheduler.schedule(
        address, data, gas, at, interval, times, refund_to or sender, sender=sender, value=value
    )


def run(network, number, **options):
    runner = network.account("runner")
    before = network.balance(runner)
    success = network.Scheduler.run(number, sender=runner, **options)
    return success, network.balance(runner) - before


def is_exact(network):
    scheduler = network.Scheduler
    return network.balance(scheduler.address) == scheduler.escrow() + scheduler.total_owed()


def test_a_call_runs_at_its_block_and_pays_the_runner(network, target, owner):
    data = call_data("hit", b"hello")
    number = schedule(network, target, data, at=110)
    ((name, fields),) = network.events()
    assert name == "Scheduled"
    assert (fields["id"], fields["owner"], fields["first_block"], fields["value"]) == (1, owner, 110, BTC)
    assert network.Scheduler.due_block(number) == 110
    assert network.Scheduler.due(0, 100) == ()
    with reverts("Scheduler: not due"):
        network.Scheduler.run(number)
    network.skip_to(110)
    assert network.Scheduler.due(0, 100) == (number,)
    success, paid = run(network, number)
    assert success
    ran = {"id": 1, "runner": network.account("runner"), "success": True, "paid": paid, "lateness": 0, "times": 0}
    assert network.events() == [("Ran", ran), ("Ended", {"id": 1, "refund_to": owner, "refund": BTC - paid})]
    assert (target.count(), target.last()) == (1, b"hello")
    cost = paid - (BTC - paid) // 32
    assert paid > BASE_FEE * RUN_GAS
    assert cost > 0
    assert network.Scheduler.owed(owner) == BTC - paid
    assert network.Scheduler.due_block(number) == NEVER
    with reverts("Scheduler: no such call"):
        network.Scheduler.run(number)
    before = network.balance(owner)
    network.Scheduler.withdraw(owner, sender=network.account("anyone"))
    assert network.balance(owner) - before == BTC - paid
    assert network.balance(network.Scheduler.address) == 0


def test_the_runner_gets_the_gas_and_a_thirty_second_more_a_block(network, target):
    value = 10**15
    shares = []
    for late in (0, 1, 15, 31, 32, 1_000):
        number = schedule(network, target, call_data("hit", b""), at=network.number + 1, value=value)
        network.skip_to(network.number + 1 + late)
        _, paid = run(network, number)
        shares.append(paid)
    assert shares == sorted(shares)
    assert shares[-1] == shares[-2] == shares[-3] == value
    assert shares[0] < value // 2
    step = shares[1] - shares[0]
    assert 0 < step < value // 32


@pytest.mark.parametrize("code", [REVERTS, BURNS_GAS, RETURNS_MUCH])
def test_a_hostile_target_still_pays_its_runner_and_blocks_nobody(network, owner, code):
    hostile = network.deploy(code, "hostile")
    number = schedule(network, hostile)
    success, paid = run(network, number)
    assert success == (code == RETURNS_MUCH)
    assert paid > BASE_FEE * RUN_GAS
    if code == BURNS_GAS:
        assert paid > BASE_FEE * (RUN_GAS + GAS)
    assert network.gas_used < GAS + RUN_GAS + 60_000
    assert network.Scheduler.owed(owner) == BTC - paid
    assert is_exact(network)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("kind", ["hit", "again", "reenter", REVERTS, BURNS_GAS, ACCEPTS, RETURNS_MUCH])
def test_a_runner_is_paid_more_than_its_gas_at_once(network, target, kind, times):
    network.set_balance(target.address, BTC)
    arguments = {"hit": (b"x" * 64,), "again": (10**16,), "reenter": (1,)}
    if isinstance(kind, bytes):
        to, data = network.deploy(kind, "hostile"), b"\0" * 1024
    else:
        to, data = target, call_data(kind, *arguments[kind])
    number = schedule(network, to, data, gas=900_000, interval=5, times=times, value=times * 10**16)
    _, paid = run(network, number)
    assert paid > network.gas_used * BASE_FEE


def test_a_runner_cannot_starve_the_target(network, target):
    number = schedule(network, target, call_data("hit", b""), gas=1_000_000)
    with reverts("Scheduler: too little gas to run it"):
        network.Scheduler.run(number, gas=1_000_000)
    assert run(network, number, gas=1_200_000)[0]


def test_an_interval_leaves_out_what_nobody_ran(network, target, owner):
    number = schedule(network, target, call_data("hit", b""), at=100, interval=10, times=3, value=3 * BTC)
    run(network, number)
    assert network.Scheduler.due_block(number) == 110
    with reverts("Scheduler: not due"):
        network.Scheduler.run(number)
    network.skip_to(137)
    run(network, number)
    assert network.Scheduler.due_block(number) == 140  # not 120, 130
    network.skip_to(140)
    run(network, number)
    assert target.count() == 3
    assert network.Scheduler.open_count() == 0
    assert is_exact(network)


def test_reentering_is_refused_and_scheduling_on_is_not(network, target):
    network.set_balance(target.address, BTC)
    number = schedule(network, target, call_data("reenter", 1), gas=GAS * 3)
    assert run(network, number)[0]
    assert target.refused() == 3
    value = 10**16
    number = schedule(network, target, call_data("again", value), gas=900_000)
    assert run(network, number)[0]
    assert network.Scheduler.due(0, 100) == ()
    network.mine()
    assert network.Scheduler.due(0, 100) == (number + 1,)
    assert run(network, number + 1)[0]
    assert target.count() == 2
    assert is_exact(network)


def test_cancel_gives_back_what_is_left(network, target, owner):
    payer, stranger = network.account("payer"), network.account("stranger")
    first = schedule(network, target, at=200, refund_to=payer)
    second = schedule(network, target, at=200)
    with reverts("Scheduler: not yours to cancel"):
        network.Scheduler.cancel(first, sender=stranger)
    network.Scheduler.cancel(first, sender=payer)
    assert network.events() == [
        ("Cancelled", {"id": first, "account": payer}),
        ("Ended", {"id": first, "refund_to": payer, "refund": BTC}),
    ]
    network.Scheduler.cancel(second, sender=owner)
    with reverts("Scheduler: no such call"):
        network.Scheduler.cancel(second, sender=owner)
    assert (network.Scheduler.owed(payer), network.Scheduler.owed(owner)) == (BTC, BTC)
    with reverts("Scheduler: nothing owed"):
        network.Scheduler.withdraw(stranger)
    assert is_exact(network)


def test_fund_adds_to_an_open_call(network, target):
    number = schedule(network, target, at=200, value=BTC)
    network.Scheduler.fund(number, value=BTC)
    assert network.events() == [("Funded", {"id": number, "value": BTC})]
    assert network.Scheduler.call_of(number)[0][4] == 2 * BTC
    with reverts("Scheduler: nothing sent"):
        network.Scheduler.fund(number)
    with reverts("Scheduler: no such call"):
        network.Scheduler.fund(number + 1, value=1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gas": 0}, "gas out of bounds"),
        ({"gas": 10_000_001}, "gas out of bounds"),
        ({"times": 0}, "no times"),
        ({"times": 2}, "no interval"),
        ({"times": 2**65, "interval": 1}, "times beyond reason"),
        ({"interval": 2**65}, "interval beyond reason"),
        ({"at": 2**66}, "block beyond reason"),
        ({"value": 0}, "prepaid too little"),
        ({"value": BASE_FEE * (GAS + RUN_GAS) - 1}, "prepaid too little"),
        ({"value": BASE_FEE * (GAS + RUN_GAS) * 2 - 1, "times": 2, "interval": 1}, "prepaid too little"),
        ({"refund_to": NOBODY}, "nobody to refund"),
    ],
)
def test_refuses_what_cannot_run(network, target, options, reason):
    with reverts(f"Scheduler: {reason}"):
        schedule(network, target, **options)


def test_refuses_itself_as_target(network):
    for address in (network.Scheduler.address, NOBODY):
        with reverts("Scheduler: no such target"):
            schedule(network, address)


def test_the_list_of_open_calls_keeps_no_holes(network, target):
    numbers = [schedule(network, target, at=200 + i) for i in range(5)]
    network.Scheduler.cancel(numbers[1], sender=network.account("owner"))
    network.Scheduler.cancel(numbers[4], sender=network.account("owner"))
    found = {network.Scheduler.open_at(place) for place in range(network.Scheduler.open_count())}
    assert found == {numbers[0], numbers[2], numbers[3]}
    with reverts("Scheduler: no such place"):
        network.Scheduler.open_at(3)
    network.skip_to(202)
    assert set(network.Scheduler.due(0, 100)) == {numbers[0], numbers[2]}
    assert set(network.Scheduler.due(0, 1)) | set(network.Scheduler.due(1, 100)) == {numbers[0], numbers[2]}
    assert network.Scheduler.due(7, 100) == ()
    assert network.Scheduler.due(2**256 - 1, 2**256 - 1) == ()


def on_job(network, job, status, target, *, value=BTC):
    owner = network.account("owner")
    return network.Scheduler.schedule_on_job(
        job, status, target.address, call_data("hit", b""), GAS, owner, sender=owner, value=value
    )


def test_a_call_waits_for_a_job(network, target):
    graph = register(network)
    provider = join(network, graph, "provider")
    job = network.JobMarket.request(graph, b"input", (100,), network.number + 30, provider, value=BTC // 1_000)
    claimed, final = on_job(network, job, 2, target), on_job(network, job, 4, target)
    assert network.Scheduler.due_block(claimed) == NEVER
    with reverts("Scheduler: not due"):
        network.Scheduler.run(claimed)
    network.mine(2)
    network.JobMarket.submit(job, b"output", commit(TRACE_ROOT, provider), sender=provider)
    submitted = network.number
    network.mine(3)
    assert network.Scheduler.due_block(claimed) == submitted
    assert network.Scheduler.due(0, 100) == (claimed,)
    network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    assert network.Scheduler.due_block(claimed) == submitted
    assert run(network, claimed)[0]
    network.skip_to(network.number + 20)
    assert network.Scheduler.due(0, 100) == ()
    network.JobMarket.settle(job)
    network.mine()
    assert network.Scheduler.due_block(final) == network.number - 1
    assert run(network, final)[0]
    assert target.count() == 2


def test_a_refunded_job_has_reached_every_status(network, target):
    graph = register(network)
    provider = join(network, graph, "provider")
    job = network.JobMarket.request(graph, b"input", (100,), network.number + 30, provider, value=BTC // 1_000)
    calls = [on_job(network, job, status, target) for status in (2, 3, 4)]
    network.skip_to(network.number + 31)
    network.JobMarket.refund(job)
    assert network.Scheduler.due(0, 100) == tuple(calls)
    assert [network.Scheduler.due_block(number) for number in calls] == [network.number] * 3
    assert all(run(network, number)[0] for number in calls)


def test_refuses_a_job_that_is_not_there_and_a_status_that_is_none(network, target):
    with reverts("Scheduler: no such job"):
        on_job(network, 1, 2, target)
    for status in (0, 1, 5, 6):
        with reverts("Scheduler: no status to wait for"):
            on_job(network, 1, status, target)


class Calls(RuleBasedStateMachine):
    """Accounts and targets that try anything; the contract holds exactly what it owes, and nothing is stuck."""

    def __init__(self):
        super().__init__()
        self.network = Network(base_fee=BASE_FEE)
        self.network.mine()
        self.people = [self.network.account(name, 1_000 * BTC) for name in ("alice", "bob", "carol")]
        kind = deploy_target(self.network)
        self.network.set_balance(kind.address, 10 * BTC)
        self.targets = [kind.address] + [
            self.network.deploy(code, code.hex()) for code in (REVERTS, BURNS_GAS, ACCEPTS)
        ]
        self.data = [call_data("hit", b"x"), call_data("again", 10**16), call_data("reenter", 1), b""]
        self.everyone = [*self.people, *self.targets, self.network.Scheduler.address]
        self.total = sum(map(self.network.balance, self.everyone))
        self.ran = 0

    def attempt(self, call, *arguments, **options):
        try:
            return call(*arguments, **options)
        except Reverted as refusal:
            if not str(refusal).startswith(("Scheduler: ", "execution reverted")):
                raise
            return None

    @rule(
        who=st.integers(0, 2),
        whom=st.integers(0, 3),
        data=st.integers(0, 3),
        at=st.integers(0, 9),
        interval=st.integers(0, 3),
        times=st.integers(0, 3),
        value=st.sampled_from([0, 10**12, 10**15 + 7, 3 * 10**16 + 1]),
        refund=st.integers(0, 6),
    )
    def schedule(self, who, whom, data, at, interval, times, value, refund):
        self.attempt(
            self.network.Scheduler.schedule,
            self.targets[whom],
            self.data[data],
            900_000,
            self.network.number + at,
            interval,
            times,
            self.everyone[refund],
            sender=self.people[who],
            value=value,
        )

    @rule(who=st.integers(0, 2), number=st.integers(1, 12))
    def run(self, who, number):
        if self.attempt(self.network.Scheduler.run, number, sender=self.people[who]) is not None:
            self.ran += 1

    @rule(who=st.integers(0, 2))
    def run_due(self, who):
        for number in self.network.Scheduler.due(0, 100):
            assert self.attempt(self.network.Scheduler.run, number, sender=self.people[who]) is not None
            self.ran += 1

    @rule(who=st.integers(0, 2), number=st.integers(1, 12))
    def cancel(self, who, number):
        self.attempt(self.network.Scheduler.cancel, number, sender=self.people[who])

    @rule(who=st.integers(0, 2), number=st.integers(1, 12), value=st.sampled_from([0, 1, 10**14]))
    def fund(self, who, number, value):
        self.attempt(self.network.Scheduler.fund, number, sender=self.people[who], value=value)

    @rule(who=st.integers(0, 6))
    def withdraw(self, who):
        self.attempt(self.network.Scheduler.withdraw, self.everyone[who], sender=self.people[0])

    @rule(blocks=st.integers(1, 40))
    def wait(self, blocks):
        self.network.skip_to(self.network.number + blocks)

    @invariant()
    def holds_what_it_owes(self):
        scheduler = self.network.Scheduler
        assert is_exact(self.network)
        assert sum(map(self.network.balance, self.everyone)) == self.total
        assert sum(scheduler.owed(address) for address in self.everyone) == scheduler.total_owed()
        open_ids = [scheduler.open_at(place) for place in range(scheduler.open_count())]
        assert len(set(open_ids)) == len(open_ids)
        assert sum(scheduler.call_of(number)[0][4] for number in open_ids) == scheduler.escrow()

    def teardown(self):
        for place in reversed(range(self.network.Scheduler.open_count())):
            number = self.network.Scheduler.open_at(place)
            owner = self.network.Scheduler.call_of(number)[0][0]
            self.network.Scheduler.cancel(number, sender=owner)
        assert self.network.Scheduler.escrow() == 0
        assert is_exact(self.network)


TestCalls = Calls.TestCase
TestCalls.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
