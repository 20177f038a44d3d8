"""The engine's contract: transitions, refusals, system calls, precompiles, calls, proofs."""

import json
from dataclasses import replace

import blake3
import pytest
import rlp
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from trie import HexaryTrie

from chain import transactions as refused
from chain.engine import (
    SYSTEM_ADDRESS,
    AccountOverride,
    BlockEnvironment,
    CallMessage,
    StateCache,
    SystemCall,
    account_proof,
    call,
    create_access_list,
    decode_transactions,
    execute,
    genesis_state,
    simulate,
    trace_transactions,
)
from chain.errors import Malformed, NodeFault
from chain.hashing import keccak256
from chain.state import account_key, block_hash_key, decode_account, decode_writes, encode_writes, slot_key

ETHER = 10**18
GWEI = 10**9
COINBASE = b"\xc0" * 20
OTHER = b"\x0b" * 20
CONTRACT = b"\xcc" * 20
KEYS = [bytes([0x11 + index]) * 32 for index in range(4)]
SENDERS = [bytes.fromhex(Account.from_key(key).address[2:]) for key in KEYS]
BLAKE3_ADDRESS = (0x4801).to_bytes(20, "big")
BLAKE3 = (BLAKE3_ADDRESS, "blake3", 60, 12)

ENVIRONMENT = BlockEnvironment(
    chain_id=7,
    fork="Osaka",
    number=1,
    timestamp=1000,
    coinbase=COINBASE,
    gas_limit=30_000_000,
    base_fee=GWEI,
    prev_randao=b"\x05" * 32,
    parent_hash=b"\x01" * 32,
    parent_beacon_root=b"\x02" * 32,
)


class State:
    """A state in memory that counts its batches."""

    def __init__(self, alloc, fork="Osaka"):
        writes, self.root = genesis_state(alloc, fork)
        self.values = {}
        self.batches = 0
        self.apply(writes)

    def apply(self, writes):
        for key, value in writes:
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value

    def read_many(self, keys):
        self.batches += 1
        return [self.values.get(key) for key in keys]

    def account(self, address):
        return decode_account(self.values.get(account_key(address)))


def funded(**more):
    return State({sender: AccountOverride(balance=ETHER) for sender in SENDERS} | more.get("alloc", {}))


def code(text, address=CONTRACT, **fields):
    return {address: AccountOverride(code=bytes.fromhex(text), **fields)}


def signed(key=KEYS[0], **fields):
    transaction = {
        "type": 2,
        "chainId": 7,
        "nonce": 0,
        "to": OTHER,
        "value": 1,
        "gas": 100_000,
        "maxFeePerGas": 2 * GWEI,
        "maxPriorityFeePerGas": GWEI,
        "data": b"",
    } | fields
    if transaction["to"] is None:
        del transaction["to"]
    return bytes(Account.sign_transaction(transaction, key).raw_transaction)


def run(state, *raws, environment=ENVIRONMENT, **more):
    return execute(environment, decode_transactions(raws), state.read_many, **more)


def test_transfer():
    state = funded()
    done = run(state, signed(value=5))
    assert done.gas_used == 21_000
    (receipt,) = done.receipts
    assert (receipt.status, receipt.gas_used, receipt.effective_gas_price) == (1, 21_000, 2 * GWEI)
    assert receipt.encode()[:1] == b"\x02"
    assert rlp.decode(receipt.encode()[1:])[:2] == [b"\x01", (21_000).to_bytes(2, "big")]
    state.apply(done.writes)
    assert state.account(OTHER).balance == 5
    assert state.account(COINBASE).balance == 21_000 * GWEI
    assert state.account(SENDERS[0]).nonce == 1
    assert state.account(SENDERS[0]).balance == ETHER - 5 - 42_000 * GWEI
    assert keccak256(state.values[b"n"]) == done.state_root
    assert done.requests == ()
    assert done.requests_hash == bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def test_transactions_know_their_fields():
    raw = signed(accessList=[{"address": "0x" + OTHER.hex(), "storageKeys": ["0x" + "07" * 32]}])
    (transaction,) = decode_transactions([raw])
    assert transaction.raw == raw
    assert transaction.hash == keccak256(raw)
    assert transaction.sender == SENDERS[0]
    assert (transaction.type, transaction.chain_id, transaction.to, transaction.value) == (2, 7, OTHER, 1)
    assert transaction.access_list == ((OTHER, (b"\x07" * 32,)),)
    fields = {"chainId": 7, "nonce": 0, "to": OTHER, "value": 1, "gas": 21_000, "gasPrice": GWEI}
    (legacy,) = decode_transactions([bytes(Account.sign_transaction(fields, KEYS[0]).raw_transaction)])
    assert legacy.v in {7 * 2 + 35, 7 * 2 + 36}
    assert legacy.max_fee_per_gas == legacy.max_priority_fee_per_gas == GWEI


