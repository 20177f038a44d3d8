"""JSON-RPC at its edges: what is refused, with geth's codes and words, since tools match on them.

Long because each edge is a test of its own and all share one account. `anvil_deviates` says what anvil 1.7.1 was seen
to do.
"""

import json

import httpx
import pytest
from eth_account import Account
from eth_utils import keccak

pytestmark = pytest.mark.functional

NOBODY = "0x" + "12" * 20
UNKNOWN_HASH = "0x" + "34" * 32
FAR = "0xffffffff"
REFUSE = "0x" + keccak(text="refuse()")[:4].hex()
INCREMENT = "0x" + keccak(text="increment()")[:4].hex()
REASON = "counter: refused on purpose"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def post(devnet):
    def send(body, content_type="application/json"):
        return httpx.post(devnet.rpc, content=body, headers={"content-type": content_type}, timeout=60, trust_env=False)

    return send


@pytest.fixture(scope="module")
def answer(post):
    def ask(content):
        reply = post(json.dumps(content).encode())
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"].startswith("application/json")
        return reply.json()

    return ask


@pytest.fixture(scope="module")
def call(answer):
    def ask(method, *params):
        return answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

    return ask


@pytest.fixture(scope="module")
def error(call):
    def ask(method, *params):
        reply = call(method, *params)
        assert "result" not in reply, reply
        return reply["error"]

    return ask


@pytest.fixture(scope="module")
def account(devnet):
    return Account.from_key(devnet.accounts[5].private_key)


@pytest.fixture(scope="module")
def signed(devnet, account):
    """A raw transfer that is fine but for what the test changes."""

    def sign(by=account, **changes):
        base_fee = int(devnet.request("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        transfer = {"to": NOBODY, "value": 1, "gas": 21_000, "chainId": devnet.chain_id, "maxPriorityFeePerGas": 10**9}
        transfer["maxFeePerGas"] = 2 * base_fee + 10**9
        transfer["nonce"] = int(devnet.request("eth_getTransactionCount", by.address, "pending"), 16)
        return "0x" + by.sign_transaction(transfer | changes).raw_transaction.hex()

    return sign


@pytest.fixture(scope="module")
def mined(devnet, eventually):
    def wait(raw):
        hash_ = devnet.request("eth_sendRawTransaction", raw)
        return eventually(lambda: devnet.request("eth_getTransactionReceipt", hash_))

    return wait


@pytest.fixture(scope="module")
def deployed(mined, signed, counter):
    code = counter["bytecode"] + (7).to_bytes(32, "big").hex()
    return mined(signed(to=b"", value=0, gas=2_000_000, data=code))["contractAddress"]


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b'{"jsonrpc": "2.0", "method"', b"hello"])
def test_malformed_json(post, body, anvil_deviates):
    anvil_deviates("code -32600")
    reply = post(body)
    assert reply.json()["error"]["code"] == -32700
    assert reply.json()["id"] is None


@pytest.mark.parametrize(
    "content",
    [{"jsonrpc": "2.0", "id": 1}, {"id": 1, "method": "eth_chainId"}, {"jsonrpc": "2.0", "id": 1, "method": 7}],
)
def test_invalid_request(answer, content):
    assert answer(content)["error"]["code"] == -32600


def test_unknown_method(error):
    assert error("eth_nothing")["code"] == -32601
    assert error("nothing")["code"] == -32601


def test_unknown_method_in_words(error, anvil_deviates):
    anvil_deviates('says "Method not found"')
    assert error("eth_nothing")["message"] == "the method eth_nothing does not exist/is not available"


@pytest.mark.parametrize(
    "params",
    [
        (),
        ("0x12", "latest"),
        ("nothing", "latest"),
        (NOBODY + "00", "latest"),
        (NOBODY, "newest"),
        (NOBODY, {"blockHash": "0x12"}),
        (7, "latest"),
    ],
)
def test_bad_parameters(error, params):
    assert error("eth_getBalance", *params)["code"] == -32602


def test_too_many_parameters(error):
    assert error("eth_chainId", "0x1")["code"] == -32602


@pytest.mark.parametrize("number", ["0x01", "0x", "12", "-0x1", "0x1g", "0x10000000000000000"])
def test_bad_quantities(error, number, anvil_deviates):
    if number in {"0x01", "12"}:
        anvil_deviates(f"takes {number!r}")
    assert error("eth_getBlockByNumber", number, False)["code"] == -32602


