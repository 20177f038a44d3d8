from fractions import Fraction

import pytest
from eth_account import Account
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.contracts.agent_parts import FACTORY, create, deploy_asker, proxy, served_graph
from tests.unit.contracts.harness import BTC, NOBODY, Network, Reverted, reverts

COIN = 10**18
BASE = 10**12
SLOPE = 10**9
REFUSES_MONEY = bytes.fromhex("5f5ffd")


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def agent(network):
    return create(network, served_graph(network)[0])


@pytest.fixture
def owner(network):
    return network.account("owner")


def launch(network, owner, base=BASE, slope=SLOPE, name="Ada coin", symbol="ADA"):
    return proxy(network, "AgentCoin", network.AgentFactory.launch_coin(1, name, symbol, base, slope, sender=owner))


@pytest.fixture
def coin(network, agent, owner):
    return launch(network, owner)


def area(supply, amount, base=BASE, slope=SLOPE):
    """Exact wei under the line from `supply` to `supply + amount`."""
    start, end = Fraction(supply, COIN), Fraction(supply + amount, COIN)
    return base * (end - start) + Fraction(slope, 2) * (end * end - start * start)


def test_a_coin_has_its_own_name_and_line(network, coin):
    assert (coin.name(), coin.symbol(), coin.decimals(), coin.agent()) == ("Ada coin", "ADA", 18, 1)
    assert (coin.base(), coin.slope(), coin.totalSupply(), coin.reserve()) == (BASE, SLOPE, 0, 0)
    assert network.AgentFactory.coin_of(1) == coin.address
    other = create(network, network.GraphRegistry.graph_at(0), sender=network.account("other"))
    address = network.AgentFactory.launch_coin(2, "Bob", "BOB", 0, 1, sender=network.account("other"))
    assert (proxy(network, "AgentCoin", address).name(), coin.name(), other.id()) == ("Bob", "Ada coin", 2)


def test_buying_costs_the_area_and_the_change_comes_back(network, coin):
    account = network.account("alice")
    before = network.balance(account)
    paid = coin.buy(10 * COIN, sender=account, value=BTC)
    assert paid == area(0, 10 * COIN) == 10 * BASE + 50 * SLOPE
    bought = {"account": account, "amount": 10 * COIN, "paid": paid, "supply": 10 * COIN}
    assert ("Bought", bought) in network.events()
    assert before - network.balance(account) == paid == coin.reserve() == network.balance(coin.address)
    assert coin.balanceOf(account) == 10 * COIN
    assert coin.worth_of(10 * COIN) == paid
    assert coin.cost_of(COIN) == area(10 * COIN, COIN)
    assert coin.sell(10 * COIN, paid, sender=account) == paid
    assert ("Sold", {"account": account, "amount": 10 * COIN, "received": paid, "supply": 0}) in network.events()
    assert network.balance(account) == before
    assert network.balance(coin.address) == 0


def test_the_smallest_trade_is_rounded_for_the_reserve(network, coin):
    account = network.account("alice")
    assert coin.buy(1, sender=account, value=1) == 1
    assert coin.sell(1, 0, sender=account) == 0
    assert (coin.reserve(), coin.totalSupply()) == (1, 0)


def test_slippage_is_bounded_on_both_sides(network, coin):
    account = network.account("alice")
    cost = coin.cost_of(COIN)
    with reverts("AgentCoin: costs more than was sent"):
        coin.buy(COIN, sender=account, value=cost - 1)
    coin.buy(COIN, sender=account, value=cost)
    with reverts("AgentCoin: worth less than that"):
        coin.sell(COIN, cost + 1, sender=account)
    with reverts("AgentCoin: more than you have"):
        coin.sell(COIN + 1, 0, sender=account)
    for call in (lambda: coin.buy(0, value=1), lambda: coin.sell(0, 0)):
        with reverts("AgentCoin: no amount"):
            call()
    with reverts("AgentCoin: more than there is"):
        coin.worth_of(COIN + 1)


