"""Bad input and bad days of the peg, on real processes: wrong payments, fees that rise, signers and bitcoind that go.

One network for all, whose parts the tests stop themselves: they build on each other, in this order.
"""

import os
import shutil
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import httpx
import pytest

from bridge.deposits import Evidence, Outpoint
from bridge.inclusion import Branch
from bridge.scripts import Custody, SignerSet, deposit_output
from bridge.transactions import Input, Output, Transaction
from consensus.evidence import encode_evidence_item
from hyperdust.bitcoind import Bitcoind, parse_hash, regtest_command, write_regtest_config
from hyperdust.bridging.keeping import list_kept
from hyperdust.bridging.reclaim import Coin, build_reclaim
from hyperdust.bridging.terms import read_terms
from hyperdust.rpc_client import RpcError
from hyperdust.signer.key import SigningKey
from hyperdust.wallet import signer_key, user_key
from tests.functional.bad_days_world import DEPTH, follows, make_binding, open_world, run_bridge, wait_for

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

DOWN_S = float(os.environ.get("HYPERDUST_TEST_DOWN_S", "30"))
"""How long bitcoind is away; an hour in `make soak`."""
SPIKE = 6_000
"""Sat per 1,000 vB below which a block takes nothing."""


@pytest.fixture(scope="module")
def world(bitcoind_program, tmp_path_factory):
    made = open_world(tmp_path_factory.mktemp("bad"), bitcoind_program)
    yield made
    made.close()


def address_of(binding):
    return "0x" + binding.address.hex()


def check_books(world):
    peg = world.peg
    assert peg["covered"]
    assert not peg["frozen"], peg["frozen_reason"]
    assert peg["supply_sats"] <= peg["vault_sats"] + peg["genesis_sats"]


def spent(transaction):
    return [f"{one.txid[::-1].hex()}:{one.index}" for one in transaction.inputs[1:]]


# --- deposits that are none


def test_what_is_paid_wrongly_is_not_swept_and_what_is_paid_twice_is_credited_once_each(world):
    small, foreign, mined, late = (make_binding(number) for number in range(1, 5))
    for one in (small, foreign, mined, late):
        world.announce(one)
    made = world.bridge("deposit", "--btc", "0.003", "--to", "0x" + "ab" * 20, "--no-pay")
    ((_, kept),) = list_kept(world.folder / "mine")
    twice = kept.binding
    rules, custody = read_terms(world.client).rules, read_terms(world.client).custody
    others = SignerSet(2, tuple(sorted(SigningKey(signer_key(index)).public for index in range(7, 10))))
    elsewhere = deposit_output(Custody(custody.epoch, others, custody.council), foreign, rules)
    paid = world.send(
        Output(rules.min_deposit_sats - 1, world.output(small).script),
        Output(300_000, elsewhere.script),
        Output(300_000, world.output(twice).script),
        Output(300_000, world.output(twice).script),
    )
    back = [way_back(world, kept, paid, index) for index in (2, 3)]
    world.bitcoin.generate_to_address(1, world.announce(mined))
    coinbase = world.bitcoin.call("getblock", world.bitcoin.best_block_hash()[::-1].hex())["tx"][0]
    assert [world.bitcoin.refusal_of(one) for one in back] == ["non-BIP68-final"] * 2, "good ones, and too early"
    waiting = world.send(Output(300_000, world.output(late).script))
    world.mine_empty()
    sweep = world.round_in_pool(parse_hash(waiting))
    assert sorted(spent(sweep)) == [f"{paid}:2", f"{paid}:3"]
    world.bitcoin.call("generateblock", world.address, [sweep.txid[::-1].hex()])
    world.mine_empty(DEPTH - 1)
    world.see_tip()
    wait_for("its evidence", lambda: world.deposit(f"{paid}:2"))
    world.goes_on(2)
    assert (world.deposit(f"{paid}:2")["confirmations"], world.balance_sats(address_of(twice))) == (DEPTH, 0)
    world.mine_empty()
    wait_for("the credit", lambda: world.deposit(f"{paid}:3")["status"] == "credited")
    due = sum(world.deposit(f"{paid}:{index}")["credit_sats"] for index in (2, 3))
    assert world.balance_sats(address_of(twice)) == due
    assert 598_000 < due < 600_000
    for held in world.client.call("hyperdust_getPendingEvidence"):
        world.client.call("hyperdust_submitEvidence", held["raw"])
    world.goes_on(2)
    assert world.balance_sats(address_of(twice)) == due, "once each, whatever is shown again"
    assert [world.bitcoin.refusal_of(one) for one in back] == ["missing-inputs"] * 2, "nobody's to take back"
    assert "is spent" in world.bridge("reclaim", f"{paid}:2", "--to", made["address"], "--send", code=1)
    for one in (small, foreign, mined, late):
        assert world.balance_sats(address_of(one)) == 0
    for outpoint in (f"{paid}:0", f"{paid}:1", f"{coinbase}:0", f"{waiting}:0"):
        assert world.deposit(outpoint) is None
        assert world.bitcoin.call("gettxout", *parse(outpoint)), "still its owner's"
    assert "below the least deposit" in world.bridge("status", f"{paid}:0")["reason"]
    assert "mined" in world.bridge("status", f"{coinbase}:0")["reason"]
    assert world.bridge("status", f"{waiting}:0")["status"] == "confirming"
    check_books(world)


