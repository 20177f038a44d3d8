import json
from types import SimpleNamespace

import pytest
from eth_account import Account

from chain.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, ZERO_HASH, Block, Body, Header
from chain.params import ChainParams
from hyperdust.node.importer import Imported, Outcome
from hyperdust.node.store import ExecutedBlock, Reorganisation, open_store

engine = pytest.importorskip("chain.engine", reason="the Rust core is not built; run `make setup`")

from hyperdust.node.builder import Builder  # noqa: E402  # needs the engine
from hyperdust.node.mempool import Mempool  # noqa: E402
from hyperdust.node.rpc.backend import Backend, Limits, Subscriptions  # noqa: E402
from hyperdust.node.rpc.dispatcher import Dispatcher  # noqa: E402
from hyperdust.node.rpc.filters import Filters  # noqa: E402
from hyperdust.node.rpc.list_root import compute_list_root  # noqa: E402
from hyperdust.node.rpc.table import DEBUG_METHODS, METHODS  # noqa: E402

PARAMS = ChainParams(
    network="test",
    chain_id=48_000_001,
    genesis_timestamp=1_000_000,
    gas_limit=30_000_000,
    genesis_base_fee=1_000_000,
    spacing_s=6,
    asert_half_life_s=3600,
    difficulty_floor=1 << 20,
    max_future_s=12,
    final_window_blocks=20,
)
ALICE = Account.from_key(b"\1" * 32)
BOB = "0x" + "b0" * 20
COINBASE = b"\xc0" * 20
LOGGER = "0x" + "1a" * 20
REVERTER = "0x" + "1b" * 20
TOPIC = "0x" + (7).to_bytes(32, "big").hex()
# SSTORE(0, 42); LOG1(topic 7, no data); return BASEFEE
LOGGER_CODE = bytes.fromhex("602a600055600760006000a14860005260206000f3")
REVERT_DATA = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + (2).to_bytes(32, "big") + b"no".ljust(32, b"\0")
REVERTER_CODE = bytes.fromhex("6064600c60003960646000fd") + REVERT_DATA


def raw_bytes(text):
    return bytes.fromhex(text[2:])


class Chain:
    """A store that grows by hand, without tickets: what the RPC reads does not depend on them."""

    def __init__(self, folder):
        self.store = open_store(folder)
        alloc = {
            raw_bytes(ALICE.address): engine.AccountOverride(balance=10**18),
            raw_bytes(LOGGER): engine.AccountOverride(code=LOGGER_CODE, nonce=1),
            raw_bytes(REVERTER): engine.AccountOverride(code=REVERTER_CODE, nonce=1),
        }
        writes, root = engine.genesis_state(alloc)
        self._adopt(Block(genesis_header(root), Body((), (), b"")), (), (), writes)
        self.mempool = Mempool(PARAMS, self.store)
        self.builder = Builder(PARAMS, self.store, self.mempool, clock=lambda: PARAMS.genesis_timestamp + 6)
        self.nonce = 0

    def _adopt(self, block, hashes, receipts, writes):
        header = block.header
        total = header.difficulty * (header.number + 1)
        ticket = bytes([header.number % 256]) * 32
        executed = ExecutedBlock(block, header.hash, ticket, total, tuple(hashes), tuple(receipts), tuple(writes))
        if header.number == 0:
            self.store.write_genesis(executed)
            return Reorganisation((), (header.hash,))
        return self.store.adopt(executed)

    def template(self, coinbase=COINBASE):
        parent = self.store.latest.head.header
        return self.builder.build(coinbase, timestamp=parent.timestamp + 6)

    def adopt(self, template):
        block = self.builder.assemble(template, bytes(8), b"")
        hashes = [transaction.hash for transaction in template.included]
        receipts = [receipt.encode() for receipt in template.executed.receipts]
        moved = self._adopt(block, hashes, receipts, template.executed.writes)
        self.mempool.on_imported(Imported(Outcome.HEAD, block.header.hash, None, moved))
        return block

    def mine(self):
        return self.adopt(self.template())

    def sign(self, **fields):
        transaction = {
            "chainId": PARAMS.chain_id,
            "nonce": self.nonce,
            "gas": 100_000,
            "maxFeePerGas": 10_000_000,
            "maxPriorityFeePerGas": 1_000,
            "value": 0,
            "to": BOB,
        } | fields
        if transaction["to"] is None:
            del transaction["to"]
        else:
            transaction["to"] = raw_bytes(transaction["to"])  # as text it would have to be checksummed
        self.nonce = transaction["nonce"] + 1
        return "0x" + ALICE.sign_transaction(transaction).raw_transaction.hex()


