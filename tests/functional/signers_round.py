"""Three signers, 2 of 3, as processes of their own on a real bitcoind: in, out, bumped, killed, lied to.

The node is the stand-in of `signer_stand_in.py`: a test decides what is final. `signers_devnet.py` has the real one.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from bridge.deposits import Outpoint
from bridge.params import REGTEST
from bridge.peg import queue_withdrawal
from bridge.scripts import Binding, address_of, deposit_output
from bridge.taproot import Path
from bridge.transactions import Output, Transaction
from chain.params import DEVNET_CHAIN_IDS
from hyperdust.signer.bitcoin import BitcoindSource
from hyperdust.signer.errors import PeerFault, PeerRefused
from hyperdust.signer.key import SigningKey, proposal_digest
from hyperdust.signer.lead import prepare_round
from hyperdust.signer.node import RpcNode
from hyperdust.signer.peers import Peer, serve
from hyperdust.signer.proposal import Proposal
from hyperdust.signer.protection import Protection
from hyperdust.signer.rebuild import Limits, Sources
from hyperdust.signer.session import Session
from hyperdust.wallet import signer_key
from tests.functional.ports import free_ports
from tests.functional.signer_stand_in import StandIn, make_custody

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

LIMIT_S = 60
TURN_S = 8
POLL_S = 0.1
USER = SigningKey(signer_key(19)).public


class Signers:
    """Processes by index; the signer set's keys are those of `signer_key(0..2)`."""

    def __init__(self, folder, node, bitcoin, count=3):
        self.folder, self.node, self.bitcoin = folder, node, bitcoin
        self.ports = free_ports(count)
        self.running = {}

    def address(self, index):
        return f"127.0.0.1:{self.ports[index]}"

    def start(self, *indices, **options):
        for index in indices:
            login = self.bitcoin.node.login
            given = {
                "rpc": self.node.url,
                "bitcoin-rpc": self.bitcoin.node.url,
                "bitcoin-user": login.user,
                "key": "0x" + bytes(signer_key(index).key).hex(),
                "listen": self.address(index),
                "peers": ",".join(self.address(other) for other in range(len(self.ports)) if other != index),
                "data-dir": self.folder / f"signer{index}",
                "round-blocks": 2,
                "bump-blocks": 3,
                "deposit-depth": 2,
                "fallback-rate": 2_000,
                "poll": 0.2,
                **options,
            }
            words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
            with (self.folder / f"signer{index}.log").open("ab") as log:
                self.running[index] = subprocess.Popen(
                    [sys.executable, "-m", "hyperdust.cli", "signer", *words],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "HYPERDUST_BITCOIN_PASSWORD": login.password},
                    start_new_session=True,
                )

    def kill(self, index):
        process = self.running.pop(index)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def log(self, index):
        return (self.folder / f"signer{index}.log").read_text(errors="replace")

    def gather(self):
        """Wait until all that run answer each other."""
        poll(lambda: all("protection=" in self.log(index) for index in self.running))
        poll(
            lambda: all(
                self.log(index).count("signer away") <= self.log(index).count("is back") for index in self.running
            )
        )

    def stop(self):
        for process in self.running.values():
            process.terminate()
        codes = [process.wait(10) for process in self.running.values()]
        self.running.clear()
        return codes


@pytest.fixture
def node(bitcoin):
    made = StandIn(bitcoin, free_ports(1)[0], make_custody(), DEVNET_CHAIN_IDS.start)
    made.advance()
    yield made
    made.close()


@pytest.fixture
def signers(tmp_path, node, bitcoin):
    made = Signers(tmp_path, node, bitcoin)
    try:
        yield made
    finally:
        codes = made.stop()
        for index in range(3):
            path = tmp_path / f"signer{index}.log"
            if path.exists():
                print(f"--- signer {index}\n{path.read_text(errors='replace')[-6000:]}")
    assert all(code == 0 for code in codes), codes


def poll(attempt, limit_s=LIMIT_S):
    end = time.monotonic() + limit_s
    while not (answer := attempt()):
        assert time.monotonic() < end, f"nothing within {limit_s} s"
        time.sleep(POLL_S)
    return answer


def pool(bitcoin):
    return [bytes.fromhex(txid)[::-1] for txid in bitcoin.client.call("getrawmempool")]


def find_round(bitcoin, *known):
    """The vault transaction in the mempool that is none of `known`; None: there is none."""
    new = [txid for txid in pool(bitcoin) if txid not in known]
    made = [Transaction.decode(bitcoin.client.raw_transaction(txid)) for txid in new]
    return next((one for one in made if 0x80000000 <= one.inputs[0].sequence < 0xF0000000), None)  # says a charge


