"""No sequence of calls, good or bad, creates or loses a wei, a DUST or a bond, sticks, or stops a block."""

from functools import cache

from eth_abi.abi import encode
from eth_utils import keccak
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from vyper.compiler import compile_code

from tests.unit.contracts.harness import BTC, NOBODY, Network, Reverted, commit, join, register

ACCOUNTS = ("alice", "bob", "carol")
HOSTILE = ("wall", "furnace", "burglar")
EVERYBODY = (*ACCOUNTS, *HOSTILE)
START = 1_000 * BTC
LAPSE = 32
EPOCH = 2  # a sixteenth of the lapse
CONTRACTS = ("GraphRegistry", "Bonds", "JobMarket", "Dust", "Court")
BRIDGE = "0x0000000000000000000000000000000000005006"
JUDGE = (0x4808).to_bytes(20, "big")
FINAL, REFUNDED, SLASHED = 4, 5, 6
REFUSALS = tuple(f"{name}: " for name in CONTRACTS)

REFUSES_MONEY = bytes.fromhex("5f5ffd")
BURNS_GAS = bytes.fromhex("5b5f56")
BURGLAR = """
# pragma version 0.4.3
@external
@payable
def __default__():
    # Whoever pays it finds it back at every door that pays, for two jobs and a demand.
    market: address = 0x0000000000000000000000000000000000005003
    bonds: address = 0x0000000000000000000000000000000000005002
    court: address = 0x0000000000000000000000000000000000005005
    ok: bool = raw_call(market, method_id("withdraw()"), revert_on_failure=False)
    ok = raw_call(bonds, method_id("withdraw()"), revert_on_failure=False)
    ok = raw_call(bonds, method_id("withdraw_owed()"), revert_on_failure=False)
    ok = raw_call(court, method_id("withdraw()"), revert_on_failure=False)
    number: uint256 = 1
    ok = raw_call(market, abi_encode(number, method_id=method_id("settle(uint256)")), revert_on_failure=False)
    ok = raw_call(market, abi_encode(number, method_id=method_id("refund(uint256)")), revert_on_failure=False)
    ok = raw_call(court, abi_encode(number, method_id=method_id("expire(uint256)")), revert_on_failure=False)
"""

accounts = st.sampled_from(ACCOUNTS)
everybody = st.sampled_from(EVERYBODY)
roots = st.sampled_from([bytes([i]) * 32 for i in (1, 2)])
amounts = st.one_of(st.just(0), st.integers(1, 10**12), st.just(BTC))
numbers = st.integers(0, 20)


@cache
def burglar():
    return bytes.fromhex(compile_code(BURGLAR, output_formats=["bytecode_runtime"])["bytecode_runtime"][2:])


def judge(data):
    """Believes evidence that begins with G, a question with Q, an answer with A."""
    mode, rest = data[0], data[161:]
    if mode == 1:
        words = [1, rest[1], 0, 0, 0, bytes(32), 0]
        return encode(["uint256"] * 5 + ["bytes32", "uint256"], words) if rest[:1] == b"G" else None
    if mode == 2:
        return keccak(rest) + bytes(96) if rest[:1] == b"Q" else None
    return bytes(31) + b"\1" + bytes(64) if rest[4 + int.from_bytes(rest[:4], "big") :][:1] == b"A" else None