def way_back(world, kept, txid, index):
    """The owner's transaction, signed before anybody sweeps."""
    coin = Coin(Outpoint(parse_hash(txid), index), Output(300_000, kept.script), kept.reclaim_blocks)
    return build_reclaim(kept, coin, world.wallet.new_address(), 50_000).raw


def parse(outpoint):
    txid, _, index = outpoint.partition(":")
    return txid, int(index), True


def test_a_deposit_that_bitcoin_forgets_is_not_credited_and_takes_no_other_with_it(world):
    """Two deposits, swept together; a reorganisation pays the coin of one of them elsewhere."""
    gone, kept = make_binding(6), make_binding(7)
    for one in (gone, kept):
        world.announce(one)
    world.until("a vault that waits for nothing", lambda: is_quiet(world))
    coins = [world.send(Output(300_000, world.output(one).script)) for one in (gone, kept)]
    (first,) = world.mine()
    world.mine_empty()
    sweep = world.round_in_pool()
    assert set(spent(sweep)) >= {f"{txid}:0" for txid in coins}
    world.bitcoin.invalidate_block(first)
    lost = Transaction.decode(world.bitcoin.raw_transaction(parse_hash(coins[0])))
    place = Input(lost.inputs[0].txid, lost.inputs[0].index, b"", 0xFFFFFFFD)
    left = sum(made.sats for made in lost.outputs) - 100_000
    other = Transaction(2, (place,), (Output(left, world.script()[1]),), 0)
    signed = world.wallet.call("signrawtransactionwithwallet", other.encode().hex())["hex"]
    world.bitcoin.call("sendrawtransaction", signed)
    assert sweep.txid not in world.pool()
    world.mine(3)
    again = world.until(
        "another sweep", lambda: next((one for one in rounds(world) if f"{coins[1]}:0" in spent(one)), 0)
    )
    assert f"{coins[0]}:0" not in spent(again)
    world.until("the credit", lambda: (found := world.deposit(f"{coins[1]}:0")) and found["status"] == "credited")
    assert world.balance_sats(address_of(kept)) == world.deposit(f"{coins[1]}:0")["credit_sats"]
    assert (world.balance_sats(address_of(gone)), world.deposit(f"{coins[0]}:0")) == (0, None)
    assert "no such coin" in world.bridge("status", f"{coins[0]}:0")["reason"]
    check_books(world)


def rounds(world):
    """Vault transactions in the mempool or in the last blocks."""
    found = [Transaction.decode(world.bitcoin.raw_transaction(txid)) for txid in world.pool()]
    tip = world.bitcoin.chain_info().height
    for height in range(tip - 8, tip + 1):
        block = world.bitcoin.call("getblock", world.bitcoin.block_hash(height)[::-1].hex(), 2)
        found += [Transaction.decode(bytes.fromhex(one["hex"])) for one in block["tx"][1:]]
    return [one for one in found if 0x80000000 <= one.inputs[0].sequence < 0xF0000000]


def is_quiet(world):
    """The vault lies deep, and nothing that spends it is on its way."""
    vault = world.peg["vault"]
    place = [{"txid": vault["txid"], "vout": 0}]
    return (
        world.peg["bitcoin"]["height"] >= vault["height"] + DEPTH
        and world.bitcoin.call("gettxout", vault["txid"], 0, False)
        and "spendingtxid" not in world.bitcoin.call("gettxspendingprevout", place)[0]
    )


