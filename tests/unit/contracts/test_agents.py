import json
import re

import pytest
from eth_utils import keccak
from eth_utils.abi import collapse_if_tuple

from chain.engine import account_proof
from tests.unit.contracts.agent_parts import (
    BTC_COIN,
    CLAIMED,
    DUST_COIN,
    EARNED,
    FACTORY,
    FEE,
    FINAL,
    INPUT,
    OUTPUT,
    OWN_COIN,
    PRICE,
    REFUNDED,
    RETURNED,
    SLASHED,
    ask,
    claim,
    create,
    deploy_asker,
    finish,
    give_dust,
    job_of,
    miss,
    proxy,
    reveal,
    served_graph,
    terms,
)
from tests.unit.contracts.harness import BTC, NOBODY, ROOT, Network, Reverted, reverts

COURT = "0x0000000000000000000000000000000000005005"
PLAIN, REVERTS, BURNS, REENTERS, ASKS_ON, LIES_ABOUT_DEPTH = range(6)
CALLBACK_GAS = 1_500_000
BASE_FEE = 10**9


@pytest.fixture
def network():
    network = Network(base_fee=BASE_FEE)
    network.skip_to(100)
    return network


@pytest.fixture
def graph(network):
    return served_graph(network)[0]


@pytest.fixture
def agent(network, graph):
    return create(network, graph)


@pytest.fixture
def owner(network):
    return network.account("owner")


def is_exact(network, agent):
    held = agent.escrow(BTC_COIN) + agent.revenue(BTC_COIN) + agent.total_owed()
    return network.balance(agent.address) == held


def test_an_agent_is_an_erc721_and_a_contract_of_its_own(network, graph, owner):
    factory = network.AgentFactory
    agent = create(network, graph)
    second = create(network, graph, name="Ada", sender=network.account("other"), price=0)
    created = {"id": 2, "agent": second.address, "owner": network.account("other"), "name": "Ada", "graph": graph}
    assert ("Created", created) in network.events()
    assert (factory.totalSupply(), factory.ownerOf(1), factory.ownerOf(2)) == (2, owner, network.account("other"))
    assert (factory.name(), factory.symbol()) == ("Hyperdust agent", "AGENT")
    assert factory.tokenURI(1) == "ipfs://ada"
    assert (factory.id_of(agent.address), factory.name_of(1)) == (1, "Ada")
    assert (agent.id(), agent.graph(), agent.price(), agent.currency(), agent.owner()) == (1, graph, PRICE, 0, owner)
    eip_1167 = bytes.fromhex("363d3d373d3d3d363d73" + "00" * 18 + "5009" + "5af43d82803e903d91602b57fd5bf3")
    assert account_proof(bytes.fromhex(agent.address[2:]), (), network._read_many).code_hash == keccak(eip_1167)


def test_a_transferred_agent_obeys_its_new_owner(network, agent, owner):
    other = network.account("other")
    network.AgentFactory.transferFrom(owner, other, 1, sender=owner)
    with reverts("Agent: not the owner"):
        agent.set_price(BTC_COIN, 1, sender=owner)
    agent.set_price(BTC_COIN, 1, sender=other)
    assert network.events() == [("PriceSet", {"currency": 0, "price": 1})]


def test_nobody_else_mints_burns_or_sets_up(network, agent):
    for kind in ("Agent", "AgentCoin", "AgentItems"):
        with reverts(f"{kind}: not the factory"):
            contract = getattr(network, kind)
            entry = next(part for part in contract.abi if part.get("name") == "set_up")
            contract.set_up(*[zero_of(part["type"]) for part in entry["inputs"]])
    with reverts("Agent: not the factory"):
        agent.set_up(9, b"\0" * 32, b"", 0, 0, 0, 0)
    with reverts("Agent: already set up"):
        agent.set_up(9, b"\0" * 32, b"", 0, 0, 0, 0, sender=FACTORY)
    with reverts("AgentFactory: not an agent"):
        network.AgentFactory.set_depth(0)
    for name in ("safe_mint", "burn", "set_minter", "transfer_ownership"):
        assert not hasattr(network.AgentFactory, name)
    with pytest.raises(Reverted):
        ask(network, network.Agent)


def zero_of(kind):
    return {"string": "x", "bytes": b"", "bytes32": b"\0" * 32}.get(kind, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ""}, "no name"),
        ({"prefix": b"1234"}, "a prefix without rows"),
        ({"rows": 1}, "rows without a prefix"),
        ({"prefix": b"1234", "rows": 1, "symbol": 1}, "no such symbol"),
        ({"prefix": b"1234", "rows": 128}, "the prefix leaves no room"),
    ],
)
def test_refuses_an_agent_that_could_not_answer(network, graph, changes, reason):
    with reverts(f"AgentFactory: {reason}"):
        create(network, graph, **changes)


