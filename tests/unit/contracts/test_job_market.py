import pytest
from eth_abi.abi import encode
from eth_utils import keccak
from vyper.compiler import compile_code

from tests.unit.contracts.harness import (
    BTC,
    NOBODY,
    ROOT,
    SYSTEM,
    Contract,
    Network,
    Reverted,
    beacon_of,
    commit,
    join,
    register,
    reverts,
    top_layer,
)

INPUT = b"\1\0\0\0" * 100
OUTPUT = bytes(range(256)) * 3
TRACE_ROOT = b"\5" * 32
FEE = BTC // 100
BRIDGE = "0x0000000000000000000000000000000000005006"
BURN = 60_000  # of 60 million MACs at 10^6 wei for 10^9
REQUESTED, CLAIMED, REVEALED, FINAL, REFUNDED, SLASHED = range(1, 7)
REFUSES_MONEY = bytes.fromhex("5f5ffd")
BURNS_GAS = bytes.fromhex("5b5f56")


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
def requester(network):
    return network.account("requester")


def request(network, graph, provider=NOBODY, *, sender=None, blocks=30, fee=FEE, symbols=(100,), data=INPUT):
    return network.JobMarket.request(
        graph,
        data,
        symbols,
        network.number + blocks,
        provider,
        sender=sender or network.account("requester"),
        value=fee,
    )


def submit(network, job, provider, output=OUTPUT):
    network.JobMarket.submit(job, output, commit(TRACE_ROOT, provider), sender=provider)


def finish(network, job, provider):
    submit(network, job, provider)
    network.mine(3)
    network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    network.skip_to(network.number + 20)
    network.JobMarket.settle(job)


def drawn(job, requested_at, candidates):
    beacon = beacon_of(requested_at + 1)
    return candidates[int.from_bytes(keccak(encode(["bytes32", "uint256"], [beacon, job])), "big") % len(candidates)]


def test_a_job_of_a_named_provider_from_request_to_final(network, graph, provider, requester):
    market = network.JobMarket
    job = request(network, graph, provider)
    requested = {"job": 1, "graph": graph, "requester": requester, "provider": provider, "fee": FEE}
    requested |= {"deadline": 130, "symbols": (100,), "input": INPUT}
    assert ("Requested", requested) in network.events()
    assert job == 1 == market.jobs_count()
    assert market.status(job) == REQUESTED
    assert market.symbols_of(job) == (100,)
    assert (market.escrow(), network.balance(market.address)) == (FEE, FEE)

    submit(network, job, provider)  # a named provider need not wait for the next block
    submitted = {"job": 1, "provider": provider, "output": OUTPUT, "commitment": commit(TRACE_ROOT, provider)}
    assert network.events() == [("Submitted", submitted)]
    assert market.status(job) == CLAIMED
    assert market.output_of(job) == OUTPUT

    network.mine(20)
    market.reveal(job, TRACE_ROOT, sender=provider)
    assert network.events() == [("Revealed", {"job": 1, "provider": provider, "trace_root": TRACE_ROOT})]
    assert market.status(job) == REVEALED

    network.mine(19)
    with reverts("JobMarket: window still open"):
        market.settle(job)
    network.mine()
    before = network.balance(provider)
    market.settle(job, sender=network.account("anyone"))
    assert ("Settled", {"job": 1, "provider": provider, "fee": FEE, "credit": 60_000_000}) in network.events()
    split = {"job": 1, "burned": BURN, "companion": 0, "royalties": 0, "provider": FEE - BURN}
    assert ("FeeSplit", split) in network.events()
    assert network.balance(provider) - before == FEE - BURN
    assert network.balance(BRIDGE) == BURN
    assert network.Dust.credit_of(provider) == (60_000_000, 0, 0)
    assert market.fields("job", market.job(job)) == {
        "graph": graph,
        "requester": requester,
        "provider": provider,
        "fee": FEE,
        "credit": 60_000_000,
        "deadline": 130,
        "requested_at": 100,
        "submitted_at": 100,
        "revealed_at": 120,
        "closed_at": 140,
        "candidates": 0,
        "symbols": (1 << 128) + 100,
        "input_hash": keccak(INPUT),
        "output_hash": keccak(OUTPUT),
        "commitment": commit(TRACE_ROOT, provider),
        "trace_root": TRACE_ROOT,
        "status": FINAL,
        "burn": BURN,
    }
    assert (market.escrow(), network.balance(market.address)) == (0, 0)
    with reverts("JobMarket: not revealed"):
        market.settle(job)