def test_a_transaction_of_64_bytes_proves_nothing(world):
    """Bitcoin mines one (its miners need not relay it); its branch is true, and no node takes it."""
    coin = next(one for one in world.wallet.call("listunspent") if one["amount"] > 1)
    place = Input(parse_hash(coin["txid"]), coin["vout"], b"", 0xFFFFFFFF)
    bare = Transaction(2, (place,), (Output(int(coin["amount"] * 10**8) - 1_000, b"\x51" * 4),), 0)
    signed = world.wallet.call("signrawtransactionwithwallet", bare.encode().hex())["hex"]
    made = Transaction.decode(bytes.fromhex(signed))
    assert len(made.encode_stripped()) == 64
    mined = world.bitcoin.call("generateblock", world.address, [signed])["hash"]
    coinbase, txid = world.bitcoin.call("getblock", mined)["tx"]
    assert parse_hash(txid) == made.txid
    world.see_tip()
    bare = Transaction.decode(made.encode_stripped())
    evidence = Evidence(parse_hash(mined), Branch(1, 2, (parse_hash(coinbase),)), bare, False, (), ())
    with pytest.raises(RpcError, match="AmbiguousTransaction"):
        world.client.call("hyperdust_submitEvidence", "0x" + encode_evidence_item(evidence).hex())


# --- fees


def test_a_spike_of_fees_is_outbid_up_to_the_users_maximum_and_who_is_at_it_waits_alone(world):
    """Blocks take nothing below a rate; who pays less waits, says why, and holds up no other."""
    world.until("a vault that waits for nothing", lambda: is_quiet(world))
    world.end("bitcoind")
    world.start_bitcoind(f"-blockmintxfee={SPIKE / 10**8:.8f}")
    world.see_tip()
    rich = make_binding(8, max_fee=20_000)
    made = world.bridge("deposit", "--btc", "0.003", "--to", user_key(4).address, "--no-pay", "--max-fee", 450)
    (poor,) = [one for _, one in list_kept(world.folder / "mine") if one.bitcoin_address == made["address"]]
    world.announce(rich)
    with world.signers_still():
        coins = [parse_hash(world.send(Output(300_000, one))) for one in (world.output(rich).script, poor.script)]
        world.bitcoin.call("generateblock", world.address, [txid[::-1].hex() for txid in coins])
        world.mine_empty()
    places = [f"{txid[::-1].hex()}:0" for txid in coins]
    versions = [world.round_in_pool()]
    assert sorted(spent(versions[0])) == sorted(places)
    assert "in no block yet" in world.bridge("status", made["address"])["reason"]
    end = time.monotonic() + 60
    while versions[-1].txid in world.pool():  # each block takes what pays the rate, and no other
        assert time.monotonic() < end, f"{len(versions)} versions, none of them mined"
        world.mine()
        with suppress(AssertionError):
            versions.append(world.round_in_pool(*(one.txid for one in versions), limit_s=1.5))
    assert len(versions) >= 3
    assert len({one.inputs[0] for one in map(bare, versions)}) == 1, "all of them spend the same vault"
    mined = versions[-1]
    assert spent(mined) == [places[0]]
    waits = world.bridge("status", made["address"])
    assert (waits["status"], "this one at most 450" in waits["reason"]) == ("waiting", True)
    world.mine(DEPTH)
    for one in versions[:-1]:
        assert world.bitcoin.refusal_of(one.encode()), "no other version can follow"
    found = wait_for("the credit", lambda: (one := world.deposit(places[0]))["status"] == "credited" and one)
    assert found["fee_sats"] <= rich.max_fee
    check_books(world)
    world.end("bitcoind")
    world.start_bitcoind()
    world.until("the credit of the other", lambda: (one := world.deposit(places[1])) and one["status"] == "credited")
    assert world.deposit(places[1])["fee_sats"] <= 450
    check_books(world)


def bare(transaction):
    return replace(transaction, inputs=tuple(replace(one, witness=(), sequence=0) for one in transaction.inputs))


# --- signers and bitcoind that go


def test_too_few_signers_pause_payments_by_name_and_all_goes_on_when_they_are_back(world):
    world.until("a vault that waits for nothing", lambda: is_quiet(world))
    for index in (0, 1):
        world.end(f"signer{index}", signal.SIGKILL)
    address, script = world.script()
    number = world.withdraw(script, 150_000, 20_000)
    made, other = (world.bridge("deposit", "--btc", "0.003", "--to", user_key(5).address, "--no-pay") for _ in range(2))
    place = world.pay(made["address"], 300_000)
    world.goes_on(2)
    world.mine(40)
    world.see_tip()
    wait_for("an origin above", lambda: world.peg["origin"]["confirmations"] <= DEPTH + 1)
    world.goes_on(1)
    wait_for("that signer to say so", lambda: "1 of 3 answer, 2 are needed" in world.log("signer2"))
    assert world.bridge("status", made["address"])["id"] == place, "and the file knows it from now on"
    for name in (number, place):
        reason = world.bridge("status", name)["reason"]
        assert "fewer than 2 of 3 signers answer" in reason, reason
    assert "blocks from now" in world.bridge("reclaim", *reclaimed(world, place), code=1)
    assert world.deposit(place) is None
    world.mine(made["reclaim_after_blocks"] - 40)
    assert "bridge reclaim" in world.bridge("status", made["address"])["reason"]
    to = world.wallet.new_address()
    assert world.bridge("reclaim", *reclaimed(world, place, to))["sent"]
    world.mine()
    assert 299_000 < world.received_sats(to) < 300_000
    assert status_of(world, number) == "queued"
    check_books(world)
    world.start_signers(0, 1)
    place = world.pay(other["address"], 300_000)
    world.until("the credit", lambda: (one := world.deposit(place)) and one["status"] == "credited")
    world.owed.append((number, address, 150_000))  # paid once an anchor above it lies deep: the next test waits for it
    check_books(world)