@pytest.mark.parametrize(
    ("fields", "rule", "text"),
    [
        ({"nonce": 3}, refused.NonceTooHigh, "nonce too high: next nonce 0, tx nonce 3"),
        ({"chainId": 8}, refused.WrongChainId, "invalid chain id for signer: have 8 want 7"),
        ({"value": 2 * ETHER}, refused.InsufficientFunds, "insufficient funds for gas * price + value: balance"),
        ({"gas": 20_999}, refused.IntrinsicGasTooLow, "intrinsic gas too low: gas 20999, minimum needed 21000"),
        ({"gas": 2**24 + 1}, refused.GasLimitTooHigh, "transaction gas limit too high (cap: 16777216, tx: 16777217)"),
        ({"maxFeePerGas": 1, "maxPriorityFeePerGas": 1}, refused.FeeCapBelowBaseFee, "max fee per gas less than block"),
        ({"maxFeePerGas": 2 * GWEI, "maxPriorityFeePerGas": 3 * GWEI}, refused.TipAboveFeeCap, "max priority fee per"),
        ({"data": bytes(49_153), "to": None, "gas": 9_000_000}, refused.InitcodeTooLarge, "max initcode size exceeded"),
        ({"data": b"\x01" * 4000, "gas": 100_000}, refused.FloorDataGasTooLow, "insufficient gas for floor data gas"),
    ],
)
def test_refusals_by_name(fields, rule, text):
    state = funded()
    with pytest.raises(rule) as error:
        run(state, signed(key=KEYS[1]), signed(**fields))
    assert error.value.index == 1
    assert str(error.value).startswith(text)
    done = run(state, signed(**fields), signed(key=KEYS[1]), on_invalid="skip")
    assert done.included == (1,)
    ((index, reason),) = done.skipped
    assert (index, type(reason)) == (0, rule)


def test_nonce_too_low():
    state = funded()
    with pytest.raises(refused.NonceTooLow, match="nonce too low: next nonce 1, tx nonce 0"):
        run(state, signed(), signed(value=2))


def test_block_gas_limit_binds_the_sum():
    environment = replace(ENVIRONMENT, gas_limit=120_000)
    with pytest.raises(refused.BlockGasLimitReached):
        run(funded(), signed(), signed(nonce=1), environment=environment)


def test_sender_with_code_is_refused():
    state = State({SENDERS[0]: AccountOverride(balance=ETHER, code=b"\x00")})
    with pytest.raises(refused.SenderNotEOA):
        run(state, signed())


