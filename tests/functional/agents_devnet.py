"""Agents on a running devnet: made, asked and paid from the command line; a contract that asks one after the other."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eth_account import Account
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle

from hyperdust import agent as agents
from hyperdust.cli.app import run
from hyperdust.contracts_abi import ADDRESSES, decode_event, decode_output, encode_call, event_topic
from hyperdust.job import show_output
from hyperdust.rpc_client import RpcClient
from hyperdust.wallet import role_key
from tests.unit.contracts.harness import Call

pytestmark = pytest.mark.functional

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "A block"
QUESTION = "has a miner"
BTC = 10**18


@pytest.fixture(scope="module")
def owner(devnet):
    return devnet.accounts[1]


@pytest.fixture(scope="module")
def asker(devnet):
    return devnet.accounts[2]


@pytest.fixture
def command(devnet, capsys):
    """The JSON that a command prints; it has to succeed."""

    def call(*arguments, key=None):
        signing = ["--key", key] if key else []
        assert run([*map(str, arguments), *signing, "--rpc", devnet.rpc, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def client(devnet):
    with RpcClient(devnet.rpc) as client:
        yield client


def balance(client, account):
    return client.quantity("eth_getBalance", account.address, "latest")


def test_a_free_agent_answers_what_this_machine_computes(command, asker, owner):
    made = command("agent", "create", "--name", "ada", "--graph", "minilm", key=owner.private_key)
    assert (made["name"], made["graph"], made["price"], made["prefix_rows"]) == ("ada", "minilm", "0", 0)
    words = ("--text", "Useful work makes the blocks")
    answer = command("agent", "ask", "--agent", "ada", *words, key=asker.private_key)
    local = json.loads(graph_run("--graph", "minilm", *words))
    assert (answer["trace_root"], answer["output"]) == (local["trace_root"], local["output"])
    assert (answer["agent"], answer["ask"], answer["price"], answer["currency"]) == (made["agent"], 1, "0", "btc")
    assert [one["name"] for one in command("agent", "list")].count("ada") == 1


def graph_run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "hyperdust.cli", "graph", "run", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def test_an_agent_with_a_prompt_is_paid_once_its_job_is_final(command, client, asker, owner, tmp_path):
    price = BTC // 10**5
    arguments = ("--name", "bard", "--graph", "llama-tiny", "--prompt", PROMPT, "--price", "0.00001")
    made = command("agent", "create", *arguments, key=owner.private_key)
    assert made["prefix_rows"] > 0
    answer = command(
        "agent", "ask", "--agent", made["agent"], "--text", QUESTION, "--wait", "final", key=asker.private_key
    )
    assert answer["price"] == str(price)

    found = agents.read_agent(client, made["agent"])
    whole = agents.whole_question(found, agents.question_of(found, QUESTION))
    ids = [int.from_bytes(whole.data[i : i + 4], "little", signed=True) for i in range(0, 4 * whole.symbols[0], 4)]
    question = tmp_path / "question.json"
    question.write_text(json.dumps({"ids": ids, "tokens": whole.symbols[1]}))
    local = json.loads(graph_run("--graph", "llama-tiny", "--input", str(question)))
    assert (answer["trace_root"], answer["output"]) == (local["trace_root"], local["output"])
    assert answer["text"] == local["text"]

    before = balance(client, owner)
    paid = command("agent", "withdraw", "--agent", made["agent"], key=owner.private_key)
    assert paid["btc"] == str(price)
    assert balance(client, owner) > before + price // 2  # less gas
    assert balance(client, Account.from_key(asker.private_key)) > 0


def test_a_coin_is_bought_paid_and_sold(command, client, asker, owner):
    arguments = (
        "--name",
        "guild",
        "--graph",
        "minilm",
        "--coin",
        "GLD",
        "--currency",
        "coin",
        "--price",
        "2",
        "--items",
    )
    made = command("agent", "create", *arguments, key=owner.private_key)
    assert (made["currency"], made["price"]) == ("coin", str(2 * BTC))
    assert made["coin"]
    assert made["items"]
    coin = bytes.fromhex(made["coin"][2:])
    account = Account.from_key(asker.private_key)
    refused = run_refused(
        "agent", "ask", "--agent", "guild", "--text", "x", "--key", asker.private_key, "--rpc", client.url
    )
    assert "holds 0 coins" in refused
    client.send_transaction(account, coin, encode_call("AgentCoin", "buy", 10 * BTC), BTC)
    answer = command("agent", "ask", "--agent", "guild", "--text", "x", key=asker.private_key)
    assert answer["currency"] == "coin"
    (held,) = decode_output("AgentCoin", "balanceOf", view(client, "AgentCoin", coin, "balanceOf", account.address))
    assert held == 8 * BTC
    client.send_transaction(account, coin, encode_call("AgentCoin", "sell", held, 1))


def view(client, kind, at, function, *arguments):
    return client.view(at, encode_call(kind, function, *arguments))


def run_refused(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "hyperdust.cli", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (("ask", "--agent", "999", "--text", "x"), "no agent 999", "agent list"),
        (("ask", "--agent", "nobody", "--text", "x"), "no agent is called", "agent list"),
        (("ask", "--agent", "bard", "--text", "x", "--max-price", "0"), "takes", "--max-price"),
        (("withdraw", "--agent", "bard"), "belongs to", "--keystore"),
        (("create", "--name", "x", "--graph", "minilm", "--currency", "coin"), "own coin", "--coin"),
    ],
)
def test_errors_name_the_cause_and_the_next_command(devnet, arguments, cause, remedy):
    refused = run_refused("agent", *arguments, "--rpc", devnet.rpc)
    assert cause in refused
    assert remedy in refused


class _Chain:
    """A contract's functions over JSON-RPC, as the unit tests' harness calls them."""

    def __init__(self, client, account):
        self.client, self.account = client, account

    def look(self, to, data, **_):
        return self.client.view(bytes.fromhex(to[2:]), data)

    def send(self, to, data, *, value=0, **_):
        self.client.send_transaction(self.account, bytes.fromhex(to[2:]), data, value, gas=3_000_000)
        return b"\0" * 32


@pytest.fixture
def duet(client, command, owner):
    """docs/examples/agents/Duet.vy over two agents."""
    made = []
    for name in ("beginner", "finisher"):
        arguments = ("--name", name, "--graph", "llama-tiny", "--price", "0.000001")
        made.append(command("agent", "create", *arguments, key=owner.private_key)["address"])
    path = ROOT / "docs" / "examples" / "agents" / "Duet.vy"
    bundle = FilesystemInputBundle([path.parent])
    compiled = compile_from_file_input(bundle.load_file(path), input_bundle=bundle, output_formats=["bytecode", "abi"])
    addresses = b"".join(bytes(12) + bytes.fromhex(address[2:]) for address in made)
    account = Account.from_key(owner.private_key)
    initcode = bytes.fromhex(compiled["bytecode"][2:]) + addresses
    address = client.send_transaction(account, None, initcode)["contractAddress"]
    chain = _Chain(client, account)
    functions = [part for part in compiled["abi"] if part["type"] == "function"]
    return {part["name"]: Call(chain, address, [part]) for part in functions}


def test_an_agents_answer_becomes_another_agents_question(client, command, duet, devnet, tmp_path):
    runner = devnet.accounts[3]
    ids = [0, 34, 599]
    data = b"".join(number.to_bytes(4, "little") for number in ids)
    duet["begin"](data, len(ids), 16, BTC // 10**5, value=BTC // 100)
    end = time.monotonic() + 240
    while not (story := duet["story_of"](1))[-1]:  # the devnet's miner runs what is due, for the tips
        assert time.monotonic() < end, story
        time.sleep(0.5)
    assert command("agent", "run-due", key=runner.private_key) == []
    assert {ran["success"] for ran in runs(client)} == {True}
    assert {ran["runner"].lower() for ran in runs(client)} == {role_key(0).address.lower()}
    first = execute(ids, 16, tmp_path)
    assert tokens_of(story[6]) == first
    assert tokens_of(story[7]) == execute(first, 16, tmp_path)
    refund = duet["owed"](Account.from_key(devnet.accounts[1].private_key).address)
    assert 0 < refund < BTC // 100
    duet["withdraw"]()
    duet["collect_tips"]()
    (owed,) = decode_output("Scheduler", "total_owed", view(client, "Scheduler", ADDRESSES["Scheduler"], "total_owed"))
    assert owed == 0
    assert show_output(first)


def runs(client):
    wanted = {"fromBlock": "0x1", "topics": ["0x" + event_topic("Scheduler", "Ran").hex()]}
    for log in client.call("eth_getLogs", wanted):
        topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
        yield decode_event("Scheduler", "Ran", topics, bytes.fromhex(log["data"][2:]))


def execute(ids, count, folder):
    question = folder / "ids.json"
    question.write_text(json.dumps({"ids": ids, "tokens": count}))
    return json.loads(graph_run("--graph", "llama-tiny", "--input", str(question)))["output"]


def tokens_of(data):
    return [int.from_bytes(data[i : i + 4], "little", signed=True) for i in range(0, len(data), 4)]
