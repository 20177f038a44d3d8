"""Jobs that a companion checks: drawn, committed, revealed, paid; what differs holds the job, and silence is judged."""

import pytest
from eth_abi.abi import encode
from eth_utils import keccak

from tests.unit.contracts.harness import BTC, NOBODY, Network, beacon_of, commit, join, register, reverts, top_layer

COURT = "0x0000000000000000000000000000000000005005"
BRIDGE = "0x0000000000000000000000000000000000005006"
TRACE_ROOT, OTHER_ROOT = b"\5" * 32, b"\6" * 32
FEE = BTC // 100
BURN = 60_000
NET = FEE - BURN
CLAIMED, REVEALED, FINAL, REFUNDED, SLASHED = range(2, 7)
COMMITTED, AGREES, DIFFERS, REFUTED = range(1, 5)
COMPANION_WINDOW, REVEAL_WINDOW, FINAL_WINDOW, DISPUTE_WINDOW = 8, 20, 20, 20


@pytest.fixture
def network():
    network = Network()
    network.skip_to(100)
    return network


@pytest.fixture
def graph(network):
    return register(network)


@pytest.fixture
def provider(network, graph):
    return join(network, graph, "provider")


@pytest.fixture
def companion(network, graph):
    return join_as_companion(network, graph, "companion")


def join_as_companion(network, graph, label):
    account = network.account(label)
    network.Bonds.deposit(sender=account, value=BTC)
    network.Bonds.serve_as_companion(graph, sender=account)
    return account


def claimed(network, graph, provider, root=TRACE_ROOT):
    """A job that is submitted in the present block."""
    market = network.JobMarket
    requester = network.account("requester")
    job = market.request(graph, b"input", [100], network.number + 30, provider, sender=requester, value=FEE)
    market.submit(job, b"output", commit(root, provider), sender=provider)
    return job


def checked(network, graph, provider, companion, root=TRACE_ROOT, own=TRACE_ROOT):
    """A job to which both have committed; the provider may reveal."""
    job = claimed(network, graph, provider, root)
    network.mine(3)
    network.JobMarket.commit(job, commit(own, companion), sender=companion)
    return job


def held(network, graph, provider, companion):
    job = checked(network, graph, provider, companion, own=OTHER_ROOT)
    network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    network.JobMarket.companion_reveal(job, OTHER_ROOT, sender=companion)
    return job


def check_of(network, job):
    return network.JobMarket.fields("check_of", network.JobMarket.check_of(job))


def draw(job, submitted_at):
    return int.from_bytes(
        keccak(encode(["bytes32", "uint256", "bytes32"], [beacon_of(submitted_at + 2), job, keccak(b"companion")])),
        "big",
    )


def test_a_companion_that_agrees_is_paid_its_share(network, graph, provider, companion):
    market = network.JobMarket
    job = checked(network, graph, provider, companion)
    assert ("Committed", {"job": job, "companion": companion, "commitment": commit(TRACE_ROOT, companion)}) in (
        network.events()
    )
    market.reveal(job, TRACE_ROOT, sender=provider)
    market.companion_reveal(job, TRACE_ROOT, sender=companion)
    opened = {"job": job, "companion": companion, "trace_root": TRACE_ROOT, "agrees": True}
    assert network.events() == [("CompanionRevealed", opened)]
    network.mine(FINAL_WINDOW)
    wallet = network.account("wallet", balance=0)
    network.Bonds.setPayout(wallet, sender=companion)
    before = network.balance(provider)
    market.settle(job)
    share = NET // 10
    assert network.balance(wallet) == share
    assert network.balance(provider) - before == NET - share
    assert network.balance(BRIDGE) == BURN
    split = {"job": job, "burned": BURN, "companion": share, "royalties": 0, "provider": NET - share}
    assert ("FeeSplit", split) in network.events()
    assert market.escrow() == 0 == network.balance(market.address)


def test_the_second_block_after_the_submission_draws_the_companion(network, graph, provider):
    companions = [join_as_companion(network, graph, f"companion {i}") for i in range(5)]
    jobs = [claimed(network, graph, provider) for _ in range(8)]
    submitted_at = network.number
    join_as_companion(network, graph, "late")  # after the submission: does not move the draw
    for _ in range(2):
        assert {network.JobMarket.companion_of(job) for job in jobs} == {NOBODY}
        network.mine()
    drawn = [network.JobMarket.companion_of(job) for job in jobs]
    assert drawn == [companions[(draw(job, submitted_at) >> 128) % 5] for job in jobs]
    assert len(set(drawn)) > 1