def reclaimed(world, place, to=None):
    return (place, "--to", to or world.wallet.new_address(), "--send")


def test_bitcoind_away_for_long_stops_no_block_and_is_named_and_all_catches_up(world):
    """While ours is down Bitcoin goes on elsewhere: what is paid and mined meanwhile is credited, with no restart."""
    ours, elsewhere = world.tmpfs / "a", world.tmpfs / "b"
    binding = make_binding(10)
    world.announce(binding)
    output = Output(300_000, world.output(binding).script)
    pids = {name: process.pid for name, process in world.processes.items() if name != "bitcoind"}
    before = world.peg
    _, script = world.script()
    assert world.end("bitcoind") == 0
    shutil.copytree(ours, elsewhere)
    wait_for("the node to notice", lambda: world.peg["bitcoin"]["state"] == "unreachable")
    down = time.monotonic()
    assert "no bitcoind answers" in world.peg["bitcoin"]["reason"]
    assert world.metric('hyperdust_bitcoin_follower{state="unreachable"}') == 1
    assert "bitcoin not followed; blocks go on with the last origin" in world.log("node")
    ready = httpx.get(f"{world.rpc}/ready", trust_env=False)
    assert (ready.status_code, ready.json()["bitcoin"]["state"]) == (200, "unreachable")
    origin = world.peg["origin"]["hash"]
    number = world.withdraw(script, 120_000, 20_000)  # burned and queued without Bitcoin
    status = world.bridge("status", number, code=1)
    assert "no bitcoind answers" in status
    assert "no bitcoind answers" in world.bridge("reclaim", f"{'11' * 32}:0", "--to", world.address, code=1)
    assert run_bridge(world, "status", number)["status"] == "queued", "the node alone says that"
    for index in range(3):
        wait_for("signers to say so", lambda index=index: "no bitcoind answers" in last(world, f"signer{index}"))
    with elsewhere_mining(world, elsewhere) as (client, wallet):
        paid = world.send(output, client=client, wallet=wallet)
        client.generate_to_address(4, world.address)
        tip = client.best_block_hash()
    world.goes_on(2)
    time.sleep(max(0, DOWN_S - (time.monotonic() - down)))
    start = world.head
    world.goes_on(2)
    assert (world.peg["origin"]["hash"], world.peg["frozen"]) == (origin, False)
    assert world.peg["bitcoin"]["height"] == before["bitcoin"]["height"]
    shutil.rmtree(ours)
    shutil.move(elsewhere, ours)
    write_regtest_config(ours, world.port + 10, world.port + 11, world.login)
    world.start_bitcoind()
    assert world.bitcoin.best_block_hash() == tip
    wait_for("the node to follow", lambda: world.peg["bitcoin"]["state"] == "following", 60)
    assert world.metric('hyperdust_bitcoin_follower{state="following"}') == 1
    world.until("the credit", lambda: (one := world.deposit(f"{paid}:0")) and one["status"] == "credited")
    for number, address, sats in world.owed:
        world.until("the payout", lambda at=number: status_of(world, at) == "paid")
        assert world.received_sats(address) == sats
    assert world.balance_sats(address_of(binding)) == world.deposit(f"{paid}:0")["credit_sats"]
    assert world.head > start
    assert {name: world.processes[name].pid for name in pids} == pids
    assert all(process.poll() is None for process in world.processes.values()), "nobody had to be started again"
    check_books(world)


def status_of(world, number):
    return world.client.call("hyperdust_getWithdrawal", number)["status"]


def last(world, name):
    return world.log(name)[-4_000:]


@contextmanager
def elsewhere_mining(world, folder):
    """Another bitcoind with the same blocks and the same wallet, as if the network went on."""
    write_regtest_config(folder, world.port + 12, world.port + 13, world.login)
    world.spawn("elsewhere", *regtest_command(world.program, folder))
    with Bitcoind(f"http://127.0.0.1:{world.port + 12}", world.login, backoff_s=(0.1,) * 40) as client:
        wait_for("the other bitcoind", lambda: follows(client))
        with client.wallet("hyperdust") as wallet:
            yield client, wallet
    assert world.end("elsewhere") == 0