def test_parameters_by_name(answer):
    named = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": {"address": NOBODY, "block": "latest"}}
    assert answer(named)["error"]["code"] == -32602


def test_absent_parameters(answer, devnet):
    assert answer({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"})["result"] == hex(devnet.chain_id)


@pytest.mark.parametrize("identifier", [0, 7, "seven", "7"])
def test_identifier_comes_back(answer, identifier):
    assert answer({"jsonrpc": "2.0", "id": identifier, "method": "eth_chainId", "params": []})["id"] == identifier


def test_notification_is_not_answered(post):
    assert post(b'{"jsonrpc": "2.0", "method": "eth_chainId", "params": []}').content.strip() == b""


def test_wrong_content_type(post, anvil_deviates):
    anvil_deviates("reads any content type")
    assert post(b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}', "text/plain").status_code == 415


def test_too_large_a_body(post, anvil_deviates):
    anvil_deviates("has no bound of its own here")
    assert post(b" " * (26 * MIB)).status_code == 413


def test_subscription_needs_a_connection(error):
    assert error("eth_subscribe", "newHeads")["code"] == -32601


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batch(answer, devnet):
    methods = ["eth_chainId", "eth_nothing", "net_version"]
    replies = answer([{"jsonrpc": "2.0", "id": index, "method": name} for index, name in enumerate(methods)])
    by_id = {reply["id"]: reply for reply in replies}
    assert by_id[0]["result"] == hex(devnet.chain_id)
    assert by_id[1]["error"]["code"] == -32601
    assert by_id[2]["result"] == str(devnet.chain_id)


def test_empty_batch(answer):
    reply = answer([])
    assert (reply["id"], reply["error"]["code"]) == (None, -32600)


def test_batch_with_nonsense(answer, anvil_deviates):
    anvil_deviates("refuses the whole batch")
    replies = answer([1, {"jsonrpc": "2.0", "id": 5, "method": "eth_chainId"}])
    assert isinstance(replies, list)
    assert sorted("error" in reply for reply in replies) == [False, True]


def test_largest_batch(answer):
    replies = answer([{"jsonrpc": "2.0", "id": index, "method": "eth_chainId"} for index in range(1_000)])
    assert sorted(reply["id"] for reply in replies) == list(range(1_000))


def test_too_large_a_batch(answer, anvil_deviates):
    anvil_deviates("has no bound")
    replies = answer([{"jsonrpc": "2.0", "id": index, "method": "eth_chainId"} for index in range(1_001)])
    assert isinstance(replies, list)  # geth: one error in a list, under the first call's id
    (reply,) = replies
    assert (reply["id"], reply["error"]) == (0, {"code": -32600, "message": "batch too large"})


# --- transactions -----------------------------------------------------------------------------------------------------


def refusal(error, raw):
    refused = error("eth_sendRawTransaction", raw)
    return refused["code"], refused["message"]


def test_nonce_too_low(error, signed, mined, anvil_deviates):
    anvil_deviates("code -32003")
    mined(signed())
    code, message = refusal(error, signed(nonce=0))
    assert code == -32000
    assert message.startswith("nonce too low")


def test_already_known(error, call, signed, mined, devnet, account, anvil_deviates):
    anvil_deviates('code -32003, "transaction already imported"')
    first = int(devnet.request("eth_getTransactionCount", account.address, "pending"), 16)
    waiting = signed(nonce=first + 1)  # it stays in the pool until the one before it comes
    assert "result" in call("eth_sendRawTransaction", waiting)
    again = refusal(error, waiting)
    mined(signed(nonce=first))
    assert again == (-32000, "already known")


def test_replacement_underpriced(error, call, signed, mined, devnet, account, anvil_deviates):
    anvil_deviates("code -32003")
    first = int(devnet.request("eth_getTransactionCount", account.address, "pending"), 16)
    assert "result" in call("eth_sendRawTransaction", signed(nonce=first + 1))
    other = refusal(error, signed(nonce=first + 1, value=2))
    mined(signed(nonce=first))
    assert other == (-32000, "replacement transaction underpriced")


def test_insufficient_funds(error, signed, anvil_deviates):
    anvil_deviates("code -32003")
    code, message = refusal(error, signed(by=Account.create()))
    assert code == -32000
    assert message.startswith("insufficient funds for gas * price + value")


def test_intrinsic_gas(error, signed):
    code, message = refusal(error, signed(gas=20_999))
    assert code == -32000
    assert message.startswith("intrinsic gas too low")


def test_tip_above_the_fee_cap(error, signed, anvil_deviates):
    anvil_deviates("code -32003")
    code, message = refusal(error, signed(maxFeePerGas=10**9, maxPriorityFeePerGas=2 * 10**9))
    assert code == -32000
    assert message.startswith("max priority fee per gas higher than max fee per gas")


def test_more_gas_than_a_transaction_may_have(error, signed):
    assert error("eth_sendRawTransaction", signed(gas=2**40))["code"] in {-32000, -32003}


def test_another_chain(error, signed, devnet):
    assert error("eth_sendRawTransaction", signed(chainId=devnet.chain_id + 1))["code"] in {-32000, -32003}


@pytest.mark.parametrize("raw", ["0x", "0x02", "0xc0", "0x00", "0x02f8", "0xff" * 2])
def test_malformed_transaction(error, raw):
    assert error("eth_sendRawTransaction", raw)["code"] in {-32000, -32602}


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["eth_call", "eth_estimateGas"])
def test_revert_with_a_reason(error, deployed, account, method):
    refused = error(method, {"from": account.address, "to": deployed, "data": REFUSE}, "latest")
    assert refused["code"] == 3
    assert refused["message"] == f"execution reverted: {REASON}"
    assert bytes.fromhex(refused["data"][2:])[:4] == keccak(text="Error(string)")[:4]
    assert REASON.encode() in bytes.fromhex(refused["data"][2:])


def test_revert_with_a_custom_error(error, deployed, anvil_deviates):
    anvil_deviates('adds "custom error" and the data to the message')
    data = keccak(text="setNumber(uint256)")[:4] + (1_000_001).to_bytes(32, "big")
    refused = error("eth_call", {"to": deployed, "data": "0x" + data.hex()}, "latest")
    expected = (
        keccak(text="TooFar(uint256,uint256)")[:4] + (1_000_001).to_bytes(32, "big") + (1_000_000).to_bytes(32, "big")
    )
    assert refused == {"code": 3, "message": "execution reverted", "data": "0x" + expected.hex()}


def test_panic(error, deployed, anvil_deviates):
    anvil_deviates('says "panic: division or modulo by zero (0x12)"')
    data = keccak(text="divide(uint256)")[:4] + bytes(32)
    refused = error("eth_call", {"to": deployed, "data": "0x" + data.hex()}, "latest")
    assert (refused["code"], refused["message"]) == (3, "execution reverted: division or modulo by zero")


def test_estimate_with_too_little_gas(error, deployed, account, anvil_deviates):
    anvil_deviates("code -32003")
    call = {"from": account.address, "to": deployed, "data": INCREMENT, "gas": "0x5300"}
    refused = error("eth_estimateGas", call, "latest")
    assert refused["code"] == -32000
    assert refused["message"].startswith("gas required exceeds allowance")


def test_call_prefers_input_to_data(call, deployed):
    """Source: geth internal/ethapi TransactionArgs.data; only filling and sending compare the two."""
    assert call("eth_call", {"to": deployed, "data": REFUSE, "input": INCREMENT}, "latest").get("result") == "0x"


def test_call_without_a_block_means_latest(call, deployed):
    assert call("eth_call", {"to": deployed, "input": INCREMENT})["result"] == "0x"


# --- blocks, receipts, logs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["safe", "finalized", "earliest", "latest"])
def test_block_tags(devnet, tag):
    block = devnet.request("eth_getBlockByNumber", tag, False)
    assert int(block["number"], 16) <= int(devnet.request("eth_blockNumber"), 16)
    assert devnet.request("eth_getBlockByHash", block["hash"], False)["number"] == block["number"]
    assert int(devnet.request("eth_getBalance", devnet.accounts[0].address, tag), 16) >= 0


def test_tags_are_ordered(devnet):
    numbers = [
        int(devnet.request("eth_getBlockByNumber", tag, False)["number"], 16)
        for tag in ("earliest", "finalized", "safe", "latest")
    ]
    assert numbers[0] == 0
    assert numbers == sorted(numbers)


def test_pending_block(devnet):
    head = int(devnet.request("eth_blockNumber"), 16)
    block = devnet.request("eth_getBlockByNumber", "pending", True)
    assert int(block["number"], 16) in {head + 1, head + 2}


def test_pending_block_has_no_hash(devnet, anvil_deviates):
    anvil_deviates("gives its pending block a hash and a nonce")
    block = devnet.request("eth_getBlockByNumber", "pending", False)
    assert (block["hash"], block["nonce"]) == (None, None)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_getBlockByNumber", (FAR, False)),
        ("eth_getBlockByHash", (UNKNOWN_HASH, False)),
        ("eth_getTransactionByHash", (UNKNOWN_HASH,)),
        ("eth_getTransactionReceipt", (UNKNOWN_HASH,)),
        ("eth_getTransactionByBlockNumberAndIndex", ("0x0", "0x5")),
        ("eth_getBlockTransactionCountByHash", (UNKNOWN_HASH,)),
        ("eth_getBlockReceipts", (FAR,)),
    ],
)
def test_what_is_not_there_is_null(call, method, params):
    assert call(method, *params)["result"] is None


