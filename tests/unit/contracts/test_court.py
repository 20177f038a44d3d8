"""The court, with a judge that believes what it is told: commitments, signatures, demands, deposits, double votes."""

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_utils import keccak
from eth_utils.address import to_checksum_address

from tests.unit.contracts.harness import BTC, SYSTEM, Network, commit, join, register, reverts

JUDGE = (0x4808).to_bytes(20, "big")
BRIDGE = "0x0000000000000000000000000000000000005006"
TRACE_ROOT, OTHER_ROOT = b"\5" * 32, b"\6" * 32
FEE = BTC // 100
DEPOSIT = 10**13
FINAL, SLASHED = 4, 6
WINDOW, FINAL_WINDOW = 20, 20
REFUSES_MONEY = bytes.fromhex("5f5ffd")
PROVIDER = Account.from_key(b"\7" * 32)
QUESTION = b"Qchildren of the trace"
KINDS = {1: "element", 5: "output", 7: "invalid"}


def judge(data):
    """Guilty if the evidence says so; a question begins with Q, or L and its list, an answer with A."""
    mode, facts, rest = data[0], data[1:161], data[161:]
    if mode == 1:
        return rest[1:] if rest[:1] == b"G" and facts[32:64] == TRACE_ROOT else None
    if mode == 2:
        rests_on = rest[1:65] if rest[:1] == b"L" else bytes(64)
        return keccak(rest[:5]) + bytes(31) + b"\2" + rests_on if rest[:1] in {b"Q", b"L"} else None
    size = int.from_bytes(rest[:4], "big")
    answer = rest[4 + size :]
    return bytes(31) + b"\1" + answer[1:65] if rest[4:5] == b"Q" and answer[:1] == b"A" else None


@pytest.fixture
def network():
    network = Network(precompiles=((JUDGE, judge, 3_000, 12),))
    network.skip_to(100)
    return network


@pytest.fixture
def graph(network):
    return register(network)


@pytest.fixture
def provider(network, graph):
    address = PROVIDER.address.lower()
    network.set_balance(address, 100 * BTC)
    network.Bonds.deposit(sender=address, value=BTC)
    network.Bonds.serve(graph, sender=address)
    return address


@pytest.fixture
def job(network, graph, provider):
    """A job that is revealed in the present block."""
    return revealed(network, graph, provider)


def revealed(network, graph, provider):
    market = network.JobMarket
    requester = network.account("requester")
    number = market.request(graph, b"input", [100], network.number + 30, provider, sender=requester, value=FEE)
    market.submit(number, b"output", commit(TRACE_ROOT, provider), sender=provider)
    network.mine(10)
    market.reveal(number, TRACE_ROOT, sender=provider)
    return number


def evidence(kind=1, step=3, operator=17, element=900, list_hash=bytes(32), subgraph=2, guilty=1):
    return b"G" + encode(
        ["uint256"] * 5 + ["bytes32", "uint256"], [guilty, kind, step, operator, element, list_hash, subgraph]
    )


def announce(network, job, proof, challenger):
    network.Court.commit(job, keccak(encode(["bytes32", "address"], [keccak(proof), challenger])), sender=challenger)


def prove(network, job, proof, challenger, signature=b""):
    announce(network, job, proof, challenger)
    network.mine()
    network.Court.prove(job, proof, signature, sender=challenger)


def sign_list(job, step, subgraph, roots, key=PROVIDER, chain_id=48_000_000, court=None):
    court = court or to_checksum_address("0x" + (0x5005).to_bytes(20, "big").hex())
    domain = {"name": "Hyperdust Court", "version": "1", "chainId": chain_id, "verifyingContract": court}
    fields = {"job": "uint256", "step": "uint256", "subgraph": "uint256", "roots": "bytes32"}
    types = {"Operators": [{"name": name, "type": kind} for name, kind in fields.items()]}
    message = {"job": job, "step": step, "subgraph": subgraph, "roots": roots}
    return bytes(key.sign_typed_data(domain, types, message).signature)