def round_in_pool(bitcoin, *known):
    """The same, once it is there.

    An empty block now and then: two leaders may have split the signatures at the turn of one.
    """
    turn = time.monotonic() + TURN_S

    def look():
        nonlocal turn
        if time.monotonic() > turn:
            bitcoin.client.call("generateblock", bitcoin.wallet.new_address(), [])
            turn = time.monotonic() + TURN_S
        return find_round(bitcoin, *known)

    return poll(look)


def pay_in(node, bitcoin, sats=1_000_000, *, address=b"\x11" * 20, max_fee=10_000, announced=True):
    binding = Binding(USER, address, max_fee, node.state.custody.epoch)
    output = deposit_output(node.state.custody, binding, node.rules)
    txid = bitcoin.wallet.send_to_address(address_of(output, REGTEST), sats)
    if announced and binding not in node.announced:
        node.announced.append(binding)
    made = Transaction.decode(bitcoin.client.raw_transaction(txid))
    return Outpoint(txid, next(at for at, one in enumerate(made.outputs) if one.script == output.script))


def confirm(node, bitcoin, transaction):
    """Mine it deep; wait for its evidence and for the block that takes it."""
    bitcoin.mine(node.rules.origin_depth + 1)
    return poll(lambda: (state := node.advance()).vault and state.vault.txid == transaction.txid and state)


def path_of(transaction):
    """By which its inputs were spent, all of them."""
    (size,) = {len(one.witness) for one in transaction.inputs}
    return Path.KEY if size == 1 else Path.SCRIPT


def fund(node, bitcoin, sats=1_000_000):
    pay_in(node, bitcoin, sats)
    bitcoin.mine(2)
    return confirm(node, bitcoin, round_in_pool(bitcoin))


def wait_stuck(bitcoin, attempt):
    """Empty blocks until something happens: what waits in the mempool stays where it is."""
    elsewhere = bitcoin.wallet.new_address()
    for _ in range(12):
        bitcoin.client.call("generateblock", elsewhere, [])
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            if answer := attempt():
                return answer
            time.sleep(POLL_S)
    raise AssertionError("nothing within 12 blocks")


def script_of(bitcoin):
    address = bitcoin.wallet.new_address()
    return address, bytes.fromhex(bitcoin.wallet.call("getaddressinfo", address)["scriptPubKey"])


def test_in_and_out(node, bitcoin, signers):
    signers.start(0, 1, 2)
    signers.gather()
    outpoint = pay_in(node, bitcoin)
    pay_in(node, bitcoin, announced=False, address=b"\x12" * 20)
    bitcoin.mine(1)
    time.sleep(1)
    assert not pool(bitcoin), "a deposit that is not deep enough is not swept"
    bitcoin.mine(1)
    first = round_in_pool(bitcoin)
    assert [Outpoint(one.txid, one.index) for one in first.inputs] == [outpoint]
    assert path_of(first) is Path.KEY
    state = confirm(node, bitcoin, first)
    assert sum(node.credits) == 1_000_000 - state.records[0].charge
    assert state.vault_sats == first.outputs[0].sats

    node.held_finalized = len(node.states) - 1
    address, script = script_of(bitcoin)
    node.withdraw(script, 50_000)
    bitcoin.mine(1)
    time.sleep(1)
    assert not pool(bitcoin), "an anchor costs more than the surplus has, so it waits"
    surplus = node.burn(5_000).surplus_sats
    second = round_in_pool(bitcoin)
    assert first.outputs[0].sats - second.outputs[0].sats <= surplus
    assert len(second.outputs) == 2, "the withdrawal is under no finalized block yet: an anchor alone"
    assert second.outputs[1].sats == 0
    state = confirm(node, bitcoin, second)
    assert state.vault.anchor_height
    node.held_finalized = None
    third = round_in_pool(bitcoin)
    assert Output(50_000, script) in third.outputs
    state = confirm(node, bitcoin, third)
    assert not state.queue
    assert state.frozen is None
    assert bitcoin.wallet.call("getreceivedbyaddress", address) * 10**8 == 50_000


def test_a_stuck_round_is_bumped_by_whoever_is_left(node, bitcoin, signers):
    signers.start(0, 1, 2)
    signers.gather()
    pay_in(node, bitcoin)
    bitcoin.mine(2)
    first = round_in_pool(bitcoin)
    leader, *_ = poll(lambda: [index for index in range(3) if "round sent" in signers.log(index)])
    signers.kill(leader)
    bumped = wait_stuck(bitcoin, lambda: next((txid for txid in pool(bitcoin) if txid != first.txid), None))
    bumped = Transaction.decode(bitcoin.client.raw_transaction(bumped))
    assert first.txid not in pool(bitcoin)
    assert (path_of(first), path_of(bumped)) == (Path.KEY, Path.SCRIPT), "who is left has k signatures"
    assert bumped.inputs[0].txid == first.inputs[0].txid
    assert bumped.outputs[0].sats < first.outputs[0].sats
    state = confirm(node, bitcoin, bumped)
    assert len(state.records) == 1
    signers.start(leader)
    poll(lambda: signers.log(leader).count("protection=") == 2)
    signers.gather()
    pay_in(node, bitcoin, 300_000)
    bitcoin.mine(2)
    made = round_in_pool(bitcoin)
    assert path_of(made) is Path.KEY
    confirm(node, bitcoin, made)