def test_the_whole_supply_can_be_sold_at_the_bounds_of_the_line(network, agent, owner):
    coin = launch(network, owner, base=10**21, slope=10**18)
    whale = network.account("whale", 2**200)
    most = 10**9 * COIN
    with reverts("AgentCoin: supply beyond reason"):
        coin.buy(most + 1, sender=whale, value=2**180)
    with reverts("AgentCoin: supply beyond reason"):
        coin.cost_of(2**256 - 1)
    paid = coin.buy(most - 1, sender=whale, value=2**180) + coin.buy(1, sender=whale, value=2**180)
    assert paid >= area(0, most, 10**21, 10**18)
    received = coin.sell(most, 0, sender=whale)
    assert paid - 2 <= received <= paid
    assert network.balance(coin.address) == coin.reserve() == paid - received


def test_money_that_cannot_be_paid_undoes_the_trade(network, coin):
    asker = deploy_asker(network)
    asker.behave(0, True)
    wall = network.deploy(REFUSES_MONEY, "wall")
    network.set_balance(wall, BTC)
    with pytest.raises(Reverted):
        coin.buy(COIN, sender=wall, value=BTC)
    coin.buy(COIN, sender=wall, value=coin.cost_of(COIN))
    with pytest.raises(Reverted):
        coin.sell(COIN, 0, sender=wall)
    assert coin.totalSupply() == COIN
    with pytest.raises(Reverted):
        network.send(coin.address, b"", value=1)  # nothing but `buy` takes money


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ""}, "no name"),
        ({"symbol": ""}, "no name"),
        ({"base": 0, "slope": 0}, "worth nothing"),
        ({"base": 10**21 + 1}, "price beyond reason"),
        ({"slope": 10**18 + 1}, "price beyond reason"),
    ],
)
def test_refuses_a_coin(network, agent, owner, changes, reason):
    with reverts(f"AgentCoin: {reason}"):
        launch(network, owner, **changes)


def test_one_coin_and_one_set_of_items_for_the_owner_alone(network, agent, owner, coin):
    with reverts("AgentFactory: has a coin"):
        launch(network, owner)
    with reverts("AgentFactory: not the owner"):
        launch(network, network.account("alice"))
    with reverts("AgentCoin: already set up"):
        coin.set_up(2, "x", "X", 1, 1, sender=FACTORY)
    with reverts("AgentFactory: not the owner"):
        network.AgentFactory.launch_items(1)
    network.AgentFactory.launch_items(1, sender=owner)
    with reverts("AgentFactory: has items"):
        network.AgentFactory.launch_items(1, sender=owner)
    with reverts("Agent: has a coin"):
        agent.set_coin(NOBODY, sender=FACTORY)
    with reverts("Agent: not the factory"):
        agent.set_coin(NOBODY, sender=owner)
    with reverts("AgentCoin: not set up"):
        network.AgentCoin.buy(1, value=1)


def test_permit_is_for_this_coin_on_this_chain(network, coin):
    holder = Account.from_key(b"\x21" * 32)
    spender = network.account("spender")
    kinds = (
        ("owner", "address"),
        ("spender", "address"),
        ("value", "uint256"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
    )
    signed = holder.sign_typed_data(
        {
            "name": "Hyperdust agent coin",
            "version": "1",
            "chainId": network.chain_id,
            "verifyingContract": coin.address,
        },
        {"Permit": [{"name": name, "type": kind} for name, kind in kinds]},
        {"owner": holder.address, "spender": spender, "value": 5, "nonce": 0, "deadline": 2**64},
    )
    part = (signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))
    coin.permit(holder.address, spender, 5, 2**64, *part)
    assert coin.allowance(holder.address, spender) == 5
    with reverts("erc20: invalid signature"):
        coin.permit(holder.address, spender, 5, 2**64, *part)


@pytest.fixture
def items(network, agent, owner):
    return proxy(network, "AgentItems", network.AgentFactory.launch_items(1, sender=owner))