@pytest.mark.parametrize("kind", KINDS)
def test_one_transaction_convicts(network, provider, job, kind):
    challenger, requester = network.account("challenger"), network.account("requester")
    before = network.balance(requester)
    prove(network, job, evidence(kind), challenger)
    verdict = {"job": job, "accused": provider, "challenger": challenger, "kind": kind, "step": 3, "operator": 17}
    assert ("Verdict", verdict | {"element": 900}) in network.events()
    assert network.JobMarket.status(job) == SLASHED
    assert network.balance(requester) - before == FEE
    assert network.Bonds.owed(challenger) == BTC // 2 == network.balance(BRIDGE)
    assert network.Court.dispute_of(job) == (provider, challenger, 17, 900, kind, 1, network.number)
    gained = network.balance(challenger)
    network.Bonds.withdraw_owed(sender=challenger)
    assert network.balance(challenger) - gained == BTC // 2


@pytest.mark.parametrize(("kind", "slashed"), [(1, 2), (5, 1)])
def test_a_false_trace_convicts_the_companion_that_vouched(network, graph, provider, kind, slashed):
    companion = network.account("companion")
    network.Bonds.deposit(sender=companion, value=BTC)
    network.Bonds.serve_as_companion(graph, sender=companion)
    market = network.JobMarket
    job = market.request(graph, b"input", [100], network.number + 30, provider, value=FEE)
    market.submit(job, b"output", commit(TRACE_ROOT, provider), sender=provider)
    network.mine(3)
    market.commit(job, commit(TRACE_ROOT, companion), sender=companion)
    market.reveal(job, TRACE_ROOT, sender=provider)
    market.companion_reveal(job, TRACE_ROOT, sender=companion)
    prove(network, job, evidence(kind), network.account("challenger"))
    assert network.Bonds.owed(network.account("challenger")) == slashed * BTC // 2


def test_a_false_list_beside_an_honest_trace_costs_the_companion_nothing(network, graph, provider):
    companion, roots = network.account("companion"), b"\x0a" * 32
    network.Bonds.deposit(sender=companion, value=BTC)
    network.Bonds.serve_as_companion(graph, sender=companion)
    market = network.JobMarket
    job = market.request(graph, b"input", [100], network.number + 30, provider, value=FEE)
    market.submit(job, b"output", commit(TRACE_ROOT, provider), sender=provider)
    network.mine(3)
    market.commit(job, commit(TRACE_ROOT, companion), sender=companion)
    market.reveal(job, TRACE_ROOT, sender=provider)
    market.companion_reveal(job, TRACE_ROOT, sender=companion)
    challenger = network.account("challenger")
    proof = evidence(list_hash=roots)
    announce(network, job, proof, challenger)
    network.mine()
    network.Court.prove(job, proof, sign_list(job, 3, 2, roots), sender=challenger)
    assert network.Bonds.bond_of(companion) == BTC
    assert network.Bonds.bond_of(provider) == 0


def test_the_judge_is_told_what_the_job_committed_to(graph):
    seen = []

    def listen(data):
        seen.append(data)
        return judge(data)

    network = Network(precompiles=((JUDGE, listen, 3_000, 12),))
    network.skip_to(100)
    graph = register(network)
    provider = join(network, graph, "provider")
    job = revealed(network, graph, provider)
    network.Court.demand(job, QUESTION, value=DEPOSIT)
    network.Court.answer(1, QUESTION, b"A" + bytes(64) + b"data")
    prove(network, job, evidence(), network.account("challenger"))
    facts = graph + TRACE_ROOT + keccak(b"input") + keccak(b"output") + ((1 << 128) + 100).to_bytes(32, "big")
    asked = len(QUESTION).to_bytes(4, "big") + QUESTION
    expected = [
        b"\2" + facts + QUESTION,
        b"\3" + facts + asked + b"A" + bytes(64) + b"data",
        b"\1" + facts + evidence(),
    ]
    assert seen == expected


def test_a_proof_follows_its_commitment_by_a_block(network, job):
    challenger, thief = network.account("challenger"), network.account("thief")
    proof = evidence()
    with reverts("Court: no commitment of an earlier block"):
        network.Court.prove(job, proof, b"", sender=challenger)
    announce(network, job, proof, challenger)
    with reverts("Court: no commitment of an earlier block"):
        network.Court.prove(job, proof, b"", sender=challenger)
    announce(network, job, proof, thief)  # who saw it in the mempool
    stolen = network.Court.commitment_of(job, challenger)
    network.Court.commit(job, stolen[0], sender=thief)
    network.mine()
    with reverts("Court: not what was committed"):
        network.Court.prove(job, proof, b"", sender=thief)
    with reverts("Court: not what was committed"):
        network.Court.prove(job, proof + b"!", b"", sender=challenger)
    with reverts("Court: empty commitment"):
        network.Court.commit(job, bytes(32), sender=challenger)
    network.Court.prove(job, proof, b"", sender=challenger)


