"""cast works unchanged: no fee flags, no --legacy unless that is what is tested."""

import json

import pytest
from eth_account import Account

pytestmark = pytest.mark.functional

SLOT_0 = "0x" + "00" * 32


@pytest.fixture(scope="module")
def account(devnet):
    return devnet.accounts[0]


@pytest.fixture(scope="module")
def send(cast, account):
    def run(*arguments):
        return json.loads(cast("send", "--json", "--private-key", account.private_key, *arguments))

    return run


@pytest.fixture(scope="module")
def deployed(send, counter):
    receipt = send("--create", counter["bytecode"], "constructor(uint256)", 7)
    assert int(receipt["status"], 16) == 1
    return receipt["contractAddress"]


def test_chain_id_block_number_and_client(cast, devnet):
    assert int(cast("chain-id")) == devnet.chain_id
    assert int(cast("block-number")) >= 0
    assert cast("client")


def test_gas_price_and_base_fee(cast):
    assert int(cast("gas-price")) > 0
    assert int(cast("base-fee")) > 0


def test_balance_and_nonce(cast, account):
    assert int(cast("balance", account.address)) > 10**18
    assert int(cast("nonce", account.address)) >= 0
    assert int(cast("balance", Account.create().address)) == 0


def test_value_transfer(cast, send, account):
    to = Account.create().address
    receipt = send(to, "--value", 12345)
    assert int(receipt["status"], 16) == 1
    assert int(receipt["type"], 16) == 2
    assert int(receipt["gasUsed"], 16) == 21_000
    assert int(receipt["effectiveGasPrice"], 16) > 0
    assert receipt["from"].lower() == account.address.lower()
    assert receipt["to"].lower() == to.lower()
    assert int(cast("balance", to)) == 12345


def test_deploy_call_code_and_storage(cast, deployed, counter):
    assert cast("call", deployed, "number()(uint256)", "--block", "latest").split()[0] == "7"
    assert int(cast("storage", deployed, 0), 16) == 7
    code = cast("code", deployed)
    assert len(code) > 100
    assert code[2:] in counter["bytecode"]
    assert int(cast("codesize", deployed)) == len(code) // 2 - 1
    assert len(cast("codehash", deployed)) == 66


def test_send_receipt_and_transaction(cast, send, deployed, account):
    sent = send(deployed, "setNumber(uint256)", 42)
    hash_ = sent["transactionHash"]
    receipt = json.loads(cast("receipt", hash_, "--json"))
    assert receipt["blockHash"] == sent["blockHash"]
    assert cast("receipt", hash_, "status").split()[0] in {"1", "true"}
    transaction = json.loads(cast("tx", hash_, "--json"))
    assert transaction["from"].lower() == account.address.lower()
    assert transaction["to"].lower() == deployed.lower()
    assert cast("tx", hash_, "--raw").startswith("0x02")
    assert cast("call", deployed, "number()(uint256)") == "42"


def test_logs(cast, send, deployed, account):
    sent = send(deployed, "setNumber(uint256)", 43)
    signature = "Changed(address indexed who, uint256 indexed number, string note)"
    where = ("--from-block", int(sent["blockNumber"], 16), "--address", deployed)
    found = json.loads(cast("logs", "--json", *where, signature, account.address, 43))
    assert [log["transactionHash"] for log in found] == [sent["transactionHash"]]
    assert int(found[0]["logIndex"], 16) == int(sent["logs"][0]["logIndex"], 16)


def test_payable(cast, send, deployed, account):
    assert int(send(deployed, "pay()", "--value", 99)["status"], 16) == 1
    assert cast("call", deployed, "paid(address)(uint256)", account.address) == "99"
    assert int(cast("balance", deployed)) == 99


def test_estimate(cast, deployed, account):
    to = Account.create().address
    assert int(cast("estimate", "--from", account.address, to, "--value", 1)) == 21_000
    assert 25_000 < int(cast("estimate", "--from", account.address, deployed, "increment()")) < 60_000
    assert int(cast("estimate", "--from", account.address, deployed, "pay()", "--value", "1wei")) > 21_000


def test_access_list(cast, deployed, account):
    made = json.loads(cast("access-list", "--json", "--from", account.address, deployed, "increment()"))
    assert [entry["address"].lower() for entry in made["accessList"]] == [deployed.lower()]
    assert made["accessList"][0]["storageKeys"] == [SLOT_0]


def test_proof(cast, deployed):
    proof = json.loads(cast("proof", deployed, 0))
    assert proof["address"].lower() == deployed.lower()
    assert proof["accountProof"]
    assert proof["storageProof"][0]["proof"]
    assert int(proof["storageProof"][0]["value"], 16) == int(cast("storage", deployed, 0), 16)


def test_blocks(cast):
    latest = json.loads(cast("block", "latest", "--json"))
    by_hash = json.loads(cast("block", latest["hash"], "--json", "--full"))
    assert by_hash["number"] == latest["number"]
    assert int(cast("block", "latest", "--field", "gasLimit")) > 0
    assert cast("age", "latest")
    for tag in ("earliest", "safe", "finalized", "pending"):
        assert json.loads(cast("block", tag, "--json"))["parentHash"].startswith("0x")