def test_refuses_an_unknown_graph_and_a_coin_it_does_not_have(network, graph):
    with reverts("AgentFactory: unknown graph"):
        create(network, b"\7" * 32)
    with reverts("Agent: has no coin"):
        create(network, graph, currency=OWN_COIN)
    with reverts("Agent: no such currency"):
        create(network, graph, currency=3)
    with reverts("Agent: price beyond reason"):
        create(network, graph, price=2**128 + 1)


def test_an_ask_is_a_job_and_its_price_is_the_owners_once_final(network, agent, owner):
    asker = network.account("asker")
    number = ask(network, agent)
    job = job_of(agent, number)
    asked = {"number": 1, "asker": asker, "job": job, "fee": FEE, "currency": 0, "price": PRICE, "depth": 0, "call": 0}
    assert network.balance(agent.address) == PRICE == agent.escrow(BTC_COIN)
    record = network.JobMarket.fields("job", network.JobMarket.job(job))
    assert (record["requester"], record["fee"], record["input_hash"]) == (agent.address, FEE, keccak(INPUT))
    assert network.JobMarket.symbols_of(job) == (4,)
    with reverts("Agent: no answer yet"):
        agent.deliver(number)

    claim(network, job)
    assert agent.answer_of(number) == (CLAIMED, OUTPUT)
    agent.deliver(number)
    answered = {"number": 1, "asker": asker, "job": job, "status": CLAIMED, "called_back": False}
    assert network.events() == [("Answered", answered)]
    with reverts("Agent: already delivered"):
        agent.deliver(number)
    with reverts("Agent: not over yet"):
        agent.close([number])
    with reverts("Agent: nothing earned"):
        agent.withdraw_revenue(BTC_COIN, owner, sender=owner)

    reveal(network, job)
    network.skip_to(network.number + 21)
    agent.close([number])  # settles the job itself
    assert ("Earned", {"number": 1, "currency": 0, "price": PRICE}) in network.events()
    assert network.JobMarket.status(job) == FINAL
    assert (agent.escrow(BTC_COIN), agent.revenue(BTC_COIN)) == (0, PRICE)
    agent.close([number])  # nothing twice
    assert agent.revenue(BTC_COIN) == PRICE
    assert agent.ask_of(number)[-1] == EARNED
    with reverts("Agent: not the owner"):
        agent.withdraw_revenue(BTC_COIN, asker, sender=asker)
    before = network.balance(owner)
    agent.withdraw_revenue(BTC_COIN, owner, sender=owner)
    assert network.balance(owner) - before == PRICE
    assert network.balance(agent.address) == 0
    assert asked["job"] == job


def test_a_missed_deadline_gives_everything_back(network, agent):
    asker = network.account("asker")
    before = network.balance(asker)
    number = ask(network, agent)
    miss(network, job_of(agent, number), refund=False)
    agent.close([number])  # refunds the job itself
    returned = {"number": 1, "asker": asker, "fee": FEE, "currency": 0, "price": PRICE}
    assert ("Returned", returned) in network.events()
    assert network.balance(asker) == before
    assert network.balance(agent.address) == 0
    assert agent.ask_of(number)[-1] == RETURNED
    agent.deliver(number)
    assert network.events()[0][1]["status"] == REFUNDED


def test_a_claimed_answer_that_is_never_revealed_gives_everything_back(network, agent):
    asker = network.account("asker")
    before = network.balance(asker)
    number = ask(network, agent)
    claim(network, job_of(agent, number))
    agent.deliver(number)
    network.skip_to(network.number + 21)
    network.JobMarket.refund(job_of(agent, number))  # by somebody else, before the agent looks
    agent.close([number])
    assert network.balance(asker) == before
    assert network.balance(agent.address) == 0