def test_the_next_beacon_draws_a_provider(network, graph):
    candidates = [join(network, graph, f"provider {i}") for i in range(5)]
    first = network.number
    jobs = [request(network, graph) for _ in range(20)]
    assert network.JobMarket.provider_of(1) == NOBODY
    for candidate in candidates:
        with reverts("JobMarket: not drawn yet"):
            submit(network, 1, candidate)
    join(network, graph, "late")  # after the request: does not move the draw
    network.mine()
    for job in jobs:
        chosen = drawn(job, first, candidates)
        assert network.JobMarket.provider_of(job) == chosen
        assert network.JobMarket.fields("job", network.JobMarket.job(job))["provider"] == chosen
        with reverts("JobMarket: not the provider"):
            submit(network, job, next(account for account in candidates if account != chosen))
        submit(network, job, chosen)
    assert len({network.JobMarket.provider_of(job) for job in jobs}) > 1


def test_after_takeover_any_bonded_provider_submits(network, graph):
    candidates = [join(network, graph, f"provider {i}") for i in range(3)]
    job = request(network, graph)
    other = next(account for account in candidates if account != drawn(job, network.number, candidates))
    network.mine(5)
    with reverts("JobMarket: not the provider"):
        submit(network, job, other)
    network.mine()
    with reverts("JobMarket: not a bonded provider"):
        submit(network, job, network.account("stranger"))
    submit(network, job, other)
    assert network.JobMarket.provider_of(job) == other


def test_nobody_takes_over_a_named_job(network, graph, provider):
    other = join(network, graph, "other")
    job = request(network, graph, provider)
    network.mine(25)
    with reverts("JobMarket: not the provider"):
        submit(network, job, other)
    submit(network, job, provider)


def test_a_forgotten_beacon_leaves_the_job_to_everyone(network, graph, provider):
    job = request(network, graph, blocks=10_000)
    network.mine()
    network.skip_to(network.number + 8_192)
    assert network.JobMarket.provider_of(job) == NOBODY
    submit(network, job, provider)


@pytest.mark.parametrize("symbols", [(), (3,), (3, 2**32 - 1), (3, 0, 5, 2**32 - 1)])
def test_symbols_pack_and_unpack(network, symbols):
    layer = top_layer("any", [(b"X", 0, 2**32 - 1)] * len(symbols))
    graph = register(network, layer, "any", (), ((7, (0, 0, 0, 0)),), ())
    join(network, graph, "provider")
    job = request(network, graph, symbols=symbols)
    assert network.JobMarket.symbols_of(job) == symbols


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fee": 0}, "JobMarket: no fee"),
        ({"data": b""}, "JobMarket: empty input"),
        ({"symbols": (1, 2)}, "GraphRegistry: wrong number of symbols"),
        ({"symbols": (129,)}, "GraphRegistry: symbol out of bounds"),
        ({"blocks": 9}, "JobMarket: deadline too soon"),
        ({"blocks": -1}, "JobMarket: deadline too soon"),
        ({"blocks": 14_401}, "JobMarket: deadline too far"),
        ({"blocks": 2**255}, "JobMarket: deadline too far"),
        ({"provider": SYSTEM}, "JobMarket: not a bonded provider"),
    ],
)
def test_refuses_a_request(network, graph, provider, changes, reason):
    with reverts(reason):
        request(network, graph, **changes)
    assert network.JobMarket.jobs_count() == 0
    for blocks in (10, 14_400):
        request(network, graph, blocks=blocks)


def test_refuses_an_unknown_graph(network):
    with reverts("GraphRegistry: unknown graph"):
        request(network, b"\7" * 32)


def test_refuses_a_graph_that_nobody_serves(network, graph):
    with reverts("JobMarket: no provider of this graph"):
        request(network, graph)
    provider = join(network, register(network, top_layer("other"), "other"), "provider")
    with reverts("JobMarket: not a bonded provider"):
        request(network, graph, provider)


