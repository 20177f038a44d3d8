"""The devnet's own signers: bitcoin in and out by the commands a person uses, with a signer killed on the way.

Beside them somebody publishes the blocks: the signers' anchors name them, and a stranger rebuilds the chain from them.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.anchors import NO_DATA, find_anchor
from bridge.transactions import Transaction
from hyperdust.bitcoind import Bitcoind, Login
from hyperdust.rpc_client import RpcClient, Unreachable
from hyperdust.wallet import user_key
from tests.functional.conftest import poll
from tests.functional.ports import free_port_block

pytestmark = [pytest.mark.functional, pytest.mark.slow]

LIMIT_S = 240
PROGRAM = str(Path(sys.executable).parent / "hyperdust")


@pytest.fixture
def ready(tmp_path):
    port, ready_file, log = free_port_block(), tmp_path / "ready.json", tmp_path / "log"
    command = [PROGRAM, "devnet", "--data-dir", str(tmp_path / "data"), "--rpc-port", str(port)]
    command += ["--ready-file", str(ready_file), "--block-time", "1", "--no-demo", "--no-explorer"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        poll(lambda: ready_file.exists() or process.poll() is not None, 180)
        assert process.poll() is None, log.read_text()[-3000:]
        yield lambda: json.loads(ready_file.read_text())
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(15)
        for name in sorted((tmp_path / "data" / "logs").glob("signer*.log")):
            print(f"--- {name.name}\n{name.read_text(errors='replace')[-3000:]}")
    assert code == 0


def ask(ready, *words):
    done = subprocess.run(
        [PROGRAM, "bridge", *words, "--rpc", ready()["rpc"], "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def publishing(ready, folder):
    """`bridge publish-data` for as long as the test goes on."""
    command = [PROGRAM, "bridge", "publish-data", "--rpc", ready()["rpc"], "--follow", "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


def find_data(ready, client):
    """The newest anchor in the vault's list that names data; None: none does yet."""
    with RpcClient(ready()["rpc"]) as node:
        vault = node.call("hyperdust_pegStatus")["vault"]
    txid = bytes.fromhex(vault["txid"])[::-1]
    while True:
        made = Transaction.decode(client.raw_transaction(txid))
        anchor = find_anchor(made)
        if anchor is not None and anchor.data_root != NO_DATA:
            return anchor
        if made.inputs[0].index or not made.inputs[0].sequence & 0x80000000 or anchor is None:
            return None
        txid = made.inputs[0].txid


def rebuild(bitcoin, folder, anchored):
    """A stranger's node: genesis and that bitcoind alone; what it says once it is done."""
    port, output = free_port_block(), folder / "fresh.log"
    command = [
        PROGRAM, "node", "--data-dir", str(folder / "fresh"), "--genesis", str(folder / "data" / "genesis.json"),
        "--rpc-port", str(port), "--sync-from", "bitcoin",
        "--bitcoin-rpc", bitcoin["rpc"], "--bitcoin-user", bitcoin["user"],
    ]  # fmt: skip
    environment = os.environ | {"HYPERDUST_BITCOIN_PASSWORD": bitcoin["password"]}
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        poll(lambda: "rebuilt " in output.read_text() or process.poll() is not None, LIMIT_S)
        with RpcClient(f"http://127.0.0.1:{port}") as node:
            return output.read_text(), poll(lambda: _block(node, anchored), 60)
    finally:
        process.terminate()
        process.wait(20)


def _block(node, number):
    try:
        return node.call("eth_getBlockByNumber", hex(number), False)
    except Unreachable:
        return None


def test_in_and_out_with_a_signer_killed(ready, tmp_path):
    with publishing(ready, tmp_path / "publisher"):
        check_in_and_out(ready, tmp_path)
        node, started = ready()["bitcoin"], time.monotonic()
        with Bitcoind(node["rpc"], Login(node["user"], node["password"])) as client:
            anchor = poll(lambda: find_data(ready, client), LIMIT_S)
    print(f"an anchor of block {anchor.height} names data, {time.monotonic() - started:.0f} s later")
    said, block = rebuild(node, tmp_path, anchor.height)
    anchored = max(map(int, re.findall(r"anchored=(\d+)", said)), default=0)
    print(f"rebuilt: the last anchor compared is that of block {anchored}")
    assert anchored >= anchor.height, said[-3000:]
    with RpcClient(ready()["rpc"]) as own:
        assert block == own.call("eth_getBlockByNumber", hex(anchor.height), False), said[-3000:]


def check_in_and_out(ready, tmp_path):
    assert len(ready()["pids"]["signer"]) == 3
    node = ready()["bitcoin"]
    with Bitcoind(node["rpc"], Login(node["user"], node["password"])) as client, client.wallet("hyperdust") as wallet:
        target = wallet.new_address()
    started = time.monotonic()
    deposit = ask(ready, "deposit", "--btc", "0.25", "--to", user_key(3).address, "--folder", str(tmp_path / "mine"))
    os.kill(ready()["pids"]["signer"][0], signal.SIGKILL)
    withdrawal = ask(ready, "withdraw", "--btc", "0.1", "--to", target, "--key", "0x" + bytes(user_key(1).key).hex())

    def stands(number, status):
        answer = ask(ready, "status", str(number), "--folder", str(tmp_path / "mine"))
        return answer if answer["status"] == status else None

    poll(lambda: stands(deposit["id"], "credited"), LIMIT_S)
    print(f"credited after {time.monotonic() - started:.0f} s")
    paid = poll(lambda: stands(withdrawal["id"], "paid"), LIMIT_S)
    print(f"paid after {time.monotonic() - started:.0f} s")
    assert paid["txid"]
    assert len(ready()["pids"]["signer"]) == 3, "the supervisor has started it again"
    with Bitcoind(node["rpc"], Login(node["user"], node["password"])) as client, client.wallet("hyperdust") as wallet:
        assert wallet.call("getreceivedbyaddress", target) * 10**8 == paid["sats"]
    audit = ask(ready, "audit")
    assert audit["ok"], audit