@pytest.mark.parametrize("currency", [BTC_COIN, DUST_COIN])
def test_a_slashed_job_gives_everything_back_and_says_so(network, graph, currency):
    agent = create(network, graph, currency=currency)
    asker = deploy_asker(network)
    if currency == DUST_COIN:
        give_dust(network, network.account("rich"), PRICE)
        network.Dust.transfer(asker.address, PRICE, sender=network.account("rich"))
        asker.approve(network.Dust.address, agent.address, PRICE)
    before = network.balance(asker.address), network.Dust.balanceOf(asker.address)
    number, prepaid = with_callback(network, asker, agent, firmness=FINAL, currency=currency)
    claim(network, job_of(agent, number))
    reveal(network, job_of(agent, number))
    network.JobMarket.convict(job_of(agent, number), network.account("challenger"), True, sender=COURT)
    assert network.JobMarket.status(job_of(agent, number)) == SLASHED
    assert run_due(network)
    assert (asker.status(), asker.output()) == (SLASHED, b"")
    network.Scheduler.withdraw(asker.address)
    spent = before[0] - network.balance(asker.address)
    assert 0 < spent < prepaid  # for the callback
    assert network.Dust.balanceOf(asker.address) == before[1]
    assert network.balance(agent.address) == 0 == network.Dust.balanceOf(agent.address)


def test_an_asker_that_takes_no_money_finds_it_later(network, agent):
    asker = deploy_asker(network)
    asker.behave(PLAIN, True)
    number = asker.ask(agent.address, terms(network), FEE + PRICE)
    miss(network, job_of(agent, number))
    agent.close([number])
    assert ("PaymentKept", {"account": asker.address, "amount": FEE + PRICE}) in network.events()
    assert agent.total_owed() == FEE + PRICE == network.balance(agent.address)
    with pytest.raises(Reverted):
        agent.withdraw(asker.address)
    asker.behave(PLAIN, False)
    agent.withdraw(asker.address, sender=network.account("anyone"))
    assert network.balance(agent.address) == 0
    with reverts("Agent: nothing owed"):
        agent.withdraw(asker.address)


def test_the_prefix_goes_before_the_input_and_counts(network, graph):
    prefix = b"\7\0\0\0\x08\0\0\0"
    agent = create(network, graph, prefix=prefix, rows=2)
    number = ask(network, agent)
    job = job_of(agent, number)
    assert network.JobMarket.symbols_of(job) == (6,)
    record = network.JobMarket.fields("job", network.JobMarket.job(job))
    assert record["input_hash"] == keccak(prefix + INPUT)
    with reverts("GraphRegistry: symbol out of bounds"):
        ask(network, agent, symbols=(127,))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"currency": DUST_COIN}, "takes another currency"),
        ({"max_price": PRICE - 1}, "costs more than that"),
        ({"value": FEE + PRICE - 1}, "budget too small"),
        ({"value": 0}, "budget too small"),
        ({"firmness": 1}, "no status to wait for"),
        ({"firmness": 5}, "no status to wait for"),
        ({"callback_gas": 5_000_001}, "too much gas for a callback"),
        ({"depth": 5}, "too deep"),
    ],
)
def test_refuses_terms(network, agent, changes, reason):
    with reverts(f"Agent: {reason}"):
        ask(network, agent, **changes)
    assert agent.asks_count() == 0


def test_what_the_market_and_the_scheduler_refuse_costs_nothing(network, agent):
    with reverts("JobMarket: deadline too soon"):
        ask(network, agent, blocks=1)
    with reverts("JobMarket: empty input"):
        ask(network, agent, data=b"")
    with reverts("Scheduler: prepaid too little"):
        ask(network, agent, value=FEE + PRICE + 1)
    assert network.balance(agent.address) == 0 == agent.escrow(BTC_COIN)


def test_only_the_market_sends_money_without_a_question(network, agent):
    with reverts("Agent: pay by ask"):
        network.send(agent.address, b"", value=1)


def test_paid_in_dust(network, graph, owner):
    agent = create(network, graph, currency=DUST_COIN, price=7)
    asker = network.account("asker")
    give_dust(network, asker, 14)
    held = network.Dust.balanceOf(asker)
    options = {"currency": DUST_COIN, "value": FEE, "max_price": 7}
    with reverts("erc20: insufficient allowance"):
        ask(network, agent, **options)
    network.Dust.approve(agent.address, 14, sender=asker)
    first, second = ask(network, agent, **options), ask(network, agent, **options)
    assert network.Dust.balanceOf(agent.address) == 14 == agent.escrow(DUST_COIN)
    finish(network, job_of(agent, first))
    miss(network, job_of(agent, second))
    agent.close([first, second])
    assert network.Dust.balanceOf(asker) == held - 7
    agent.withdraw_revenue(DUST_COIN, owner, sender=owner)
    assert network.Dust.balanceOf(owner) == 7
    assert network.Dust.balanceOf(agent.address) == 0 == network.balance(agent.address)