def genesis_header(root):
    return Header(
        parent_hash=ZERO_HASH,
        ommers_hash=EMPTY_OMMERS_HASH,
        coinbase=bytes(20),
        state_root=root,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        difficulty=PARAMS.difficulty_floor,
        number=0,
        gas_limit=PARAMS.gas_limit,
        gas_used=0,
        timestamp=PARAMS.genesis_timestamp,
        extra_data=ZERO_HASH,
        mix_hash=ZERO_HASH,
        nonce=bytes(8),
        base_fee_per_gas=PARAMS.genesis_base_fee,
        withdrawals_root=EMPTY_TRIE_ROOT,
        blob_gas_used=0,
        excess_blob_gas=0,
        parent_beacon_block_root=ZERO_HASH,
        requests_hash=ZERO_HASH,
    )


@pytest.fixture
def chain(tmp_path):
    made = Chain(tmp_path / "chain")
    yield made
    made.store.close()


@pytest.fixture
def backend(chain):
    made = Backend(
        params=PARAMS,
        store=chain.store,
        importer=SimpleNamespace(),
        mempool=chain.mempool,
        builder=chain.builder,
        version="hyperdust/test",
        debug=True,
    )
    chain.mempool.subscribe(made.pending.add)
    return made


@pytest.fixture
def ask(backend):
    dispatcher = Dispatcher(backend)

    def ask_one(method, *params):
        answer = ask_raw(dispatcher, {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        return answer["result"] if "result" in answer else answer["error"]

    ask_one.dispatcher = dispatcher
    return ask_one


def ask_raw(dispatcher, content, subscriptions=None):
    answer = dispatcher.answer(json.dumps(content).encode(), subscriptions)
    return None if answer is None else json.loads(answer)


def test_requests_that_are_none(ask):
    dispatcher = ask.dispatcher
    assert json.loads(dispatcher.answer(b"{"))["error"]["code"] == -32700
    assert json.loads(dispatcher.answer(b"[" * 100_000))["error"]["code"] == -32700
    for bad in (
        [],
        1,
        {},
        {"jsonrpc": "1.0", "id": 1, "method": "net_version"},
        {"jsonrpc": "2.0", "id": {}, "method": "x"},
    ):
        assert ask_raw(dispatcher, bad)["error"]["code"] == -32600
    assert ask("eth_nothing") == {
        "code": -32601,
        "message": "the method eth_nothing does not exist/is not available",
    }
    assert ask("eth_getBalance")["message"] == "missing value for required argument 0"
    assert ask("net_version", 1)["code"] == -32602
    named = {"jsonrpc": "2.0", "id": 1, "method": "net_version", "params": {}}
    assert ask_raw(dispatcher, named)["error"]["code"] == -32602


def test_batches_answer_in_order_and_notifications_not_at_all(ask):
    call = {"jsonrpc": "2.0", "method": "net_version"}
    answers = ask_raw(ask.dispatcher, [call | {"id": 7}, call, 5, call | {"id": "x"}])
    assert [answer["id"] for answer in answers] == [7, None, "x"]
    assert ask_raw(ask.dispatcher, call) is None
    (refused,) = ask_raw(ask.dispatcher, [call | {"id": 1}] * 1001)
    assert (refused["id"], refused["error"]["message"]) == (1, "batch too large")


def test_debug_is_off_unless_asked_for(backend):
    quiet = Dispatcher(
        Backend(
            **{
                name: getattr(backend, name)
                for name in ("params", "store", "importer", "mempool", "builder", "version")
            }
        )
    )
    answer = ask_raw(quiet, {"jsonrpc": "2.0", "id": 1, "method": "debug_traceCall", "params": []})
    assert answer["error"]["code"] == -32601
    modules = ask_raw(quiet, {"jsonrpc": "2.0", "id": 1, "method": "rpc_modules"})["result"]
    assert "debug" not in modules
    assert modules["hyperdust"] == "1.0"


def test_every_method_is_in_the_openrpc_document(ask):
    document = ask("rpc.discover")
    names = {method["name"] for method in document["methods"]}
    assert {"eth_call", "hyperdust_getJob", "debug_traceTransaction"} <= names
    assert all(method["summary"] for method in document["methods"])


def test_genesis_is_safe_and_finalized(ask, chain):
    chain.mine()
    assert ask("eth_chainId") == hex(PARAMS.chain_id)
    assert ask("eth_blockNumber") == "0x1"
    for tag in ("safe", "finalized", "earliest"):
        assert ask("eth_getBlockByNumber", tag, False)["number"] == "0x0"
    assert ask("eth_getBlockByNumber", "0x5", False) is None
    assert ask("eth_getBalance", BOB, "0x5") == {"code": -32000, "message": "header not found"}


def test_a_transfer_from_send_to_receipt(ask, chain):
    transaction_hash = ask("eth_sendRawTransaction", chain.sign(value=5, gas=21_000))
    assert ask("eth_getTransactionByHash", transaction_hash)["blockHash"] is None
    assert ask("eth_getTransactionReceipt", transaction_hash) is None
    assert ask("eth_getTransactionCount", ALICE.address, "pending") == "0x1"
    assert ask("eth_getTransactionCount", ALICE.address, "latest") == "0x0"
    assert ask("eth_getBalance", BOB, "pending") == "0x5"
    assert ask("eth_getBlockByNumber", "pending", False)["transactions"] == [transaction_hash]
    assert ask("txpool_status") == {"pending": "0x1", "queued": "0x0"}
    assert ask("txpool_content")["pending"][ALICE.address.lower()]["0"]["hash"] == transaction_hash

    block = chain.mine()
    found = ask("eth_getTransactionByHash", transaction_hash)
    assert found["blockHash"] == "0x" + block.header.hash.hex()
    assert found["from"] == ALICE.address.lower()
    assert found["type"] == "0x2"
    assert found["gasPrice"] == hex(block.header.base_fee_per_gas + 1_000)
    receipt = ask("eth_getTransactionReceipt", transaction_hash)
    assert receipt["status"] == "0x1"
    assert receipt["gasUsed"] == "0x5208"
    assert receipt["contractAddress"] is None
    assert receipt["effectiveGasPrice"] == found["gasPrice"]
    assert ask("eth_getBalance", BOB) == "0x5"
    assert ask("eth_getBalance", BOB, "0x0") == "0x0"
    assert ask("eth_getBlockByNumber", "latest", True)["transactions"] == [found]
    assert ask("eth_getBlockTransactionCountByNumber", "latest") == "0x1"
    assert ask("eth_getTransactionByBlockNumberAndIndex", "0x1", "0x0") == found
    assert ask("eth_getTransactionByBlockNumberAndIndex", "0x1", "0x1") is None


def test_refused_transactions_answer_in_geths_words(ask, chain):
    raw = chain.sign()
    ask("eth_sendRawTransaction", raw)
    assert ask("eth_sendRawTransaction", raw) == {"code": -32000, "message": "already known"}
    replacement = ask("eth_sendRawTransaction", chain.sign(nonce=0, value=1))
    assert replacement["message"] == "replacement transaction underpriced"
    assert ask("eth_sendRawTransaction", "0x1234")["code"] == -32000
    assert ask("eth_sendRawTransaction", "0x")["code"] == -32000


def test_a_creation_names_its_contract(ask, chain):
    # Returns the one byte 0xfe as code.
    transaction_hash = ask("eth_sendRawTransaction", chain.sign(to=None, data="0x60fe60005360016000f3"))
    chain.mine()
    created = ask("eth_getTransactionReceipt", transaction_hash)["contractAddress"]
    assert ask("eth_getCode", created) == "0xfe"
    assert ask("eth_getCode", created, "0x0") == "0x"


def test_calls_and_their_overrides(ask):
    assert ask("eth_call", {"to": LOGGER}) == "0x" + bytes(32).hex()  # no price: BASEFEE is 0
    priced = {"to": LOGGER, "from": ALICE.address, "gasPrice": "0x989680", "gas": "0xffff"}
    assert int(ask("eth_call", priced, "latest"), 16) == PARAMS.genesis_base_fee
    assert ask("eth_call", {"to": REVERTER}) == {
        "code": 3,
        "message": "execution reverted: no",
        "data": "0x" + REVERT_DATA.hex(),
    }
    # Returns the block's number.
    override = {BOB: {"code": "0x4360005260206000f3"}}
    assert int(ask("eth_call", {"to": BOB}, "latest", override, {"number": "0x63"}), 16) == 0x63
    # Returns what slot 0 holds.
    state = {BOB: {"code": "0x60005460005260206000f3", "stateDiff": {"0x" + "00" * 32: "0x" + "11" * 32}}}
    assert ask("eth_call", {"to": BOB}, "latest", state) == "0x" + "11" * 32
    poor = ask("eth_call", {"from": BOB, "to": LOGGER, "value": "0x1"})
    assert poor["code"] == -32000
    assert "insufficient funds" in poor["message"]


def test_gas_estimates(ask, chain):
    assert ask("eth_estimateGas", {"from": ALICE.address, "to": BOB, "value": "0x1"}) == "0x5208"
    estimate = int(ask("eth_estimateGas", {"from": ALICE.address, "to": LOGGER}), 16)
    transaction_hash = ask("eth_sendRawTransaction", chain.sign(to=LOGGER, gas=estimate))
    chain.mine()
    receipt = ask("eth_getTransactionReceipt", transaction_hash)
    assert receipt["status"] == "0x1"
    assert int(receipt["gasUsed"], 16) <= estimate <= int(receipt["gasUsed"], 16) * 102 // 100
    assert ask("eth_estimateGas", {"to": REVERTER})["message"] == "execution reverted: no"
    tight = ask("eth_estimateGas", {"to": LOGGER, "gas": hex(22_000)})
    assert tight == {"code": -32000, "message": "gas required exceeds allowance (22000)"}
    rich = {"from": BOB, "to": ALICE.address, "value": "0x1", "maxFeePerGas": "0x1"}
    assert ask("eth_estimateGas", rich)["message"] == "insufficient funds for transfer"


def test_access_list_names_the_slot(ask):
    answer = ask("eth_createAccessList", {"to": LOGGER, "from": ALICE.address})
    assert answer["accessList"] == [{"address": LOGGER, "storageKeys": ["0x" + "00" * 32]}]


def test_storage_and_its_proof(ask, chain):
    ask("eth_sendRawTransaction", chain.sign(to=LOGGER))
    block = chain.mine()
    assert int(ask("eth_getStorageAt", LOGGER, "0x0"), 16) == 42
    assert int(ask("eth_getStorageAt", LOGGER, "0x0", "0x0"), 16) == 0
    assert ask("eth_getStorageValues", {LOGGER: ["0x0"]})[LOGGER] == [ask("eth_getStorageAt", LOGGER, "0x0")]
    proof = ask("eth_getProof", LOGGER, ["0x0"], "latest")
    assert proof["storageProof"][0]["value"] == "0x2a"
    assert engine_keccak(proof["accountProof"][0]) == block.header.state_root
    assert engine_keccak(proof["storageProof"][0]["proof"][0]) == raw_bytes(proof["storageHash"])


def engine_keccak(node):
    from chain.hashing import keccak256

    return keccak256(raw_bytes(node))


def test_logs_and_filters(ask, chain):
    logs = ask("eth_newFilter", {"address": LOGGER, "topics": [TOPIC]})
    blocks = ask("eth_newBlockFilter")
    pending = ask("eth_newPendingTransactionFilter")
    transaction_hash = ask("eth_sendRawTransaction", chain.sign(to=LOGGER))
    assert ask("eth_getFilterChanges", pending) == [transaction_hash]
    assert ask("eth_getFilterChanges", logs) == []
    block = chain.mine()
    chain.mine()
    (log,) = ask("eth_getFilterChanges", logs)
    assert log["topics"] == [TOPIC]
    assert log["transactionHash"] == transaction_hash
    assert not log["removed"]
    assert len(ask("eth_getFilterChanges", blocks)) == 2
    assert ask("eth_getFilterChanges", blocks) == []
    wide = {"fromBlock": "earliest", "toBlock": "latest"}
    assert ask("eth_getLogs", wide) == [log]
    assert ask("eth_getLogs", wide | {"address": [LOGGER, BOB]}) == [log]
    assert ask("eth_getLogs", wide | {"address": BOB}) == []
    assert ask("eth_getLogs", wide | {"topics": [None, TOPIC]}) == []
    assert ask("eth_getLogs", {"blockHash": "0x" + block.header.hash.hex()}) == [log]
    assert ask("eth_getLogs", {"fromBlock": "0x2", "toBlock": "0x1"})["code"] == -32602
    assert ask("eth_getLogs", {"toBlock": "0x9"})["code"] == -32602
    assert ask("eth_uninstallFilter", logs) is True
    assert ask("eth_uninstallFilter", logs) is False
    assert ask("eth_getFilterChanges", logs) == {"code": -32000, "message": "filter not found"}


def test_a_reorganisation_takes_logs_back(ask, chain):
    identifier = ask("eth_newFilter", {"address": LOGGER})
    rival = [chain.template(coinbase=b"\xd0" * 20)]
    ask("eth_sendRawTransaction", chain.sign(to=LOGGER))
    abandoned = chain.mine()
    (log,) = ask("eth_getFilterChanges", identifier)
    chain.adopt(rival[0])
    (gone,) = ask("eth_getFilterChanges", identifier)
    assert gone == log | {"removed": True}
    assert ask("eth_getTransactionByHash", log["transactionHash"])["blockHash"] is None
    assert ask("eth_getBlockByHash", "0x" + abandoned.header.hash.hex(), False)["number"] == "0x1"
    strict = {"blockHash": "0x" + abandoned.header.hash.hex(), "requireCanonical": True}
    assert ask("eth_getBalance", BOB, strict)["message"] == "hash is not currently canonical"


def test_filters_expire_and_are_bounded():
    now = [0.0]
    filters = Filters(clock=lambda: now[0])
    cursor = SimpleNamespace(advance=lambda _snapshot: ["new"])
    identifier = filters.install(cursor)
    assert filters.changes(identifier, None) == ["new"]
    now[0] = 301.0
    with pytest.raises(Exception, match="filter not found"):
        filters.changes(identifier, None)
    for _ in range(1024):
        filters.install(cursor)
    with pytest.raises(Exception, match="too many filters"):
        filters.install(cursor)


def test_subscriptions_speak_once_their_id_was_sent(ask, chain):
    subscriptions = Subscriptions()
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe"}
    assert ask("eth_subscribe", "newHeads")["message"] == "notifications not supported"
    answers = [
        ask_raw(ask.dispatcher, request | {"params": params}, subscriptions)
        for params in (["newHeads"], ["logs", {"address": LOGGER}], ["newPendingTransactions"], ["syncing"], ["odd"])
    ]
    heads, logs, pending, syncing = (answer["result"] for answer in answers[:4])
    assert answers[4]["error"]["code"] == -32602
    ask("eth_sendRawTransaction", chain.sign(to=LOGGER))
    chain.mine()
    assert subscriptions.advance(chain.store.latest) == []
    assert subscriptions.activate()
    news = dict(subscriptions.advance(chain.store.latest))
    assert [head["number"] for head in news[heads]] == ["0x1"]
    assert [log["address"] for log in news[logs]] == [LOGGER]
    assert len(news[pending]) == 1
    assert news[syncing] == []
    end = {"jsonrpc": "2.0", "id": 1, "method": "eth_unsubscribe", "params": [heads]}
    assert ask_raw(ask.dispatcher, end, subscriptions)["result"] is True
    assert heads not in dict(subscriptions.advance(chain.store.latest))


def test_fees(ask, chain):
    assert ask("eth_maxPriorityFeePerGas") == "0x1"
    ask("eth_sendRawTransaction", chain.sign(gas=21_000))
    chain.mine()
    assert ask("eth_maxPriorityFeePerGas") == hex(1_000)
    assert int(ask("eth_gasPrice"), 16) >= int(ask("eth_baseFee"), 16) + 1_000
    history = ask("eth_feeHistory", 5, "latest", [50])
    assert history["oldestBlock"] == "0x0"
    assert len(history["baseFeePerGas"]) == 3
    assert history["baseFeePerGas"][-1] == ask("eth_baseFee")
    assert history["reward"] == [["0x0"], [hex(1_000)]]
    assert history["gasUsedRatio"][1] == 21_000 / PARAMS.gas_limit
    assert ask("eth_feeHistory", "0x1", "0x9", [])["code"] == -32000
    for percentiles in ([5, 3], [101], [-1], [float("nan")]):
        assert ask("eth_feeHistory", "0x1", "latest", percentiles)["code"] == -32000


def test_traces(ask, chain):
    transaction_hash = ask("eth_sendRawTransaction", chain.sign(to=LOGGER))
    chain.mine()
    steps = ask("debug_traceTransaction", transaction_hash)
    assert steps["structLogs"][0]["op"] == "PUSH1"
    calls = ask("debug_traceTransaction", transaction_hash, {"tracer": "callTracer"})
    assert calls["to"] == LOGGER
    (traced,) = ask("debug_traceBlockByNumber", "latest", {"tracer": "callTracer"})
    assert traced == {"txHash": transaction_hash, "result": calls}
    assert ask("debug_traceBlockByNumber", "0x0")["message"] == "genesis is not traceable"
    assert ask("debug_traceCall", {"to": REVERTER}, "latest", {"tracer": "callTracer"})["error"] == "execution reverted"
    assert ask("debug_traceCall", {"to": REVERTER}, "latest", {"tracer": "odd"})["code"] == -32000
    assert ask("debug_getRawTransaction", transaction_hash).startswith("0x02")
    assert len(ask("debug_getRawReceipts", "latest")) == 1


def test_what_is_not_built_is_null(ask):
    assert ask("hyperdust_pegStatus") is None
    assert ask("hyperdust_getAnchors", "earliest", "latest") == []
    assert ask("hyperdust_finality")["final"]["block"] == 0
    assert ask("hyperdust_getCertificate", "latest") is None


def test_an_answer_that_is_too_large_says_so(backend, chain):
    small = Backend(
        params=PARAMS,
        store=chain.store,
        importer=backend.importer,
        mempool=chain.mempool,
        builder=chain.builder,
        version="hyperdust/test",
        limits=Limits(response_bytes=300),
    )
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", False]}
    assert ask_raw(Dispatcher(small), request)["error"]["code"] == -32003


def test_our_own_trouble_is_an_internal_error(ask, chain, monkeypatch):
    def fail(_hash):
        raise ZeroDivisionError

    monkeypatch.setattr(chain.mempool, "get", fail)
    assert ask("eth_getTransactionByHash", "0x" + "00" * 32) == {"code": -32603, "message": "internal error"}


def test_simulated_blocks_build_on_each_other(ask, chain):
    chain.mine()
    paid = {BOB: {"balance": "0x10"}}
    calls = [{"from": BOB, "to": LOGGER, "value": "0x1"}, {"to": REVERTER}]
    blocks = [{"stateOverrides": paid, "calls": calls}, {"blockOverrides": {"number": "0x4"}, "calls": calls[:1]}]
    first, between, last = ask("eth_simulateV1", {"blockStateCalls": blocks, "returnFullTransactions": True}, "latest")
    assert [block["number"] for block in (first, between, last)] == ["0x2", "0x3", "0x4"]
    assert last["parentHash"] == between["hash"]
    assert [call["status"] for call in first["calls"]] == ["0x1", "0x0"]
    assert first["calls"][0]["logs"][0]["topics"] == [TOPIC]
    assert first["calls"][1]["error"]["message"] == "execution reverted: no"
    assert [one["nonce"] for one in first["transactions"]] == ["0x0", "0x0"]
    assert last["transactions"][0]["nonce"] == "0x1"
    # The slot is already set in the second block.
    assert int(last["calls"][0]["gasUsed"], 16) < int(first["calls"][0]["gasUsed"], 16)
    assert ask("eth_getBalance", LOGGER) == "0x0"


@pytest.mark.parametrize(
    ("blocks", "code"),
    [
        ([{"blockOverrides": {"number": "0x1"}}], -38020),
        ([{"blockOverrides": {"time": "0x1"}}], -38021),
        ([{"blockOverrides": {"number": "0x1000"}}], -38026),
        ([{"calls": [{"from": BOB, "value": "0x1", "to": LOGGER}]}], -38014),
        ([], -32602),
    ],
)
def test_simulations_that_cannot_be(ask, chain, blocks, code):
    chain.mine()
    assert ask("eth_simulateV1", {"blockStateCalls": blocks})["code"] == code


def test_simulated_roots_are_the_engines(ask, chain):
    for count in (1, 2, 17, 130):
        for _ in range(count):
            ask("eth_sendRawTransaction", chain.sign(gas=21_000))
        block = chain.mine()
        assert len(block.body.transactions) == count
        assert compute_list_root(block.body.transactions) == block.header.transactions_root
        assert compute_list_root(chain.store.latest.load_receipts(block.header.hash)) == block.header.receipts_root


JUNK = (
    None,
    True,
    -1,
    1.5,
    10**30,
    "",
    "0x",
    "0x0",
    "0xffffffffffffffff",
    "latest",
    "pending",
    "\ud800",
    "0x" + "00" * 20,
    "0x" + "ff" * 32,
    [],
    [[]],
    {},
    {"to": "0x" + "00" * 20, "gas": "0x0"},
    {"from": BOB, "data": "0x" + "fe" * 40, "gas": "0xffffffffffffffff"},
    {"to": REVERTER, "gas": "0x5208", "maxFeePerGas": "0x" + "f" * 64},
    {"fromBlock": "0xffffffff", "toBlock": "0x0"},
    {"blockStateCalls": [{"calls": [{}]}]},
    {"tracer": "callTracer", "tracerConfig": {"onlyTopCall": 5}},
)


@pytest.mark.parametrize(
    "method", sorted({*METHODS, *DEBUG_METHODS} - {name for name in METHODS if "hyperdust" in name})
)
def test_no_junk_is_an_internal_error(ask, chain, method):
    """The hyperdust methods read predeploys, which this chain lacks."""
    chain.mine()
    for first in JUNK:
        for rest in ([], ["latest"], [JUNK[18]], ["0x0", [5]], [{}, {}, {}], [True]):
            answer = ask(method, first, *rest)
            if isinstance(answer, dict) and "code" in answer and "message" in answer:
                assert answer["code"] != -32603, (method, first, rest, answer)


@pytest.mark.parametrize("width", [1, 63, 64, 127, 128, 256])
def test_no_override_is_too_large_for_an_answer(ask, chain, width):
    chain.mine()
    largest = hex(2**width - 1)
    state = {BOB: {"balance": largest, "nonce": largest}}
    for name in ("number", "time", "gasLimit", "baseFeePerGas"):
        block = {name: largest}
        for fees in ({}, {"gasPrice": largest}, {"maxFeePerGas": largest, "value": largest}):
            message = {"from": BOB, "to": LOGGER} | fees
            for answer in (
                ask("eth_call", message, "latest", state, block),
                ask("eth_estimateGas", message, "latest", state, block),
                ask("eth_simulateV1", {"blockStateCalls": [{"blockOverrides": block, "calls": [message]}] * 2}),
            ):
                refused = isinstance(answer, dict) and answer["code"] == -32603
                assert not refused or answer["message"].startswith("err: "), answer