class Spoiler(Session):
    """Gives its nonces, then parts that are none."""

    def sign_together(self, *given):
        return tuple(one and bytes(31) + b"\x07" for one in super().sign_together(*given))


def test_a_signer_that_spoils_the_common_signature_holds_nobody_up(node, bitcoin, signers):
    """The round goes out by k signatures in the same turn, and the log names the key."""
    signers.start(0, 1)
    key = SigningKey(signer_key(2))
    session = _session(node, bitcoin, signers, key, Spoiler)
    server = serve(session, signers.address(2))
    try:
        signers.gather()
        for count in range(2):
            pay_in(node, bitcoin, address=bytes([count]) * 20)
            bitcoin.mine(2)
            made = wait_stuck(bitcoin, lambda: find_round(bitcoin))  # the spoiler never leads when it is its turn
            assert path_of(made) is Path.SCRIPT
            confirm(node, bitcoin, made)
        said = [line for index in (0, 1) for line in signers.log(index).splitlines() if "wrong part" in line]
        assert said
        assert all(key.public.hex() in line for line in said)
    finally:
        server.stop(0).wait()
        _close(session)


@pytest.mark.parametrize("running", [(0, 1, 2), (0, 2)])
def test_a_large_round(node, bitcoin, signers, running):
    """20 inputs, 50 payouts, anchor: 69 vB a payout by one signature of all; by two signatures where one is away."""
    signers.start(0, 1, 2)
    signers.gather()
    fund(node, bitcoin, 3_000_000)
    for index in {0, 1, 2} - set(running):
        signers.kill(index)
    node.held_final = node.held_finalized = 0  # no final block knows the vault, so nothing is due before all is there
    node.advance(lambda state: _queue(state, [script_of(bitcoin)[1] for _ in range(50)], node.rules))
    node.burn(20_000)
    for at in range(19):
        pay_in(node, bitcoin, 100_000, address=bytes([at]) * 20)
    bitcoin.mine(2)
    node.held_final = node.held_finalized = None
    made = round_in_pool(bitcoin)
    assert (len(made.inputs), len(made.outputs)) == (20, 52)
    size = bitcoin.client.call("getmempoolentry", made.txid[::-1].hex())["vsize"]
    print(f"20 inputs, 50 payouts, anchor: {size} vB, {path_of(made).value}")
    assert path_of(made) is (Path.KEY if len(running) == 3 else Path.SCRIPT)
    assert size <= 70 * 50 or len(running) == 2
    state = confirm(node, bitcoin, made)
    assert not state.queue
    assert state.frozen is None


def _queue(state, scripts, rules):
    for script in scripts:
        state = queue_withdrawal(state, script, 20_000, 10_000, rules)
    return state


def test_one_signer_alone_signs_nothing_two_do(node, bitcoin, signers):
    signers.start(0)
    pay_in(node, bitcoin)
    bitcoin.mine(2)
    poll(lambda: "are needed" in signers.log(0))
    assert not pool(bitcoin)
    signers.start(2)
    round_in_pool(bitcoin)


def test_a_wiped_node_makes_nobody_begin_a_second_list(node, bitcoin, signers):
    """It is shown the first round again instead: signers remember what they signed."""
    signers.start(0, 1, 2)
    vault = fund(node, bitcoin).vault
    for index in range(3):
        signers.kill(index)
    with node.lock:
        del node.states[1:]
        node.pool.clear()
    pay_in(node, bitcoin, 700_000)
    bitcoin.mine(2)
    signers.start(0, 1, 2)
    poll(lambda: node.pool)
    assert not pool(bitcoin)
    assert poll(lambda: node.advance().vault) == vault
    confirm(node, bitcoin, round_in_pool(bitcoin))