@pytest.mark.parametrize(
    "proof", [b"", b"G", b"Gshort", b"innocent", evidence(guilty=0), evidence(guilty=2), evidence()[:-1]]
)
def test_what_proves_nothing_convicts_nobody(network, provider, job, proof):
    with reverts("Court: not proven"):
        prove(network, job, proof, network.account("challenger"))
    network.mine(FINAL_WINDOW)
    network.JobMarket.settle(job)
    assert network.Bonds.bond_of(provider) == BTC


def test_a_proof_is_about_a_revealed_job(network, graph, provider, job):
    challenger = network.account("challenger")
    open_job = network.JobMarket.request(graph, b"input", [100], network.number + 30, provider, value=FEE)
    for number in (open_job, open_job + 1):
        with reverts("Court: not revealed"):
            prove(network, number, evidence(), challenger)
    announce(network, open_job, evidence(), challenger)  # a commitment for one job opens nothing in another
    with reverts("Court: no commitment of an earlier block"):
        network.Court.prove(job, evidence(), b"", sender=challenger)
    network.mine(FINAL_WINDOW)
    network.JobMarket.settle(job)
    with reverts("Court: not revealed"):
        prove(network, job, evidence(), challenger)


def test_a_list_of_operators_is_the_providers_own(network, provider, job):
    challenger, roots = network.account("challenger"), b"\x0a" * 32
    proof = evidence(list_hash=roots)
    other = Account.from_key(b"\x08" * 32)
    wrong = (
        b"",
        b"\1" * 65,
        sign_list(job, 3, 2, roots, key=other),
        sign_list(job + 1, 3, 2, roots),
        sign_list(job, 4, 2, roots),
        sign_list(job, 3, 1, roots),
        sign_list(job, 3, 2, b"\x0b" * 32),
        sign_list(job, 3, 2, roots, chain_id=1),
        sign_list(job, 3, 2, roots, court=to_checksum_address(SYSTEM)),
        sign_list(job, 3, 2, roots)[:64],
    )
    announce(network, job, proof, challenger)
    network.mine()
    for signature in wrong:
        with reverts("Court: not the provider's list"):
            network.Court.prove(job, proof, signature, sender=challenger)
    signature = sign_list(job, 3, 2, roots)
    network.Court.prove(job, proof, signature[:64] + bytes([signature[64] - 27]), sender=challenger)


def test_a_question_rests_on_the_providers_own_list(network, provider, job):
    asker, roots = network.account("challenger"), b"\x0a" * 32
    question = b"L" + roots + (3 << 32 | 2).to_bytes(32, "big")
    for signature in (b"", sign_list(job, 4, 2, roots), sign_list(job, 3, 2, b"\x0b" * 32)):
        with reverts("Court: not the provider's list"):
            network.Court.demand(job, question, signature, sender=asker, value=DEPOSIT)
    with reverts("Court: not the provider's list"):
        network.Court.demand(job, question, sender=asker, value=DEPOSIT)
    assert network.Court.demand(job, question, sign_list(job, 3, 2, roots), sender=asker, value=DEPOSIT) == 1


def test_a_question_may_rest_on_a_published_list(network, provider, job):
    asker, roots = network.account("challenger"), b"\x0a" * 32
    place = (3 << 32 | 2).to_bytes(32, "big")
    network.Court.answer(
        network.Court.demand(job, QUESTION, sender=asker, value=DEPOSIT),
        QUESTION,
        b"A" + roots + place,
        sender=provider,
    )
    assert network.Court.demand(job, b"L" + roots + place, sender=asker, value=DEPOSIT) == 2


def test_an_answer_publishes_a_list(network, provider, job):
    challenger, roots = network.account("challenger"), b"\x0a" * 32
    number = network.Court.demand(job, QUESTION, sender=challenger, value=DEPOSIT)
    place = (3 << 32 | 2).to_bytes(32, "big")
    network.Court.answer(number, QUESTION, b"A" + roots + place, sender=provider)
    assert network.Court.published(job, 3 << 32 | 2) == roots
    prove(network, job, evidence(list_hash=roots), challenger)