def test_rpc(cast, devnet):
    assert json.loads(cast("rpc", "eth_chainId")) == hex(devnet.chain_id)
    assert json.loads(cast("rpc", "eth_getBlockByNumber", "latest", "false"))["hash"].startswith("0x")
    assert json.loads(cast("rpc", "net_version")) == str(devnet.chain_id)
    assert json.loads(cast("rpc", "web3_sha3", "0x")).startswith("0xc5d246")
    assert json.loads(cast("rpc", "eth_syncing")) is False


def test_peer_count(cast, anvil_deviates):
    anvil_deviates("no net_peerCount")
    assert int(json.loads(cast("rpc", "net_peerCount")), 16) >= 0


def test_three_pending_transactions_in_a_row(cast, account):
    first = int(cast("nonce", account.address, "--block", "pending"))  # cast itself asks for "latest"
    to = Account.create().address
    key = ("--private-key", account.private_key)
    hashes = [cast("send", "--async", *key, "--nonce", first + index, to, "--value", 1) for index in range(3)]
    receipts = [json.loads(cast("receipt", hash_, "--json")) for hash_ in hashes]
    assert [int(receipt["status"], 16) for receipt in receipts] == [1, 1, 1]
    places = [(int(receipt["blockNumber"], 16), int(receipt["transactionIndex"], 16)) for receipt in receipts]
    assert places == sorted(places)
    assert int(cast("balance", to)) == 3


def test_signed_here_published_later(cast, account):
    raw = cast("mktx", "--private-key", account.private_key, Account.create().address, "--value", 5)
    receipt = json.loads(cast("receipt", cast("publish", "--async", raw), "--json"))
    assert int(receipt["status"], 16) == 1


def test_a_revert_names_its_reason(try_cast, deployed, account):
    called = try_cast("call", deployed, "refuse()")
    assert called.returncode != 0
    assert "counter: refused on purpose" in called.stderr
    sent = try_cast("send", "--private-key", account.private_key, deployed, "refuse()")
    assert sent.returncode != 0
    assert "counter: refused on purpose" in sent.stderr


def test_a_custom_error_arrives_as_data(try_cast, cast, deployed):
    called = try_cast("call", deployed, "setNumber(uint256)", 1_000_001)
    assert called.returncode != 0
    assert cast("sig", "TooFar(uint256,uint256)")[2:] in called.stderr


def test_a_failed_transaction_has_a_receipt(cast, deployed, account):
    key = ("--private-key", account.private_key)
    hash_ = cast("send", "--async", *key, "--gas-limit", 100_000, deployed, "refuse()")
    receipt = json.loads(cast("receipt", hash_, "--json"))
    assert int(receipt["status"], 16) == 0
    assert receipt["logs"] == []


@pytest.mark.parametrize(("kind", "flags"), [(0, ["--legacy"]), (1, ["--legacy"]), (2, [])])
def test_transaction_types(cast, send, deployed, kind, flags):
    given = ["--access-list", json.dumps([{"address": deployed, "storageKeys": [SLOT_0]}])] if kind else []
    receipt = send(deployed, "increment()", *flags, *given)
    assert int(receipt["status"], 16) == 1
    assert int(receipt["type"], 16) == kind
    transaction = json.loads(cast("tx", receipt["transactionHash"], "--json"))
    assert int(transaction["type"], 16) == kind
    if kind:
        assert transaction["accessList"][0]["address"].lower() == deployed.lower()


def test_set_code_transaction(cast, send, deployed):
    authority = Account.create()
    key = "0x" + bytes(authority.key).hex()
    authorization = cast("wallet", "sign-auth", deployed, "--private-key", key)
    receipt = send(authority.address, "setNumber(uint256)", 5, "--auth", authorization)
    assert int(receipt["type"], 16) == 4
    assert int(receipt["status"], 16) == 1
    assert cast("code", authority.address) == "0xef0100" + deployed[2:].lower()
    assert cast("call", authority.address, "number()(uint256)") == "5"


def test_signatures_are_local(cast, account):
    typed = {
        "types": {"EIP712Domain": [{"name": "name", "type": "string"}], "Job": [{"name": "fee", "type": "uint256"}]},
        "primaryType": "Job",
        "domain": {"name": "Hyperdust"},
        "message": {"fee": "5"},
    }
    key = ("--private-key", account.private_key)
    assert len(cast("wallet", "sign", *key, "--data", json.dumps(typed))) == 132
    signature = cast("wallet", "sign", *key, "hello")
    assert "succeeded" in cast("wallet", "verify", "--address", account.address, "hello", signature)


def test_trace_of_a_transaction(cast, send, deployed):
    hash_ = send(deployed, "increment()")["transactionHash"]
    for tracer in ("callTracer", "prestateTracer"):
        assert json.loads(cast("rpc", "debug_traceTransaction", hash_, json.dumps({"tracer": tracer})))
    steps = json.loads(cast("rpc", "debug_traceTransaction", hash_))
    assert {"pc", "op", "gas", "gasCost", "depth"} <= set(steps["structLogs"][0])
    replayed = cast("run", "--quick", hash_)
    assert "successfully executed" in replayed.lower()


def test_errors_use_known_words(try_cast, account):
    key = "0x" + bytes(Account.create().key).hex()
    broke = try_cast("send", "--private-key", key, account.address, "--value", 1, "--gas-limit", 21_000)
    assert "insufficient funds" in broke.stderr.lower()
    old = try_cast("send", "--private-key", account.private_key, account.address, "--nonce", 0, "--gas-limit", 21_000)
    assert "nonce too low" in old.stderr.lower()