class Market(RuleBasedStateMachine):
    """A market whose windows are a few blocks, with accounts that try anything."""

    def __init__(self):
        super().__init__()
        self.network = Network(
            precompiles=((JUDGE, judge, 3_000, 12),),
            final_window_blocks=4,
            takeover_blocks=2,
            reveal_window_blocks=4,
            companion_window_blocks=3,
            dispute_window_blocks=3,
            demand_window_blocks=2,
            demand_deposit_wei=10**9,
            sampling_bps=6_000,
            price_window_blocks=4,
            credit_value_wei=10**6,
            min_deadline_blocks=1,
            max_deadline_blocks=12,
            macs_per_block=2**64,
            unbonding_blocks=10,
            pause_blocks=3,
            subsidy_lock_blocks=3,
            credit_lapse_blocks=LAPSE,
            halving_blocks=15,
            subsidy_wei=10**19 + 7,
            min_bond_wei=10**15,
        )
        network = self.network
        self.graph = register(network)
        self.codes = {"wall": REFUSES_MONEY, "furnace": BURNS_GAS, "burglar": burglar()}
        self.people = {name: network.account(name, START) for name in EVERYBODY}
        for name, code in self.codes.items():
            network.set_code(self.people[name], code)
        join(network, self.graph, "alice", bond=BTC)
        network.Bonds.deposit(sender=self.people["bob"], value=BTC)
        network.Bonds.serve_as_companion(self.graph, sender=self.people["bob"])
        network.mine()
        self.jobs = 0
        self.demands = 0
        self.difficulties = 0
        self.rewards = []
        self.claimed = set()
        self.forfeited = {}
        self.taken = 0
        self.closed = {}
        self.credit = {account: {} for account in self.people.values()}
        self.spent = dict.fromkeys(self.credit, 0)

    def attempt(self, call, *arguments, pays_sender=False, **options):
        """Call; a refusal must have a reason, and leave every balance as it was (the invariants look)."""
        try:
            if options.get("sender") == NOBODY:
                return None  # nobody has the zero address' key
            return call(*arguments, **options)
        except Reverted as refusal:
            if not (pays_sender or str(refusal).startswith(REFUSALS)):
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
        return max(1, self.jobs - number % max(self.jobs, 1))

    def job(self, number):
        return self.network.JobMarket.fields("job", self.network.JobMarket.job(number))

    def all_jobs(self):
        """Every job; one that is over changes no more, and is read once."""
        jobs = []
        for number in range(1, self.jobs + 1):
            job = self.closed.get(number)
            if job is None:
                job = self.job(number)
                if job["status"] in {FINAL, REFUNDED, SLASHED}:
                    self.closed[number] = job
                    if job["status"] == FINAL:
                        buckets, epoch = self.credit[job["provider"]], job["closed_at"] // EPOCH
                        buckets[epoch] = buckets.get(epoch, 0) + job["credit"]
            jobs.append(job)
        return jobs

    @rule(name=everybody, amount=amounts)
    def deposit(self, name, amount):
        self.attempt(self.network.Bonds.deposit, sender=self.people[name], value=amount)

    @rule(name=everybody, role=st.sampled_from(["serve", "serve_as_companion", "leave"]))
    def serve(self, name, role):
        self.attempt(getattr(self.network.Bonds, role), self.graph, sender=self.people[name])

    @rule(name=everybody, amount=st.sampled_from([0, 1, BTC // 2, BTC, 2 * BTC]))
    def unbond(self, name, amount):
        self.attempt(self.network.Bonds.unbond, amount, sender=self.people[name])

    @rule(name=everybody)
    def withdraw_bond(self, name):
        self.attempt(self.network.Bonds.withdraw, sender=self.people[name], pays_sender=True)

    @rule(name=everybody, to=st.sampled_from((*EVERYBODY, "nobody")))
    def set_payout(self, name, to):
        self.network.Bonds.setPayout(self.people.get(to, NOBODY), sender=self.people[name])

    @rule(
        name=everybody,
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

    @rule(name=everybody, number=numbers)
    def decline(self, name, number):
        job = self.jobs_of(number)
        named = self.network.JobMarket.provider_of(job)
        self.attempt(self.network.JobMarket.decline, job, sender=self.people[name])
        self.attempt(self.network.JobMarket.decline, job, sender=named)

    @rule(name=accounts, number=numbers, root=roots)
    def submit(self, name, number, root):
        provider = self.people[name]
        self.attempt(
            self.network.JobMarket.submit, self.jobs_of(number), b"output", commit(root, provider), sender=provider
        )

    @rule(number=numbers, root=roots)
    def submit_by_the_provider(self, number, root):
        job = self.jobs_of(number)
        provider = self.network.JobMarket.provider_of(job)
        if provider != NOBODY:
            self.attempt(self.network.JobMarket.submit, job, b"output", commit(root, provider), sender=provider)

    @rule(number=numbers, root=roots)
    def commit_by_the_companion(self, number, root):
        job = self.jobs_of(number)
        companion = self.network.JobMarket.companion_of(job)
        self.attempt(self.network.JobMarket.commit, job, commit(root, companion), sender=companion)

    @rule(number=numbers, root=roots)
    def reveal(self, number, root):
        job = self.jobs_of(number)
        self.attempt(self.network.JobMarket.reveal, job, root, sender=self.network.JobMarket.provider_of(job))

    @rule(number=numbers, root=roots)
    def companion_reveal(self, number, root):
        job = self.jobs_of(number)
        companion = self.network.JobMarket.companion_of(job)
        self.attempt(self.network.JobMarket.companion_reveal, job, root, sender=companion)

    @rule(number=numbers)
    def settle(self, number):
        self.attempt(self.network.JobMarket.settle, self.jobs_of(number))

    @rule(number=numbers)
    def refund(self, number):
        self.attempt(self.network.JobMarket.refund, self.jobs_of(number))

    @rule(name=everybody, number=numbers, guilty=st.booleans(), kind=st.integers(1, 7))
    def prove(self, name, number, guilty, kind):
        job, sender = self.jobs_of(number), self.people[name]
        evidence = (b"G" if guilty else b"?") + bytes([kind])
        announced = keccak(encode(["bytes32", "address"], [keccak(evidence), sender]))
        self.network.Court.commit(job, announced, sender=sender)
        self.network.mine()
        self.attempt(self.network.Court.prove, job, evidence, b"", sender=sender)

    @rule(name=everybody, number=numbers, what=st.integers(0, 3), value=st.sampled_from([0, 10**9, 10**9 + 1]))
    def demand(self, name, number, what, value):
        demand = self.attempt(
            self.network.Court.demand,
            self.jobs_of(number),
            b"Q" + bytes([what]),
            sender=self.people[name],
            value=value,
        )
        if demand is not None:
            self.demands += 1
            assert demand == self.demands

    @rule(number=st.integers(0, 6), what=st.integers(0, 3), fits=st.booleans())
    def answer(self, number, what, fits):
        demand = 1 + number % max(self.demands, 1)
        self.attempt(self.network.Court.answer, demand, b"Q" + bytes([what]), b"A" if fits else b"?")

    @rule(number=st.integers(0, 6))
    def expire(self, number):
        self.attempt(self.network.Court.expire, 1 + number % max(self.demands, 1))

    @rule(name=everybody, contract=st.sampled_from(["JobMarket", "Court", "Bonds"]), takes_money=st.booleans())
    def withdraw(self, name, contract, takes_money):
        account, found = self.people[name], getattr(self.network, contract)
        call = found.withdraw_owed if contract == "Bonds" else found.withdraw
        if takes_money and name in HOSTILE:
            self.network.set_code(account, b"")
        owed = found.owed(account)
        self.attempt(call, account, pays_sender=name in HOSTILE and not takes_money)
        if takes_money or name not in HOSTILE:
            assert found.owed(account) == 0
        else:
            assert found.owed(account) in {0, owed}
        if name in HOSTILE:
            self.network.set_code(account, self.codes[name])

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
            assert number not in self.claimed | set(self.forfeited)
            self.claimed.add(number)

    @rule(name=accounts, reporter=everybody)
    def forfeit(self, name, reporter):
        """As the court does it: the newest blocks of a coinbase, one of them named twice."""
        dust, coinbase = self.network.Dust, self.people[name]
        self.read_rewards()
        last = self.network.number
        locked = [n for n in range(max(last - 4, 0), last) if not dust.reward_of(n)[4] and self.rewards[n][3] > last]
        mine = {n: self.rewards[n][1] for n in locked if self.rewards[n][0] == coinbase}
        named = [*range(max(last - 4, 0), last), last - 1]
        taken = self.attempt(dust.forfeit, coinbase, named, self.people[reporter], sender=self.network.Court.address)
        assert (taken or 0) == sum(mine.values())
        if taken:
            self.forfeited |= mine
            self.taken += taken // 2

    @precondition(lambda self: self.network.Bonds.bond_of(self.people["alice"]) == 0)
    @rule()
    def come_back(self):
        alice = self.people["alice"]
        self.network.Bonds.deposit(sender=alice, value=BTC)
        self.attempt(self.network.Bonds.serve, self.graph, sender=alice)

    @rule(
        name=everybody,
        fee=st.integers(10**6, 10**12),
        root=roots,
        own=roots,
        hidden=st.booleans(),
        to=everybody,
        thirds=st.integers(0, 3),
        before_court=st.sampled_from(["nothing", "a proof", "a demand", "an answer"]),
    )
    def whole_job(self, name, fee, root, own, hidden, to, thirds, before_court):
        """One job as far as it goes: a companion that agrees or not, a provider that reveals or hides."""
        market, deadline = self.network.JobMarket, self.network.number + 9
        sender = self.people[name]
        job = self.attempt(market.request, self.graph, b"input", [64], deadline, NOBODY, sender=sender, value=fee)
        if job is None:
            return
        self.jobs += 1
        self.network.mine(3)
        provider = market.provider_of(job)
        provider = self.people["alice"] if provider == NOBODY else provider
        self.attempt(market.submit, job, b"output", commit(root, provider), sender=provider)
        self.network.mine(3)
        companion = market.companion_of(job)
        self.attempt(market.commit, job, commit(own, companion), sender=companion)
        if not hidden:
            self.attempt(market.reveal, job, root, sender=provider)
        self.attempt(market.companion_reveal, job, own, sender=companion)
        self.network.Bonds.setPayout(self.people[to], sender=provider)
        if before_court == "a proof":
            self.prove(to, 0, guilty=True, kind=fee % 7 + 1)
        elif before_court != "nothing":
            self.demand(to, 0, 0, 10**9)
        if before_court == "an answer":
            self.attempt(self.network.Court.answer, self.demands, b"Q\0", b"A")
        self.network.mine(5)
        if before_court == "a demand":
            self.attempt(self.network.Court.expire, self.demands)
        self.attempt(market.companion_reveal, job, own, sender=companion)
        self.network.mine(5)
        self.attempt(market.refund if hidden else market.settle, job)
        self.all_jobs()
        if provider in self.credit:
            self.open_block_of(provider, sum(self.held(provider).values()) * thirds // 3)

    @rule(name=accounts, to=everybody, amount=st.integers(0, 10**19))
    def transfer(self, name, to, amount):
        dust = self.network.Dust
        if dust.balanceOf(self.people[name]) >= amount:
            dust.transfer(self.people[to], amount, sender=self.people[name])

    @invariant()
    def no_wei_is_made_or_lost(self):
        network, market, bonds, court = self.network, self.network.JobMarket, self.network.Bonds, self.network.Court
        jobs, everyone = self.all_jobs(), (*self.people.values(), BRIDGE)
        assert market.escrow() == sum(job["fee"] for job in jobs if job["status"] in {1, 2, 3})
        assert market.total_owed() == sum(map(market.owed, everyone))
        assert network.balance(market.address) == market.escrow() + market.total_owed()
        assert bonds.total_bonds() == sum(map(bonds.bond_of, everyone))
        assert bonds.total_unbonding() == sum(map(bonds.unbonding_of, everyone))
        assert bonds.total_owed() == sum(map(bonds.owed, everyone))
        at_stake = bonds.total_bonds() + bonds.total_unbonding() + bonds.total_owed()
        assert network.balance(bonds.address) == at_stake
        demands = [court.demand_of(number) for number in range(1, self.demands + 1)]
        assert court.total_deposits() == sum(demand[3] for demand in demands if demand[5] == 1)
        assert court.total_owed() == sum(map(court.owed, everyone))
        assert network.balance(court.address) == court.total_deposits() + court.total_owed()
        everywhere = [*everyone, *(getattr(network, name).address for name in CONTRACTS)]
        assert sum(map(network.balance, everywhere)) == START * len(EVERYBODY)

    @invariant()
    def every_bond_knows_what_it_covers(self):
        open_value = dict.fromkeys(self.people.values(), 0)
        for job in self.all_jobs():
            engaged = job["status"] in {2, 3} or (job["status"] == 1 and not job["candidates"])
            if engaged and job["provider"] != NOBODY:
                open_value[job["provider"]] += job["fee"] + job["credit"] * 10**6 // 10**9
        for account, value in open_value.items():
            assert self.network.JobMarket.open_value(account) == value

    @invariant()
    def no_dust_is_made_or_lost(self):
        dust = self.network.Dust
        self.read_rewards()
        minted = sum(reward[1] for reward in self.rewards)
        lost = sum(self.forfeited.values())
        assert dust.totalSupply() == minted - (lost - self.taken)
        held = sum(map(dust.balanceOf, self.people.values()))
        assert held == sum(self.rewards[number][1] for number in self.claimed) + self.taken
        assert dust.balanceOf(dust.address) == dust.totalSupply() - held

    @invariant()
    def no_credit_is_made_or_lost(self):
        dust, jobs = self.network.Dust, self.all_jobs()
        self.read_rewards()
        for account in self.people.values():
            held, spent, lapsed = dust.credit_of(account)
            assert (held, spent) == (sum(self.held(account).values()), self.spent[account])
            earned = sum(job["credit"] for job in jobs if job["status"] == FINAL and job["provider"] == account)
            assert held + spent + lapsed == earned
        assert dust.total_credit_granted() == sum(job["credit"] for job in jobs if job["status"] == FINAL)
        assert dust.total_credit_spent() == sum(self.spent.values()) == sum(reward[2] for reward in self.rewards)
        assert dust.total_difficulty() == self.difficulties % 2**256

    @invariant()
    def every_block_was_opened(self):
        assert self.network.Dust.last_opened() == self.network.number

    def teardown(self):
        """Time alone gets every wei out: whatever was done before, and whoever refuses money."""
        if not hasattr(self, "network"):
            return
        network, market, bonds, court = self.network, self.network.JobMarket, self.network.Bonds, self.network.Court
        network.mine(40)
        for number in (n for n in range(1, self.demands + 1) if court.demand_of(n)[5] == 1):
            court.expire(number)
        for number in range(1, self.jobs + 1):
            way_out = {1: market.refund, 2: market.refund, 3: market.settle}.get(market.status(number))
            if way_out:
                way_out(number)
            assert market.status(number) in {FINAL, REFUNDED, SLASHED}
        assert (market.escrow(), court.total_deposits()) == (0, 0)
        for account in self.people.values():
            if bonds.bond_of(account):
                bonds.unbond(bonds.bond_of(account), sender=account)
        network.mine(10)
        for account in self.people.values():
            network.set_code(account, b"")
            for call in (market.withdraw, court.withdraw, bonds.withdraw_owed):
                self.attempt(call, account)
            self.attempt(bonds.withdraw, sender=account)
        assert [network.balance(contract.address) for contract in (market, bonds, court)] == [0, 0, 0]
        assert sum(map(network.balance, (*self.people.values(), BRIDGE))) == START * len(EVERYBODY)


TestMarket = Market.TestCase
TestMarket.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