@pytest.mark.parametrize("method", ["eth_getBalance", "eth_getTransactionCount", "eth_getCode"])
def test_state_of_a_block_that_is_not_there(error, method, anvil_deviates):
    anvil_deviates("code -32602, BlockOutOfRange")
    assert error(method, NOBODY, FAR) == {"code": -32000, "message": "header not found"}


def test_receipt_fields(devnet, mined, signed, account):
    receipt = mined(signed())
    block = devnet.request("eth_getBlockByHash", receipt["blockHash"], True)
    assert int(receipt["effectiveGasPrice"], 16) >= int(block["baseFeePerGas"], 16)
    assert (receipt["status"], receipt["type"], receipt["gasUsed"]) == ("0x1", "0x2", "0x5208")
    assert (receipt["contractAddress"], receipt["logs"]) == (None, [])
    assert receipt["logsBloom"] == "0x" + "00" * 256
    assert int(receipt["cumulativeGasUsed"], 16) >= 21_000
    assert receipt["from"] == account.address.lower()
    transaction = block["transactions"][int(receipt["transactionIndex"], 16)]
    assert transaction["hash"] == receipt["transactionHash"]
    assert transaction["gasPrice"] == receipt["effectiveGasPrice"]
    assert {"v", "r", "s", "yParity", "accessList", "chainId", "input", "nonce", "blockHash"} <= set(transaction)
    assert [one["transactionHash"] for one in devnet.request("eth_getBlockReceipts", receipt["blockNumber"])] == [
        one["hash"] for one in block["transactions"]
    ]