def test_only_a_share_of_the_jobs_is_sampled():
    network = Network(sampling_bps=2_500)
    network.skip_to(100)
    graph = register(network)
    provider = join(network, graph, "provider", bond=50 * BTC)
    companion = join_as_companion(network, graph, "companion")
    jobs = [claimed(network, graph, provider) for _ in range(40)]
    network.mine(2)
    drawn = [network.JobMarket.companion_of(job) for job in jobs]
    assert drawn == [companion if draw(job, 100) % 10_000 < 2_500 else NOBODY for job in jobs]
    assert 0 < drawn.count(companion) < 40
    network.mine()
    unsampled = jobs[drawn.index(NOBODY)]
    network.JobMarket.reveal(unsampled, TRACE_ROOT, sender=provider)  # nobody to wait for
    with reverts("JobMarket: companion has not committed yet"):
        network.JobMarket.reveal(jobs[drawn.index(companion)], TRACE_ROOT, sender=provider)


def test_a_provider_does_not_check_itself(network, graph, provider):
    network.Bonds.serve_as_companion(graph, sender=provider)
    job = claimed(network, graph, provider)
    network.mine(3)
    assert network.JobMarket.companion_of(job) == NOBODY
    network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)


def test_a_companion_that_left_is_passed_over(network, graph, provider):
    first, second = (join_as_companion(network, graph, name) for name in ("first", "second"))
    job = claimed(network, graph, provider)
    network.mine(2)
    drawn = network.JobMarket.companion_of(job)
    network.Bonds.leave(graph, sender=drawn)
    assert network.JobMarket.companion_of(job) == (second if drawn == first else first)
    network.Bonds.serve_as_companion(graph, sender=drawn)  # a new entry: the old one stays ended
    assert network.JobMarket.companion_of(job) == (second if drawn == first else first)


def test_refuses_a_commitment(network, graph, provider, companion):
    market = network.JobMarket
    own = commit(TRACE_ROOT, companion)
    with reverts("JobMarket: not claimed"):
        market.commit(1, own, sender=companion)
    job = claimed(network, graph, provider)
    with reverts("JobMarket: not the companion"):  # not drawn yet
        market.commit(job, own, sender=companion)
    network.mine(2)
    with reverts("JobMarket: not the companion"):
        market.commit(job, own, sender=provider)
    with reverts("JobMarket: empty commitment"):
        market.commit(job, bytes(32), sender=companion)
    network.mine(COMPANION_WINDOW - 2)
    market.commit(job, own, sender=companion)  # the window's last block
    with reverts("JobMarket: already committed"):
        market.commit(job, own, sender=companion)
    late = claimed(network, graph, provider)
    network.mine(COMPANION_WINDOW + 1)
    with reverts("JobMarket: companion window passed"):
        market.commit(late, own, sender=companion)


def test_the_provider_waits_for_the_companion_no_longer_than_its_window(network, graph, provider, companion):
    job = claimed(network, graph, provider)
    with reverts("JobMarket: companion not drawn yet"):
        network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    network.mine(3)
    with reverts("JobMarket: companion has not committed yet"):
        network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    network.mine(COMPANION_WINDOW - 2)
    network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    assert check_of(network, job)["state"] == 0
    network.mine(FINAL_WINDOW)
    before = network.balance(provider)
    network.JobMarket.settle(job)
    assert network.balance(provider) - before == NET


def test_a_copied_commitment_opens_nothing(network, graph, provider, companion):
    """Vector 7: what the provider committed to, committed again by the companion."""
    job = claimed(network, graph, provider)
    network.mine(3)
    network.JobMarket.commit(job, commit(TRACE_ROOT, provider), sender=companion)
    network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    with reverts("JobMarket: not what was committed"):
        network.JobMarket.companion_reveal(job, TRACE_ROOT, sender=companion)
    network.mine(FINAL_WINDOW)
    before = network.balance(companion)
    network.JobMarket.settle(job)
    assert network.balance(companion) == before  # it is not paid


