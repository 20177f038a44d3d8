"""Signers are replaced, and a council brings the vault back: by the commands, with signer processes on a real bitcoind.

The node is the stand-in of `signer_stand_in.py`, so that a test decides when L2 blocks come.
"""

import io
import json
from contextlib import closing, redirect_stderr, redirect_stdout

import pytest

from bridge.deposits import Outpoint
from bridge.params import REGTEST
from bridge.scripts import Binding, Custody, SignerSet, address_of, deposit_output, vault_output
from bridge.transactions import Output, Transaction
from chain.params import DEVNET_CHAIN_IDS
from hyperdust.cli.app import run
from hyperdust.signer.key import SigningKey
from hyperdust.wallet import council_key, signer_key
from tests.functional.ports import free_ports
from tests.functional.signer_stand_in import StandIn
from tests.functional.signers_round import USER, Signers, confirm, fund, pay_in, poll, pool, round_in_pool, script_of

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

RETIRED, JOINED, RESCUERS = 0, 3, (4, 5, 6)
SIGNERS = 7
BURNED_SATS = 20_000


def public(account):
    return SigningKey(account).public


@pytest.fixture
def node(bitcoin):
    signers, council = (tuple(sorted(public(key(at)) for at in range(3))) for key in (signer_key, council_key))
    custody = Custody(0, SignerSet(2, signers), SignerSet(2, council))
    with closing(StandIn(bitcoin, free_ports(1)[0], custody, DEVNET_CHAIN_IDS.start)) as made:
        made.advance()
        yield made


@pytest.fixture
def signers(tmp_path, node, bitcoin):
    made = Signers(tmp_path, node, bitcoin, SIGNERS)
    codes = []
    try:
        yield made
    finally:
        codes = made.stop()
        for index in range(SIGNERS):
            path = tmp_path / f"signer{index}.log"
            if path.exists():
                print(f"--- signer {index}\n{path.read_text(errors='replace')[-4000:]}")
    assert all(code == 0 for code in codes), codes


class Program:
    """`hyperdust custody` as people run it, but in this process: starting anew costs seconds each time."""

    def __init__(self, node, bitcoin, monkeypatch):
        self.bitcoin, self.monkeypatch = bitcoin, monkeypatch
        monkeypatch.setenv("HYPERDUST_RPC", node.url)
        monkeypatch.setenv("HYPERDUST_BITCOIN_PASSWORD", bitcoin.node.login.password)

    def run(self, *words, account=None):
        with (
            self.monkeypatch.context() as given,
            redirect_stdout(io.StringIO()) as out,
            redirect_stderr(io.StringIO()) as err,
        ):
            if account is not None:
                given.setenv("HYPERDUST_KEY", "0x" + bytes(account.key).hex())
            code = run(["custody", *words])
        return code, out.getvalue(), err.getvalue()

    def ask(self, *words, account=None):
        code, out, err = self.run(*words, "--json", account=account)
        assert code == 0, err
        return json.loads(out)

    def refused(self, *words, account=None):
        code, out, err = self.run(*words, account=account)
        assert (code, out) == (1, ""), err
        return err

    def bitcoind(self):
        return "--bitcoin-rpc", self.bitcoin.node.url, "--bitcoin-user", self.bitcoin.node.login.user


