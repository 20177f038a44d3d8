"""The devnet's own signers: bitcoin in and out by the commands a person uses, with a signer killed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hyperdust.bitcoind import Bitcoind, Login
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


def test_in_and_out_with_a_signer_killed(ready, tmp_path):
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
