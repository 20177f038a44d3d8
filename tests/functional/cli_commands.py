"""The commands against a running devnet: each answers, in words and in JSON, and each error is one sentence."""

import json
import subprocess
import sys
import time

import pytest

from hyperdust.cli.app import run

pytestmark = pytest.mark.functional

SECOND = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture(scope="module")
def rpc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devnet")
    ready = folder / "ready.json"
    port = 32_100
    arguments = ["devnet", "--data-dir", str(folder), "--rpc-port", str(port), "--ready-file", str(ready), "--no-demo"]
    arguments += ["--block-time", "1"]
    with (folder / "devnet.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "hyperdust.cli", *arguments], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 240
        while not ready.exists():
            assert process.poll() is None, (folder / "devnet.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield json.loads(ready.read_text())["rpc"]
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def ask_json(capsys, *arguments):
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_answer_is_the_one_that_this_machine_computes(rpc, capsys):
    words = ("--graph", "minilm", "--text", "Useful work makes the blocks")
    answer = ask_json(capsys, "job", "ask", *words, "--wait", "claimed", "--rpc", rpc)
    assert set(answer) == {"job", "status", "provider", "companion", "block", "trace_root", "output", "fee_wei"}
    assert isinstance(answer["job"], int)
    local = ask_json(capsys, "graph", "run", *words)
    assert (answer["trace_root"], answer["output"]) == (local["trace_root"], local["output"])


def test_status_and_balance(rpc, capsys):
    status = ask_json(capsys, "status", "--rpc", rpc)
    assert status["head"]["number"] > 0
    assert run(["status", "--rpc", rpc]) == 0
    assert "head      block" in capsys.readouterr().out
    (before,) = ask_json(capsys, "wallet", "balance", SECOND, "--rpc", rpc)
    sent = ask_json(capsys, "wallet", "send", "--to", SECOND, "--btc", "0.25", "--rpc", rpc)
    (after,) = ask_json(capsys, "wallet", "balance", SECOND, "--rpc", rpc)
    assert after["btc_wei"] - before["btc_wei"] == sent["value_wei"] == 25 * 10**16


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["job", "ask", "--graph", "nothing", "--text", "x"], "nothing"),
        (["wallet", "send", "--to", SECOND, "--btc", "1000000"], "insufficient funds"),
        (["wallet", "send", "--to", "0x12", "--btc", "1"], "no address"),
    ],
)
def test_errors_name_the_cause(rpc, capsys, arguments, cause):
    assert run([*arguments, "--rpc", rpc]) == 1
    shown = capsys.readouterr()
    assert cause in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
