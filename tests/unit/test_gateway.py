"""The gateway's server without sockets or a chain: who may ask, what it pays, what it says when something fails."""

import itertools
import json
import threading
from dataclasses import replace

import httpx
import pytest
import rlp
import trio
from eth_abi.abi import encode as abi_encode

from chain.hashing import keccak256
from hyperdust import job
from hyperdust.contracts_abi import encode_call
from hyperdust.gateway import stream
from hyperdust.gateway.app import build_application, build_server
from hyperdust.gateway.budget import WINDOW_S, Budget
from hyperdust.gateway.collecting import Collector
from hyperdust.gateway.config import GatewayConfig, Unguarded
from hyperdust.gateway.errors import Failed, NoBlock, NoCoins, OverBudget, TooDear, TooLong, Unsupported
from hyperdust.gateway.models import Catalog
from hyperdust.gateway.pay import Payer
from hyperdust.gateway.payments import Payments
from hyperdust.graph import load_graph
from hyperdust.rpc_client import ReceiptTimeout, RpcError, TransactionFailed, Unreachable
from hyperdust.wallet import user_key

BTC = 10**18
FEE = BTC // 10**5
CONFIG = GatewayConfig(account=user_key(0), timeout_s=3)
CHAT = {"model": "llama-tiny", "messages": [{"role": "user", "content": "A miner"}], "max_tokens": 4}
TOKENS = [84, 86, 90, 1]
VIEWS = {
    ("GraphRegistry", "is_registered", (bytes(32),)): ("bool", True),
    ("JobMarket", "max_deadline", ()): ("uint256", 1000),
    ("JobMarket", "shortest_deadline", (bytes(32), (1,))): ("uint256", 5),
    ("JobMarket", "provider_of", (1,)): ("address", "0x" + "22" * 20),
    ("JobMarket", "output_of", (1,)): ("bytes", b"".join(token.to_bytes(4, "little") for token in TOKENS)),
    ("AgentFactory", "totalSupply", ()): ("uint256", 0),
    ("AgentFactory", "agent_at", (1,)): ("address", "0x" + "00" * 20),
}


