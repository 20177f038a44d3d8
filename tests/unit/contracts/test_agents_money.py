"""No sequence of asks, answers, misses and withdrawals creates, loses or keeps for ever a wei, a DUST or a coin."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.contracts.agent_parts import (
    BTC_COIN,
    DUST_COIN,
    FEE,
    OWN_COIN,
    TRACE_ROOT,
    create,
    deploy_asker,
    give_dust,
    proxy,
    served_graph,
    terms,
)
from tests.unit.contracts.harness import BTC, Network, Reverted, commit

BASE_FEE = 10**9
BRIDGE = "0x0000000000000000000000000000000000005006"
INPUT = b"\1\0\0\0" * 4
REFUNDED = 5
KNOWN = (
    *("Agent: ", "AgentFactory: ", "AgentCoin: ", "JobMarket: ", "Scheduler: ", "Bonds: ", "Dust: ", "erc20: "),
    "execution reverted",
)
currencies = st.sampled_from([BTC_COIN, DUST_COIN, OWN_COIN])
numbers = st.integers(0, 20)
questions = st.tuples(
    st.integers(0, 1),  # which agent
    st.integers(0, 3),  # who asks
    st.integers(2, 4),  # how firm
    st.sampled_from([0, 0, 0, 3, 5]),  # depth
    st.sampled_from([10**16, 10**16, 0, 1]),  # prepaid
    st.sampled_from([0, 0, 0, 1]),  # wei short of the budget
)


class Market(RuleBasedStateMachine):
    """Two agents of one owner, people and contracts that ask, a provider that may fail, and a runner."""

    def __init__(self):
        super().__init__()
        network = self.network = Network(
            base_fee=BASE_FEE, final_window_blocks=6, reveal_window_blocks=6, companion_window_blocks=3, pause_blocks=1
        )
        network.mine(20)
        graph, self.provider = served_graph(network)
        self.owner = network.account("owner")
        self.agents = [create(network, graph, price=BTC // 100), create(network, graph, price=0)]
        self.people = [network.account(name) for name in ("alice", "bob")]
        self.askers = [deploy_asker(network, f"asker {i}", 10 * BTC) for i in range(2)]
        self.runner = network.account("runner")
        self.coin = proxy(
            network, "AgentCoin", network.AgentFactory.launch_coin(1, "Ada", "ADA", 10**12, 10**9, sender=self.owner)
        )
        for person in self.people:
            give_dust(network, person, 10**18)
            self.coin.buy(100 * 10**18, sender=person, value=BTC)
        for asker in self.askers:
            network.Dust.transfer(asker.address, 10**17, sender=self.people[0])
            self.coin.transfer(asker.address, 10**19, sender=self.people[0])
            for agent in self.agents:
                for token in (network.Dust, self.coin):
                    asker.approve(token.address, agent.address, 2**255)
        for person in self.people:
            for agent in self.agents:
                for token in (network.Dust, self.coin):
                    token.approve(agent.address, 2**255, sender=person)
        self.everyone = [*self.people, self.owner, self.provider, self.runner, network.account("anyone"), BRIDGE]
        self.everyone += [asker.address for asker in self.askers]
        self.everyone += [agent.address for agent in self.agents]
        self.everyone += [
            part.address for part in (network.JobMarket, network.Scheduler, network.Bonds, network.Dust, self.coin)
        ]
        self.wei = sum(map(network.balance, self.everyone))
        self.dust = sum(map(network.Dust.balanceOf, self.everyone))
        self.supply = self.coin.totalSupply()

    def attempt(self, call, *arguments, **options):
        try:
            return call(*arguments, **options)
        except Reverted as refusal:
            if not str(refusal).startswith(KNOWN):
                raise
            return None

    def existing(self, number, count):
        return 1 + number % max(count, 1)

    def terms(self, agent, currency, firmness, gas, depth):
        return terms(
            self.network,
            currency=currency,
            max_price=agent.price(),
            firmness=firmness,
            callback_gas=gas,
            depth=depth,
        )

    @initialize(some=st.lists(questions, min_size=2, max_size=4))
    def begin(self, some):
        for question in some:
            self.ask(question)

    @rule(question=questions)
    def ask(self, question):
        which, who, firmness, depth, prepaid, short = question
        agent = self.agents[which]
        currency = agent.currency()
        agreed = self.terms(agent, currency, firmness, 3_000_000, depth)
        budget = FEE + prepaid + (agent.price() if currency == BTC_COIN else 0) - short
        if who < 2:
            arguments = (INPUT, (4,), self.network.number + 30, agreed)
            self.attempt(agent.ask, *arguments, sender=self.people[who], value=budget)
        else:
            self.attempt(self.askers[who - 2].ask, agent.address, agreed, budget)

    @rule(which=st.integers(0, 1), currency=currencies, price=st.sampled_from([0, 1, 10**15]))
    def set_price(self, which, currency, price):
        self.attempt(self.agents[which].set_price, currency, price, sender=self.owner)

    @rule(who=st.integers(0, 1), mode=st.integers(0, 5), refuses=st.booleans())
    def behave(self, who, mode, refuses):
        self.askers[who].behave(mode, refuses)

    @rule(ends=st.sampled_from(["claimed", "revealed", "final", "final"]), share=st.integers(1, 3))
    def provide(self, ends, share):
        """The provider works on a part of the open jobs, up to a point."""
        network, market = self.network, self.network.JobMarket
        jobs = [job for job in range(1, market.jobs_count() + 1) if market.status(job) in {1, 2} and not job % share]
        network.mine()
        for job in jobs:
            self.attempt(market.submit, job, b"answer", commit(TRACE_ROOT, self.provider), sender=self.provider)
        if ends != "claimed":
            network.mine(3)
            for job in jobs:
                self.attempt(market.reveal, job, TRACE_ROOT, sender=self.provider)
        if ends == "final":
            network.mine(8)

    @rule(number=numbers, function=st.sampled_from(["settle", "refund"]))
    def end_the_job(self, number, function):
        market = self.network.JobMarket
        self.attempt(getattr(market, function), self.existing(number, market.jobs_count()))

    @rule(which=st.integers(0, 1), number=numbers)
    def deliver(self, which, number):
        agent = self.agents[which]
        self.attempt(agent.deliver, self.existing(number, agent.asks_count()))

    @rule(which=st.integers(0, 1), some=st.lists(numbers, min_size=1, max_size=3))
    def close(self, which, some):
        agent = self.agents[which]
        self.attempt(agent.close, [self.existing(number, agent.asks_count()) for number in some])

    @rule()
    def run_what_is_due(self):
        for number in self.network.Scheduler.due(0, 100):
            assert self.attempt(self.network.Scheduler.run, number, sender=self.runner) is not None

    @rule(which=st.integers(0, 1))
    def withdraw(self, which):
        for currency in (BTC_COIN, DUST_COIN, OWN_COIN):
            self.attempt(self.agents[which].withdraw_revenue, currency, self.owner, sender=self.owner)
        for asker in self.askers:
            self.attempt(self.agents[which].withdraw, asker.address)
            self.attempt(self.network.Scheduler.withdraw, asker.address)

    @rule(blocks=st.integers(1, 32))
    def wait(self, blocks):
        self.network.skip_to(self.network.number + blocks)

    def open_asks(self, agent):
        asks = [agent.ask_of(number) for number in range(1, agent.asks_count() + 1)]
        return [ask for ask in asks if ask[-1] == 0]

    @invariant()
    def nothing_is_created_or_lost(self):
        network = self.network
        assert sum(map(network.balance, self.everyone)) == self.wei
        assert sum(map(network.Dust.balanceOf, self.everyone)) == self.dust
        assert sum(map(self.coin.balanceOf, self.everyone)) == self.coin.totalSupply() == self.supply
        for agent in self.agents:
            asks = self.open_asks(agent)
            for currency in (BTC_COIN, DUST_COIN, OWN_COIN):
                assert agent.escrow(currency) == sum(ask[3] for ask in asks if ask[4] == currency)
            returned = sum(ask[2] for ask in asks if network.JobMarket.status(ask[1]) >= REFUNDED)
            held = agent.escrow(BTC_COIN) + agent.revenue(BTC_COIN) + agent.total_owed()
            assert network.balance(agent.address) == held + returned - network.JobMarket.owed(agent.address)
            assert network.Dust.balanceOf(agent.address) == agent.escrow(DUST_COIN) + agent.revenue(DUST_COIN)
            assert self.coin.balanceOf(agent.address) == agent.escrow(OWN_COIN) + agent.revenue(OWN_COIN)
        assert network.AgentFactory.depth() == 0

    def teardown(self):
        """By time alone, all of it has gone to whom it belongs."""
        network = self.network
        for asker in self.askers:
            asker.behave(0, False)
        network.skip_to(network.number + 200)
        for agent in self.agents:
            every = range(1, agent.asks_count() + 1)
            for number in every:
                agent.close([number])
            for number in every:
                self.attempt(agent.deliver, number)
            for account in (*self.people, *(asker.address for asker in self.askers)):
                self.attempt(agent.withdraw, account)
            for currency in (BTC_COIN, DUST_COIN, OWN_COIN):
                self.attempt(agent.withdraw_revenue, currency, self.owner, sender=self.owner)
            assert network.balance(agent.address) == 0
            assert network.Dust.balanceOf(agent.address) == 0 == self.coin.balanceOf(agent.address)
        assert network.Scheduler.open_count() == 0
        self.nothing_is_created_or_lost()


TestMarket = Market.TestCase
TestMarket.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