def test_items_are_offered_bought_and_paid_for(network, items, owner):
    alice = network.account("alice")
    items.offer(7, BTC, 3, "ipfs://seven", sender=owner)
    assert ("Offered", {"id": 7, "price": BTC, "most": 3, "uri": "ipfs://seven"}) in network.events()
    assert items.uri(7) == "ipfs://seven"
    before = network.balance(alice)
    assert items.buy(7, 2, sender=alice, value=5 * BTC) == 2 * BTC
    assert before - network.balance(alice) == 2 * BTC == items.proceeds() == network.balance(items.address)
    assert (items.balanceOf(alice, 7), items.total_supply(7)) == (2, 2)
    with reverts("AgentItems: not so many on offer"):
        items.buy(7, 2, sender=alice, value=5 * BTC)
    with reverts("AgentItems: costs more than was sent"):
        items.buy(7, 1, sender=alice, value=BTC - 1)
    with reverts("AgentItems: no amount"):
        items.buy(7, 0, sender=alice, value=BTC)
    with reverts("AgentItems: more were sold"):
        items.offer(7, BTC, 1, "", sender=owner)
    items.safeTransferFrom(alice, owner, 7, 1, b"", sender=alice)
    assert items.balanceOf(owner, 7) == 1
    with reverts("AgentItems: not the agent's owner"):
        items.withdraw(alice, sender=alice)
    with reverts("AgentItems: nobody to pay"):
        items.withdraw(NOBODY, sender=owner)
    before = network.balance(owner)
    items.withdraw(owner, sender=owner)
    assert network.balance(owner) - before == 2 * BTC
    with reverts("AgentItems: nothing to withdraw"):
        items.withdraw(owner, sender=owner)


def test_items_belong_to_who_owns_the_agent(network, items, owner):
    other = network.account("other")
    with reverts("AgentItems: not the agent's owner"):
        items.offer(1, 1, 1, "", sender=other)
    network.AgentFactory.transferFrom(owner, other, 1, sender=owner)
    items.offer(1, 1, 1, "", sender=other)
    with reverts("AgentItems: offer beyond reason"):
        items.offer(1, 2**128 + 1, 1, "", sender=other)
    with reverts("AgentItems: already set up"):
        items.set_up(2, sender=FACTORY)


class Curve(RuleBasedStateMachine):
    """Any trades by anyone: the reserve is what the contract holds, and covers every coin."""

    def __init__(self):
        super().__init__()
        self.network = Network()
        graph = served_graph(self.network)[0]
        create(self.network, graph)
        self.owner = self.network.account("owner")
        self.people = [self.network.account(name, 1_000 * BTC) for name in ("alice", "bob", "carol")]
        self.coin = None
        self.paid = 0

    @rule(base=st.sampled_from([0, 1, 3, BASE, 10**21]), slope=st.sampled_from([0, 1, 7, SLOPE, 10**18]))
    def launch(self, base, slope):
        if self.coin is None and base + slope:
            self.coin = launch(self.network, self.owner, base, slope)
            self.line = base, slope

    @rule(
        who=st.integers(0, 2),
        amount=st.one_of(st.integers(0, 10), st.integers(1, 10**20)),
        value=st.integers(0, 10**20),
    )
    def buy(self, who, amount, value):
        if self.coin is None:
            return
        try:
            self.paid += self.coin.buy(amount, sender=self.people[who], value=value)
        except Reverted as refusal:
            if not str(refusal).startswith("AgentCoin: "):
                raise

    @rule(
        who=st.integers(0, 2),
        amount=st.one_of(st.integers(0, 10), st.integers(1, 10**20)),
        least=st.integers(0, 10**19),
    )
    def sell(self, who, amount, least):
        if self.coin is None:
            return
        try:
            self.paid -= self.coin.sell(amount, least, sender=self.people[who])
        except Reverted as refusal:
            if not str(refusal).startswith("AgentCoin: "):
                raise

    @rule(who=st.integers(0, 2), to=st.integers(0, 2), share=st.integers(1, 3))
    def transfer(self, who, to, share):
        if self.coin is not None:
            amount = self.coin.balanceOf(self.people[who]) // share
            self.coin.transfer(self.people[to], amount, sender=self.people[who])

    @invariant()
    def the_reserve_covers_every_coin(self):
        if self.coin is None:
            return
        supply = self.coin.totalSupply()
        assert self.network.balance(self.coin.address) == self.coin.reserve() == self.paid
        assert self.coin.reserve() >= area(0, supply, *self.line)
        assert self.coin.worth_of(supply) <= self.coin.reserve()
        assert sum(map(self.coin.balanceOf, self.people)) == supply
        assert sum(map(self.network.balance, self.people)) + self.paid == 3_000 * BTC

    def teardown(self):
        if self.coin is None:
            return
        for account in self.people:  # everyone leaves
            if held := self.coin.balanceOf(account):
                self.coin.sell(held, 0, sender=account)
        assert self.coin.totalSupply() == 0
        assert self.coin.reserve() == self.network.balance(self.coin.address)


TestCurve = Curve.TestCase
TestCurve.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