def test_the_shortest_deadline_grows_with_the_graph(network):
    graph = register(network, macs=((3_000_000_000, (0, 0, 0, 0)), (10**9, (1, 0, 0, 0))))
    join(network, graph, "provider")
    assert network.JobMarket.shortest_deadline(graph, [2]) == 10 + 5
    with reverts("JobMarket: deadline too soon"):
        request(network, graph, symbols=(2,), blocks=14)
    request(network, graph, symbols=(2,), blocks=15)


def test_input_and_output_may_fill_their_bounds(network, graph, provider):
    job = request(network, graph, provider, data=b"\7" * 16_384)
    submit(network, job, provider, output=b"\7" * 8_192)
    assert network.gas_used < 2**24 - 200_000  # EIP-7825, less the transaction's own cost
    assert len(network.JobMarket.output_of(job)) == 8_192
    with pytest.raises(Reverted):
        request(network, graph, provider, data=b"\7" * 16_385)


def test_refuses_a_submission(network, graph, provider):
    market = network.JobMarket
    job = request(network, graph, provider)
    for arguments, reason in (
        ((job, b"", commit(TRACE_ROOT, provider)), "JobMarket: empty output"),
        ((job, OUTPUT, bytes(32)), "JobMarket: empty commitment"),
        ((job + 1, OUTPUT, commit(TRACE_ROOT, provider)), "JobMarket: not open"),
    ):
        with reverts(reason):
            market.submit(*arguments, sender=provider)
    with reverts("JobMarket: not the provider"):
        submit(network, job, network.account("stranger"))
    network.mine(30)
    submit(network, job, provider)  # the deadline's own block
    with reverts("JobMarket: not open"):
        submit(network, job, provider)


def test_a_late_result_loses_the_job(network, graph, provider, requester):
    job = request(network, graph, provider)
    network.mine(30)
    with reverts("JobMarket: before the deadline"):
        network.JobMarket.refund(job)
    network.mine()
    with reverts("JobMarket: deadline passed"):
        submit(network, job, provider)
    before = network.balance(requester)
    network.JobMarket.refund(job, sender=network.account("anyone"))
    assert ("Paused", {"account": provider, "until": 151}) in network.events()
    assert ("Refunded", {"job": job, "requester": requester, "fee": FEE}) in network.events()
    assert network.balance(requester) - before == FEE
    assert network.JobMarket.status(job) == REFUNDED
    with reverts("JobMarket: nothing to refund"):
        network.JobMarket.refund(job)
    with reverts("JobMarket: not open"):
        submit(network, job, provider)


def test_a_missing_reveal_loses_the_job(network, graph, provider, requester):
    job = request(network, graph, provider)
    submit(network, job, provider)
    network.mine(20)
    with reverts("JobMarket: before the reveal window's end"):
        network.JobMarket.refund(job)
    network.mine()
    with reverts("JobMarket: reveal window passed"):
        network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    before = network.balance(requester)
    network.JobMarket.refund(job)
    assert network.balance(requester) - before == FEE
    assert network.Dust.credit_of(provider) == (0, 0, 0)


def test_refuses_a_reveal(network, graph, provider):
    other = join(network, graph, "other")
    job = request(network, graph, provider)
    with reverts("JobMarket: not claimed"):
        network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    submit(network, job, provider)
    for _ in range(3):
        with reverts("JobMarket: companion not drawn yet"):
            network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
        network.mine()
    with reverts("JobMarket: not what was committed"):
        network.JobMarket.reveal(job, b"\6" * 32, sender=provider)
    with reverts("JobMarket: not the provider"):
        network.JobMarket.reveal(job, TRACE_ROOT, sender=other)
    network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    with reverts("JobMarket: not claimed"):
        network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    with reverts("JobMarket: nothing to refund"):
        network.JobMarket.refund(job)


def test_a_copied_commitment_cannot_be_revealed(network, graph, provider):
    copier = join(network, graph, "copier")
    job = request(network, graph, copier)
    network.JobMarket.submit(job, OUTPUT, commit(TRACE_ROOT, provider), sender=copier)
    network.mine(3)
    with reverts("JobMarket: not what was committed"):
        network.JobMarket.reveal(job, TRACE_ROOT, sender=copier)