def test_refuses_a_companions_reveal(network, graph, provider, companion):
    market = network.JobMarket
    job = claimed(network, graph, provider)
    with reverts("JobMarket: nothing to open"):
        market.companion_reveal(job, TRACE_ROOT, sender=companion)
    network.mine(3)
    market.commit(job, commit(TRACE_ROOT, companion), sender=companion)
    with reverts("JobMarket: before the provider's reveal"):
        market.companion_reveal(job, TRACE_ROOT, sender=companion)
    market.reveal(job, TRACE_ROOT, sender=provider)
    with reverts("JobMarket: not the companion"):
        market.companion_reveal(job, TRACE_ROOT, sender=provider)
    with reverts("JobMarket: not what was committed"):
        market.companion_reveal(job, OTHER_ROOT, sender=companion)
    network.mine(REVEAL_WINDOW + 1)
    with reverts("JobMarket: reveal window passed"):
        market.companion_reveal(job, TRACE_ROOT, sender=companion)
    market.settle(job)
    with reverts("JobMarket: not revealed"):
        market.companion_reveal(job, TRACE_ROOT, sender=companion)


def test_a_mismatch_holds_the_job_and_an_idle_companion_is_slashed(network, graph, provider, companion):
    market, bonds = network.JobMarket, network.Bonds
    job = checked(network, graph, provider, companion, own=OTHER_ROOT)
    market.reveal(job, TRACE_ROOT, sender=provider)
    network.mine(10)
    market.companion_reveal(job, OTHER_ROOT, sender=companion)
    until = network.number + DISPUTE_WINDOW
    mismatch = {"job": job, "companion": companion, "trace_root": OTHER_ROOT, "held_until": until}
    assert ("Mismatch", mismatch) in network.events()
    assert ("Held", {"job": job, "until": until}) in network.events()
    assert network.Court.dispute_of(job) == (provider, companion, 0, 0, 0, 0, 0)
    network.skip_to(until)
    with reverts("JobMarket: held by a dispute"):
        market.settle(job)
    with reverts("JobMarket: nothing to refund"):
        market.refund(job)
    network.mine()
    market.settle(job)
    assert ("CompanionRefuted", {"job": job, "companion": companion, "slashed": BTC}) in network.events()
    assert market.status(job) == FINAL
    assert bonds.bond_of(companion) == 0
    assert not bonds.is_companion(graph, companion)
    assert bonds.owed(provider) == BTC // 2
    assert network.balance(BRIDGE) == BTC // 2 + BURN
    assert check_of(network, job)["state"] == REFUTED
    assert network.Court.dispute_of(job) == (provider, companion, 0, 0, 0, 2, network.number)
    assert network.balance(bonds.address) == bonds.total_bonds() + bonds.total_owed() == BTC + BTC // 2


def test_the_court_convicts_the_provider(network, graph, provider, companion):
    market, bonds = network.JobMarket, network.Bonds
    job = held(network, graph, provider, companion)
    requester, challenger = network.account("requester"), network.account("challenger")
    before = network.balance(requester)
    market.convict(job, challenger, True, sender=COURT)
    convicted = {"job": job, "provider": provider, "challenger": challenger, "slashed": BTC}
    assert ("Convicted", convicted) in network.events()
    assert market.status(job) == SLASHED
    assert network.balance(requester) - before == FEE
    assert (bonds.bond_of(provider), bonds.bond_of(companion)) == (0, BTC)  # it differed: it was right
    assert bonds.owed(challenger) == BTC // 2 == network.balance(BRIDGE)
    assert network.Dust.credit_of(provider) == (0, 0, 0)
    assert market.exposure_of(provider) == (0, 0)
    assert market.escrow() == 0
    for call in (market.settle, market.refund):
        with pytest.raises(Exception, match="JobMarket: "):
            call(job)
    with reverts("JobMarket: not revealed"):
        market.convict(job, challenger, True, sender=COURT)


@pytest.mark.parametrize("false_trace", [True, False])
def test_a_companion_that_vouched_for_a_false_trace_is_slashed_too(network, graph, provider, companion, false_trace):
    job = checked(network, graph, provider, companion)
    network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    network.JobMarket.companion_reveal(job, TRACE_ROOT, sender=companion)
    challenger = network.account("challenger")
    network.JobMarket.convict(job, challenger, false_trace, sender=COURT)
    slashed = 2 if false_trace else 1
    assert network.Bonds.owed(challenger) == slashed * BTC // 2 == network.balance(BRIDGE)
    assert network.Bonds.bond_of(companion) == (0 if false_trace else BTC)


