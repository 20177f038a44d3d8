"""What a person who bridges does, by the commands: in, out, and back by the own key where nobody sweeps."""

import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from bridge.params import REGTEST
from bridge.rules import MAIN_RULES
from bridge.scripts import Binding
from bridge.transactions import Transaction
from hyperdust.bitcoind import Bitcoind, Login
from hyperdust.bridging.keeping import add_outpoint, make_kept, make_secret, parse_outpoint, save
from hyperdust.cli.app import run
from hyperdust.rpc_client import RpcClient
from tests.functional.ports import free_port_block
from tests.unit.bridge.keys import make_custody

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

TO = bytes.fromhex("70997970C51812dc3A010C7d01b50e0d17dc79C8")


def ask(capsys, *arguments):
    code = run([*arguments, "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def refusal(capsys, *arguments):
    assert run([*arguments, "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


# --- the way back


@pytest.fixture
def paid(bitcoin, tmp_path):
    """A deposit on a real node that no signer will ever sweep, and the options that name node and folder."""
    secret, key = make_secret()
    kept = make_kept(48_000_007, REGTEST.name, make_custody(), MAIN_RULES, Binding(key, TO, 5_000, 0), secret, 500_000)
    save(kept, tmp_path)
    txid = bitcoin.wallet.send_to_address(kept.bitcoin_address, kept.sats)
    outputs = Transaction.decode(bitcoin.client.raw_transaction(txid)).outputs
    index = next(at for at, made in enumerate(outputs) if made.script == kept.script)
    outpoint = parse_outpoint(f"{txid[::-1].hex()}:{index}")
    add_outpoint(kept, outpoint, tmp_path)
    login = bitcoin.node.login
    options = ["--folder", str(tmp_path), "--bitcoin-rpc", bitcoin.client.url]
    return outpoint, [*options, "--bitcoin-user", login.user, "--bitcoin-password", login.password]


def test_reclaim_by_the_own_key_with_no_node_and_no_signer(bitcoin, paid, capsys):
    outpoint, options = paid
    to = bitcoin.wallet.new_address()
    command = ("bridge", "reclaim", str(outpoint), "--to", to, "--fee-rate", "3", *options)
    bitcoin.mine(1)
    early = ask(capsys, *command)
    assert (early["blocks_to_wait"], early["sent"]) == (MAIN_RULES.reclaim_blocks - 1, False)
    assert bitcoin.client.refusal_of(bytes.fromhex(early["raw"])) == "non-BIP68-final"
    bitcoin.mine(MAIN_RULES.reclaim_blocks - 2)
    assert "1 blocks from now" in refusal(capsys, *command, "--send")
    assert bitcoin.client.refusal_of(bytes.fromhex(early["raw"])) == "non-BIP68-final", "bitcoind says the same"
    bitcoin.mine(1)
    sent = ask(capsys, *command, "--send")
    assert (sent["sent"], sent["blocks_to_wait"]) == (True, 0)
    entry = bitcoin.client.call("getmempoolentry", sent["txid"])
    assert entry["vsize"] == 146
    assert sent["fee_sats"] == 3 * 146 == 500_000 - sent["sats"]
    bitcoin.mine(1)
    assert bitcoin.wallet.call("getreceivedbyaddress", to) * 10**8 == sent["sats"]
    assert "is spent" in refusal(capsys, *command)


def test_reclaims_that_are_refused(bitcoin, paid, capsys, tmp_path):
    outpoint, options = paid
    to, other = bitcoin.wallet.new_address(), tmp_path / "other"
    bitcoin.mine(1)
    command = ["bridge", "reclaim", str(outpoint), "--to", to]
    assert "no deposit file" in refusal(capsys, *command, *options, "--folder", str(other))
    wrong_network = ["bridge", "reclaim", str(outpoint), "--to", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", *options]
    assert "main network" in refusal(capsys, *wrong_network)
    assert "no such coin" in refusal(capsys, "bridge", "reclaim", f"{'11' * 32}:0", "--to", to, *options)
    assert "txid:n" in refusal(capsys, "bridge", "reclaim", "11:0", "--to", to, *options)
    assert "leaves" in refusal(capsys, *command, *options, "--fee-rate", "4000")
    assert "check user and password" in refusal(capsys, *command, *options, "--bitcoin-password", "x")


# --- in and out, with signers


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A devnet with Bitcoin and signers; HYPERDUST_TEST_READY names the ready file of one that runs already."""
    if (named := os.environ.get("HYPERDUST_TEST_READY")) is not None:
        yield json.loads(Path(named).read_text(encoding="utf-8"))
        return
    folder = tmp_path_factory.mktemp("devnet")
    path, log = folder / "ready.json", folder / "devnet.log"
    command = [sys.executable, "-m", "hyperdust.cli", "devnet", "--data-dir", str(folder), "--ready-file", str(path)]
    command += ["--rpc-port", str(free_port_block()), "--block-time", "1", "--no-demo", "--no-explorer"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while not path.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield json.loads(path.read_text())
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def devnet(ready, tmp_path, monkeypatch):
    if not ready["pids"]["signer"]:
        pytest.skip("this devnet has no signers")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HYPERDUST_RPC", ready["rpc"])
    return ready


def follow(capsys, name, limit_s=240):
    """Every state that `bridge status` shows until the end, each once and with all that a person wants to know."""
    seen, deadline = [], time.monotonic() + limit_s
    while True:
        found = ask(capsys, "bridge", "status", name)
        if not seen or found["status"] != seen[-1]["status"]:
            seen.append(found)
            with capsys.disabled():
                print(name, found, flush=True)
        if found["done"]:
            return seen
        assert found["reason"]
        assert time.monotonic() < deadline, seen
        time.sleep(0.3)


def assert_in_order(seen, wanted, needed):
    names = [one["status"] for one in seen]
    places = [wanted.index(name) for name in names]
    assert places == sorted(set(places)), names
    assert needed <= set(names), names


def test_in_and_out_with_every_state_in_between(devnet, capsys):
    account = devnet["accounts"][4]
    with RpcClient(devnet["rpc"]) as client:
        before = client.quantity("eth_getBalance", account["address"], "latest")
        made = ask(capsys, "bridge", "deposit", "--btc", "0.02", "--to", account["address"])
        assert made["id"] == made["outpoint"]
        seen = follow(capsys, made["outpoint"])
        wanted = ["confirming", "waiting", "sweeping", "swept", "credited"]
        assert_in_order(seen, wanted, {"confirming", "swept", "credited"})
        end = seen[-1]
        assert (end["sats"], 0 < end["fee_sats"] <= made["max_fee_sats"]) == (2_000_000, True)
        credited = (2_000_000 - end["fee_sats"]) * 10**10
        assert client.quantity("eth_getBalance", account["address"], "latest") - before == credited

        access = devnet["bitcoin"]
        with Bitcoind(access["rpc"], Login(access["user"], access["password"])) as bitcoin:
            wallet = bitcoin.wallet("hyperdust")
            to = wallet.new_address("bech32")
            burned = ask(capsys, "bridge", "withdraw", "--btc", "0.01", "--to", to, "--key", account["private_key"])
            assert (burned["burned_sats"], burned["sats"]) == (1_000_000, 1_000_000 - burned["fee_sats"])
            seen = follow(capsys, str(burned["id"]), limit_s=400)
            assert_in_order(seen, ["queued", "paying", "paid"], {"queued", "paying", "paid"})
            assert wallet.call("getreceivedbyaddress", to) == Decimal(burned["sats"]) / 10**8
            wallet.close()

    book = ask(capsys, "bridge", "audit")
    assert (book["ok"], book["seen_on_bitcoin"]) == (True, True)
    assert book["vault_sats"] + book["unswept_sats"] >= book["supply_sats"]
    (row,) = ask(capsys, "bridge", "list")
    assert (row["address"], row["deposits"][0]["status"]) == (made["address"], "credited")
    assert ask(capsys, "bridge", "status", made["address"])["status"] == "credited"
    assert "is spent" in refusal(capsys, "bridge", "reclaim", made["outpoint"], "--to", to)


def test_signers_that_vanish_keep_nothing(devnet, capsys):
    """One of three is left, two are needed: the deposit comes back by its owner's key; then all go on."""
    made = ask(capsys, "bridge", "deposit", "--btc", "0.004", "--to", devnet["accounts"][3]["address"], "--no-pay")
    stopped = devnet["pids"]["signer"][:2]
    login = Login(devnet["bitcoin"]["user"], devnet["bitcoin"]["password"])
    with Bitcoind(devnet["bitcoin"]["rpc"], login) as bitcoin, bitcoin.wallet("hyperdust") as wallet:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            wallet.send_to_address(made["address"], 400_000)
            bitcoin.generate_to_address(made["reclaim_after_blocks"], wallet.new_address())
            waiting = ask(capsys, "bridge", "status", made["address"])
            assert (waiting["status"], "bridge reclaim" in waiting["reason"]) == ("waiting", True)
            to = wallet.new_address()
            back = ask(capsys, "bridge", "reclaim", waiting["id"], "--to", to, "--send")
            bitcoin.generate_to_address(1, wallet.new_address())
            spent = ask(capsys, "bridge", "status", waiting["id"])
            assert (spent["status"], spent["txid"]) == ("spent", back["txid"])
            assert wallet.call("getreceivedbyaddress", to) * 10**8 == back["sats"] == 400_000 - back["fee_sats"]
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
    made = ask(capsys, "bridge", "deposit", "--btc", "0.004", "--to", devnet["accounts"][3]["address"])
    assert follow(capsys, made["id"])[-1]["status"] == "credited"
    assert ask(capsys, "bridge", "audit")["ok"]


def test_refusals_say_what_to_do(devnet, capsys):
    to = ("--to", devnet["accounts"][4]["address"])
    assert "least" in refusal(capsys, "bridge", "deposit", "--btc", "0.00009999", *to)
    assert "8 decimals" in refusal(capsys, "bridge", "deposit", "--btc", "0.000000001", *to)
    assert "checksum" in refusal(capsys, "bridge", "deposit", "--btc", "1", "--to", "0x12")
    out = ("bridge", "withdraw", "--btc")
    assert "main network" in refusal(capsys, *out, "1", "--to", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT")
    address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    assert "least" in refusal(capsys, *out, "0.0001", "--to", address)
    assert "holds" in refusal(capsys, *out, "20000000", "--to", address)
    assert "no withdrawal" in refusal(capsys, "bridge", "status", "999999")
    assert "no deposit file" in refusal(capsys, "bridge", "status", address)


def test_a_deposit_that_waits_for_its_payment(devnet, capsys):
    to = devnet["accounts"][5]["address"]
    made = ask(capsys, "bridge", "deposit", "--btc", "0.003", "--to", to, "--no-pay", "--max-fee", "4000")
    assert (made["outpoint"], made["id"], made["max_fee_sats"]) == (None, made["address"], 4_000)
    unpaid = ask(capsys, "bridge", "status", made["address"])
    assert (unpaid["status"], unpaid["done"]) == ("unpaid", False)
    access = devnet["bitcoin"]
    login = Login(access["user"], access["password"])
    with Bitcoind(access["rpc"], login) as bitcoin, bitcoin.wallet("hyperdust") as wallet:
        wallet.send_to_address(made["address"], 300_000)
    end = ask(capsys, "bridge", "status", made["address"], "--wait", "--timeout", "240")
    assert (end["status"], end["sats"]) == ("credited", 300_000)
    assert end["to"] == to.lower()
