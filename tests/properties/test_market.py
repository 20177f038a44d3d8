"""No sequence of calls, good or bad, creates or loses a wei or a DUST, or keeps a block from opening."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.contracts.harness import BTC, NOBODY, Network, Reverted, commit, join, register

pytest.importorskip("boa", reason="titanoboa is not installed")

ACCOUNTS = ("alice", "bob", "carol")
START = 1_000 * BTC
REFUSES_MONEY = bytes.fromhex("5f5ffd")
CONTRACTS = ("GraphRegistry", "Bonds", "JobMarket", "Dust")
accounts = st.sampled_from(ACCOUNTS)
roots = st.sampled_from([bytes([i]) * 32 for i in (1, 2)])
amounts = st.one_of(st.just(0), st.integers(1, 10**15), st.just(BTC))


class Market(RuleBasedStateMachine):
    """A market whose windows are a few blocks, with accounts that try anything."""

    def __init__(self):
        super().__init__()
        self.network = Network(
            final_window_blocks=3,
            takeover_blocks=2,
            reveal_window_blocks=3,
            min_deadline_blocks=1,
            max_deadline_blocks=12,
            macs_per_block=2**64,
            subsidy_lock_blocks=3,
            credit_lapse_blocks=20,
            halving_blocks=15,
            subsidy_wei=10**19 + 7,
            min_bond_wei=10**15,
        )
        self.graph = register(self.network)
        self.people = {name: self.network.account(name, START) for name in ACCOUNTS}
        self.wall = self.network.deploy(REFUSES_MONEY, "wall")
        join(self.network, self.graph, "alice")
        self.network.mine()
        self.jobs = 0
        self.difficulties = 0
        self.rewards = []
        self.claimed = set()
        self.finals = 0
        self.closed = {}

    def attempt(self, call, *arguments, **options):
        """Call; a refusal must leave every balance as it was (the invariants look)."""
        try:
            return call(*arguments, **options)
        except Reverted as refusal:
            if not str(refusal).startswith(("JobMarket: ", "Bonds: ", "Dust: ", "GraphRegistry: ")):
                raise
            return None

    def jobs_of(self, number):
        return 1 + number % max(self.jobs, 1)

    def all_jobs(self):
        """Every job; one that is final or refunded changes no more, and is read once."""
        jobs = []
        for number in range(1, self.jobs + 1):
            job = self.closed.get(number)
            if job is None:
                job = self.network.JobMarket.fields("job", self.network.JobMarket.job(number))
                if job["status"] in {4, 5}:
                    self.closed[number] = job
            jobs.append(job)
        return jobs

    @rule(name=accounts, amount=amounts)
    def deposit(self, name, amount):
        self.attempt(self.network.Bonds.deposit, sender=self.people[name], value=amount)

    @rule(name=accounts)
    def serve(self, name):
        self.attempt(self.network.Bonds.serve, self.graph, sender=self.people[name])

    @rule(name=accounts, to=st.sampled_from((*ACCOUNTS, "nobody", "wall")))
    def set_payout(self, name, to):
        payout = {"nobody": NOBODY, "wall": self.wall}.get(to) or self.people[to]
        self.network.Bonds.setPayout(payout, sender=self.people[name])

    @rule(
        name=accounts,
        to=st.sampled_from((*ACCOUNTS, "drawn")),
        fee=amounts,
        blocks=st.integers(0, 13),
        size=st.integers(0, 129),
    )
    def request(self, name, to, fee, blocks, size):
        job = self.attempt(
            self.network.JobMarket.request,
            self.graph,
            b"input",
            [size],
            self.network.number + blocks,
            self.people.get(to, NOBODY),
            sender=self.people[name],
            value=fee,
        )
        if job is not None:
            self.jobs += 1
            assert job == self.jobs

    @rule(name=accounts, number=st.integers(0, 20), root=roots)
    def submit(self, name, number, root):
        provider = self.people[name]
        self.attempt(
            self.network.JobMarket.submit, self.jobs_of(number), b"output", commit(root, provider), sender=provider
        )

    @rule(number=st.integers(0, 20), root=roots)
    def submit_by_the_provider(self, number, root):
        job = self.jobs_of(number)
        provider = self.network.JobMarket.provider_of(job)
        if provider != NOBODY:
            self.attempt(self.network.JobMarket.submit, job, b"output", commit(root, provider), sender=provider)

    @rule(number=st.integers(0, 20), root=roots)
    def reveal(self, number, root):
        job = self.jobs_of(number)
        self.attempt(self.network.JobMarket.reveal, job, root, sender=self.network.JobMarket.provider_of(job))

    @rule(number=st.integers(0, 20))
    def settle(self, number):
        self.attempt(self.network.JobMarket.settle, self.jobs_of(number))

    @rule(number=st.integers(0, 20))
    def refund(self, number):
        self.attempt(self.network.JobMarket.refund, self.jobs_of(number))

    @rule(name=st.sampled_from((*ACCOUNTS, "wall")))
    def withdraw(self, name):
        try:
            self.network.JobMarket.withdraw(sender=self.people.get(name, self.wall))
        except Reverted:
            assert name == "wall" or self.network.JobMarket.owed(self.people[name]) == 0

    @rule(name=st.sampled_from((*ACCOUNTS, "nobody")), difficulty=st.sampled_from([0, 600_000, 40_000_000, 2**255]))
    def open_block(self, name, difficulty):
        coinbase = self.people.get(name, NOBODY)
        self.network.open_block(coinbase, difficulty)
        if coinbase != NOBODY and difficulty:
            self.difficulties += difficulty

    @rule(blocks=st.integers(1, 9))
    def go_on(self, blocks):
        self.network.mine(blocks)

    @rule(number=st.integers(0, 60))
    def claim(self, number):
        try:
            self.network.Dust.claim(number)
        except Reverted:
            return
        assert number not in self.claimed
        self.claimed.add(number)

    @rule(name=accounts, fee=st.integers(1, BTC), root=roots)
    def whole_job(self, name, fee, root):
        market, deadline = self.network.JobMarket, self.network.number + 5
        self.jobs += 1
        job = market.request(self.graph, b"input", [64], deadline, NOBODY, sender=self.people[name], value=fee)
        self.network.mine()
        provider = market.provider_of(job)
        market.submit(job, b"output", commit(root, provider), sender=provider)
        market.reveal(job, root, sender=provider)
        self.network.mine(3)
        market.settle(job)
        self.finals += 1

    @rule(name=accounts, to=accounts, amount=st.integers(0, 10**19))
    def transfer(self, name, to, amount):
        dust = self.network.Dust
        if dust.balanceOf(self.people[name]) >= amount:
            dust.transfer(self.people[to], amount, sender=self.people[name])

    @invariant()
    def no_wei_is_made_or_lost(self):
        network, market, bonds = self.network, self.network.JobMarket, self.network.Bonds
        jobs = self.all_jobs()
        assert market.escrow() == sum(job["fee"] for job in jobs if job["status"] in {1, 2, 3})
        assert market.total_owed() == sum(map(market.owed, (*self.people.values(), self.wall)))
        assert network.balance(market.address) == market.escrow() + market.total_owed()
        assert network.balance(bonds.address) == bonds.total_bonds() == sum(map(bonds.bond_of, self.people.values()))
        everywhere = [*self.people.values(), self.wall, *(getattr(network, name).address for name in CONTRACTS)]
        assert sum(map(network.balance, everywhere)) == START * len(ACCOUNTS)

    @invariant()
    def no_dust_is_made_or_lost(self):
        dust = self.network.Dust
        for number in range(len(self.rewards), self.network.number):
            reward = dust.reward_of(number)
            assert reward[1] in {0, dust.subsidy_of(number) // 10, dust.subsidy_of(number)}
            assert not reward[2] or reward[1] == dust.subsidy_of(number)
            self.rewards.append(reward)
        minted = sum(reward[1] for reward in self.rewards)
        assert dust.totalSupply() == minted
        held = sum(map(dust.balanceOf, (*self.people.values(), self.wall)))
        assert held == sum(self.rewards[number][1] for number in self.claimed)
        assert dust.balanceOf(dust.address) == minted - held

    @invariant()
    def no_credit_is_made_or_lost(self):
        dust = self.network.Dust
        jobs = self.all_jobs()
        assert sum(job["status"] == 4 for job in jobs) >= self.finals
        ledger = {account: dust.credit_of(account) for account in self.people.values()}
        for account, credit in ledger.items():
            assert sum(credit) == sum(
                job["credit"] for job in jobs if job["status"] == 4 and job["provider"] == account
            )
        spent = sum(credit[1] for credit in ledger.values())
        assert spent == dust.total_credit_spent() == sum(reward[2] for reward in self.rewards)
        assert dust.total_difficulty() == self.difficulties % 2**256

    @invariant()
    def every_block_was_opened(self):
        assert self.network.Dust.last_opened() == self.network.number


TestMarket = Market.TestCase
TestMarket.settings = settings(
    max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