def test_a_provider_that_drops_a_sampled_job_it_lied_about_is_slashed(network, graph, provider, companion):
    """It learns of the draw when all do; silence must not be cheaper than the court."""
    market, bonds = network.JobMarket, network.Bonds
    job = checked(network, graph, provider, companion, root=TRACE_ROOT, own=OTHER_ROOT)
    network.mine(REVEAL_WINDOW - 3)
    with reverts("JobMarket: before the provider's reveal"):
        market.companion_reveal(job, OTHER_ROOT, sender=companion)
    with reverts("JobMarket: before the reveal window's end"):
        market.refund(job)
    network.mine()
    with reverts("JobMarket: reveal window passed"):
        market.reveal(job, TRACE_ROOT, sender=provider)
    with reverts("JobMarket: before the reveal window's end"):  # the companion's turn
        market.refund(job)
    market.companion_reveal(job, OTHER_ROOT, sender=companion)
    assert check_of(network, job)["state"] == DIFFERS
    network.mine(DISPUTE_WINDOW)
    with reverts("JobMarket: before the reveal window's end"):
        market.refund(job)
    network.mine()
    with reverts("JobMarket: reveal window passed"):
        market.reveal(job, TRACE_ROOT, sender=provider)
    before = network.balance(network.account("requester"))
    market.refund(job)
    convicted = {"job": job, "provider": provider, "challenger": companion, "slashed": BTC}
    assert ("Convicted", convicted) in network.events()
    assert network.balance(network.account("requester")) - before == FEE
    assert (bonds.owed(companion), market.status(job)) == (BTC // 2, SLASHED)
    assert network.Court.dispute_of(job) == (provider, companion, 0, 0, 8, 1, network.number)


def test_a_late_provider_that_was_right_is_not_slashed(network, graph, provider, companion):
    market = network.JobMarket
    job = checked(network, graph, provider, companion)
    network.mine(REVEAL_WINDOW)
    market.companion_reveal(job, TRACE_ROOT, sender=companion)
    assert check_of(network, job)["state"] == AGREES
    market.refund(job)
    assert (market.status(job), network.Bonds.bond_of(provider)) == (REFUNDED, BTC)


def test_a_late_provider_answers_a_companion_that_differs(network, graph, provider, companion):
    market = network.JobMarket
    job = checked(network, graph, provider, companion, own=OTHER_ROOT)
    network.mine(REVEAL_WINDOW)
    market.companion_reveal(job, OTHER_ROOT, sender=companion)
    network.mine(DISPUTE_WINDOW)
    market.reveal(job, TRACE_ROOT, sender=provider)  # the last block
    assert market.status(job) == REVEALED
    assert check_of(network, job)["held_until"] == network.number + DISPUTE_WINDOW
    network.mine(DISPUTE_WINDOW + 1)
    market.settle(job)
    assert (network.Bonds.bond_of(provider), network.Bonds.bond_of(companion)) == (BTC, 0)


def test_when_both_are_silent_the_fee_goes_back(network, graph, provider, companion):
    market = network.JobMarket
    job = checked(network, graph, provider, companion)
    network.mine(2 * REVEAL_WINDOW - 3)
    with reverts("JobMarket: before the reveal window's end"):
        market.refund(job)
    network.mine()
    with reverts("JobMarket: reveal window passed"):
        market.companion_reveal(job, TRACE_ROOT, sender=companion)
    market.refund(job)
    assert market.status(job) == REFUNDED


def test_only_the_court_convicts_asks_and_extends(network, graph, provider, companion):
    job = held(network, graph, provider, companion)
    for call, arguments in (("convict", (job, provider, True)), ("ask", (job, 5)), ("extend", (job, 5))):
        with reverts("JobMarket: not the court"):
            getattr(network.JobMarket, call)(*arguments, sender=provider)


def test_an_open_demand_holds_the_job(network, graph, provider):
    market = network.JobMarket
    job = claimed(network, graph, provider)
    with reverts("JobMarket: not revealed"):
        market.ask(job, 5, sender=COURT)
    network.mine(3)
    market.reveal(job, TRACE_ROOT, sender=provider)
    network.mine(FINAL_WINDOW - 1)
    market.ask(job, 5, sender=COURT)
    network.mine(10)
    with reverts("JobMarket: a demand is open"):
        market.settle(job)
    with reverts("JobMarket: window over"):
        market.ask(job, 5, sender=COURT)
    market.extend(job, 5, sender=COURT)
    network.mine(5)
    with reverts("JobMarket: held by a dispute"):
        market.settle(job)
    market.ask(job, 5, sender=COURT)  # while it is held, more may be asked
    market.extend(job, 5, sender=COURT)
    network.mine(6)
    market.settle(job)


def test_a_named_provider_declines_and_the_fee_is_back(network, graph, provider):
    requester, market = network.account("requester"), network.JobMarket
    job = market.request(graph, b"input", [100], network.number + 30, provider, sender=requester, value=FEE)
    with reverts("JobMarket: not the provider"):
        market.decline(job, sender=requester)
    before = network.balance(requester)
    market.decline(job, sender=provider)
    assert ("Declined", {"job": job, "provider": provider}) in network.events()
    assert (market.status(job), network.balance(requester) - before) == (REFUNDED, FEE)
    assert market.exposure_of(provider)[0] == 0
    assert network.Bonds.is_provider(graph, provider)  # not paused
    with reverts("JobMarket: not open"):
        market.decline(job, sender=provider)


def test_a_drawn_provider_declines_and_anyone_may_take_it(network, graph, provider):
    market, other = network.JobMarket, join(network, graph, "other")
    job = market.request(graph, b"input", [100], network.number + 30, NOBODY, value=FEE)
    network.mine()
    drawn = market.provider_of(job)
    left = other if drawn == provider else provider
    with reverts("JobMarket: not the provider"):
        market.submit(job, b"output", commit(TRACE_ROOT, left), sender=left)
    market.decline(job, sender=drawn)
    assert market.provider_of(job) == NOBODY
    market.submit(job, b"output", commit(TRACE_ROOT, left), sender=left)
    assert market.provider_of(job) == left


def test_nobody_declines_after_the_deadline_and_a_declined_job_pauses_nobody(network, graph, provider):
    market = network.JobMarket
    named, drawn = (
        market.request(graph, b"input", [100], network.number + 12, who, value=FEE) for who in (provider, NOBODY)
    )
    network.mine()
    market.decline(drawn, sender=provider)
    network.mine(12)
    with reverts("JobMarket: deadline passed"):
        market.decline(named, sender=provider)
    market.refund(drawn)
    assert network.Bonds.is_provider(graph, provider)
    market.refund(named)
    assert not network.Bonds.is_provider(graph, provider)
    assert network.Bonds.serves(graph, provider)
    with reverts("JobMarket: not a bonded provider"):
        market.request(graph, b"input", [100], network.number + 12, provider, value=FEE)
    network.mine(20)
    assert network.Bonds.is_provider(graph, provider)


def test_a_drawn_provider_that_left_leaves_the_job_to_all(network, graph, provider):
    market, other = network.JobMarket, join(network, graph, "other")
    job = market.request(graph, b"input", [100], network.number + 30, NOBODY, value=FEE)
    network.mine()
    drawn = market.provider_of(job)
    left = other if drawn == provider else provider
    network.Bonds.leave(graph, sender=drawn)
    assert market.provider_of(job) == NOBODY
    market.submit(job, b"output", commit(TRACE_ROOT, left), sender=left)


def test_a_bond_covers_a_tenth_of_it_in_open_jobs(network, graph, provider):
    market = network.JobMarket
    value = FEE + 60_000_000  # credit at 10^9 wei for 10^9 MACs
    jobs = [claimed(network, graph, provider) for _ in range(9)]
    assert market.exposure_of(provider) == (9 * value, BTC // 10)
    with reverts("JobMarket: more than the bond covers"):
        market.request(graph, b"input", [100], network.number + 30, provider, value=FEE)
    drawn = market.request(graph, b"input", [100], network.number + 30, NOBODY, value=FEE)
    network.mine(3)
    with reverts("JobMarket: more than the bond covers"):
        market.submit(drawn, b"output", commit(TRACE_ROOT, provider), sender=provider)
    market.reveal(jobs[0], TRACE_ROOT, sender=provider)
    network.mine(FINAL_WINDOW)
    market.settle(jobs[0])
    market.submit(drawn, b"output", commit(TRACE_ROOT, provider), sender=provider)
    network.mine(REVEAL_WINDOW + 1)
    for job in (*jobs[1:], drawn):
        market.refund(job)
    assert market.exposure_of(provider)[0] == 0


def test_a_bond_taken_out_covers_nothing(network, graph):
    provider = join(network, graph, "provider", bond=2 * BTC)
    job = network.JobMarket.request(graph, b"input", [100], network.number + 30, provider, value=2 * BTC // 10 - 10**9)
    network.Bonds.unbond(BTC, sender=provider)
    with reverts("JobMarket: more than the bond covers"):
        network.JobMarket.submit(job, b"output", commit(TRACE_ROOT, provider), sender=provider)


def test_a_job_that_no_bond_of_its_provider_covers_pauses_nobody(network, graph, provider):
    job = network.JobMarket.request(graph, b"input", [100], network.number + 12, NOBODY, value=BTC)
    network.mine(13)
    network.JobMarket.refund(job)
    assert network.Bonds.is_provider(graph, provider)


def test_royalties_go_to_the_owners_of_the_lineage(network, provider):
    registry, market = network.GraphRegistry, network.JobMarket
    owners = [network.account(name) for name in ("maker", "tuner")]
    parent = register(network, name="parent", layer=top_layer("parent"), sender=owners[0])
    child = register(network, name="child", layer=top_layer("child"), sender=owners[1])
    registry.set_lineage(parent, bytes(32), 500, sender=owners[0])
    registry.set_lineage(child, parent, 1_000, sender=owners[1])
    network.Bonds.serve(child, sender=provider)
    before = [network.balance(account) for account in (*owners, provider)]
    job = claimed(network, child, provider)
    network.mine(3)
    market.reveal(job, TRACE_ROOT, sender=provider)
    network.mine(FINAL_WINDOW)
    market.settle(job)
    gained = [network.balance(account) - was for account, was in zip((*owners, provider), before, strict=True)]
    assert gained == [NET * 5 // 100, NET // 10, NET - NET * 5 // 100 - NET // 10]


def test_the_burn_must_leave_something_of_the_fee(network, graph, provider):
    market = network.JobMarket
    assert market.burn_of(graph, [100]) == BURN
    for value in (1, BURN):
        with reverts("JobMarket: the burn takes the fee"):
            market.request(graph, b"input", [100], network.number + 30, provider, value=value)
    market.request(graph, b"input", [100], network.number + 30, provider, value=BURN + 1)


def grant(network, provider, macs):
    network.Dust.grant_credit(provider, macs, sender=network.JobMarket.address)


@pytest.mark.parametrize(
    ("granted", "price"),
    [
        (0, 10**6 - 10**6 // 8),
        (7_500, 10**6 - 10**6 // 16),  # half of the target below it
        (15_000, 10**6),  # half of 30 blocks of 1,000 MACs
        (22_500, 10**6 + 10**6 // 16),
        (30_000, 10**6 + 10**6 // 8),
        (2**200, 10**6 + 10**6 // 8),
    ],
)
def test_the_price_moves_by_at_most_an_eighth_a_window(granted, price):
    network = Network()
    miner = network.account("miner")
    network.mine()  # block 1's reward is of genesis, which had no proposer
    grant(network, miner, granted)
    for _ in range(28):
        network.open_block(miner, 1_000)
    assert network.JobMarket.mac_price() == 10**6
    network.open_block(miner, 2_000)  # block 30: 30,000 MACs by now
    assert network.JobMarket.mac_price() == price


def test_idle_windows_lower_the_price_to_its_floor_and_no_further():
    network = Network()
    miner = network.account("miner")
    network.open_block(miner, 1_000)
    network.open_block(miner, 1_000_000)
    network.skip_to(30 * 3)
    expected = 10**6
    for _ in range(3):
        expected -= expected // 8
    assert network.JobMarket.mac_price() == expected
    network.skip_to(30 * 1_000)
    assert network.JobMarket.mac_price() == 1_000


def test_without_any_difficulty_the_price_stays():
    network = Network()
    network.skip_to(30 * 50)
    assert network.JobMarket.mac_price() == 10**6


def test_no_total_of_dust_can_make_the_price_revert(network, graph, provider):
    miner = network.account("miner")
    for macs in (2**256 - 1, 0, 1):
        network.open_block(miner, macs)
        network.open_block(miner, 2**255)
        grant(network, network.account(f"{macs}"), macs)
        network.skip_to(network.number + 31)
        assert 1_000 <= network.JobMarket.mac_price() <= 2**64
        network.JobMarket.request(graph, b"input", [100], network.number + 30, provider, value=FEE)
        assert any(name == "PriceMoved" for name, _ in network.events())