def test_a_scan_that_stops_early_is_credited_and_burns_less(network):
    scan = b"\2" + top_layer("decoder", ((b"S", 1, 64), (b"T", 1, 32)), tail=b"rest, limit: \1")[1:]
    graph = register(network, scan, "decoder", mining=((1_000_000, (0, 1, 0, 0)),))
    provider = join(network, graph, "decoder's")
    market = network.JobMarket
    job = market.request(graph, INPUT, [10, 20], network.number + 30, provider, value=FEE)
    burn = market.burn_of(graph, [10, 20])
    market.submit(job, bytes(4 * 5), commit(TRACE_ROOT, provider), sender=provider)
    network.mine(20)
    market.reveal(job, TRACE_ROOT, sender=provider)
    network.mine(20)
    market.settle(job)
    split = {"job": job, "burned": burn // 4, "companion": 0, "royalties": 0, "provider": FEE - burn // 4}
    assert ("FeeSplit", split) in network.events()
    assert network.Dust.credit_of(provider) == (5_000_000, 0, 0)
    assert market.open_value(provider) == 0


def test_nothing_to_settle_or_refund_without_a_job(network):
    with reverts("JobMarket: not revealed"):
        network.JobMarket.settle(1)
    with reverts("JobMarket: nothing to refund"):
        network.JobMarket.refund(1)
    assert network.JobMarket.fields("job", network.JobMarket.job(1))["status"] == 0
    assert network.JobMarket.output_of(1) == b""
    assert network.JobMarket.symbols_of(1) == ()


def test_the_fee_goes_to_the_payout(network, graph, provider):
    wallet = network.account("wallet", balance=0)
    network.Bonds.setPayout(wallet, sender=provider)
    finish(network, request(network, graph, provider), provider)
    assert network.balance(wallet) == FEE - BURN
    assert network.Dust.credit_of(provider)[0] == 60_000_000
    assert network.Dust.credit_of(wallet) == (0, 0, 0)


@pytest.mark.parametrize("code", [REFUSES_MONEY, BURNS_GAS])
def test_a_payout_that_refuses_money_holds_up_nothing(network, graph, provider, code):
    wallet = network.deploy(code, "wallet")
    network.Bonds.setPayout(wallet, sender=provider)
    finish(network, request(network, graph, provider), provider)
    market = network.JobMarket
    assert ("PaymentKept", {"account": wallet, "amount": FEE - BURN}) in network.events()
    assert (market.owed(wallet), market.total_owed(), network.balance(market.address)) == (
        FEE - BURN,
        FEE - BURN,
        FEE - BURN,
    )
    with pytest.raises(Reverted):
        market.withdraw(sender=wallet, gas=200_000)
    network.set_code(wallet, b"")
    market.withdraw(sender=wallet)
    assert network.events() == [("Withdrawn", {"account": wallet, "amount": FEE - BURN})]
    assert (market.owed(wallet), market.total_owed(), network.balance(wallet)) == (0, 0, FEE - BURN)
    with reverts("JobMarket: nothing owed"):
        market.withdraw(sender=wallet)


ATTACKER = """
# pragma version 0.4.3
target: constant(address) = 0x0000000000000000000000000000000000005003
data: Bytes[100]

@external
@payable
def request(data: Bytes[1000]):
    raw_call(target, data, value=msg.value)

@external
def withdraw():
    self.data = method_id("withdraw()")
    raw_call(target, self.data)

@external
@payable
def __default__():
    assert len(self.data) > 0
    raw_call(target, self.data)
"""


def test_a_withdrawal_cannot_be_entered_again(network, graph, provider):
    artifact = compile_code(ATTACKER, output_formats=["bytecode_runtime", "abi"])
    code = bytes.fromhex(artifact["bytecode_runtime"].removeprefix("0x"))
    attacker = Contract(network, network.deploy(code, "attacker"), artifact["abi"])
    market = network.JobMarket
    types = "bytes32,bytes,uint32[],uint256,address"
    call = keccak(text=f"request({types})")[:4]
    call += encode(types.split(","), [graph, INPUT, [100], network.number + 30, provider])
    attacker.request(call, value=FEE)
    request(network, graph, provider)  # another's fee to steal
    network.mine(31)
    market.refund(1)
    assert market.owed(attacker.address) == FEE
    with pytest.raises(Reverted):
        attacker.withdraw()
    assert (network.balance(market.address), market.owed(attacker.address)) == (2 * FEE, FEE)


def test_a_contract_reads_the_answer(network, graph, provider):
    source = (ROOT / "contracts" / "demo" / "AnswerReader.vy").read_text(encoding="utf-8")
    artifact = compile_code(source, output_formats=["bytecode_runtime", "abi"])
    code = bytes.fromhex(artifact["bytecode_runtime"].removeprefix("0x"))
    reader = Contract(network, network.deploy(code, "reader"), artifact["abi"])
    job = request(network, graph, provider)
    with reverts("AnswerReader: no such answer yet"):
        reader.read(job, 2, 0)
    submit(network, job, provider)
    assert reader.read(job, 2, 383) == (keccak(OUTPUT), 768, -2)  # ff fe, little-endian: 0xfffe
    assert reader.read(job, 2, 1) == (keccak(OUTPUT), 768, 0x0302)
    assert reader.answer_of(job) == (keccak(OUTPUT), 768, 0x0302)
    with reverts("AnswerReader: no such element"):
        reader.read(job, 2, 384)
    with reverts("AnswerReader: no such answer yet"):
        reader.read(job, 4, 0)
    network.mine(3)
    network.JobMarket.reveal(job, TRACE_ROOT, sender=provider)
    network.skip_to(network.number + 20)
    network.JobMarket.settle(job)
    assert reader.read(job, 4, 0)[2] == 0x0100


def test_initializes_once_and_by_the_system(network):
    with reverts("JobMarket: already initialized"):
        network.JobMarket.initialize(*[1] * 14, sender=SYSTEM)
    with reverts("JobMarket: not the system"):
        network.JobMarket.initialize(*[1] * 14)
    bare = Network(initialize={})
    with reverts("JobMarket: not initialized"):
        request(bare, b"\7" * 32)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"final_window_blocks": 0}, "JobMarket: empty window"),
        ({"reveal_window_blocks": 0}, "JobMarket: empty window"),
        ({"macs_per_block": 0}, "JobMarket: empty window"),
        ({"final_window_blocks": 2**64 + 1}, "JobMarket: window beyond reason"),
        ({"reveal_window_blocks": 2**64 + 1}, "JobMarket: window beyond reason"),
        ({"takeover_blocks": 8_191}, "JobMarket: takeover after the beacon is forgotten"),
        ({"min_deadline_blocks": 0}, "JobMarket: no deadline possible"),
        ({"min_deadline_blocks": 14_401}, "JobMarket: no deadline possible"),
        ({"max_deadline_blocks": 2**64 + 1}, "JobMarket: window beyond reason"),
        ({"dispute_window_blocks": 0}, "JobMarket: empty window"),
        ({"price_window_blocks": 0}, "JobMarket: empty window"),
        ({"dispute_window_blocks": 2**64 + 1}, "JobMarket: window beyond reason"),
        ({"price_window_blocks": 2**64 + 1}, "JobMarket: window beyond reason"),
        ({"companion_window_blocks": 2}, "JobMarket: no time to commit and reveal"),
        ({"companion_window_blocks": 20}, "JobMarket: no time to commit and reveal"),
        ({"reveal_window_blocks": 21}, "JobMarket: final before the companion's reveal"),
        ({"sampling_bps": 0}, "JobMarket: no such share"),
        ({"sampling_bps": 10_001}, "JobMarket: no such share"),
        ({"companion_bps": 7_001}, "JobMarket: no such share"),
        ({"min_mac_price_wei": 0}, "JobMarket: no such price"),
        ({"min_mac_price_wei": 10**6 + 1}, "JobMarket: no such price"),
        ({"mac_price_wei": 2**64 + 1}, "JobMarket: no such price"),
        ({"credit_value_wei": 2**64 + 1}, "JobMarket: no such price"),
    ],
)
def test_refuses_numbers_that_make_no_market(numbers, reason):
    with reverts(reason):
        Network(**numbers)
