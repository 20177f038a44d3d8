import pytest

from tests.unit.contracts.harness import BTC, NOBODY, SYSTEM, Network, join, register, reverts


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def graph(network):
    return register(network)


def test_a_bonded_account_serves_a_graph(network, graph):
    provider = network.account("provider")
    network.Bonds.deposit(sender=provider, value=BTC // 2)
    network.Bonds.deposit(sender=provider, value=BTC // 2)
    assert network.events() == [("Deposited", {"account": provider, "amount": BTC // 2, "bond": BTC})]
    assert not network.Bonds.is_provider(graph, provider)
    network.Bonds.serve(graph, sender=provider)
    assert network.events() == [("Serving", {"graph": graph, "provider": provider, "index": 0})]
    assert network.Bonds.is_provider(graph, provider)
    assert network.Bonds.serves(graph, provider)
    assert network.Bonds.bond_of(provider) == BTC == network.Bonds.total_bonds()
    assert network.balance(network.Bonds.address) == BTC


def test_lists_grow_in_order(network, graph):
    joined = [join(network, graph, f"provider {i}") for i in range(3)]
    assert list(network.Bonds.providers(graph)) == joined
    assert network.Bonds.provider_count(graph) == 3
    assert network.Bonds.provider_at(graph, 1) == joined[1]
    with reverts("Bonds: no such provider"):
        network.Bonds.provider_at(graph, 3)
    assert network.Bonds.providers(b"\7" * 32) == ()


def test_refuses_an_empty_deposit(network):
    with reverts("Bonds: nothing sent"):
        network.Bonds.deposit()


def test_refuses_to_list_a_bond_too_small(network, graph):
    provider = network.account("provider")
    network.Bonds.deposit(sender=provider, value=BTC - 1)
    with reverts("Bonds: bond too small"):
        network.Bonds.serve(graph, sender=provider)


def test_refuses_to_list_twice(network, graph):
    provider = join(network, graph, "provider")
    with reverts("Bonds: already serving"):
        network.Bonds.serve(graph, sender=provider)


def test_refuses_an_unknown_graph(network, graph):
    provider = join(network, graph, "provider")
    with reverts("Bonds: unknown graph"):
        network.Bonds.serve(b"\7" * 32, sender=provider)


def test_a_payout_defaults_to_the_account_and_back(network):
    provider, wallet = network.account("provider"), network.account("wallet")
    assert network.Bonds.payout_of(provider) == provider
    network.Bonds.setPayout(wallet, sender=provider)
    assert network.events() == [("PayoutSet", {"account": provider, "payout": wallet})]
    assert network.Bonds.payout_of(provider) == wallet
    network.Bonds.setPayout(NOBODY, sender=provider)
    assert network.Bonds.payout_of(provider) == provider


def test_initializes_once_and_by_the_system(network):
    with reverts("Bonds: already initialized"):
        network.Bonds.initialize(1, 1, 1, sender=SYSTEM)
    with reverts("Bonds: not the system"):
        network.Bonds.initialize(1, 1, 1)


def test_refuses_no_minimum_and_waits_for_initialize():
    with reverts("Bonds: no minimum"):
        Network(min_bond_wei=0)
    bare = Network(initialize={})
    with reverts("Bonds: not initialized"):
        bare.Bonds.serve(b"\7" * 32)