class Node:
    """A chain that answers every job at once, unless told otherwise."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent = []
        self.jobs = {}
        """Hash of a transaction -> number of the job that it made."""
        self.status = "revealed"
        self.providers = ["0x" + "22" * 20]
        self.balance = BTC
        self.head = 10
        self.refuse = None
        """Raised instead of the answer to a method."""
        self.receipt_error = None
        self.views = {encode_call(c, f, *a)[:4]: result for (c, f, a), result in VIEWS.items()}

    def call(self, method, *params):
        if self.refuse and method == self.refuse[0]:
            raise self.refuse[1]
        match method:
            case "hyperdust_getProviders":
                return self.providers
            case "eth_getBlockByNumber":
                return {"baseFeePerGas": "0xf4240", "hash": "0x" + "44" * 32}
            case "eth_sendRawTransaction":
                with self.lock:
                    raw = bytes.fromhex(params[0][2:])
                    self.sent.append(rlp.decode(raw[1:]))
                    self.jobs["0x" + keccak256(raw).hex()] = hex(len(self.sent))
                    return "0x" + keccak256(raw).hex()
            case "eth_getTransactionReceipt":
                return {"number": self.jobs[params[0]], "logs": []} if params[0] in self.jobs else None
            case "eth_getTransactionByHash":
                return None
            case "hyperdust_getJob":
                claimed = {"state": "claimed", "block": 12, "transaction": "0x"}
                root = None if self.status in {"requested", "claimed"} else "0x" + "33" * 32
                return {"status": self.status, "trace_root": root, "transitions": [claimed], "companion": None}
            case "hyperdust_getCertificate":
                return {"block": params[0], "size": 100, "raw": "0x00"}
        raise AssertionError(method)

    def quantity(self, method, *params):
        if self.refuse and method == self.refuse[0]:
            raise self.refuse[1]
        counted = {"eth_getTransactionCount": len(self.sent), "eth_getBalance": self.balance}
        counted["eth_blockNumber"] = self.head
        known = {
            "eth_chainId": 31337,
            "eth_estimateGas": 200_000,
            "eth_maxPriorityFeePerGas": 1,
        }
        assert method != "eth_getTransactionCount" or params[1] == "pending"
        return (counted | known)[method]

    def view(self, _to, data):
        kind, value = self.views[data[:4]]
        return abi_encode([kind], [value])

    def wait_receipt(self, transaction, _timeout_s):
        if self.receipt_error:
            raise self.receipt_error
        return {
            "gasUsed": "0x186a0",
            "effectiveGasPrice": "0xf4241",
            "blockNumber": "0xb",
            "logs": [],
            "number": self.jobs[transaction],
        }

    def nonces(self):
        return [int.from_bytes(fields[1], "big") for fields in self.sent]

    def values(self):
        return [int.from_bytes(fields[6], "big") for fields in self.sent]


@pytest.fixture
def node(monkeypatch):
    # Logs of receipts have their own tests.
    monkeypatch.setattr(job, "job_of", lambda receipt: int(receipt["number"], 16))
    return Node()


@pytest.fixture(scope="session")
def loaded():
    return Catalog.load(None, ("llama-tiny", "minilm"))._models


@pytest.fixture
def visit(node, loaded, tmp_path):
    """The answers to (method, path, arguments of httpx), sent together."""

    def call(*requests, **options):
        config = replace(CONFIG, data_dir=tmp_path, **options)
        application = build_application(config, build_server(config, node, Catalog(node, loaded)))
        found = [None] * len(requests)

        async def one(client, index, method, path, more):
            found[index] = await client.request(method, path, **more)

        async def run():
            transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
            async with (
                httpx.AsyncClient(transport=transport, base_url="http://localhost:8700", timeout=30) as client,
                trio.open_nursery() as nursery,
            ):
                for index, (method, path, more) in enumerate(requests):
                    nursery.start_soon(one, client, index, method, path, more)

        trio.run(run)
        return found

    return call


@pytest.fixture
def post(visit):
    return lambda body, path="/v1/chat/completions", **options: visit(("POST", path, {"json": body}), **options)[0]


def code_of(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_an_answer_carries_its_job(post, node):
    answer = post(CHAT | {"seed": 5})
    found = answer.json()
    assert (answer.status_code, answer.headers["x-hyperdust-job"]) == (200, "1")
    assert found["object"] == "chat.completion"
    assert found["choices"][0]["finish_reason"] == "stop"  # the last token is the graph's stop token
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    facts = found["hyperdust"]
    assert (facts["job"], facts["fee_wei"], facts["block"], facts["status"]) == (1, FEE, 12, "claimed")
    assert (facts["symbols"], facts["seed"], facts["output"]) == ([3, 4], 5, TOKENS)
    assert (facts["trace_root"], facts["certificate"]) == ("0x" + "33" * 32, {"block": "0xc", "size": 100})
    assert node.values() == [FEE]


def test_a_stream_has_the_same_text_and_ends(post):
    whole = post(CHAT).json()
    lines = [line for line in post(CHAT | {"stream": True}).text.split("\n\n") if line]
    assert lines[0] == ": job 2 is in block 11"
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[1:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert (
        "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
        == whole["choices"][0]["message"]["content"]
    )
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["hyperdust"]["trace_root"]


def test_a_stream_says_that_it_waits(post, node, monkeypatch):
    monkeypatch.setattr(stream, "PING_S", 0.05)
    node.status = "requested"
    lines = post(CHAT | {"stream": True}, timeout_s=0.2).text.split("\n\n")
    assert ": waiting" in lines
    error = json.loads(lines[-2].removeprefix("data: "))
    assert error["error"]["code"] == "answer_timeout"
    assert "JobMarket.refund" in error["error"]["message"]
    assert "data: [DONE]" not in lines


@pytest.mark.parametrize("status", ["refunded", "slashed"])
def test_a_lost_job_says_where_the_fee_is(post, node, status):
    node.status = status
    answer = post(CHAT)
    assert code_of(answer) == (502, "job_lost")
    assert "its money comes back" in answer.json()["error"]["message"]
    assert (answer.headers["x-should-retry"], answer.headers["x-hyperdust-job"]) == ("false", "1")


def test_final_waits_for_final(post, node):
    assert code_of(post(CHAT, until_final=True, timeout_s=0.2)) == (504, "answer_timeout")
    node.status = "final"
    assert post(CHAT, until_final=True).json()["hyperdust"]["status"] == "final"


def test_many_requests_have_many_nonces(visit, node):
    found = visit(*[("POST", "/v1/chat/completions", {"json": CHAT | {"seed": seed}}) for seed in range(1, 9)])
    assert [answer.status_code for answer in found] == [200] * 8
    assert sorted(node.nonces()) == list(range(8))


def test_more_requests_than_places_are_told_to_come_back(visit, node):
    node.status = "requested"
    found = visit(*[("POST", "/v1/chat/completions", {"json": CHAT})] * 5, concurrency=2, timeout_s=0.2)
    assert (
        sorted(code_of(answer) for answer in found) == [(429, "too_many_requests")] * 3 + [(504, "answer_timeout")] * 2
    )
    assert len(node.sent) == 2


def test_the_hours_budget_holds_side_by_side(visit, node):
    budget = 3 * (FEE + 250_000 * 2_000_001)
    found = visit(*[("POST", "/v1/chat/completions", {"json": CHAT})] * 6, budget_wei=budget)
    refused = [answer for answer in found if answer.status_code == 429]
    assert {code_of(answer) for answer in refused} == {(429, "over_budget")}
    assert all(int(answer.headers["retry-after"]) > 3000 for answer in refused)
    assert len(node.sent) == 6 - len(refused) == 3


def test_one_request_costs_at_most_its_bound(post, node):
    answer = post({"model": "minilm", "input": ["a"] * 11}, "/v1/embeddings")
    assert code_of(answer) == (402, "over_max_fee")
    assert node.sent == []


@pytest.mark.parametrize(
    ("refuse", "expected"),
    [
        (("eth_estimateGas", RpcError(3, "JobMarket: the burn takes the fee")), (502, "chain_refused")),
        (("eth_sendRawTransaction", RpcError(-32000, "pool is full")), (502, "chain_refused")),
        (("eth_blockNumber", Unreachable("http://n", "refused")), (503, "node_unreachable")),
    ],
)
def test_a_refusing_chain_costs_nothing(post, node, refuse, expected):
    node.refuse = refuse
    answer = post(CHAT)
    assert code_of(answer) == expected
    assert "Nothing was spent" in answer.json()["error"]["message"]
    node.refuse = None
    assert post(CHAT).status_code == 200


def test_nobody_serves_the_graph(post, node):
    node.providers = []
    assert code_of(post(CHAT)) == (503, "no_provider")


def test_an_empty_purse_says_so(post, node):
    node.balance = FEE
    assert code_of(post(CHAT)) == (402, "insufficient_funds")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ReceiptTimeout("0x1", 60), (504, "payment_pending")),
        (Unreachable("http://n", "gone"), (504, "payment_pending")),
        (TransactionFailed("0x1", 5), (502, "chain_refused")),
    ],
)
def test_a_payment_in_the_air_is_never_sent_again(post, node, error, expected):
    node.receipt_error = error
    answer = post(CHAT)
    assert code_of(answer) == expected
    assert answer.json()["hyperdust"]["transactions"] == list(node.jobs)
    assert answer.headers["x-should-retry"] == "false"


def test_a_node_that_restarts_while_a_job_runs_is_waited_for(post, node):
    node.refuse = ("hyperdust_getJob", Unreachable("http://n", "refused"))
    answer = post(CHAT, timeout_s=0.2)
    assert code_of(answer) == (504, "answer_timeout")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (("GET", "/v1/nothing", {}), (404, "unknown_url")),
        (("GET", "/v1/chat/completions", {}), (405, "method_not_allowed")),
        (("POST", "/v1/chat/completions", {"content": "{}", "headers": {"content-type": "text/plain"}}), (400, None)),
        (("POST", "/v1/chat/completions", {"json": CHAT | {"model": "gpt-9"}}), (404, "model_not_found")),
        (("POST", "/v1/chat/completions", {"json": CHAT | {"model": "minilm"}}), (404, "model_not_found")),
        (("POST", "/v1/chat/completions", {"json": CHAT | {"model": "agent:1"}}), (404, "model_not_found")),
        (("POST", "/v1/chat/completions", {"json": CHAT | {"max_tokens": 97}}), (400, "context_length_exceeded")),
        (("POST", "/v1/embeddings", {"json": {"model": "llama-tiny", "input": "a"}}), (404, "model_not_found")),
        (("GET", "/v1/models", {"headers": {"host": "evil.example"}}), (403, "host_refused")),
        (("GET", "/v1/models/gpt-9", {}), (404, "model_not_found")),
    ],
)
def test_refusals_have_openais_form(visit, node, request_, expected):
    (answer,) = visit(request_)
    assert code_of(answer) == expected
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert node.sent == []


def test_a_send_without_an_answer_may_have_paid(post, node):
    node.refuse = ("eth_sendRawTransaction", Unreachable("http://n", "gone"))
    answer = post(CHAT)
    assert code_of(answer) == (504, "payment_pending")
    assert "Nothing was spent" not in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


def test_an_answer_that_is_no_tensor_names_its_job(post, node):
    node.views[encode_call("JobMarket", "output_of", 1)[:4]] = ("bytes", b"123")
    answer = post(CHAT)
    assert code_of(answer) == (502, "answer_unreadable")
    assert answer.headers["x-hyperdust-job"] == "1"


def test_a_body_is_read_no_further_than_its_bound(node, loaded, tmp_path):
    sent, read = [], []
    config = replace(CONFIG, data_dir=tmp_path)
    application = build_application(config, build_server(config, node, Catalog(node, loaded)))

    async def run():
        async def receive():
            read.append(40_000)
            return {"type": "http.request", "body": b" " * 40_000, "more_body": True}

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
        path = "/v1/embeddings"
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        await application(scope, receive, send)

    trio.run(run)
    assert sent[0]["status"] == 413
    assert CONFIG.body_bytes < sum(read) <= CONFIG.body_bytes + 40_000


def payer_of(node, folder, most=BTC):
    """A payer with what it keeps; the folder is all that its lives share."""
    budget, payments = Budget(BTC, lambda: 0.0, folder / "budget"), Payments(folder / "payments")
    return Payer(node, user_key(0), budget, payments, most), budget, payments


@pytest.fixture
def question(loaded):
    return next(iter(loaded.values())).question("A miner", FEE)


@pytest.fixture
def watched(node, question, tmp_path):
    """A collector that looks after one paid job."""
    payer, _, payments = payer_of(node, tmp_path)
    payer.pay([question])
    return Collector(node, payer, payments)


def another_life(node, folder):
    payer, _, payments = payer_of(node, folder)
    return Collector(node, payer, payments)


def test_a_job_is_looked_after_by_the_next_life(watched, node, tmp_path):
    node.status, node.head = "requested", 1000
    another_life(node, tmp_path).look()
    assert node.sent[1][7] == encode_call("JobMarket", "refund", 1)
    another_life(node, tmp_path).look()
    assert len(node.sent) == 2


def test_a_payment_that_was_cut_short_is_found_by_its_transaction(node, question, tmp_path):
    payer, _, payments = payer_of(node, tmp_path)
    node.receipt_error = ReceiptTimeout("0x3", 60)
    with pytest.raises(NoBlock):
        payer.pay([question])
    (noted,) = payments.listed()
    assert (noted.job, noted.wei, noted.transaction in node.jobs) == (None, FEE, True)
    node.receipt_error, node.status, node.head = None, "requested", 1000
    another_life(node, tmp_path).look()
    assert node.sent[1][7] == encode_call("JobMarket", "refund", 1)
    assert Payments(tmp_path / "payments").listed() == []


def test_a_payment_that_no_block_ever_took_is_forgotten_after_an_hour(node, question, tmp_path, monkeypatch):
    payer, _, payments = payer_of(node, tmp_path)
    node.receipt_error = ReceiptTimeout("0x3", 60)
    with pytest.raises(NoBlock):
        payer.pay([question])
    node.jobs.clear()
    collector = another_life(node, tmp_path)
    collector.look()
    assert len(payments.listed()) == 1
    monkeypatch.setattr("hyperdust.gateway.collecting._LOST_S", -1.0)
    collector.look()
    assert Payments(tmp_path / "payments").listed() == []


def test_what_the_node_refused_or_reverted_is_not_looked_after(node, question, tmp_path):
    payer, _, payments = payer_of(node, tmp_path)
    node.refuse = ("eth_sendRawTransaction", RpcError(-32000, "no"))
    with pytest.raises(Failed):
        payer.pay([question])
    assert payments.listed() == []
    node.refuse, node.receipt_error = None, TransactionFailed("0x3", 11)
    with pytest.raises(Failed):
        payer.pay([question])
    assert payments.listed() == []


def test_a_payment_is_on_disk_before_it_is_sent(node, question, tmp_path):
    payer, _, _ = payer_of(node, tmp_path)
    node.refuse = ("eth_sendRawTransaction", Unreachable("http://n", "gone"))
    with pytest.raises(NoBlock):
        payer.pay([question])
    assert [payment.job for payment in Payments(tmp_path / "payments").listed()] == [None]


@pytest.mark.parametrize("content", ["", "[1]", '[{"transaction": "0x"}]', '{"a": 1}'])
def test_damaged_files_are_begun_anew(content, tmp_path):
    (tmp_path / "budget").write_text(content)
    (tmp_path / "payments").write_text(content)
    assert Budget(10, lambda: 0.0, tmp_path / "budget").spent() == 0
    assert Payments(tmp_path / "payments").listed() == []


def test_an_hour_outlasts_the_gateway(tmp_path):
    path = tmp_path / "budget"
    first = Budget(10, lambda: 10_000.0, path)
    kept, given_back = first.reserve([6, 3])
    first.settle(given_back, 0)
    first.settle(kept, 5)
    second = Budget(10, lambda: 10_100.0, path)
    assert second.spent() == 5
    with pytest.raises(OverBudget) as caught:
        second.reserve([6])
    assert caught.value.wait_s == WINDOW_S - 100
    assert second.reserve([5]) != [kept]
    assert Budget(10, lambda: 13_650.0, path).spent() == 5  # of the second alone


def test_a_clock_that_is_set_back_does_not_stretch_the_hour(tmp_path):
    Budget(10, lambda: 50_000.0, tmp_path / "budget").reserve([6])
    now = iter([10_000.0, 13_700.0]).__next__
    budget = Budget(10, now, tmp_path / "budget")
    assert [budget.spent(), budget.spent()] == [6, 0]


def test_the_fee_of_a_late_job_is_fetched_once_it_can_be(watched, node):
    node.status = "requested"
    watched.look()  # its deadline has not passed: nobody is asked
    assert len(node.sent) == 1
    node.head = 1000
    node.status = "requested"
    node.refuse = ("eth_estimateGas", RpcError(3, "JobMarket: before the deadline"))
    watched.look()
    assert len(node.sent) == 1  # the payment
    node.refuse = None
    watched.look()
    assert node.sent[1][7] == encode_call("JobMarket", "refund", 1)
    assert node.nonces() == [0, 1]
    watched.look()
    assert len(node.sent) == 2


@pytest.mark.parametrize("status", ["revealed", "final", "refunded", "slashed"])
def test_nothing_is_fetched_where_nothing_is_owed(watched, node, status):
    node.status, node.head = status, 1000
    watched.look()
    assert len(node.sent) == 1
    node.status = "requested"
    watched.look()
    assert len(node.sent) == (2 if status == "revealed" else 1)


def test_our_own_fault_is_json_and_not_asked_again(post, node):
    node.refuse = ("hyperdust_getProviders", ZeroDivisionError())
    answer = post(CHAT)
    assert code_of(answer) == (500, "internal")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("given", "status"), [("Bearer secret", 200), ("Bearer wrong", 401), ("secret", 401), ("", 401)]
)
def test_a_token_is_wanted_where_one_is_set(visit, given, status):
    headers = {"authorization": given, "host": "gateway.example"}
    (answer,) = visit(("GET", "/v1/models", {"headers": headers}), api_key="secret", host="0.0.0.0")
    assert answer.status_code == status


@pytest.mark.parametrize("host", ["localhost", "localhost:8700", "127.0.0.1:8700", "[::1]:8700", "[::1]", "127.0.0.2"])
def test_this_machines_names_are_taken(visit, host):
    assert visit(("GET", "/v1/models", {"headers": {"host": host}}))[0].status_code == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1"]
)
def test_other_names_are_refused_without_a_token(visit, host):
    assert visit(("GET", "/v1/models", {"headers": {"host": host}}))[0].status_code == 403


def test_an_open_address_needs_a_token():
    with pytest.raises(Unguarded, match="--api-key"):
        replace(CONFIG, host="0.0.0.0")
    assert replace(CONFIG, host="0.0.0.0", api_key="secret").api_key == "secret"


def test_health_and_metrics(visit, node):
    health, metrics = visit(("GET", "/health", {"headers": {"host": "x"}}), ("GET", "/metrics", {}))
    assert health.json() == {"status": "ok", "block": 10, "models": ["llama-tiny", "minilm"]}
    assert "hyperdust_gateway_budget_btc 0.001" in metrics.text
    node.refuse = ("eth_blockNumber", Unreachable("http://n", "refused"))
    assert visit(("GET", "/health", {}))[0].status_code == 503


def test_models_without_a_provider_are_not_listed(visit, node):
    assert [row["id"] for row in visit(("GET", "/v1/models", {}))[0].json()["data"]] == ["llama-tiny", "minilm"]
    node.providers = []
    assert visit(("GET", "/v1/models", {}))[0].json()["data"] == []


def test_a_question_is_what_the_command_line_asks(loaded):
    text, vector = loaded.values()
    from hyperdust.graph import input_bytes

    for model, words in ((text, "A miner"), (vector, "Bitcoin is electronic cash")):
        asked = model.question(words, FEE)
        same = input_bytes(model.source, words, None)
        assert (asked.whole.data, asked.whole.symbols, asked.value) == (same.data, same.symbols, FEE)
    with pytest.raises(TooLong):
        text.question("a b " * 60, FEE)
    with pytest.raises(TooLong):
        vector.question("word " * 300, FEE)
    with pytest.raises(Unsupported, match="seed"):
        vector.question("a", FEE, seed=1)
    seeded = text.question("A miner", FEE, 3, seed=-1)
    assert (seeded.whole.data[-4:], seeded.whole.symbols) == (b"\xff" * 4, (3, 3))
    assert len(load_graph("llama-tiny").graph.symbols) == 2


def test_a_budget_is_a_rolling_hour(tmp_path):
    now = itertools.count(0, 1000).__next__
    budget = Budget(10, now, tmp_path / "budget")  # each look is 1,000 s later
    (first,) = budget.reserve([6])  # 0 s
    with pytest.raises(OverBudget) as caught:
        budget.reserve([5])  # 1,000 s
    assert caught.value.wait_s == WINDOW_S - 1000
    budget.settle(first, 2)
    assert budget.spent() == 2  # 2,000 s
    assert len(budget.reserve([4, 4])) == 2  # 3,000 s
    assert budget.spent() == 8  # 4,000 s: the first has left
    with pytest.raises(OverBudget):
        budget.reserve([11])


def test_what_is_refused_is_given_back(node, question, tmp_path):
    payer, budget, _ = payer_of(node, tmp_path, BTC // 10**4)
    questions = [question] * 2
    node.refuse = ("eth_sendRawTransaction", RpcError(-32000, "no"))
    with pytest.raises(Failed):
        payer.pay(questions)
    assert budget.spent() == 0
    node.refuse = None
    assert [paid.job for paid in payer.pay(questions)] == [1, 2]
    assert budget.spent() == 2 * (FEE + 100_000 * 1_000_001)
    node.balance = 0
    with pytest.raises(NoCoins):
        payer.pay(questions)
    with pytest.raises(TooDear):
        payer.pay(questions * 6)
    node.balance, node.receipt_error = BTC, ReceiptTimeout("0x3", 60)
    with pytest.raises(NoBlock):
        payer.pay(questions)
    assert budget.spent() > 4 * FEE  # what may still be mined stays counted
