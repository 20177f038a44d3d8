import json
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import pytest
import rlp
from eth_account import Account
from eth_keys.datatypes import PrivateKey

from chain.blocks import Block, decode_header
from chain.errors import Malformed, Mismatch, NodeFault
from chain.hashing import keccak256
from consensus import errors

engine = pytest.importorskip("chain.engine", reason="the Rust core is not built; run `make setup`")

from hyperdust.cli.options import UsageFault  # noqa: E402
from hyperdust.cli.roles import _check_import  # noqa: E402
from hyperdust.node import foreign  # noqa: E402
from hyperdust.node.config import NodeConfig  # noqa: E402
from hyperdust.node.foreign_blocks import (  # noqa: E402
    decode_foreign_body,
    decode_foreign_header,
    encode_ethereum_block,
    encode_foreign_body,
    field_count_of,
    split_blocks,
)
from hyperdust.node.foreign_pool import Attributes, ForeignBuilder, ForeignPool, SidecarInvalid, StillChain  # noqa: E402
from hyperdust.node.foreign_rules import GAS_PER_BLOB, compute_blob_base_fee  # noqa: E402
from hyperdust.node.rpc.backend import Backend, ForeignChain  # noqa: E402
from hyperdust.node.rpc.blob_fees import prepare_blob_fees, set_blob_base_fee  # noqa: E402
from hyperdust.node.rpc.dispatcher import Dispatcher  # noqa: E402
from hyperdust.node.rpc.eth_config import _fork_id  # noqa: E402

ALICE = Account.from_key(b"\1" * 32)
BOB = "0x" + "b0" * 20
MINER = b"\xc0" * 20
CHAIN_ID = 77
DEPOSITS = "0x" + "de" * 20
ECRECOVER = "0x" + (1).to_bytes(20, "big").hex()
SHA256 = "0x" + (2).to_bytes(20, "big").hex()
MODEXP = "0x" + (5).to_bytes(20, "big").hex()
ELSEWHERE = "0x" + "e1" * 20
CONFIG = {
    "chainId": CHAIN_ID,
    "homesteadBlock": 0,
    "eip150Block": 0,
    "eip158Block": 0,
    "byzantiumBlock": 2,
    "constantinopleBlock": 3,
    "petersburgBlock": 3,
    "istanbulBlock": 3,
    "berlinBlock": 4,
    "londonBlock": 4,
    "mergeNetsplitBlock": 5,
    "terminalTotalDifficulty": 0,
    "shanghaiTime": 70,
    "cancunTime": 80,
    "pragueTime": 90,
    "osakaTime": 100,
    "bpo1Time": 110,
    "bpo2Time": 120,
    "depositContractAddress": DEPOSITS,
    "blobSchedule": {"cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477}},
}
GENESIS = {
    "config": CONFIG,
    "nonce": "0x0",
    "timestamp": "0x0",
    "extraData": "0x6162",
    "gasLimit": "0x5f5e100",
    "difficulty": "0x20000",
    "alloc": {ALICE.address[2:]: {"balance": hex(10**24)}},
    "baseFeePerGas": None,
}
HEIGHT = 13
FIELD_COUNTS = [15] * 4 + [16] * 3 + [17, 20, 21, 21, 21, 21, 21]


def transfer(nonce, **changes):
    legacy = {
        "to": bytes.fromhex(BOB[2:]),
        "value": 5,
        "nonce": nonce,
        "gas": 21_000,
        "gasPrice": 10**10,
        "chainId": CHAIN_ID,
    } | changes
    return bytes(ALICE.sign_transaction(legacy).raw_transaction)


@pytest.fixture
def genesis_file(tmp_path):
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(GENESIS))
    return path


@pytest.fixture
def network(genesis_file):
    return foreign.load_foreign(genesis_file)