def test_block_fields(devnet):
    block = devnet.request("eth_getBlockByNumber", "latest", False)
    numbers = ("number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "difficulty", "size")
    for field in numbers:
        assert block[field] == hex(int(block[field], 16)), field
    hashes = ("hash", "parentHash", "sha3Uncles", "stateRoot", "transactionsRoot", "receiptsRoot", "mixHash")
    for field in (*hashes, "withdrawalsRoot", "parentBeaconBlockRoot", "requestsHash"):
        assert len(block[field]) == 66, field
    assert len(block["nonce"]) == 18
    assert (block["uncles"], block["withdrawals"]) == ([], [])


@pytest.mark.parametrize("count", [2, "0x2"])
def test_fee_history_counts(devnet, count, eventually):
    eventually(lambda: int(devnet.request("eth_blockNumber"), 16) >= 2)
    history = devnet.request("eth_feeHistory", count, "latest", [25, 75.5])
    assert [len(history["baseFeePerGas"]), len(history["gasUsedRatio"]), len(history["reward"])] == [3, 2, 2]
    assert all(len(reward) == 2 for reward in history["reward"])
    assert all(0 <= ratio <= 1 for ratio in history["gasUsedRatio"])
    assert history["oldestBlock"].startswith("0x")


@pytest.mark.parametrize("percentiles", [[-1], [101], [50, 25]])
def test_fee_history_percentiles(error, percentiles, anvil_deviates):
    anvil_deviates("takes any percentile")
    assert error("eth_feeHistory", "0x1", "latest", percentiles)["code"] == -32000


def test_logs_of_a_block_that_is_not_there(error):
    assert error("eth_getLogs", {"blockHash": UNKNOWN_HASH})["code"] == -32000


def test_logs_of_a_range_and_a_hash(error, devnet):
    both = {"blockHash": UNKNOWN_HASH, "fromBlock": "0x0"}
    assert error("eth_getLogs", both)["code"] in {-32000, -32602}


def test_unknown_filter(error):
    assert error("eth_getFilterChanges", "0xdead") == {"code": -32000, "message": "filter not found"}
