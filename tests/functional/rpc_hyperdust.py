"""What wallets do not ask: hyperdust_*, limits and health over HTTP, notifications over WebSocket."""

import json
import time

import httpx
import pytest
from websockets.sync.client import connect

pytestmark = pytest.mark.functional

LIMIT_S = 60.0


def post(devnet, content, **headers):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.post(
        devnet.rpc, content=body, headers={"content-type": "application/json"} | headers, timeout=60, trust_env=False
    )


def call(method, *params, identifier=1):
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": list(params)}


def error_of(devnet, method, *params):
    return post(devnet, call(method, *params)).json()["error"]


def head(devnet):
    return int(devnet.request("eth_blockNumber"), 16)


def test_every_block_carries_a_certificate(devnet, eventually):
    eventually(lambda: head(devnet) >= 3)
    assert devnet.request("hyperdust_getCertificate", "earliest") is None
    certificate = devnet.request("hyperdust_getCertificate", "0x1")
    block = devnet.request("eth_getBlockByNumber", "0x1", False)
    assert certificate["macs"] == certificate["m"] * certificate["n"] * certificate["k"]
    assert certificate["size"] * 2 + 2 == len(certificate["raw"])
    assert certificate["creditSpent"] is not None
    reduced = certificate["k"] - certificate["k"] % certificate["r"]
    assert int(certificate["ticket"], 16) <= 2**256 // int(block["difficulty"], 16) * 256 * reduced
    assert devnet.request("hyperdust_getReward", "0x1")["coinbase"] == block["miner"]


def test_usefulness_adds_up_what_certificates_say(devnet, eventually):
    eventually(lambda: head(devnet) >= 4)
    answer = devnet.request("hyperdust_usefulness", "0x1", "0x3")
    blocks = [devnet.request("eth_getBlockByNumber", hex(number), False) for number in (1, 2, 3)]
    spent = [devnet.request("hyperdust_getCertificate", hex(number))["creditSpent"] for number in (1, 2, 3)]
    assert answer["difficulty_macs"] == sum(int(block["difficulty"], 16) for block in blocks)
    assert answer["credit_spent_macs"] == sum(spent)
    assert answer["ratio"] == sum(spent) / answer["difficulty_macs"]


def test_the_first_job_came_by_its_states_in_order(devnet):
    job = devnet.request("hyperdust_getJob", 1)
    if job is None:
        pytest.skip("this devnet runs without its demonstration job")
    states = [transition["state"] for transition in job["transitions"]]
    assert states == ["requested", "claimed", "revealed", "final"][: len(states)]
    assert states[-1] == job["status"]
    for transition in job["transitions"]:
        receipt = devnet.request("eth_getTransactionReceipt", transition["transaction"])
        assert int(receipt["blockNumber"], 16) == transition["block"]
    assert job["provider"] in devnet.request("hyperdust_getProviders", "minilm")
    assert devnet.request("hyperdust_getJob", 10**6) is None


def test_what_is_not_built_is_null(devnet):
    assert devnet.request("hyperdust_getDispute", 1) is None
    assert devnet.request("hyperdust_pegStatus") is None
    assert devnet.request("hyperdust_getAnchors", "earliest", "latest") == []


def test_limits_over_http(devnet):
    assert post(devnet, b"{}", **{"content-type": "text/plain"}).status_code == 415
    assert post(devnet, b"[" * 1_000_000).json()["error"]["code"] == -32700
    assert post(devnet, b"x" * (25 * 1024 * 1024 + 1)).status_code == 413
    assert post(devnet, [call("net_version")] * 1_001).json()[0]["error"]["code"] == -32600
    assert len(post(devnet, [call("net_version")] * 1_000).json()) == 1_000
    assert error_of(devnet, "eth_sendTransaction", {})["code"] == -32601
    assert error_of(devnet, "eth_getBlockByNumber", "0x01", False)["code"] == -32602


def test_a_browser_may_ask(devnet):
    answer = post(devnet, call("eth_chainId"), origin="https://wallet.example")
    assert answer.headers["access-control-allow-origin"] == "*"


def test_health_and_readiness(devnet):
    assert httpx.get(f"{devnet.rpc}/health", trust_env=False).status_code == 200
    ready = httpx.get(f"{devnet.rpc}/ready", trust_env=False)
    assert ready.status_code == 200
    assert ready.json()["ready"] is True


def test_new_heads_come_in_order_after_the_subscription_id(devnet):
    with connect(devnet.ws, proxy=None) as socket:
        socket.send(json.dumps(call("eth_subscribe", "newHeads")))
        identifier = json.loads(socket.recv(timeout=LIMIT_S))["result"]
        numbers = []
        deadline = time.monotonic() + LIMIT_S
        while len(numbers) < 3 and time.monotonic() < deadline:
            params = json.loads(socket.recv(timeout=LIMIT_S))["params"]
            assert params["subscription"] == identifier
            numbers.append(int(params["result"]["number"], 16))
        assert numbers == list(range(numbers[0], numbers[0] + 3))
        socket.send(json.dumps(call("eth_unsubscribe", identifier)))
        answers = [json.loads(socket.recv(timeout=LIMIT_S))]
        while "result" not in answers[-1]:
            answers.append(json.loads(socket.recv(timeout=LIMIT_S)))
        assert answers[-1]["result"] is True


def test_both_ports_answer_both_ways(devnet):
    with connect(devnet.rpc.replace("http", "ws"), proxy=None) as socket:
        socket.send(json.dumps([call("eth_chainId"), call("nothing_here", identifier="b")]))
        first, second = json.loads(socket.recv(timeout=LIMIT_S))
    assert int(first["result"], 16) == devnet.chain_id
    assert second["error"]["code"] == -32601
    over_http = devnet.ws.replace("ws", "http")
    answer = httpx.post(over_http, json=call("eth_chainId"), timeout=30, trust_env=False).json()
    assert int(answer["result"], 16) == devnet.chain_id