@pytest.fixture
def chain(tmp_path, network):
    """A store whose head has passed through every fork, one transfer in each block, and its blocks."""
    with foreign.open_foreign(tmp_path / "made", network) as store:
        builder = ForeignBuilder(network.rules, store, ForeignPool(network.params, store))
        blocks = []
        for number in range(1, HEIGHT + 1):
            wanted = Attributes(timestamp=10 * number, coinbase=MINER)
            template = builder.build(store.latest.head, wanted, engine.decode_transactions([transfer(number - 1)]))
            block = Block(template.header, foreign.ForeignBody(template.transactions, (), b"", ()))
            store.adopt(foreign.execute_foreign(block, store, network.rules))
            blocks.append(block)
        yield SimpleNamespace(store=store, blocks=blocks, builder=builder)


def chain_file(folder, blocks):
    path = folder / "chain.rlp"
    path.write_bytes(b"".join(encode_ethereum_block(block.header, block.body) for block in blocks))
    return path


@pytest.fixture
def ask(chain, network):
    params = replace(network.params, gas_limit=chain.store.latest.head.header.gas_limit)
    pool = ForeignPool(params, chain.store)
    builder = ForeignBuilder(network.rules, chain.store, pool)
    backend = Backend(
        params=params,
        store=chain.store,
        importer=StillChain(),
        mempool=pool,
        builder=builder,
        version="hyperdust/test",
        debug=True,
        archive=True,
        foreign=ForeignChain(network.rules, builder),
    )
    dispatcher = Dispatcher(backend)

    def send(method, *params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return json.loads(dispatcher.answer(json.dumps(request).encode()))

    return send


def result_of(answer):
    assert "error" not in answer, answer
    return answer["result"]


# --- genesis and import ----------------------------------------------------------------------------------------------


def test_an_import_gives_the_same_chain_again(tmp_path, chain, network):
    path = chain_file(tmp_path, chain.blocks)
    with foreign.open_foreign(tmp_path / "other", network) as store:
        assert foreign.import_chain(path, store, network.rules) == HEIGHT
        assert store.latest.head == chain.store.latest.head
        assert [field_count_of(block.header) for block in split_blocks(path.read_bytes())] == FIELD_COUNTS[1:]
    with foreign.open_foreign(tmp_path / "other", network) as store:
        assert store.latest.head.number == HEIGHT
        assert foreign.import_chain(path, store, network.rules) == 0


def test_proof_of_work_is_paid_until_paris(chain):
    state = chain.store.latest.state_at(chain.store.latest.head.hash)
    balance = engine.account_proof(MINER, [], state.read_many).balance
    tips = 21_000 * sum(10**10 - block.header.base_fee_per_gas for block in chain.blocks)
    assert balance == (5 + 3 + 2 + 2) * 10**18 + tips


def test_ommers_pay_both_sides(network, chain):
    header = chain.blocks[3].header
    ommer = replace(chain.blocks[2].header, coinbase=b"\xaa" * 20)
    base = 2 * 10**9
    assert network.rules.reward_credits(header, [ommer]) == [
        (0, 0, MINER, base + base // 32),
        (0, 0, b"\xaa" * 20, base * 7 // 8),
    ]


@pytest.mark.parametrize(
    ("place", "changes", "rule"),
    [
        (12, {"state_root": bytes(32)}, errors.WrongStateRoot),
        (12, {"receipts_root": bytes(32)}, errors.WrongReceiptsRoot),
        (12, {"transactions_root": bytes(32)}, errors.WrongTransactionsRoot),
        (12, {"gas_used": 1}, errors.WrongGasUsed),
        (12, {"logs_bloom": b"\1" * 256}, errors.WrongBloom),
        (12, {"withdrawals_root": bytes(32)}, errors.WrongWithdrawalsRoot),
        (12, {"requests_hash": bytes(32)}, errors.WrongRequestsHash),
        (12, {"blob_gas_used": GAS_PER_BLOB}, foreign.WrongBlobGas),
        (12, {"excess_blob_gas": 1}, foreign.WrongBlobGas),
        (12, {"base_fee_per_gas": 1}, errors.WrongBaseFee),
        (12, {"parent_hash": bytes(32)}, errors.WrongParent),
        (12, {"number": 99}, errors.WrongNumber),
        (12, {"timestamp": 1}, errors.TimestampNotAfterParent),
        (12, {"ommers_hash": bytes(32)}, errors.OmmersRefused),
        (12, {"gas_limit": 20_999}, errors.GasAboveLimit),
        (12, {"field_count": 20}, foreign.WrongFieldCount),
        (0, {"receipts_root": bytes(32)}, errors.WrongReceiptsRoot),
    ],
)
def test_a_block_that_breaks_a_rule_is_refused(tmp_path, chain, network, place, changes, rule):
    good = chain.blocks[place]
    bad = Block(replace(good.header, **changes), good.body)
    path = chain_file(tmp_path, [*chain.blocks[:place], bad])
    with (
        foreign.open_foreign(tmp_path / "other", network) as store,
        pytest.raises(foreign.ForeignFault, match=rf"block {place + 1}: {rule.__name__}"),
    ):
        foreign.import_chain(path, store, network.rules)
    with foreign.open_foreign(tmp_path / "other", network) as store:
        assert store.latest.head.number == place


def test_files_that_are_none_are_named(tmp_path, network, genesis_file):
    with foreign.open_foreign(tmp_path / "other", network) as store:
        with pytest.raises(foreign.ForeignFault, match="nowhere.rlp"):
            foreign.import_chain(tmp_path / "nowhere.rlp", store, network.rules)
        cut = tmp_path / "cut.rlp"
        cut.write_bytes(b"\xf9\x02\x00\xc0")
        with pytest.raises(foreign.ForeignFault, match="block 1: malformed"):
            foreign.import_chain(cut, store, network.rules)
    with pytest.raises(foreign.ForeignFault, match="nowhere.json"):
        foreign.load_foreign(tmp_path / "nowhere.json")
    genesis_file.write_text('{"config": {}}')
    with pytest.raises(foreign.ForeignFault, match="no Ethereum genesis file"):
        foreign.load_foreign(genesis_file)
    genesis_file.write_text(json.dumps(GENESIS | {"config": CONFIG | {"bpo3Time": 130}}))
    with pytest.raises(foreign.ForeignFault, match="bpo3Time"):
        foreign.load_foreign(genesis_file)


def test_a_folder_of_another_chain_is_refused(tmp_path, network, genesis_file):
    with foreign.open_foreign(tmp_path / "data", network):
        pass
    genesis_file.write_text(json.dumps(GENESIS | {"gasLimit": "0x5f5e101"}))
    other = foreign.load_foreign(genesis_file)
    with pytest.raises(NodeFault, match="another imported chain"), foreign.open_foreign(tmp_path / "data", other):
        pass


def test_a_genesis_of_a_late_fork_has_its_fields(genesis_file):
    config = {key: 0 if key.endswith(("Block", "Time")) else value for key, value in CONFIG.items()}
    genesis_file.write_text(json.dumps(GENESIS | {"config": config, "difficulty": "0x0", "baseFeePerGas": "0x7"}))
    header = foreign.load_foreign(genesis_file).genesis.block.header
    assert (field_count_of(header), header.base_fee_per_gas) == (21, 7)
    assert len(rlp.decode(header.encode())) == 21


# --- blocks ----------------------------------------------------------------------------------------------------------


def test_headers_and_bodies_survive_encoding(chain):
    ommer = chain.blocks[0].header
    for block in chain.blocks:
        assert decode_foreign_header(block.header.encode()) == block.header
        body = replace(block.body, ommers=(ommer,))
        assert decode_foreign_body(encode_foreign_body(body)) == body


def test_only_our_own_chain_demands_21_fields(chain):
    cancun = chain.blocks[7].header
    with pytest.raises(Malformed, match="21 fields"):
        decode_header(cancun.encode())
    items = rlp.decode(cancun.encode())
    for count in (14, 18, 19):
        with pytest.raises(Malformed, match="fields"):
            decode_foreign_header(rlp.encode(items[:count]))
    items[12] = bytes(33)
    with pytest.raises(Malformed, match="extra_data"):
        decode_foreign_header(rlp.encode(items))


def test_withdrawals_go_with_their_root(chain):
    for place in (0, 12):
        items = rlp.decode(encode_ethereum_block(chain.blocks[place].header, chain.blocks[place].body))
        items = items[:3] if len(items) == 4 else [*items, []]
        with pytest.raises(Malformed, match="withdrawals"):
            list(split_blocks(rlp.encode(items)))


# --- rules -----------------------------------------------------------------------------------------------------------


def test_each_block_has_its_fork(network, chain):
    forks = [network.rules.fork_of(block.header) for block in chain.blocks]
    assert forks == [
        "SpuriousDragon", "Byzantium", "Istanbul", "London", "Paris", "Paris", "Shanghai", "Cancun", "Prague",
        "Osaka", "BPO1", "BPO2", "BPO2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("excess", "fraction", "price"),
    [(0, 3338477, 1), (2314057, 3338477, 1), (2314058, 3338477, 2), (10 * 2**20, 3338477, 23)],
)
def test_blob_gas_costs_what_ethereum_says(excess, fraction, price):
    assert compute_blob_base_fee(excess, fraction) == price


def test_excess_blob_gas_follows_the_target_and_from_osaka_the_reserve_price(network, chain):
    parent = replace(chain.blocks[8].header, blob_gas_used=6 * GAS_PER_BLOB, excess_blob_gas=10 * GAS_PER_BLOB)
    rules = network.rules
    assert rules.excess_blob_gas_after(parent, "Cancun") == 13 * GAS_PER_BLOB
    assert rules.excess_blob_gas_after(parent, "Prague") == 10 * GAS_PER_BLOB
    assert rules.excess_blob_gas_after(replace(parent, base_fee_per_gas=10**9), "Osaka") == 12 * GAS_PER_BLOB
    assert rules.excess_blob_gas_after(replace(parent, base_fee_per_gas=1), "Osaka") == 10 * GAS_PER_BLOB
    assert rules.excess_blob_gas_after(replace(parent, excess_blob_gas=0, blob_gas_used=0), "Osaka") == 0
    assert rules.excess_blob_gas_after(parent, "Shanghai") == 0


def test_deposits_in_logs_are_requests():
    contract = bytes.fromhex(DEPOSITS[2:])
    fields = [b"\1" * 48, b"\2" * 32, b"\3" * 8, b"\4" * 96, b"\5" * 8]
    offsets, tail = b"", b""
    for field in fields:
        offsets += (160 + len(tail)).to_bytes(32, "big")
        tail += len(field).to_bytes(32, "big") + field.ljust((len(field) + 31) // 32 * 32, b"\0")
    topic = keccak256(b"DepositEvent(bytes,bytes,bytes,bytes,bytes)")
    deposit = SimpleNamespace(address=contract, topics=(topic,), data=offsets + tail)
    others = [SimpleNamespace(address=contract, topics=(), data=b""), replace_address(deposit)]
    executed = SimpleNamespace(receipts=[SimpleNamespace(logs=[deposit, *others])], requests=(b"\1x",))
    assert foreign.requests_of(executed, contract) == [b"\0" + b"".join(fields), b"\1x"]


def replace_address(log):
    return SimpleNamespace(address=bytes(20), topics=log.topics, data=log.data)


def test_the_hash_of_no_requests_is_that_of_nothing():
    assert foreign.hash_requests([]) == sha256(b"").digest()


@pytest.mark.parametrize(
    ("passed", "identifier"),
    [
        ((), "0xfc64ec04"),
        ((1_150_000,), "0x97c2c34c"),
        ((1_150_000, 1_920_000), "0x91d1f948"),
        ((1_150_000, 1_920_000, 2_463_000, 2_675_000, 4_370_000), "0xa00bc324"),
    ],
)
def test_fork_ids_are_those_of_the_main_network(passed, identifier):  # Source: EIP-2124, test cases
    main = bytes.fromhex("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3")
    assert _fork_id(SimpleNamespace(snapshot=SimpleNamespace(genesis_hash=main)), passed) == identifier


@pytest.mark.parametrize("price", [1, 2, 7, 1000, 10**9 + 7])
def test_every_blob_price_can_be_set(network, chain, price):
    environment = set_blob_base_fee(network.rules.environment_of(chain.blocks[-1].header), price)
    assert compute_blob_base_fee(environment.excess_blob_gas, environment.blob_update_fraction) == price


def test_who_pays_nothing_for_blobs_is_given_what_the_engine_takes(network, chain):
    environment = network.rules.environment_of(chain.blocks[-1].header)
    assert prepare_blob_fees(environment, None, 2, 0, validates=False).credit == 2 * GAS_PER_BLOB
    assert prepare_blob_fees(environment, 0, 2, 9, validates=True).credit == 2 * GAS_PER_BLOB
    assert prepare_blob_fees(environment, None, 2, 9, validates=True).credit == 0
    assert prepare_blob_fees(environment, None, 0, 0, validates=False).credit == 0


# --- pool ------------------------------------------------------------------------------------------------------------


def blob_transaction(commitments, *, hashes=None, wrap=True, chain_id=CHAIN_ID):
    hashes = hashes or [b"\1" + sha256(one).digest()[1:] for one in commitments]
    fields = [chain_id, HEIGHT, 1, 10**10, 21_000, bytes.fromhex(BOB[2:]), b"", b"", [], 10, hashes]
    signature = PrivateKey(b"\1" * 32).sign_msg_hash(keccak256(b"\3" + rlp.encode(fields)))
    signed = [*fields, signature.v, signature.r, signature.s]
    blobs, proofs = [bytes(32)] * len(commitments), [bytes(48)] * len(commitments)
    return b"\3" + rlp.encode([signed, 1, blobs, commitments, proofs] if wrap else signed)


def test_a_blob_transaction_comes_with_its_sidecar(ask):
    raw = blob_transaction([b"\7" * 48])
    identifier = result_of(ask("eth_sendRawTransaction", "0x" + raw.hex()))
    shown = result_of(ask("eth_getTransactionByHash", identifier))
    assert shown["type"] == "0x3"
    assert shown["maxFeePerBlobGas"] == "0xa"
    pending = result_of(ask("eth_getBlockByNumber", "pending", False))
    assert (pending["transactions"], pending["blobGasUsed"]) == ([identifier], hex(GAS_PER_BLOB))


@pytest.mark.parametrize(
    "raw",
    [
        blob_transaction([b"\7" * 48], wrap=False),
        blob_transaction([b"\7" * 48], hashes=[b"\1" * 32]),
        b"\3\xc1",
    ],
)
def test_a_blob_transaction_without_its_sidecar_is_refused(chain, network, raw):
    pool = ForeignPool(network.params, chain.store)
    with pytest.raises((SidecarInvalid, Malformed)):
        pool.add(raw)


def test_a_blob_transaction_of_another_chain_is_refused(chain, network):
    pool = ForeignPool(network.params, chain.store)
    with pytest.raises(engine.TransactionInvalid, match="invalid chain id"):
        pool.add(blob_transaction([b"\7" * 48], chain_id=1))


# --- answers ---------------------------------------------------------------------------------------------------------


def test_safe_and_finalized_are_the_head(ask):
    blocks = [result_of(ask("eth_getBlockByNumber", tag, False)) for tag in ("latest", "safe", "finalized")]
    assert blocks[0] == blocks[1] == blocks[2]
    assert blocks[0]["number"] == hex(HEIGHT)


def test_every_block_answers_with_the_fields_of_its_fork(ask):
    late = ("baseFeePerGas", "withdrawals", "excessBlobGas", "requestsHash")
    for number, count in enumerate(FIELD_COUNTS):
        block = result_of(ask("eth_getBlockByNumber", hex(number), True))
        assert [name in block for name in late] == [count >= first for first in (16, 17, 20, 21)]
        header = result_of(ask("debug_getRawHeader", hex(number)))
        assert "0x" + keccak256(bytes.fromhex(header[2:])).hex() == block["hash"]
        raw = result_of(ask("debug_getRawBlock", hex(number)))
        assert len(raw) // 2 - 1 == int(block["size"], 16)
        for receipt in result_of(ask("eth_getBlockReceipts", hex(number))):
            assert ("root" in receipt) == (number < 2)
        if number:
            traces = result_of(ask("debug_traceBlockByNumber", hex(number), {"tracer": "callTracer"}))
            assert [trace["result"]["gasUsed"] for trace in traces] == ["0x5208"]


def test_our_own_contracts_and_the_work_on_them_are_not_there(ask):
    assert "hyperdust" not in result_of(ask("rpc_modules"))
    assert ask("hyperdust_finality")["error"]["code"] == -32601
    assert ask("eth_getWork")["error"]["code"] == -32601


def test_a_block_is_built_on_the_head_alone(ask, chain):
    attributes = {
        "timestamp": hex(10 * HEIGHT + 12),
        "prevRandao": "0x" + "11" * 32,
        "suggestedFeeRecipient": BOB,
        "withdrawals": [{"index": "0x0", "validatorIndex": "0x1", "address": BOB, "amount": "0x1"}],
        "parentBeaconBlockRoot": "0x" + "22" * 32,
    }
    head = "0x" + chain.store.latest.head.hash.hex()
    raw = "0x" + transfer(HEIGHT).hex()
    built = result_of(ask("testing_buildBlockV1", head, attributes, [raw], "0xabcd"))
    assert built["executionPayload"]["transactions"] == [raw]
    assert built["executionPayload"]["extraData"] == "0xabcd"
    assert built["executionPayload"]["withdrawals"] == attributes["withdrawals"]
    assert int(built["blockValue"], 16) > 0
    wrong = "0x" + transfer(HEIGHT + 5).hex()
    assert ask("testing_buildBlockV1", head, attributes, [wrong], "0x")["error"]["code"] == -32000
    assert ask("testing_buildBlockV1", "0x" + "00" * 32, attributes, [], "0x")["error"]["code"] == -32000
    late = attributes | {"timestamp": "0x1"}
    assert ask("testing_buildBlockV1", head, late, [], "0x")["error"]["code"] == -32000
    assert result_of(ask("eth_blockNumber")) == hex(HEIGHT)


def test_forks_are_described(ask):
    config = result_of(ask("eth_config"))
    assert (config["next"], config["last"]) == (None, None)
    current = config["current"]
    assert current["activationTime"] == 120
    assert current["systemContracts"]["DEPOSIT_CONTRACT_ADDRESS"] == DEPOSITS
    assert current["precompiles"]["P256VERIFY"] == "0x" + (256).to_bytes(20, "big").hex()
    assert result_of(ask("eth_capabilities"))["state"] == {"disabled": False, "oldestBlock": "0x0"}


def simulate(ask, *blocks, at="latest", **options):
    return ask("eth_simulateV1", {"blockStateCalls": list(blocks), **options}, at)


def test_simulations_follow_blocks_of_every_fork(ask):
    call = {"calls": [{"from": ALICE.address, "to": BOB, "value": "0x1"}]}
    for number, count in enumerate(FIELD_COUNTS):
        (block,) = result_of(simulate(ask, call, at=hex(number), returnFullTransactions=True))
        assert block["calls"][0]["status"] == "0x1"
        assert block["transactions"][0]["type"] == ("0x2" if "baseFeePerGas" in block else "0x0")
        assert number + 1 == int(block["number"], 16)
        assert count <= 21


def test_transfers_are_traced_where_they_are_asked_for(ask):
    forwards = "0x" + "3d3d3d3d34" + "73" + BOB[2:] + "5af100"
    block = {
        "stateOverrides": {ELSEWHERE: {"code": forwards}},
        "calls": [{"from": ALICE.address, "to": ELSEWHERE, "value": "0x3"}],
    }
    (plain,) = result_of(simulate(ask, block))
    (traced,) = result_of(simulate(ask, block, traceTransfers=True))
    assert plain["calls"][0]["logs"] == []
    parties = [[topic[-40:] for topic in log["topics"][1:]] for log in traced["calls"][0]["logs"]]
    assert parties == [[ALICE.address[2:].lower(), ELSEWHERE[2:]], [ELSEWHERE[2:], BOB[2:]]]
    assert plain["hash"] == traced["hash"]


def test_as_many_calls_as_a_block_may_have_run(ask):
    call = {"from": ALICE.address, "to": BOB}
    (block,) = result_of(simulate(ask, {"calls": [call] * 1000}))
    assert int(block["gasUsed"], 16) == 1000 * 21_000


def test_precompiles_move(ask):
    call = {"from": ALICE.address, "input": "0x1234"}
    block = {
        "stateOverrides": {SHA256: {"movePrecompileToAddress": ELSEWHERE}},
        "calls": [call | {"to": ELSEWHERE}, call | {"to": SHA256}],
    }
    (result,) = result_of(simulate(ask, block))
    digest = "0x" + sha256(b"\x12\x34").hexdigest()
    assert [one["returnData"] for one in result["calls"]] == [digest, "0x"]


@pytest.mark.parametrize(
    "overrides",
    [
        {BOB: {"movePrecompileToAddress": ELSEWHERE}},
        {SHA256: {"movePrecompileToAddress": SHA256}},
        {SHA256: {"movePrecompileToAddress": ECRECOVER}, ECRECOVER: {"balance": "0x1"}},
        {MODEXP: {"movePrecompileToAddress": ELSEWHERE}},
    ],
)
def test_what_cannot_move_is_refused(ask, overrides):
    assert simulate(ask, {"stateOverrides": overrides})["error"]["code"] == -32000


def test_authorizations_take_effect_and_cost(ask):
    key = Account.from_key(b"\2" * 32)
    signed = key.sign_authorization({"chainId": CHAIN_ID, "address": bytes.fromhex(ELSEWHERE[2:]), "nonce": 0})
    authorization = {
        "chainId": hex(CHAIN_ID),
        "address": ELSEWHERE,
        "nonce": "0x0",
        "yParity": hex(signed.y_parity),
        "r": hex(signed.r),
        "s": hex(signed.s),
    }
    overrides = {ELSEWHERE: {"code": "0x602a60005260206000f3"}}
    first = {"from": ALICE.address, "to": key.address, "authorizationList": [authorization]}
    blocks = ({"stateOverrides": overrides, "calls": [first]}, {"calls": [{"to": key.address}]})
    one, other = result_of(simulate(ask, *blocks, returnFullTransactions=True))
    assert one["transactions"][0]["type"] == "0x4"
    assert one["transactions"][0]["authorizationList"] == [authorization]
    assert int(one["calls"][0]["returnData"], 16) == int(other["calls"][0]["returnData"], 16) == 42
    assert int(one["gasUsed"], 16) - int(other["gasUsed"], 16) == 25_000


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--work-grpc-port", "--metrics-port", "--block-time"])
def test_an_imported_chain_is_never_mined_on(tmp_path, option):
    with pytest.raises(UsageFault, match=option):
        _check_import(tmp_path, seal=False, refused={option: 1})


def test_seals_are_checked_unless_a_chain_is_imported(tmp_path):
    with pytest.raises(UsageFault, match="--import alone"):
        _check_import(None, seal=False, refused={})
    with pytest.raises(UsageFault, match="--no-seal"):
        _check_import(tmp_path, seal=True, refused={})
    _check_import(tmp_path, seal=False, refused={"--block-time": None})
    _check_import(None, seal=True, refused={"--block-time": 2})
    assert NodeConfig(data_dir=tmp_path).import_file is None


def test_rules_have_their_own_classes():
    assert issubclass(foreign.WrongFieldCount, Mismatch)
    assert issubclass(foreign.WrongBlobGas, Mismatch)
