"""The gateway on a running devnet, asked with OpenAI's own library: every answer is a paid job."""

import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import openai
import pytest
from eth_account import Account

from hyperdust.cli.app import run
from hyperdust.rpc_client import RpcClient
from tests.functional.ports import free_ports
from tests.functional.roles_fixture import Roles

pytestmark = pytest.mark.functional

PROMPT = "Every block carries"
BTC = 10**18
FEE = BTC // 10**5


@contextmanager
def serving(devnet, key, folder, *options):
    """The base URL of a gateway that pays with a key, and keeps its notes in a folder."""
    command = [sys.executable, "-m", "hyperdust.cli", "gateway", "--rpc", devnet.rpc, "--port", str(free_ports(1)[0])]
    command += ["--data-dir", str(folder)]
    with subprocess.Popen(
        [*command, "--key", key, "--json", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        try:
            said = json.loads(process.stdout.readline())
            killer.cancel()
            yield said["url"]
        finally:
            killer.cancel()
            process.terminate()
            assert process.wait(10) == 0


@pytest.fixture(scope="module")
def payer(devnet):
    return devnet.accounts[3]


@pytest.fixture(scope="module")
def url(devnet, payer, tmp_path_factory):
    with serving(devnet, payer.private_key, tmp_path_factory.mktemp("gateway")) as url:
        yield url


@pytest.fixture(scope="module")
def ai(url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=200) as client:
        yield client


def graph_run(*arguments):
    command = [sys.executable, "-m", "hyperdust.cli", "graph", "run", *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


def ask(ai, content=PROMPT, model="llama-tiny", **more):
    return ai.chat.completions.create(model=model, messages=[{"role": "user", "content": content}], **more)


def balance(devnet, account):
    return int(devnet.request("eth_getBalance", account.address, "latest"), 16)


def test_models_are_the_graphs_that_text_can_be_asked_of(ai, url):
    models = {model.id: model for model in ai.models.list()}
    assert {"llama-tiny", "minilm"} <= set(models)
    assert not any(name.startswith("render") for name in models)
    assert ai.models.retrieve("minilm").hyperdust["kind"] == "embedding"
    health = httpx.get(url.removesuffix("/v1") + "/health", trust_env=False).json()
    assert health["status"] == "ok"
    assert health["block"] > 0


def test_a_chat_is_a_job_that_anyone_can_compute_again(ai, devnet, payer):
    before = balance(devnet, payer)
    raw = ai.chat.completions.with_raw_response.create(
        model="llama-tiny", messages=[{"role": "user", "content": PROMPT}]
    )
    answer, facts = raw.parse(), raw.parse().hyperdust
    local = graph_run("--graph", "llama-tiny", "--text", PROMPT)
    assert answer.choices[0].message.content == local["text"]
    assert (facts["output"], facts["trace_root"]) == (local["output"], local["trace_root"])
    assert raw.headers["x-hyperdust-job"] == str(facts["job"])
    certificate = devnet.request("hyperdust_getCertificate", hex(facts["block"]))
    assert facts["certificate"] == {name: value for name, value in certificate.items() if name != "raw"}
    assert answer.usage.completion_tokens == len(local["output"]) <= 48
    assert answer.usage.prompt_tokens == facts["symbols"][0]

    job = devnet.request("hyperdust_getJob", facts["job"])
    assert (job["requester"].lower(), job["fee_wei"]) == (payer.address.lower(), FEE)
    assert job["provider"].lower() == facts["provider"].lower()
    assert facts["fee_wei"] == FEE
    assert FEE < before - balance(devnet, payer) < 2 * FEE  # and its gas


def test_a_stream_says_the_same_token_by_token(ai):
    whole = ask(ai, max_tokens=24, seed=7)
    chunks = list(ask(ai, max_tokens=24, seed=7, stream=True, stream_options={"include_usage": True}))
    words = [chunk.choices[0].delta.content for chunk in chunks[:-2]]
    assert "".join(words) == whole.choices[0].message.content
    assert 5 < len(words) <= 24
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-2].hyperdust["trace_root"] == whole.hyperdust["trace_root"]
    assert chunks[-1].usage == whole.usage


def test_seed_and_length_are_the_jobs(ai, tmp_path):
    answer = ask(ai, max_tokens=5, seed=-3)
    assert answer.usage.completion_tokens <= 5
    facts = answer.hyperdust
    assert (facts["symbols"][1], facts["seed"]) == (5, -3)
    other = ask(ai, max_tokens=5, seed=4)
    assert other.hyperdust["trace_root"] != facts["trace_root"]


def test_a_stream_ends_as_openai_ends_it(url):
    body = {"model": "llama-tiny", "prompt": PROMPT, "max_tokens": 3, "stream": True}
    with httpx.stream("POST", url + "/completions", json=body, trust_env=False, timeout=120) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[0].startswith(": job ")
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith((": ", "data: ")) for line in lines)


def test_completions_continue_a_prompt(ai):
    answer = ai.completions.create(model="llama-tiny", prompt=PROMPT, max_tokens=48)
    assert answer.choices[0].text == graph_run("--graph", "llama-tiny", "--text", PROMPT)["text"]


def test_embeddings_are_the_graphs_own_numbers(ai):
    texts = ["Useful work makes the blocks", "Bitcoin is electronic cash"]
    answer = ai.embeddings.create(model="minilm", input=texts)  # the library asks for base64
    plain = ai.embeddings.create(model="minilm", input=texts[0], encoding_format="float")
    local = [graph_run("--graph", "minilm", "--text", text) for text in texts]
    assert [row.embedding for row in answer.data] == [row["output"] for row in local]
    assert plain.data[0].embedding == local[0]["output"]
    assert [one["trace_root"] for one in answer.hyperdust["jobs"]] == [row["trace_root"] for row in local]
    assert answer.usage.prompt_tokens == sum(one["symbols"][0] for one in answer.hyperdust["jobs"])


def test_requests_side_by_side_are_each_a_job(ai):
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda seed: ask(ai, max_tokens=4, seed=seed), range(1, 7)))
    assert len({answer.hyperdust["job"] for answer in answers}) == 6
    assert sorted(answer.hyperdust["seed"] for answer in answers) == [1, 2, 3, 4, 5, 6]