def test_malformed_and_badly_signed():
    good = signed()
    with pytest.raises(Malformed) as error:
        decode_transactions([good, good + b"\0"])
    assert error.value.index == 1
    items = rlp.decode(good[1:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high = order - int.from_bytes(items[-1], "big")
    twin = [*items[:-3], b"" if items[-3] else b"\x01", items[-2], high.to_bytes(32, "big")]
    with pytest.raises(refused.BadSignature):
        decode_transactions([good[:1] + rlp.encode(twin)])


def test_blob_transactions_are_refused_unless_allowed():
    raw = bytes(
        Account.sign_transaction(
            {
                "type": 3, "chainId": 7, "nonce": 0, "to": OTHER, "value": 1, "gas": 21_000, "data": b"",
                "maxFeePerGas": 2 * GWEI, "maxPriorityFeePerGas": 0, "maxFeePerBlobGas": 1,
                "blobVersionedHashes": ["0x01" + "00" * 31], "accessList": [],
            },
            KEYS[0],
        ).raw_transaction
    )  # fmt: skip
    with pytest.raises(refused.BlobTransactionRefused):
        run(funded(), raw)
    assert run(funded(), raw, environment=replace(ENVIRONMENT, allow_blobs=True)).blob_gas_used == 2**17


def test_system_calls_and_requests():
    # Returns its caller and calldata's first word.
    echo = code("335f525f3560205260405ff3")
    state = funded(alloc=echo)
    done = run(state, after=(SystemCall(CONTRACT, b"\x07" * 32, 0xF0), SystemCall(CONTRACT, b"")))
    assert done.requests == (b"\xf0" + SYSTEM_ADDRESS.rjust(32, b"\0") + b"\x07" * 32,)
    assert done.state_root == state.root
    # Stores the call's first word; gas is 30,000,000 minus nothing.
    state = funded(alloc=code("5a5f555f35600155"))
    done = run(state, before=(SystemCall(CONTRACT, b"\x09" * 32),))
    state.apply(done.writes)
    assert state.values[slot_key(CONTRACT, 1)] == b"\x09" * 32
    assert int.from_bytes(state.values[slot_key(CONTRACT, 0)], "big") == 30_000_000 - 2
    assert done.gas_used == 0


def test_a_failing_system_call_is_our_fault():
    with pytest.raises(NodeFault, match="reverted"):
        run(funded(alloc=code("5f5ffd")), before=(SystemCall(CONTRACT, b""),))


def test_origin_and_parent_are_stored_where_their_contracts_stand():
    beacon_roots = bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02")
    history = bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935")
    store = "5f355f5500"
    state = funded(alloc=code(store, beacon_roots) | code(store, history))
    done = run(state)
    state.apply(done.writes)
    assert state.values[slot_key(beacon_roots, 0)] == b"\x02" * 32
    assert state.values[slot_key(history, 0)] == b"\x01" * 32


def test_withdrawals_credit_gwei():
    state = funded()
    done = run(state, withdrawals=((0, 0, OTHER, 10), (1, 0, OTHER, 5)))
    state.apply(done.writes)
    assert state.account(OTHER).balance == 15 * GWEI
    reference = HexaryTrie({})
    for index, amount in enumerate((10, 5)):
        reference[rlp.encode(index)] = rlp.encode([index, 0, OTHER, amount])
    assert done.withdrawals_root == reference.root_hash


def test_roots_of_transactions_and_receipts():
    raws = [signed(nonce=nonce) for nonce in range(3)]
    done = run(funded(), *raws)
    transactions, receipts = HexaryTrie({}), HexaryTrie({})
    for index, (raw, receipt) in enumerate(zip(raws, done.receipts, strict=True)):
        transactions[rlp.encode(index)] = raw
        receipts[rlp.encode(index)] = receipt.encode()
    assert done.transactions_root == transactions.root_hash
    assert done.receipts_root == receipts.root_hash


CALL_BLAKE3 = "365f5f37" + "60205f365f73" + BLAKE3_ADDRESS.hex() + "62" + "00ffff" + "fa" + "60205260405ff3"


def test_native_precompile():
    state = funded(alloc=code(CALL_BLAKE3))
    for size in (0, 1, 1024, 3000):
        data = bytes(range(256)) * 12
        message = CallMessage(SENDERS[0], CONTRACT, data[:size])
        result = call(ENVIRONMENT, message, state.read_many, precompiles=[BLAKE3])
        assert result.output == blake3.blake3(data[:size]).digest() + (1).to_bytes(32, "big")
    assert call(ENVIRONMENT, message, state.read_many).output[:32] != blake3.blake3(data[:size]).digest()


def test_python_precompile_none_consumes_all_its_gas():
    state = funded()
    function = {b"good": b"fine"}.get
    entry = (BLAKE3_ADDRESS, function, 100, 3)
    good = call(ENVIRONMENT, CallMessage(SENDERS[0], BLAKE3_ADDRESS, b"good"), state.read_many, precompiles=[entry])
    assert (good.success, good.output) == (True, b"fine")
    assert good.gas_used == 21_000 + 4 * 16 + 103
    message = CallMessage(SENDERS[0], BLAKE3_ADDRESS, b"bad!", gas=50_000)
    bad = call(ENVIRONMENT, message, state.read_many, precompiles=[entry])
    assert (bad.success, bad.output, bad.gas_used) == (False, b"", 50_000)


def test_python_precompile_that_raises_stops_everything():
    def broken(_data):
        raise RuntimeError("our own bug")

    with pytest.raises(RuntimeError, match="our own bug"):
        run(funded(), signed(to=BLAKE3_ADDRESS), precompiles=[(BLAKE3_ADDRESS, broken, 1, 1)])


def test_calls_say_what_went_wrong_in_geths_words():
    cases = {
        "5f5ffd": "execution reverted",
        "5b5f56": "out of gas",
        "fe": "invalid opcode: INVALID",
        "600556": "invalid jump destination",
        "01": "stack underflow (0 <=> 2)",
    }
    for text, error in cases.items():
        state = funded(alloc=code(text))
        result = call(ENVIRONMENT, CallMessage(OTHER, CONTRACT, gas=100_000), state.read_many)
        assert (result.success, result.error) == (False, error)


def test_call_overrides_and_free_gas():
    state = funded()
    # SLOAD(0) + BASEFEE + balance of the caller
    read = AccountOverride(code=bytes.fromhex("5f5448013331015f5260205ff3"), state_diff={0: 5})
    message = CallMessage(OTHER, CONTRACT)
    overrides = {CONTRACT: read, OTHER: AccountOverride(balance=100)}
    assert int.from_bytes(call(ENVIRONMENT, message, state.read_many, overrides=overrides).output, "big") == 105
    with pytest.raises(refused.InsufficientFunds):
        call(ENVIRONMENT, CallMessage(OTHER, CONTRACT, value=1), state.read_many)
    with pytest.raises(refused.FeeCapBelowBaseFee):
        call(ENVIRONMENT, CallMessage(SENDERS[0], CONTRACT, gas_price=1), state.read_many)


def test_access_list_and_simulation():
    state = funded(alloc=code("6005545060015f5500"))
    items, gas, error = create_access_list(ENVIRONMENT, CallMessage(SENDERS[0], CONTRACT), state.read_many)
    assert items == ((CONTRACT, (bytes(32), (5).to_bytes(32, "big"))),)
    assert error is None
    plain = call(ENVIRONMENT, CallMessage(SENDERS[0], CONTRACT), state.read_many)
    assert gas != plain.gas_used
    results, writes, root = simulate(
        ENVIRONMENT, [CallMessage(SENDERS[0], CONTRACT), CallMessage(SENDERS[0], OTHER, value=3)], state.read_many
    )
    assert [result.success for result in results] == [True, True]
    assert dict(writes)[slot_key(CONTRACT, 0)] == b"\x01"
    assert root != state.root


def test_traces():
    state = funded(alloc=code("60015f5500"))
    transactions = decode_transactions([signed(), signed(nonce=1, to=CONTRACT)])
    (text,) = trace_transactions(ENVIRONMENT, transactions, state.read_many, first=1)
    assert [step["op"] for step in json.loads(text)["structLogs"]] == ["PUSH1", "PUSH0", "SSTORE", "STOP"]
    config = json.dumps({"tracer": "callTracer"})
    calls = [json.loads(text) for text in trace_transactions(ENVIRONMENT, transactions, state.read_many, config=config)]
    assert [frame["to"] for frame in calls] == ["0x" + OTHER.hex(), "0x" + CONTRACT.hex()]
    before = call(ENVIRONMENT, CallMessage(SENDERS[0], CONTRACT), state.read_many, trace='{"tracer": "prestateTracer"}')
    assert "0x" + CONTRACT.hex() in json.loads(before.trace)
    with pytest.raises(ValueError, match="unsupported|JS"):
        trace_transactions(ENVIRONMENT, transactions, state.read_many, config='{"tracer": "function"}')


def test_account_proofs_verify():
    storage = {slot: slot + 1 for slot in range(20)}
    state = funded(alloc={CONTRACT: AccountOverride(balance=3, code=b"\x00", state_diff=storage)})
    proof = account_proof(CONTRACT, [3, 99], state.read_many)
    account = rlp.encode([b"", b"\x03", proof.storage_root, keccak256(b"\x00")])
    nodes = [rlp.decode(node) for node in proof.nodes]
    assert HexaryTrie.get_from_proof(state.root, keccak256(CONTRACT), nodes) == account
    for entry, value in zip(proof.storage, (4, 0), strict=True):
        assert entry.value == value
        key = keccak256(entry.slot.to_bytes(32, "big"))
        found = HexaryTrie.get_from_proof(proof.storage_root, key, [rlp.decode(node) for node in entry.nodes])
        assert found == (rlp.encode(value) if value else b"")
    absent = account_proof(b"\x77" * 20, [], state.read_many)
    assert absent.nonce == 0
    nodes = [rlp.decode(node) for node in absent.nodes]
    assert HexaryTrie.get_from_proof(state.root, keccak256(b"\x77" * 20), nodes) == b""


def test_block_hashes_are_the_stores():
    state = funded(alloc=code("5f405f5260205ff3"))
    state.values[block_hash_key(0)] = b"\xaa" * 32
    assert call(ENVIRONMENT, CallMessage(OTHER, CONTRACT), state.read_many).output == b"\xaa" * 32


def test_a_broken_store_is_not_the_senders_fault():
    def broken(_keys):
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        execute(ENVIRONMENT, decode_transactions([signed()]), broken)
    state = funded()
    state.values[account_key(SENDERS[0])] = b"\xc0"
    with pytest.raises(NodeFault):
        run(state, signed())


def test_the_cache_follows_the_head():
    cached, plain = funded(), funded()
    cache = StateCache()
    for nonce in range(4):
        raws = [signed(nonce=nonce, value=nonce + 1), signed(key=KEYS[1], nonce=nonce)]
        one = execute(ENVIRONMENT, decode_transactions(raws), cached.read_many, cache=cache)
        two = run(plain, *raws)
        assert one.state_root == two.state_root
        assert one.writes == two.writes
        cached.apply(one.writes)
        cache.apply(one.writes)
        plain.apply(two.writes)
    assert cached.batches < plain.batches
    cache.clear()
    assert len(cache) == 0


def test_storage_set_and_cleared_leaves_nothing():
    # Stores its second word in the slot that its first names.
    state = funded(alloc=code("6020355f355500"))
    root = state.root
    before = dict(state.values)
    for nonce, value in enumerate((1, 0)):
        data = b"\5" * 32 + value.to_bytes(32, "big")
        done = run(state, signed(nonce=nonce, to=CONTRACT, data=data))
        state.apply(done.writes)
    kept = {key: value for key, value in state.values.items() if key[:1] in {b"s", b"m"}}
    assert kept == {key: value for key, value in before.items() if key[:1] in {b"s", b"m"}}
    assert root != done.state_root


@given(st.lists(st.tuples(st.binary(max_size=60), st.one_of(st.none(), st.binary(max_size=600)))))
def test_writes_survive_their_encoding(writes):
    encoded = encode_writes(writes)
    assert decode_writes(encoded) == writes
    if writes:
        with pytest.raises(NodeFault):
            decode_writes(encoded[:-1] if writes[-1][1] else encoded + b"\0\1k\0\0\0\2")


def test_before_cancun_a_destroyed_contract_leaves_nothing():
    alloc = {sender: AccountOverride(balance=ETHER) for sender in SENDERS}
    destroyed = {CONTRACT: AccountOverride(code=b"\x33\xff", balance=0, state_diff=dict.fromkeys(range(30), 7))}
    state = State(alloc | destroyed, "Shanghai")
    environment = replace(ENVIRONMENT, fork="Shanghai", parent_beacon_root=None)
    done = run(state, signed(to=CONTRACT, value=0), environment=environment)
    state.apply(done.writes)
    left = [key for key in state.values if key[:1] in {b"s", b"m"} or key == account_key(CONTRACT)]
    assert left == []
    # Only the fees tell the state from one without the contract.
    fees = {SENDERS[0]: AccountOverride(balance=state.account(SENDERS[0]).balance, nonce=1)}
    fees[COINBASE] = AccountOverride(balance=state.account(COINBASE).balance)
    assert genesis_state(alloc | fees, "Shanghai")[1] == done.state_root


def test_invalid_opcodes_and_underflows_are_named():
    for text, error in {"0c": "invalid opcode: opcode 0xc not defined", "600101": "stack underflow (1 <=> 2)"}.items():
        state = funded(alloc=code(text))
        assert call(ENVIRONMENT, CallMessage(OTHER, CONTRACT, gas=50_000), state.read_many).error == error