def test_a_demand_is_answered_and_pays_the_provider(network, provider, job):
    court, market, asker = network.Court, network.JobMarket, network.account("asker")
    number = court.demand(job, QUESTION, sender=asker, value=DEPOSIT + 5)
    demanded = {"demand": 1, "job": job, "asker": asker, "key": keccak(QUESTION[:5]), "question": QUESTION}
    assert ("Demanded", demanded | {"deadline": network.number + WINDOW}) in network.events()
    assert court.total_deposits() == DEPOSIT + 5 == network.balance(court.address)
    network.mine(WINDOW)
    with reverts("Court: still time to answer"):
        court.expire(number)
    with reverts("Court: not the question"):
        court.answer(number, QUESTION + b"?", b"A" + bytes(64))
    with reverts("Court: not an answer"):
        court.answer(number, QUESTION, b"nonsense")
    wallet = network.account("wallet", balance=0)
    network.Bonds.setPayout(wallet, sender=provider)
    answer = b"A" + bytes(64) + b"32 roots"
    court.answer(number, QUESTION, answer, sender=network.account("anyone"))
    assert ("Answered", {"demand": 1, "job": job, "data": answer}) in network.events()
    assert network.balance(wallet) == DEPOSIT + 5
    assert court.total_deposits() == 0 == network.balance(court.address)
    for call in ((court.answer, number, QUESTION, answer), (court.expire, number)):
        with reverts("Court: no open demand"):
            call[0](*call[1:])
    network.mine(WINDOW)
    with reverts("JobMarket: held by a dispute"):
        market.settle(job)
    network.mine()
    market.settle(job)


