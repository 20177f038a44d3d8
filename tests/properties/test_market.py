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
LAPSE = 32
EPOCH = 2  # a sixteenth of the lapse
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
            credit_lapse_blocks=LAPSE,
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
        self.credit = {account: {} for account in self.people.values()}
        self.spent = dict.fromkeys(self.credit, 0)

    def attempt(self, call, *arguments, **options):
        """Call; a refusal must leave every balance as it was (the invariants look)."""
        try:
            return call(*arguments, **options)
        except Reverted as refusal:
            if not str(refusal).startswith(("JobMarket: ", "Bonds: ", "Dust: ", "GraphRegistry: ")):
                raise
            return None

    def read_rewards(self):
        """Every block's reward but its last field; the rest never changes, and is read once."""
        dust = self.network.Dust
        for number in range(len(self.rewards), self.network.number):
            reward = dust.reward_of(number)
            assert reward[1] in {0, dust.subsidy_of(number) // 10, dust.subsidy_of(number)}
            assert not reward[2] or reward[1] == dust.subsidy_of(number)
            self.rewards.append(reward)

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
        job = self.jobs_of(number)
        try:
            self.network.JobMarket.settle(job)
        except Reverted:
            return
        self.note_credit(job)

    def note_credit(self, number):
        job = self.network.JobMarket.fields("job", self.network.JobMarket.job(number))
        buckets, epoch = self.credit[job["provider"]], self.network.number // EPOCH
        buckets[epoch] = buckets.get(epoch, 0) + job["credit"]

    def held(self, account):
        """Live credit by epoch, oldest first."""
        number = self.network.number
        return {e: macs for e, macs in sorted(self.credit[account].items()) if (e + 1) * EPOCH + LAPSE > number}

    def open_block_of(self, coinbase, difficulty):
        self.network.open_block(coinbase, difficulty)
        if coinbase == NOBODY or not difficulty:
            return
        self.difficulties += difficulty
        live = self.held(coinbase)
        if sum(live.values()) >= difficulty:
            self.spent[coinbase] += difficulty
            for epoch, macs in live.items():
                taken = min(macs, difficulty)
                self.credit[coinbase][epoch] -= taken
                difficulty -= taken

    @rule(number=st.integers(0, 20))
    def refund(self, number):
        self.attempt(self.network.JobMarket.refund, self.jobs_of(number))

    @rule(name=st.sampled_from((*ACCOUNTS, "wall")), wall_takes_money=st.booleans())
    def withdraw(self, name, wall_takes_money):
        self.network.boa.set_code(self.wall, b"" if wall_takes_money else REFUSES_MONEY)
        account = self.people.get(name, self.wall)
        if self.network.JobMarket.owed(self.wall):
            account = self.wall
        try:
            self.network.JobMarket.withdraw(sender=account)
        except Reverted:
            assert not wall_takes_money or self.network.JobMarket.owed(account) == 0
        else:
            assert self.network.JobMarket.owed(account) == 0
        self.network.boa.set_code(self.wall, REFUSES_MONEY)

    @rule(
        name=st.sampled_from((*ACCOUNTS, "nobody")),
        thirds=st.sampled_from([0, 1, 2, 3, 2**200]),
        more=st.integers(0, 1),
    )
    def open_block(self, name, thirds, more):
        """A difficulty of nothing, of some of the credit held, all of it, a little more, or far more."""
        coinbase = self.people.get(name, NOBODY)
        held = 1 if coinbase == NOBODY else sum(self.held(coinbase).values())
        self.open_block_of(coinbase, thirds and min(held * thirds // 3 + more, 2**255))

    @rule(blocks=st.integers(1, 9))
    def go_on(self, blocks):
        self.network.mine(blocks)

    @rule(number=st.integers(0, 60))
    def claim_twice(self, number):
        """One that is unlocked, if any."""
        ripe = [n for n, reward in enumerate(self.rewards) if reward[1] and reward[3] <= self.network.number]
        number = ripe[number % len(ripe)] if ripe else number
        for _ in range(2):
            try:
                self.network.Dust.claim(number)
            except Reverted:
                return
            assert number not in self.claimed
            self.claimed.add(number)

    @rule(name=accounts, fee=st.integers(1, BTC), root=roots, to_wall=st.booleans(), thirds=st.integers(0, 3))
    def whole_job(self, name, fee, root, to_wall, thirds):
        market, deadline = self.network.JobMarket, self.network.number + 5
        self.jobs += 1
        job = market.request(self.graph, b"input", [64], deadline, NOBODY, sender=self.people[name], value=fee)
        self.network.mine()
        provider = market.provider_of(job)
        market.submit(job, b"output", commit(root, provider), sender=provider)
        market.reveal(job, root, sender=provider)
        if to_wall:
            self.network.Bonds.setPayout(self.wall, sender=provider)
        self.network.mine(3)
        market.settle(job)
        self.finals += 1
        self.note_credit(job)
        self.open_block_of(provider, sum(self.held(provider).values()) * thirds // 3)
        if to_wall:
            self.withdraw("wall", wall_takes_money=True)
        self.network.mine(3)
        self.read_rewards()
        self.claim_twice(0)

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
        self.read_rewards()
        minted = sum(reward[1] for reward in self.rewards)
        assert dust.totalSupply() == minted
        held = sum(map(dust.balanceOf, (*self.people.values(), self.wall)))
        assert held == sum(self.rewards[number][1] for number in self.claimed)
        assert dust.balanceOf(dust.address) == minted - held

    @invariant()
    def no_credit_is_made_or_lost(self):
        dust, jobs = self.network.Dust, self.all_jobs()
        self.read_rewards()
        assert sum(job["status"] == 4 for job in jobs) >= self.finals
        for account in self.people.values():
            held, spent, lapsed = dust.credit_of(account)
            assert (held, spent) == (sum(self.held(account).values()), self.spent[account])
            earned = sum(job["credit"] for job in jobs if job["status"] == 4 and job["provider"] == account)
            assert held + spent + lapsed == earned
        assert dust.total_credit_spent() == sum(self.spent.values()) == sum(reward[2] for reward in self.rewards)
        assert dust.total_difficulty() == self.difficulties % 2**256

    @invariant()
    def every_block_was_opened(self):
        assert self.network.Dust.last_opened() == self.network.number


TestMarket = Market.TestCase
TestMarket.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