@pytest.fixture
def program(node, bitcoin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Program(node, bitcoin, monkeypatch)


def pay_to_epoch(node, bitcoin, epoch, sats, address):
    """A deposit whose address belongs to the signers of an epoch."""
    binding = Binding(USER, address, 10_000, epoch)
    output = deposit_output(node.state.custodies[epoch], binding, node.rules)
    txid = bitcoin.wallet.send_to_address(address_of(output, REGTEST), sats)
    node.announced.append(binding)
    made = Transaction.decode(bitcoin.client.raw_transaction(txid))
    return Outpoint(txid, next(at for at, one in enumerate(made.outputs) if one.script == output.script))


def received(bitcoin, address):
    return round(bitcoin.wallet.call("getreceivedbyaddress", address) * 10**8)


def credited(node, address):
    return [sweep.worth for record in node.state.records for sweep in record.sweeps if sweep.address == address]


def announce(node, program):
    """By the commands: one key in the place of another, signed by two."""
    old, new = public(signer_key(RETIRED)).hex(), program.ask("key", account=signer_key(JOINED))["key"]
    paper = program.ask("propose", "change.json", "--replace", f"{old[:16]}={new}")
    assert len(paper["signers"]["keys"]) == 3
    assert paper["signers"]["group_key"]
    assert "there already" in program.refused("propose", "change.json", "--replace", f"{old[:16]}={new}")
    program.ask("sign", "change.json", account=signer_key(1))
    assert "1 of 2 signatures" in program.refused("submit", "change.json")
    assert "none of those who decide" in program.refused("sign", "change.json", account=signer_key(JOINED))
    assert len(program.ask("sign", "change.json", account=signer_key(2))["signatures"]) == 2
    program.ask("submit", "change.json")
    (following,) = node.advance().announced
    assert "epoch" in program.refused("submit", "change.json"), "once"
    shown = program.ask("show")
    assert shown["announced"]["epoch"] == 1
    assert 0 < shown["announced"]["may_hold"]["blocks"] <= node.rules.notice_blocks
    return following


def spent_by(transaction):
    return {Outpoint(one.txid, one.index) for one in transaction.inputs}


def test_a_key_is_replaced_while_coins_come_and_go(node, bitcoin, signers, program):
    signers.start(0, 1, 2, JOINED)
    fund(node, bitcoin)
    node.burn(BURNED_SATS)
    poll(lambda: "right network" in signers.log(JOINED))
    following = announce(node, program)
    poll(lambda: "is announced: it signs once" in signers.log(JOINED))

    before = pay_to_epoch(node, bitcoin, 0, 300_000, b"\x21" * 20)
    bitcoin.mine(2)
    made = confirm_round(node, bitcoin, lambda one: before in spent_by(one))
    assert made.outputs[0].script == vault_output(node.state.custodies[0], node.rules).script, "its notice runs"
    assert credited(node, b"\x21" * 20)

    bitcoin.mine(node.rules.notice_blocks + node.rules.takeover_margin_blocks)
    node.advance()
    script = vault_output(following, node.rules).script
    confirm_round(node, bitcoin, lambda one: one.outputs[0].script == script)
    assert (node.state.custody.epoch, node.state.frozen, node.state.announced) == (1, None, ())
    poll(lambda: "is retired: deposits to old addresses need it until" in signers.log(RETIRED))

    signers.kill(RETIRED)
    address, script = script_of(bitcoin)
    node.withdraw(script, 50_000)
    coins = [pay_to_epoch(node, bitcoin, epoch, 400_000, bytes([0x31 + epoch]) * 20) for epoch in (0, 1)]
    bitcoin.mine(2)
    swept = confirm_round(node, bitcoin, lambda one: spent_by(one).issuperset(coins))
    assert Output(50_000, script) in swept.outputs
    assert all(credited(node, bytes([0x31 + epoch]) * 20) for epoch in (0, 1))
    assert received(bitcoin, address) == 50_000

    signers.kill(1)  # two are left, one of them the new one
    other, script = script_of(bitcoin)
    node.withdraw(script, 60_000)
    confirm_round(node, bitcoin, lambda one: Output(60_000, script) in one.outputs)
    assert received(bitcoin, other) == 60_000
    bitcoin.mine(3)
    assert (received(bitcoin, address), received(bitcoin, other)) == (50_000, 60_000), "exactly once"
    assert not node.state.queue
    assert node.state.frozen is None


def confirm_round(node, bitcoin, wanted):
    """Rounds are mined until the one that is wanted; it may come after one that was on its way."""
    for _ in range(5):
        vault = node.state.vault
        if bitcoin.client.call("gettxout", vault.txid[::-1].hex(), 0, False) is None:  # spent in a block already
            bitcoin.mine(node.rules.origin_depth + 1)
            poll(lambda vault=vault: node.advance().vault.txid != vault.txid)
            continue
        made = round_in_pool(bitcoin)
        confirm(node, bitcoin, made)
        if wanted(made):
            return made
    raise AssertionError("no such round")


def test_the_council_brings_back_what_all_signers_lost(node, bitcoin, signers, program):
    signers.start(0, 1, 2)
    fund(node, bitcoin)
    for index in range(3):
        signers.kill(index)
    node.burn(BURNED_SATS)
    address, script = script_of(bitcoin)
    node.withdraw(script, 70_000)
    keys = ",".join(public(signer_key(at)).hex() for at in RESCUERS)
    proposal = "propose", "named.json", "--by-council", "--signers", keys, "--threshold", "2"
    assert "VaultNotStill" in program.refused(*proposal)
    for _ in range(4):
        bitcoin.mine(node.rules.emergency_blocks // 4)
    bitcoin.mine(node.rules.origin_depth)
    node.advance()
    assert program.ask("show")["emergency"]["blocks"] == 0
    assert "named by the council" in program.refused("emergency", "spend.json", "--build", "--fee-rate", "2")

    program.ask(*proposal)
    for at in range(2):
        program.ask("sign", "named.json", account=council_key(at))
    program.ask("submit", "named.json")
    built = program.ask("emergency", "spend.json", "--build", "--fee-rate", "2") if node.advance() else None
    for at in (0, 2):
        program.ask("emergency", "spend.json", account=council_key(at))
    node.held_final = len(node.states) - 2
    assert "not in block" in program.refused("emergency", "spend.json", "--send", *program.bitcoind())
    node.held_final = None
    sent = program.ask("emergency", "spend.json", "--send", *program.bitcoind())
    assert sent["txid"] == built["txid"]
    assert pool(bitcoin) == [bytes.fromhex(sent["txid"])[::-1]]

    signers.start(*RESCUERS[:2])
    state = confirm(node, bitcoin, Transaction.decode(bytes.fromhex(sent["raw"])))
    assert (state.frozen, state.custody.epoch, len(state.queue)) == (None, 1, 1)
    pay_in(node, bitcoin, 500_000, address=b"\x41" * 20)
    bitcoin.mine(2)
    paid = confirm_round(node, bitcoin, lambda one: Output(70_000, script) in one.outputs)
    assert paid.inputs[0].txid != bytes(32)
    assert received(bitcoin, address) == 70_000
    assert credited(node, b"\x41" * 20)
    assert node.state.surplus_sats >= 0