@pytest.mark.parametrize("depth", [1, 3])
def test_a_round_that_a_reorganisation_takes_out_comes_back(node, bitcoin, signers, depth):
    signers.start(0, 1, 2)
    fund(node, bitcoin)
    pay_in(node, bitcoin, 300_000)
    bitcoin.mine(2)
    made = round_in_pool(bitcoin)
    first = bitcoin.mine(depth)[0]
    poll(lambda: node.pool)
    bitcoin.client.invalidate_block(first)
    elsewhere = bitcoin.wallet.new_address()
    for _ in range(depth + 1):
        bitcoin.client.call("generateblock", elsewhere, [])
    again = round_in_pool(bitcoin)
    assert again.inputs[0].txid == made.inputs[0].txid
    poll(lambda: pool(bitcoin))
    mined = bitcoin.mine(node.rules.origin_depth + 1)[0]
    (spender,) = (one for one in bitcoin.client.call("getblock", mined[::-1].hex())["tx"][1:])
    state = poll(lambda: (state := node.advance()).vault.txid == bytes.fromhex(spender)[::-1] and state)
    assert state.frozen is None


def test_a_lying_leader_gets_refusals(node, bitcoin, signers):
    signers.start(0, 1, 2)
    fund(node, bitcoin)
    for index in (0, 1, 2):
        signers.kill(index)
    signers.start(0, **{"round-blocks": 500, "peers": ""})
    honest = poll(lambda: _reach(signers, node, 0))
    node.burn(5_000)
    pay_in(node, bitcoin, 400_000)
    bitcoin.mine(2)
    key = SigningKey(signer_key(2))
    good = _propose(node, bitcoin, signers, key)

    def refused(proposal, by=key):
        raw = proposal.encode()
        with pytest.raises(PeerRefused) as error:
            honest.sign(raw, by.sign(proposal_digest(raw)))
        return error.value.rule

    thief = replace(good.transaction.outputs[0], sats=good.transaction.outputs[0].sats - 100_000)
    stolen = (thief, *good.transaction.outputs[1:], Output(100_000, script_of(bitcoin)[1]))
    assert refused(replace(good, transaction=replace(good.transaction, outputs=stolen))) == "RoundDiffers"
    assert refused(replace(good, chain=bytes(32))) == "OtherChain"
    assert refused(replace(good, height=good.height + 1)) == "HeightUnlikely"
    assert refused(replace(good, rate=50_000)) == "RateTooHigh"
    assert refused(replace(good, state=replace(good.state, hash=bytes(32)))) == "StateNotMine"
    assert refused(good, SigningKey(signer_key(7))) == "UnknownLeader"
    stranger = SigningKey(signer_key(7))
    assert refused(replace(good, leader=stranger.public), stranger) == "UnknownLeader"
    node.held_final = good.state.number - 1
    assert refused(good) == "StateNotFinal"
    node.held_final = None
    raw = good.encode()
    named, signatures = honest.sign(raw, key.sign(proposal_digest(raw)))
    assert named == SigningKey(signer_key(0)).public
    assert all(len(one) == 64 for one in signatures)
    less = _propose(node, bitcoin, signers, key, fallback=2_100)
    assert refused(less) == "AnotherRound"
    bitcoin.client.call("generateblock", bitcoin.wallet.new_address(), [])
    bitcoin.client.call("generateblock", bitcoin.wallet.new_address(), [])
    bitcoin.client.call("generateblock", bitcoin.wallet.new_address(), [])
    assert refused(less) == "RoundWithheld"
    signers.kill(0)  # and its file survives that
    signers.start(0, **{"round-blocks": 500, "peers": ""})
    honest = poll(lambda: _reach(signers, node, 0))
    assert refused(less) == "RoundWithheld"
    with pytest.raises(PeerFault):
        honest.sign(b"\x00" * (2 << 20), bytes(64))


def _reach(signers, node, index):
    peer = Peer(signers.address(index), node.place(0)[0])
    try:
        peer.greet()
    except PeerFault:
        peer.close()
        return None
    return peer


def _propose(node, bitcoin, signers, key, fallback=2_000) -> Proposal:
    """As an honest leader with that key would."""
    session = _session(node, bitcoin, signers, key, Session, fallback)
    others = {SigningKey(signer_key(index)).public for index in range(3)}
    reachable = {one: None for one in others if one != key.public}
    try:
        return prepare_round(session, _Known(reachable), Path.SCRIPT).proposal
    finally:
        _close(session)


def _session(node, bitcoin, signers, key, kind, fallback=2_000):
    """A signer's answers in this process, with a protection file of its own."""
    limits = Limits(deposit_depth=2, fallback_rate=fallback, round_blocks=2)
    sources = Sources(RpcNode(node.url), BitcoindSource(bitcoin.node.url, bitcoin.node.login), node.rules, limits)
    path = signers.folder / "liar" / f"{time.monotonic_ns()}.json"
    return kind(key, node.place(0)[0], sources, Protection(path))


def _close(session):
    session.close()
    session.sources.node.close()
    session.sources.bitcoin.close()


class _Known(dict):
    """Keys without presences."""

    def values(self):
        return ()