def test_paid_in_its_own_coin(network, agent, owner):
    asker = network.account("asker")
    address = network.AgentFactory.launch_coin(1, "Ada coin", "ADA", 10**12, 10**9, sender=owner)
    coin = proxy(network, "AgentCoin", address)
    assert (agent.coin(), network.AgentFactory.coin_of(1)) == (address, address)
    agent.set_price(OWN_COIN, 5 * 10**18, sender=owner)
    coin.buy(10 * 10**18, sender=asker, value=BTC)
    coin.approve(agent.address, 10 * 10**18, sender=asker)
    number = ask(network, agent, currency=OWN_COIN, value=FEE, max_price=5 * 10**18)
    assert coin.balanceOf(agent.address) == 5 * 10**18 == agent.escrow(OWN_COIN)
    finish(network, job_of(agent, number))
    agent.close([number])
    agent.withdraw_revenue(OWN_COIN, owner, sender=owner)
    received = coin.sell(5 * 10**18, 1, sender=owner)
    assert received > 5 * 10**12


def with_callback(network, asker, agent, **changes):
    changes = {"callback_gas": CALLBACK_GAS} | changes
    gas = agent.DELIVER_GAS() + network.Scheduler.RUN_GAS() + changes["callback_gas"]
    prepaid = 2 * gas * BASE_FEE
    price = PRICE if changes.get("currency", BTC_COIN) == BTC_COIN else 0
    return asker.ask(agent.address, terms(network, **changes), FEE + price + prepaid), prepaid


def run_due(network):
    (number,) = network.Scheduler.due(0, 100)
    return network.Scheduler.run(number, sender=network.account("runner"))


def test_a_contract_is_called_back_by_the_scheduler(network, agent):
    asker = deploy_asker(network)
    number, prepaid = with_callback(network, asker, agent)
    claim(network, job_of(agent, number))
    before = network.balance(network.account("runner"))
    assert run_due(network)
    answered = {"number": 1, "asker": asker.address, "job": 1, "status": CLAIMED, "called_back": True}
    assert ("Answered", answered) in network.events()
    assert (asker.answers(), asker.number(), asker.status(), asker.depth()) == (1, 1, CLAIMED, 0)
    assert asker.output() == OUTPUT
    paid = network.balance(network.account("runner")) - before
    assert network.Scheduler.owed(asker.address) == prepaid - paid > 0
    network.Scheduler.withdraw(asker.address)
    assert is_exact(network, agent)


def test_an_answer_may_wait_until_it_is_final_and_then_pays_the_owner_too(network, agent):
    asker = deploy_asker(network)
    number, _ = with_callback(network, asker, agent, firmness=FINAL)
    finish(network, job_of(agent, number))
    assert run_due(network)
    assert asker.status() == FINAL
    assert agent.revenue(BTC_COIN) == PRICE


def test_the_largest_answer_fits_the_gas_of_a_delivery(network, agent):
    asker = deploy_asker(network)
    asker.behave(BURNS, False)
    number, _ = with_callback(network, asker, agent, firmness=FINAL, callback_gas=1_000_000)
    finish(network, job_of(agent, number), output=b"\1" * 8192)
    assert run_due(network)  # the agent's part, beside a callback that took all its gas
    assert network.gas_used - 1_000_000 < agent.DELIVER_GAS()
    assert agent.revenue(BTC_COIN) == PRICE


def test_a_refunded_asker_is_called_back_with_its_money_and_no_output(network, agent):
    asker = deploy_asker(network)
    before = network.balance(asker.address)
    number, prepaid = with_callback(network, asker, agent, firmness=FINAL)
    claim(network, job_of(agent, number))
    network.skip_to(network.number + 21)
    network.JobMarket.refund(job_of(agent, number))
    assert run_due(network)
    assert (asker.status(), asker.output()) == (REFUNDED, b"")
    assert network.balance(asker.address) == before - prepaid
    assert network.balance(agent.address) == 0


@pytest.mark.parametrize("mode", [REVERTS, BURNS])
def test_a_hostile_asker_blocks_nobody(network, agent, mode):
    asker = deploy_asker(network)
    number, _ = with_callback(network, asker, agent)
    other = ask(network, agent)
    asker.behave(mode, True)
    claim(network, job_of(agent, number))
    assert run_due(network)  # the agent's part succeeds
    assert asker.answers() == 0
    assert ("Answered", False) in [(name, fields.get("called_back")) for name, fields in network.events()]
    with reverts("Agent: already delivered"):
        agent.deliver(number)
    finish(network, job_of(agent, other))
    agent.close([other])
    assert agent.revenue(BTC_COIN) == PRICE


def test_reentering_an_agent_is_refused(network, agent):
    asker = deploy_asker(network)
    asker.behave(REENTERS, False)
    number, _ = with_callback(network, asker, agent, callback_gas=3_000_000)
    claim(network, job_of(agent, number))
    assert run_due(network)
    assert (asker.answers(), asker.refused()) == (1, 3)
    assert is_exact(network, agent)