def test_a_demand_not_answered_convicts(network, provider, job):
    court, asker = network.Court, network.account("asker")
    number = court.demand(job, QUESTION, sender=asker, value=DEPOSIT)
    before = network.balance(asker)
    network.mine(WINDOW + 1)
    with reverts("Court: answer too late"):
        court.answer(number, QUESTION, b"A" + bytes(64))
    with reverts("JobMarket: a demand is open"):
        network.JobMarket.settle(job)
    court.expire(number, sender=network.account("anyone"))
    verdict = {"job": job, "accused": provider, "challenger": asker, "kind": 8, "step": 0, "operator": 0, "element": 0}
    assert ("Verdict", verdict) in network.events()
    assert ("Expired", {"demand": number, "job": job}) in network.events()
    assert network.balance(asker) - before == DEPOSIT
    assert (network.JobMarket.status(job), network.Bonds.owed(asker)) == (SLASHED, BTC // 2)
    assert court.dispute_of(job) == (provider, asker, 0, 0, 8, 1, network.number)


def test_demands_about_a_decided_job_give_their_deposits_back(network, job):
    court = network.Court
    askers = [network.account(f"asker {i}") for i in range(3)]
    for i, asker in enumerate(askers):
        court.demand(job, b"Q" + bytes([i]) * 4, sender=asker, value=DEPOSIT)
    prove(network, job, evidence(), network.account("challenger"))
    with reverts("Court: not revealed"):
        court.answer(1, b"Q" + bytes(4), b"A" + bytes(64))
    with reverts("Court: not revealed"):
        court.demand(job, QUESTION, value=DEPOSIT)
    before = [network.balance(asker) for asker in askers]
    for number in (1, 2, 3):
        court.expire(number)  # at once
        assert all(name != "Verdict" for name, _ in network.events())
    assert [network.balance(asker) - was for asker, was in zip(askers, before, strict=True)] == [DEPOSIT] * 3
    assert network.balance(court.address) == 0


def test_refuses_a_demand(network, graph, provider, job):
    court = network.Court
    with reverts("Court: deposit too small"):
        court.demand(job, QUESTION, value=DEPOSIT - 1)
    with reverts("Court: not a question about this job"):
        court.demand(job, b"how are you", value=DEPOSIT)
    with reverts("Court: not revealed"):
        court.demand(job + 1, QUESTION, value=DEPOSIT)
    court.demand(job, QUESTION, value=DEPOSIT)
    with reverts("Court: already asked"):
        court.demand(job, QUESTION, value=DEPOSIT)
    court.answer(1, QUESTION, b"A" + bytes(64))
    with reverts("Court: already asked"):
        court.demand(job, QUESTION, value=DEPOSIT)
    late = revealed(network, graph, provider)
    network.mine(FINAL_WINDOW)
    with reverts("JobMarket: window over"):
        court.demand(late, QUESTION, value=DEPOSIT)


def test_a_provider_that_asks_itself_uses_up_nobody_elses_demands(network, graph, provider):
    companion = network.account("companion")
    network.Bonds.deposit(sender=companion, value=BTC)
    network.Bonds.serve_as_companion(graph, sender=companion)
    market, court = network.JobMarket, network.Court
    requester = network.account("requester")
    job = market.request(graph, b"in", [100], network.number + 30, provider, sender=requester, value=FEE)
    market.submit(job, b"output", commit(TRACE_ROOT, provider), sender=provider)
    network.mine(3)
    market.commit(job, commit(OTHER_ROOT, companion), sender=companion)
    market.reveal(job, TRACE_ROOT, sender=provider)
    asked = 0
    for asker in (provider, companion, requester):
        for i in range(8):
            sender = network.account(f"stooge {i}") if asker == provider else asker
            court.demand(job, b"Q" + asked.to_bytes(4, "big"), sender=sender, value=DEPOSIT)
            asked += 1
        with reverts("Court: too many demands"):
            court.demand(job, b"Q" + asked.to_bytes(4, "big"), sender=asker, value=DEPOSIT)
    for number in range(1, asked + 1):
        court.answer(number, b"Q" + (number - 1).to_bytes(4, "big"), b"A" + bytes(64))
    network.mine(WINDOW + 1)
    market.settle(job)
    assert (market.status(job), network.balance(court.address)) == (FINAL, 0)


def test_who_refuses_money_holds_up_nothing(network, provider, job):
    wall = network.deploy(REFUSES_MONEY, "wall")
    network.set_balance(wall, BTC)
    court = network.Court
    court.demand(job, QUESTION, sender=wall, value=DEPOSIT)
    network.mine(WINDOW + 1)
    court.expire(1)
    assert ("PaymentKept", {"account": wall, "amount": DEPOSIT}) in network.events()
    assert (court.owed(wall), court.total_owed(), network.balance(court.address)) == (DEPOSIT,) * 3
    network.set_code(wall, b"")
    court.withdraw(wall, sender=network.account("anyone"))
    assert (court.owed(wall), court.total_owed(), network.balance(court.address)) == (0, 0, 0)
    with reverts("Court: nothing owed"):
        court.withdraw(sender=wall)


def test_the_largest_evidence_fits_a_transaction(network, job):
    challenger = network.account("challenger")
    padded = evidence() + b"\7" * (131_072 - 225)
    announce(network, job, padded, challenger)
    network.mine()
    network.Court.prove(job, padded, b"", sender=challenger, gas=2**24)
    assert network.JobMarket.status(job) == SLASHED


VOTER = Account.from_key(b"\x21" * 32)
VOTE = (b"\1" * 32, 8, b"\2" * 32, 16)


def sign_vote(vote, key=VOTER, chain_id=48_000_000):
    domain = {"name": "Hyperdust Finality", "version": "1", "chainId": chain_id}
    kinds = {"source": "bytes32", "sourceNumber": "uint64", "target": "bytes32", "targetNumber": "uint64"}
    types = {"Vote": [{"name": name, "type": kind} for name, kind in kinds.items()]}
    return bytes(key.sign_typed_data(domain, types, dict(zip(kinds, vote, strict=True))).signature)


@pytest.fixture
def voter(network):
    """A coinbase with three locked subsidies, of blocks 100 to 102."""
    address = VOTER.address.lower()
    for _ in range(3):
        network.open_block(address, 1_000)
    return address


@pytest.mark.parametrize(
    "other",
    [
        (b"\1" * 32, 8, b"\3" * 32, 16),  # double: another target at the same height
        (b"\4" * 32, 0, b"\2" * 32, 16),
        (b"\4" * 32, 0, b"\5" * 32, 24),  # surrounds
        (b"\4" * 32, 9, b"\5" * 32, 15),  # is surrounded
    ],
)
def test_votes_that_exclude_each_other_cost_the_locked_subsidies(network, voter, other):
    reporter = network.account("reporter")
    supply = network.Dust.totalSupply()
    subsidy = network.Dust.reward_of(100)[1]
    votes = VOTE, sign_vote(VOTE), other, sign_vote(other)
    network.Court.prove_equivocation(*votes, [100, 101, 5, 101], sender=reporter)
    lost = 2 * subsidy
    assert ("Equivocated", {"coinbase": voter, "reporter": reporter, "amount": lost}) in network.events()
    forfeited = {"number": 100, "coinbase": voter, "reporter": reporter, "amount": subsidy}
    assert ("Forfeited", forfeited) in network.events()
    assert network.Dust.balanceOf(reporter) == lost // 2
    assert network.Dust.totalSupply() == supply - (lost - lost // 2)
    network.mine(40)
    with reverts("Dust: already claimed"):
        network.Dust.claim(100)
    network.Dust.claim(102)
    assert network.Dust.balanceOf(voter) == subsidy
    with reverts("Dust: nothing locked to forfeit"):
        network.Court.prove_equivocation(*votes, [100, 101, 102], sender=reporter)


def test_votes_that_go_together_cost_nothing(network, voter):
    court = network.Court
    following = (b"\2" * 32, 16, b"\3" * 32, 24)
    longer = (b"\1" * 32, 8, b"\3" * 32, 24)  # same source, another height
    for other in (following, longer):
        with reverts("Court: votes that go together"):
            court.prove_equivocation(VOTE, sign_vote(VOTE), other, sign_vote(other), [100])
    with reverts("Court: one vote twice"):
        court.prove_equivocation(VOTE, sign_vote(VOTE), VOTE, sign_vote(VOTE), [100])
    double = (b"\1" * 32, 8, b"\3" * 32, 16)
    stranger = Account.from_key(b"\x22" * 32)
    for signature in (sign_vote(double, stranger), sign_vote(double, chain_id=1), b"", b"\0" * 65):
        with reverts("Court: votes of two"):
            court.prove_equivocation(VOTE, sign_vote(VOTE), double, signature, [100])
    with reverts("Court: no signature"):
        court.prove_equivocation(VOTE, b"", double, b"", [100])
    signed = sign_vote(double, stranger)
    with reverts("Dust: nothing locked to forfeit"):  # another's subsidies
        court.prove_equivocation(VOTE, sign_vote(VOTE, stranger), double, signed, [100, 101, 102])


def test_a_subsidy_is_forfeited_only_while_it_is_locked(network, voter):
    double = (b"\1" * 32, 8, b"\3" * 32, 16)
    network.skip_to(102 + 32)
    with reverts("Dust: nothing locked to forfeit"):
        network.Court.prove_equivocation(VOTE, sign_vote(VOTE), double, sign_vote(double), [100, 101, 102])
    for sender in (voter, SYSTEM, network.JobMarket.address):
        with reverts("Dust: not the court"):
            network.Dust.forfeit(voter, [102], sender, sender=sender)


def test_initializes_once_and_by_the_system(network):
    with reverts("Court: already initialized"):
        network.Court.initialize(1, 1, sender=SYSTEM)
    with reverts("Court: not the system"):
        network.Court.initialize(1, 1)
    bare = Network(initialize={})
    with reverts("Court: not initialized"):
        bare.Court.demand(1, b"Q", value=1)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"demand_window_blocks": 0}, "Court: no such window"),
        ({"demand_window_blocks": 2**64 + 1}, "Court: no such window"),
        ({"demand_deposit_wei": 0}, "Court: no deposit"),
    ],
)
def test_refuses_numbers_that_make_no_court(numbers, reason):
    with reverts(reason):
        Network(**numbers)


def test_without_a_judge_nothing_is_proven(graph):
    def broken(_):
        return b""

    network = Network(precompiles=((JUDGE, broken, 3_000, 12),))
    network.skip_to(100)
    graph = register(network)
    job = revealed(network, graph, join(network, graph, "provider"))
    with reverts("Court: not proven"):
        prove(network, job, evidence(), network.account("challenger"))
    with reverts("Court: not a question about this job"):
        network.Court.demand(job, QUESTION, value=DEPOSIT)
