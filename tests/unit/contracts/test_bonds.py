import pytest

from tests.unit.contracts.harness import BTC, NOBODY, SYSTEM, Network, join, register, reverts, top_layer


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


MARKET = "0x0000000000000000000000000000000000005003"
BRIDGE = "0x0000000000000000000000000000000000005006"


def total(network):
    bonds = network.Bonds
    return bonds.total_bonds() + bonds.total_unbonding() + bonds.total_owed()


def test_a_bond_is_taken_out_in_two_steps(network, graph):
    bonds = network.Bonds
    provider = join(network, graph, "provider", bond=3 * BTC)
    bonds.unbond(BTC, sender=provider)
    assert network.events() == [("Unbonding", {"account": provider, "amount": BTC, "until": 400})]
    assert (bonds.bond_of(provider), bonds.unbonding_of(provider), total(network)) == (2 * BTC, BTC, 3 * BTC)
    assert bonds.is_provider(graph, provider)
    network.skip_to(399)
    with reverts("Bonds: still unbonding"):
        bonds.withdraw(sender=provider)
    bonds.unbond(BTC // 2, sender=provider)  # the first amount waits anew
    network.skip_to(400)
    with reverts("Bonds: still unbonding"):
        bonds.withdraw(sender=provider)
    network.skip_to(799)
    before = network.balance(provider)
    bonds.withdraw(sender=provider)
    assert network.events() == [("Withdrawn", {"account": provider, "amount": 3 * BTC // 2})]
    assert network.balance(provider) - before == 3 * BTC // 2
    assert total(network) == 3 * BTC // 2 == network.balance(bonds.address)
    with reverts("Bonds: nothing unbonded"):
        bonds.withdraw(sender=provider)


def test_refuses_to_unbond(network, graph):
    provider = join(network, graph, "provider")
    with reverts("Bonds: nothing to unbond"):
        network.Bonds.unbond(0, sender=provider)
    with reverts("Bonds: more than the bond"):
        network.Bonds.unbond(BTC + 1, sender=provider)


def test_below_the_smallest_bond_every_entry_ends_for_good(network, graph):
    bonds = network.Bonds
    provider = join(network, graph, "provider")
    bonds.serve_as_companion(graph, sender=provider)
    bonds.unbond(1, sender=provider)
    bonds.deposit(sender=provider, value=1)
    assert bonds.bond_of(provider) == BTC
    assert not bonds.is_provider(graph, provider)
    assert not bonds.is_companion(graph, provider)
    assert bonds.drawn_provider(graph, 0) == NOBODY
    assert bonds.provider_at(graph, 0) == provider
    assert bonds.providers(graph) == () == bonds.companions(graph)
    bonds.serve(graph, sender=provider)  # anew, at the end
    assert (bonds.drawn_provider(graph, 0), bonds.drawn_provider(graph, 1)) == (NOBODY, provider)
    assert bonds.providers(graph) == (provider,)


def test_leaving_ends_both_entries_of_that_graph_alone(network, graph):
    bonds = network.Bonds
    other = register(network, name="other", layer=top_layer("other"))
    provider = join(network, graph, "provider")
    bonds.serve_as_companion(graph, sender=provider)
    assert network.events() == [("ServingAsCompanion", {"graph": graph, "companion": provider, "index": 0})]
    bonds.serve(other, sender=provider)
    bonds.leave(graph, sender=provider)
    assert network.events() == [("Left", {"graph": graph, "account": provider})]
    assert not bonds.serves(graph, provider)
    assert not bonds.is_companion(graph, provider)
    assert bonds.is_provider(other, provider)
    assert (bonds.provider_count(graph), bonds.companion_count(graph)) == (1, 1)
    with reverts("Bonds: not serving"):
        bonds.leave(graph, sender=provider)


def test_companions_need_a_bond_and_a_graph(network, graph):
    account = network.account("companion")
    with reverts("Bonds: bond too small"):
        network.Bonds.serve_as_companion(graph, sender=account)
    network.Bonds.deposit(sender=account, value=BTC)
    with reverts("Bonds: unknown graph"):
        network.Bonds.serve_as_companion(b"\7" * 32, sender=account)
    network.Bonds.serve_as_companion(graph, sender=account)
    with reverts("Bonds: already serving"):
        network.Bonds.serve_as_companion(graph, sender=account)
    assert network.Bonds.companion_at(graph, 0) == account
    with reverts("Bonds: no such companion"):
        network.Bonds.companion_at(graph, 1)


def test_a_draw_walks_over_eight_entries_at_most(network, graph):
    bonds = network.Bonds
    for i in range(10):
        account = network.account(f"companion {i}")
        bonds.deposit(sender=account, value=BTC)
        bonds.serve_as_companion(graph, sender=account)
        if i < 8:
            bonds.leave(graph, sender=account)
    standing = [network.account(f"companion {i}") for i in (8, 9)]
    assert bonds.drawn_companion(graph, 0, 10, NOBODY) == NOBODY
    assert bonds.drawn_companion(graph, 1, 10, NOBODY) == standing[0]
    assert bonds.drawn_companion(graph, 2, 10, standing[0]) == standing[1]
    assert bonds.drawn_companion(graph, 9, 10, NOBODY) == standing[1]
    assert bonds.drawn_companion(graph, 0, 8, NOBODY) == NOBODY  # the two joined later
    assert bonds.drawn_companion(graph, 0, 0, NOBODY) == NOBODY


def test_a_slash_takes_all_half_for_the_beneficiary_half_burned(network, graph):
    bonds = network.Bonds
    provider, winner = join(network, graph, "provider", bond=2 * BTC + 1), network.account("winner")
    bonds.unbond(BTC, sender=provider)
    bonds.slash(provider, winner, sender=MARKET)
    slashed = {"account": provider, "beneficiary": winner, "amount": 2 * BTC + 1, "burned": BTC + 1}
    assert network.events() == [("Slashed", slashed)]
    assert (bonds.bond_of(provider), bonds.unbonding_of(provider), bonds.owed(winner)) == (0, 0, BTC)
    assert network.balance(BRIDGE) == BTC + 1
    assert not bonds.is_provider(graph, provider)
    network.skip_to(1_000)
    with reverts("Bonds: nothing unbonded"):
        bonds.withdraw(sender=provider)
    before = network.balance(winner)
    bonds.withdraw_owed(winner, sender=network.account("anyone"))
    assert network.balance(winner) - before == BTC
    assert total(network) == 0 == network.balance(bonds.address)
    with reverts("Bonds: nothing owed"):
        bonds.withdraw_owed(sender=winner)
    bonds.slash(provider, winner, sender=MARKET)  # nothing left to take is no reason to revert
    bonds.deposit(sender=provider, value=BTC)
    assert not bonds.is_provider(graph, provider)  # it joins anew


def test_a_bridge_that_refuses_money_keeps_its_share_here(network, graph):
    provider = join(network, graph, "provider")
    network.set_code(BRIDGE, bytes.fromhex("5f5ffd"))
    network.Bonds.slash(provider, network.account("winner"), sender=MARKET)
    assert network.Bonds.owed(BRIDGE) == BTC // 2
    assert total(network) == BTC == network.balance(network.Bonds.address)
    network.set_code(BRIDGE, b"")
    network.Bonds.withdraw_owed(BRIDGE)
    assert network.balance(BRIDGE) == BTC // 2


def test_only_the_job_market_slashes_and_pauses(network, graph):
    provider = join(network, graph, "provider")
    for sender in (provider, SYSTEM, "0x0000000000000000000000000000000000005005"):
        with reverts("Bonds: not the job market"):
            network.Bonds.slash(provider, sender, sender=sender)
        with reverts("Bonds: not the job market"):
            network.Bonds.pause(provider, sender=sender)


def test_a_pause_ends_by_itself(network, graph):
    provider = join(network, graph, "provider")
    network.Bonds.pause(provider, sender=MARKET)
    assert network.events() == [("Paused", {"account": provider, "until": 20})]
    for number in (1, 19):
        network.number = number
        assert not network.Bonds.is_provider(graph, provider)
        assert network.Bonds.drawn_provider(graph, 0) == NOBODY
    network.number = 20
    assert network.Bonds.is_provider(graph, provider)
    assert network.Bonds.drawn_provider(graph, 0) == provider


def test_refuses_no_minimum_and_waits_for_initialize():
    with reverts("Bonds: no minimum"):
        Network(min_bond_wei=0)
    with reverts("Bonds: no unbonding time"):
        Network(unbonding_blocks=0)
    for number in ("unbonding_blocks", "pause_blocks"):
        with reverts("Bonds: blocks beyond reason"):
            Network(**{number: 2**64 + 1})
    bare = Network(initialize={})
    with reverts("Bonds: not initialized"):
        bare.Bonds.serve(b"\7" * 32)