def test_an_agent_from_the_command_line_answers_the_library(ai, devnet, payer, capsys):
    owner, price = devnet.accounts[4], BTC // 10**6
    arguments = ["--name", "gatekeeper", "--graph", "llama-tiny", "--prompt", "A block", "--price", "0.000001"]
    assert run(["agent", "create", *arguments, "--key", owner.private_key, "--rpc", devnet.rpc, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    name = f"agent:{made['agent']}"
    assert name in {model.id for model in ai.models.list()}
    before = balance(devnet, payer)
    answer = ask(ai, "has a miner", model=name, max_tokens=12)
    facts = answer.hyperdust
    assert (facts["agent"], facts["price_wei"]) == (made["agent"], price)
    assert answer.model == name
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens == facts["symbols"][0] > made["prefix_rows"]
    assert FEE + price < before - balance(devnet, payer) < 2 * FEE + price
    job = devnet.request("hyperdust_getJob", facts["job"])
    assert job["requester"].lower() == made["address"]
    assert job["trace_root"] == facts["trace_root"]


def test_what_cannot_be_asked_is_refused_and_costs_nothing(ai, devnet, payer):
    before = balance(devnet, payer)
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        ask(ai, model="gpt-9")
    with pytest.raises(openai.NotFoundError, match="no agent 4711"):
        ask(ai, model="agent:4711")
    with pytest.raises(openai.NotFoundError, match="embeddings"):
        ask(ai, model="minilm")
    with pytest.raises(openai.NotFoundError):
        ai.embeddings.create(model="llama-tiny", input="a")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(ai, temperature=0.2)
    assert (caught.value.param, caught.value.code) == ("temperature", "unsupported_parameter")
    for more in ({"n": 2}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"max_tokens": 97}):
        with pytest.raises(openai.BadRequestError, match=next(iter(more)) if "max_tokens" not in more else "97"):
            ask(ai, **more)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(ai, "word " * 200)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.APIStatusError) as caught:
        ai.embeddings.create(model="minilm", input=["a"] * 11)
    assert (caught.value.status_code, caught.value.code) == (402, "over_max_fee")
    with pytest.raises(openai.APIStatusError) as caught:
        ask(ai, "a" * 300_000)
    assert caught.value.status_code == 413
    assert balance(devnet, payer) == before


def test_a_budget_and_a_token_hold(devnet, tmp_path):
    key = devnet.accounts[5].private_key
    options = ("--budget", "0.000015", "--api-key", "secret", "--timeout", "60")
    with (
        serving(devnet, key, tmp_path, *options) as url,
        openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger,
        openai.OpenAI(base_url=url, api_key="secret") as friend,
    ):
        with pytest.raises(openai.AuthenticationError):
            ask(stranger)
        assert ask(friend, max_tokens=2).hyperdust["status"] == "claimed"
    with serving(devnet, key, tmp_path, *options) as url, openai.OpenAI(base_url=url, api_key="secret") as friend:
        before = balance(devnet, devnet.accounts[5])  # the hour goes on
        with pytest.raises(openai.RateLimitError) as caught:
            ask(friend, max_tokens=2)
        assert caught.value.code == "over_budget"
        assert 3000 < int(caught.value.response.headers["retry-after"]) <= 3600
        assert balance(devnet, devnet.accounts[5]) == before


