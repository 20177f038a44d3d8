import json

import httpx
import pytest
from eth_account import Account

from hyperdust.rpc_client import ReceiptTimeout, RpcClient, RpcError, TransactionFailed, Unreachable

KEY = "0x" + "11" * 32
TO = bytes(19) + b"\x01"


def client_of(answer):
    """A client whose node is a function (method, params) -> result, or raises RpcError."""
    client = RpcClient("http://node.test")

    def handle(request):
        body = json.loads(request.content)
        try:
            return httpx.Response(200, json={"jsonrpc": "2.0", "id": body["id"], "result": answer(**_args(body))})
        except RpcError as error:
            reason = {"code": error.code, "message": error.message, "data": error.data}
            return httpx.Response(200, json={"jsonrpc": "2.0", "id": body["id"], "error": reason})

    client._http.close()
    client._http = httpx.Client(transport=httpx.MockTransport(handle))
    return client


def _args(body):
    return {"method": body["method"], "params": body["params"]}


def test_call_returns_the_result():
    with client_of(lambda method, params: [method, params]) as client:
        assert client.call("eth_chainId", 1, "x") == ["eth_chainId", [1, "x"]]


def test_an_error_keeps_code_message_and_data():
    def refuse(method, params):
        raise RpcError(3, "execution reverted", "0x08c379a0")

    with client_of(refuse) as client, pytest.raises(RpcError) as caught:
        client.call("eth_call")
    assert (caught.value.code, caught.value.message, caught.value.data) == (3, "execution reverted", "0x08c379a0")


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"id": 1}'])
def test_what_is_not_json_rpc_is_unreachable_and_names_the_next_command(content):
    client = RpcClient("http://node.test")
    client._http.close()
    client._http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=content)))
    with client, pytest.raises(Unreachable, match="hyperdust devnet"):
        client.call("eth_chainId")


def node(sent, status="0x1"):
    answers = {
        "eth_estimateGas": "0x5208",
        "eth_maxPriorityFeePerGas": "0x1",
        "eth_getBlockByNumber": {"baseFeePerGas": hex(10**6)},
        "eth_chainId": hex(48_000_001),
        "eth_getTransactionCount": "0x7",
        "eth_getTransactionReceipt": {"status": status, "blockNumber": "0x9"} if status else None,
    }

    def answer(method, params):
        if method == "eth_sendRawTransaction":
            sent.append(params[0])
            return "0xaa"
        return answers[method]

    return answer


def test_a_transaction_is_filled_signed_and_waited_for():
    sent = []
    account = Account.from_key(KEY)
    with client_of(node(sent)) as client:
        receipt = client.send_transaction(account, TO, value=5)
    assert receipt["blockNumber"] == "0x9"
    (raw,) = sent
    assert Account.recover_transaction(raw) == account.address
    assert raw.startswith("0x02")


def test_a_reverted_transaction_is_an_error_that_names_its_block():
    with client_of(node([], status="0x0")) as client, pytest.raises(TransactionFailed, match="block 9"):
        client.send_transaction(Account.from_key(KEY), TO)


def test_waiting_has_a_bound():
    with client_of(node([], status=None)) as client, pytest.raises(ReceiptTimeout, match="hyperdust status"):
        client.wait_receipt("0xaa", timeout_s=-1)
