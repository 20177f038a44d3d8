"""`job refund`: who gets what back, and why not, or not yet."""

import pytest
from eth_abi.abi import encode as abi_encode

from hyperdust import job
from hyperdust.contracts_abi import ADDRESSES, encode_call, load_abi
from hyperdust.job import JobError
from hyperdust.rpc_client import RpcError
from hyperdust.wallet import user_key

ASKER = "0x" + "aa" * 20


class Node:
    """A chain with one job."""

    def __init__(self, status):
        self.status, self.sent, self.refuses = status, [], None

    def call(self, method, number):
        assert method == "hyperdust_getJob"
        return {"status": self.status} if number == 17 else None

    def quantity(self, method):
        assert method == "eth_blockNumber"
        return 100

    def view(self, to, data):
        assert (to, data) == (ADDRESSES["JobMarket"], encode_call("JobMarket", "job", 17))
        (entry,) = [one for one in load_abi("JobMarket") if one.get("name") == "job" and one["type"] == "function"]
        fields = entry["outputs"][0]["components"]
        known = {"requester": ASKER, "fee": 5, "deadline": 120}
        zero = {"address": "0x" + "00" * 20, "bytes32": bytes(32), "bool": False}
        values = [
            known.get(field["name"], zero.get(field["type"], [] if "[" in field["type"] else 0)) for field in fields
        ]
        return abi_encode([f"({','.join(field['type'] for field in fields)})"], [tuple(values)])

    def send_transaction(self, _account, to, data):
        if self.refuses:
            raise RpcError(3, self.refuses)
        self.sent.append((to, data))
        self.status = "refunded"
        return {"transactionHash": "0x07"}


def test_the_fee_goes_to_who_asked():
    node = Node("requested")
    found = job.refund(node, user_key(0), 17)
    wanted = {"job": 17, "status": "refunded", "requester": ASKER, "fee_wei": 5, "transaction": "0x07"}
    assert found == wanted
    assert node.sent == [(ADDRESSES["JobMarket"], encode_call("JobMarket", "refund", 17))]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("revealed", "comes back only if it is proven false"),
        ("final", "answered and paid"),
        ("refunded", "back already"),
        ("slashed", "back already"),
    ],
)
def test_what_has_nothing_to_give_back_says_why_and_sends_nothing(status, words):
    node = Node(status)
    with pytest.raises(JobError, match=words):
        job.refund(node, user_key(0), 17)
    assert node.sent == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("requested", "is requested at block 100 and may be answered until block 120: JobMarket: before the deadline"),
        ("claimed", "is claimed at block 100 and may be revealed yet"),
    ],
)
def test_what_is_too_early_says_from_when(status, words):
    node = Node(status)
    node.refuses = "JobMarket: before the deadline"
    with pytest.raises(JobError, match=words):
        job.refund(node, user_key(0), 17)


def test_a_job_that_nobody_asked_is_named():
    with pytest.raises(JobError, match="there is no job 18"):
        job.refund(Node("requested"), user_key(0), 18)
