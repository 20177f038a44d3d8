"""Bridge: what can be withdrawn, refused by name; only the system says what became of it."""

import pytest

from bridge.peg_errors import PayoutScriptRefused
from bridge.scripts import check_payout_script
from tests.unit.contracts.harness import BTC, SYSTEM, Network, Reverted

SAT = 10**10
HASH_20, HASH_32 = bytes(range(1, 21)), bytes(range(1, 33))
SCRIPTS = {
    1: b"\x76\xa9\x14" + HASH_20 + b"\x88\xac",
    2: b"\xa9\x14" + HASH_20 + b"\x87",
    3: b"\x00\x14" + HASH_20,
    4: b"\x00\x20" + HASH_32,
    5: b"\x51\x20" + HASH_32,
}
REFUSED = {
    "no script": b"",
    "OP_RETURN refused": b"\x6a\x14" + HASH_20,
    "P2PK refused": b"\x21\x02" + HASH_32 + b"\xac",
    "bare multisig refused": b"\x51\x21\x02" + HASH_32 + b"\x51\xae",
    "P2A refused": b"\x51\x02\x4e\x73",
    "witness version refused": b"\x52\x20" + HASH_32,
    "no standard script": b"\x76\xa9\x14" + HASH_20 + b"\x88\xad",
}


@pytest.fixture
def network():
    network = Network()
    network.Bridge.initialize(b"\1" * 32, 1_000 * BTC, 10_000, sender=SYSTEM)
    return network


@pytest.fixture
def alice(network):
    return network.account("alice")


def withdraw(network, account, script=SCRIPTS[3], sats=50_000, max_fee=1_000):
    return network.Bridge.withdraw(script, max_fee, sender=account, value=(sats + max_fee) * SAT)


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_five_scripts_are_queued(network, alice, kind):
    script = SCRIPTS[kind]
    check_payout_script(script)
    assert withdraw(network, alice, script) == 0
    assert network.Bridge.withdrawal_of(0)[1:5] == (script, 50_000, 1_000, 1)
    (queued,) = network.Bridge.pending()[3]
    assert queued[:4] == (0, 50_000, 1_000, kind)
    assert network.Bridge.supply_wei() == 1_000 * BTC - 51_000 * SAT
    assert network.gas_used < 150_000


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_script_is_refused_by_name(network, alice, name):
    with pytest.raises(PayoutScriptRefused):
        check_payout_script(REFUSED[name])
    with pytest.raises(Reverted, match=f"Bridge: {name}"):
        withdraw(network, alice, REFUSED[name])


def test_amounts(network, alice):
    assert withdraw(network, alice, sats=10_000, max_fee=0) == 0
    with pytest.raises(Reverted, match="payout too small"):
        withdraw(network, alice, sats=9_999, max_fee=5_000)
    with pytest.raises(Reverted, match="not a whole number of sats"):
        network.Bridge.withdraw(SCRIPTS[1], 0, sender=alice, value=50_000 * SAT + 1)
    with pytest.raises(Reverted, match="payout too small"):
        network.Bridge.withdraw(SCRIPTS[1], 2**200, sender=alice, value=50_000 * SAT)


def test_a_network_without_a_peg_and_a_frozen_one_take_nothing(network, alice):
    bare = Network()
    someone = bare.account("alice")
    with pytest.raises(Reverted, match="no peg on this network"):
        withdraw(bare, someone)
    network.Bridge.update(b"\2" * 32, 1_000 * BTC, 7, 2, 0, bytes(32), sender=SYSTEM)
    assert network.Bridge.is_frozen()
    with pytest.raises(Reverted, match="the peg is frozen"):
        withdraw(network, alice)
    network.Bridge.update(b"\2" * 32, 1_000 * BTC, 7, 0, 0, bytes(32), sender=SYSTEM)
    withdraw(network, alice)


def test_what_is_sent_is_burned(network, alice):
    supply = network.Bridge.supply_wei()
    network.send(network.Bridge.address, b"", sender=alice, value=5 * SAT, gas=50_000)
    assert network.Bridge.supply_wei() == supply - 5 * SAT
    network.Bridge.count_fees(7, sender=SYSTEM)
    assert network.Bridge.pending()[1] == 5 * SAT + 7
    network.Bridge.update(b"\2" * 32, supply - 5 * SAT - 7, 0, 0, 0, bytes(32), sender=SYSTEM)
    assert network.Bridge.pending()[:3] == (b"\2" * 32, 0, 0)
    assert network.Bridge.supply_wei() == supply - 5 * SAT - 7


def test_giving_up(network, alice):
    withdraw(network, alice)
    with pytest.raises(Reverted, match="not your withdrawal"):
        network.Bridge.give_up(0, sender=network.account("bob"))
    with pytest.raises(Reverted, match="not your withdrawal"):
        network.Bridge.give_up(1, sender=alice)
    network.Bridge.give_up(0, sender=alice)
    assert network.Bridge.pending()[4] == (0,)
    with pytest.raises(Reverted, match="not waiting"):
        network.Bridge.give_up(0, sender=alice)


def test_records(network, alice):
    withdraw(network, alice)
    network.Bridge.record([b"\5" * 32], [0], [3], sender=SYSTEM)
    assert network.Bridge.credited_at(b"\5" * 32) == network.number
    assert network.Bridge.withdrawal_of(0)[4] == 3
    with pytest.raises(Reverted, match="not waiting"):
        network.Bridge.give_up(0, sender=alice)


def test_a_full_record_fits_a_system_call(network):
    outpoints = [bytes([1, number]) + bytes(30) for number in range(256)]
    network.Bridge.record(outpoints, list(range(256)), [3] * 256, sender=SYSTEM)
    assert network.gas_used < 20_000_000


def test_one_block_queues_at_most_256(network, alice):
    for _ in range(256):
        withdraw(network, alice, sats=10_000, max_fee=0)
    with pytest.raises(Reverted, match="too many withdrawals in this block"):
        withdraw(network, alice)
    assert len(network.Bridge.pending()[3]) == 256
    network.Bridge.update(b"\2" * 32, 1_000 * BTC, 0, 0, 0, bytes(32), sender=SYSTEM)
    withdraw(network, alice)


def test_only_the_system_opens_blocks(network, alice):
    for function, arguments in (
        ("initialize", (bytes(32), 0, 0)),
        ("count_fees", (1,)),
        ("update", (bytes(32), 0, 0, 0, 0, bytes(32))),
        ("record", ([], [], [])),
    ):
        with pytest.raises(Reverted, match="not the system"):
            getattr(network.Bridge, function)(*arguments, sender=alice)
    with pytest.raises(Reverted, match="already initialized"):
        network.Bridge.initialize(bytes(32), 0, 0, sender=SYSTEM)