def test_a_client_that_goes_away_leaves_its_place(devnet, eventually, tmp_path):
    key = devnet.accounts[5].private_key
    body = {"model": "llama-tiny", "prompt": PROMPT, "max_tokens": 2}
    with (
        serving(devnet, key, tmp_path, "--concurrency", "1") as url,
        httpx.Client(base_url=url, trust_env=False, timeout=120) as client,
    ):
        with client.stream("POST", "/completions", json=body | {"stream": True}) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith(": job ")
            assert client.post("/completions", json=body).status_code == 429
        assert eventually(lambda: client.post("/completions", json=body).status_code == 200)


def test_final_means_past_every_dispute(devnet, tmp_path):
    key = devnet.accounts[5].private_key
    with (
        serving(devnet, key, tmp_path, "--wait", "final") as url,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as ai,
    ):
        facts = ask(ai, max_tokens=2).hyperdust
    assert facts["status"] == "final"
    assert devnet.request("hyperdust_getJob", facts["job"])["status"] == "final"


def test_an_answer_that_is_late_says_where_the_money_is(devnet, tmp_path):
    key = devnet.accounts[5].private_key
    with (
        serving(devnet, key, tmp_path, "--wait", "final", "--timeout", "1") as url,
        openai.OpenAI(base_url=url, api_key="none") as ai,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        ask(ai, max_tokens=2)
    assert (caught.value.status_code, caught.value.code) == (504, "answer_timeout")
    facts = caught.value.response.json()["hyperdust"]
    job = devnet.request("hyperdust_getJob", facts["job"])
    assert job["requester"].lower() == Account.from_key(key).address.lower()
    assert str(facts["job"]) in str(caught.value)
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_wide_open_gateway_without_a_token_does_not_start(devnet, capsys):
    key = devnet.accounts[5].private_key
    assert run(["gateway", "--host", "0.0.0.0", "--rpc", devnet.rpc, "--key", key]) == 1
    assert "--api-key" in capsys.readouterr().err


def job_refund(devnet, number):
    command = [sys.executable, "-m", "hyperdust.cli", "job", "refund", str(number), "--rpc", devnet.rpc]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def ask_in_vain(url):
    """The error that a client gets: its code, its words, its job."""
    with (
        openai.OpenAI(base_url=url, api_key="none", timeout=200) as ai,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        ask(ai, max_tokens=2)
    return caught.value.code, str(caught.value), caught.value.response.json()["hyperdust"]["job"]


def test_jobs_that_nobody_does_are_refunded_by_the_gateways_next_life(devnet, tmp_path, eventually):
    key, gateway = devnet.accounts[6], tmp_path / "gateway"
    before = balance(devnet, key)
    with RpcClient(devnet.rpc) as client, ExitStack() as processes:
        roles = Roles(devnet, tmp_path, processes, client)
        named = roles.fund()
        miner = roles.start("miner", named, graphs=("llama-tiny",))
        eventually(lambda: roles.serves(named, graph="llama-tiny"), 90)
        miner.kill()
        options = ("--provider", named.address, "--deadline", "1")
        with serving(devnet, key.private_key, gateway, *options, "--timeout", "1") as url:
            code, words, first = ask_in_vain(url)
        assert code == "answer_timeout"
        assert "after that this gateway fetches its money back" in words
        early = job_refund(devnet, first)
        assert (early.returncode, "may be answered until block" in early.stderr) == (1, True), early.stderr
        assert balance(devnet, key) < before - FEE

        # Another life; its client waits long enough to see what becomes of its own job.
        with serving(devnet, key.private_key, gateway, *options, "--timeout", "120") as url:
            metrics = httpx.get(url.replace("/v1", "/metrics"), trust_env=False).text
            assert float(re.search(r"^hyperdust_gateway_spent_btc (.*)$", metrics, re.MULTILINE)[1]) >= FEE / BTC
            code, words, second = ask_in_vain(url)
            assert code == "job_lost"
            assert f"job {second} was given back, or not answered before its deadline; its money comes back" in words
            eventually(lambda: roles.status(first) == "refunded")
        assert 0 < before - balance(devnet, key) < FEE  # gas alone
    late = job_refund(devnet, first)
    assert (late.returncode, "its fee is back already" in late.stderr) == (1, True), late.stderr