def test_a_stranger_cannot_starve_a_callback(network, agent):
    asker = deploy_asker(network)
    number, _ = with_callback(network, asker, agent, callback_gas=1_000_000)
    claim(network, job_of(agent, number))
    with pytest.raises(Reverted):
        agent.deliver(number, gas=900_000)
    agent.deliver(number)
    assert asker.answers() == 1
    assert network.Scheduler.open_count() == 0  # what was prepaid is the asker's again
    assert network.Scheduler.owed(asker.address) > 0


def test_agents_ask_agents_four_deep_and_no_deeper(network, graph):
    agent = create(network, graph)
    asker = deploy_asker(network)
    asker.behave(ASKS_ON, False)
    number, _ = with_callback(network, asker, agent, callback_gas=3_000_000)
    for depth in range(5):
        claim(network, job_of(agent, number))
        assert run_due(network)
        if depth < 4:
            number += 1
            assert agent.asks_count() == number
            assert agent.ask_of(number)[7] == depth + 1
    assert asker.answers() == 4  # the fifth would have asked on, was refused, and its callback reverted
    assert agent.asks_count() == 5
    assert is_exact(network, agent)


def test_a_lie_about_the_depth_is_refused(network, graph):
    first, second = create(network, graph), create(network, graph)
    asker = deploy_asker(network)
    number, _ = with_callback(network, asker, second, callback_gas=3_000_000)  # it will ask the second again
    asker.behave(LIES_ABOUT_DEPTH, False)
    claim(network, job_of(second, number))
    assert run_due(network)
    assert asker.answers() == 0
    assert second.asks_count() == 1
    assert network.AgentFactory.depth() == 0
    assert first.asks_count() == 0


def test_a_budget_is_the_value_sent(network, agent):
    """Whatever comes, an ask takes from its asker what it sent, and nothing later."""
    asker = deploy_asker(network)
    before = network.balance(asker.address)
    number, prepaid = with_callback(network, asker, agent)
    budget = FEE + PRICE + prepaid
    assert before - network.balance(asker.address) == budget
    finish(network, job_of(agent, number))
    run_due(network)
    agent.close([number])
    assert before - network.balance(asker.address) == budget
    network.Scheduler.withdraw(asker.address)
    assert before - network.balance(asker.address) < budget


def test_many_asks_close_at_once(network, agent):
    numbers = [ask(network, agent) for _ in range(8)]
    miss(network, job_of(agent, 1), refund=False)
    agent.close(numbers)
    assert network.balance(agent.address) == 0
    with reverts("Agent: no such ask"):
        agent.close([9])


def test_an_owner_that_gave_no_address_is_told(network, agent, owner):
    with reverts("Agent: nobody to pay"):
        agent.withdraw_revenue(BTC_COIN, NOBODY, sender=owner)


SOLIDITY = (ROOT / "contracts" / "interfaces" / "IAgents.sol").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["AgentFactory", "Agent", "AgentCoin", "AgentItems", "Scheduler"])
def test_the_solidity_interface_is_the_abi(name):
    body = re.search(rf"interface I{name} \{{(.*?)\n\}}", SOLIDITY, re.DOTALL)[1]
    body = re.sub(r"//[^\n]*", "", body)
    structs = dict(re.findall(r"struct (\w+) \{(.*?)\}", body, re.DOTALL))
    kinds = {
        struct: f"({','.join(part.split()[0] for part in fields.split(';')[:-1])})"
        for struct, fields in structs.items()
    }
    artifact = json.loads((ROOT / "genesis" / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))
    abi = {
        (entry["type"], entry.get("name"), *(collapse_if_tuple(part) for part in entry.get("inputs", [])))
        for entry in artifact["abi"]
    }
    found = re.findall(r"(function|event) (\w+)\(([^)]*)\)", body)
    assert found
    for kind, called, arguments in found:
        types = [part.split()[0] for part in arguments.split(",") if part.strip()]
        assert (kind, called, *(kinds.get(one, one) for one in types)) in abi
    events = {entry["name"] for entry in artifact["abi"] if entry["type"] == "event"}
    standard = {"Transfer", "Approval", "ApprovalForAll", "TransferSingle", "TransferBatch", "URI", "SetUp"}
    standard |= {"MetadataUpdate", "BatchMetadataUpdate", "EIP712DomainChanged", "OwnershipTransferred"}
    standard |= {"RoleMinterChanged"}
    assert events <= standard | {called for kind, called, _ in found if kind == "event"}
