"""The same random blocks through py-evm (Prague) and our engine: equal state roots, gas and receipts.

py-evm refuses our headers, so its virtual machine is driven directly, with an execution context made for the block.
"""

import warnings

import pytest
from eth_account import Account
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.engine import AccountOverride, BlockEnvironment, decode_transactions, execute, genesis_state
from chain.state import EMPTY_CODE_HASH, decode_account

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from eth.chains.base import MiningChain  # noqa: F401 - loads the virtual machines in the right order
    from eth.consensus import ConsensusContext
    from eth.consensus.noproof import NoProofConsensus
    from eth.db.atomic import AtomicDB
    from eth.db.chain import ChainDB
    from eth.vm.chain_context import ChainContext
    from eth.vm.forks.prague import PragueVM
    from eth.vm.forks.prague.blocks import PragueBlockHeader

pytestmark = pytest.mark.filterwarnings("ignore:SELFDESTRUCT:DeprecationWarning")

CHAIN_ID = 7
BASE_FEE = 10**9
COINBASE = b"\xc0" * 20
KEYS = [bytes([0x21 + index]) * 32 for index in range(3)]
SENDERS = [bytes.fromhex(Account.from_key(key).address[2:]) for key in KEYS]
CONTRACTS = [bytes([0xA0 + index]) * 20 for index in range(4)]
NOWHERE = [bytes([0xE0 + index]) * 20 for index in range(2)]
ADDRESSES = [*CONTRACTS, *NOWHERE, SENDERS[0], (4).to_bytes(20, "big"), (1).to_bytes(20, "big")]


class VM(PragueVM):
    consensus_class = NoProofConsensus


def push(value):
    data = value if isinstance(value, bytes) else value.to_bytes((value.bit_length() + 7) // 8 or 1, "big")
    return bytes([0x5F + len(data)]) + data


SMALL = st.integers(0, 4)
WORDS = st.one_of(
    SMALL, st.just(2**256 - 1), st.binary(min_size=32, max_size=32).map(lambda b: int.from_bytes(b, "big"))
)
TARGETS = st.sampled_from(ADDRESSES)


def stored(words):
    return st.tuples(words, SMALL).map(lambda pair: push(pair[0]) + push(pair[1]) + b"\x55")


def messages(opcode, *, value):
    """CALL and its kin: 32 bytes of memory in and out, a bounded share of gas, the flag stored."""
    return st.tuples(TARGETS, SMALL, st.sampled_from([2_300, 30_000, 200_000]), SMALL).map(
        lambda args: push(32) + push(0) + push(32) + push(0) + (push(args[1]) if value else b"") + push(args[0])
        + push(args[2]) + bytes([opcode]) + push(args[3]) + b"\x55"
    )  # fmt: skip


# Initcode that stores 1 in slot 0 and returns one byte of code: STOP, or SELFDESTRUCT to whoever calls.
INITCODES = st.sampled_from([
    bytes.fromhex("60015f5560015ff3"), bytes.fromhex("6133ff5f5260026" + "01ef3"), bytes.fromhex("5f5ffd"),
    bytes.fromhex("33ff"), b"", bytes.fromhex("60ef5f5360015ff3"),
])  # fmt: skip


def creations(opcode):
    """CREATE or CREATE2 of an initcode of at most 32 bytes; calls what came out."""
    return st.tuples(INITCODES, SMALL, SMALL).map(
        lambda args: push(args[0].ljust(32, b"\0")) + b"\x5f\x52"
        + (push(args[1]) if opcode == 0xF5 else b"") + push(len(args[0])) + b"\x5f" + push(args[2]) + bytes([opcode])
        + b"\x5f\x5f\x5f\x5f\x5f\x85\x5a\xf1\x50\x50"
    )  # fmt: skip


STEPS = st.one_of(
    stored(WORDS),
    stored(st.just(0)),
    SMALL.map(lambda slot: push(slot) + b"\x54\x5f\x52"),  # SLOAD, MSTORE
    SMALL.map(lambda slot: push(slot) + b"\x5c\x80\x60\x01\x01" + push(slot) + b"\x5d\x5f\x55"),  # TLOAD, TSTORE
    st.sampled_from(
        [
            b"\x30",
            b"\x32",
            b"\x33",
            b"\x34",
            b"\x3a",
            b"\x41",
            b"\x42",
            b"\x43",
            b"\x44",
            b"\x45",
            b"\x46",
            b"\x47",
            b"\x48",
            b"\x5a",
        ]
    ).map(lambda op: op + b"\x60\x03\x55"),
    TARGETS.map(
        lambda target: push(target) + b"\x31" + push(target) + b"\x3b\x01" + push(target) + b"\x3f\x01\x5f\x52"
    ),
    TARGETS.map(lambda target: push(9) + b"\x5f\x5f" + push(target) + b"\x3c"),  # EXTCODECOPY
    SMALL.map(lambda topic: push(topic) + push(32) + b"\x5f\xa1"),  # LOG1
    st.just(bytes.fromhex("60205f205f52")),  # KECCAK256
    messages(0xF1, value=True),
    messages(0xF2, value=True),
    messages(0xF4, value=False),
    messages(0xFA, value=False),
    creations(0xF0),
    creations(0xF5),
)
ENDS = st.one_of(
    st.just(b"\x00"), st.just(bytes.fromhex("60205ff3")), st.just(bytes.fromhex("60205ffd")), st.just(b"\xfe"),
    TARGETS.map(lambda target: push(target) + b"\xff"), st.just(bytes.fromhex("305f5260205ff3")),
)  # fmt: skip
PROGRAMS = st.tuples(st.lists(STEPS, max_size=6), ENDS).map(lambda parts: b"".join(parts[0]) + parts[1])
STORAGES = st.dictionaries(SMALL, st.integers(1, 2**256 - 1), max_size=4)
CODES = st.lists(st.tuples(PROGRAMS, STORAGES), min_size=len(CONTRACTS), max_size=len(CONTRACTS))

ACCESS_LISTS = st.lists(st.tuples(TARGETS, st.lists(SMALL, max_size=2)), max_size=2)
TRANSACTIONS = st.fixed_dictionaries(
    {
        "type": st.sampled_from([0, 1, 2, 2, 4]),
        "key": st.integers(0, 2),
        "to": st.one_of(st.sampled_from(CONTRACTS), TARGETS, st.none()),
        "value": st.sampled_from([0, 1, 10**15]),
        "gas": st.sampled_from([60_000, 120_000, 400_000]),
        "tip": st.integers(0, 3),
        "data": st.one_of(st.binary(max_size=40), INITCODES),
        "access": ACCESS_LISTS,
        "authorizations": st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from([*CONTRACTS, bytes(20)]), st.sampled_from([0, CHAIN_ID, 9]),
                      st.booleans()), min_size=1, max_size=3),
    }
)  # fmt: skip


def sign(fields, nonces):
    kind, key = fields["type"], fields["key"]
    to = fields["to"]
    if kind == 4 and to is None:
        to = CONTRACTS[0]
    transaction = {"chainId": CHAIN_ID, "nonce": nonces[key], "value": fields["value"], "gas": fields["gas"],
                   "data": fields["data"]}  # fmt: skip
    if to is not None:
        transaction["to"] = to
    if kind:
        transaction["type"] = kind
        slots = lambda keys: ["0x" + slot.to_bytes(32, "big").hex() for slot in keys]  # noqa: E731
        transaction["accessList"] = [
            {"address": "0x" + a.hex(), "storageKeys": slots(keys)} for a, keys in fields["access"]
        ]
    if kind >= 2:
        transaction |= {"maxFeePerGas": BASE_FEE + 2, "maxPriorityFeePerGas": min(fields["tip"], 2)}
    else:
        transaction["gasPrice"] = BASE_FEE + fields["tip"]
    nonces[key] += 1
    if kind == 4:
        signed = []
        for signer, address, chain_id, right in fields["authorizations"]:
            nonce = nonces[signer] if right else 77
            authorization = {"chainId": chain_id, "address": address, "nonce": nonce}
            signed.append(Account.from_key(KEYS[signer]).sign_authorization(authorization))
            if right and chain_id in {0, CHAIN_ID}:
                nonces[signer] += 1
        transaction["authorizationList"] = signed
    return bytes(Account.sign_transaction(transaction, KEYS[key]).raw_transaction)


def alloc_of(codes):
    alloc = {sender: AccountOverride(balance=10**18) for sender in SENDERS}
    for address, (program, storage) in zip(CONTRACTS, codes, strict=True):
        alloc[address] = AccountOverride(nonce=1, balance=10, code=program, state_diff=storage)
    return alloc


def oracle(alloc, raws):
    """State root before, after, and (status, cumulative gas, bloom, logs) of each transaction by py-evm."""
    header = PragueBlockHeader(
        difficulty=0, block_number=1, gas_limit=30_000_000, timestamp=1000, coinbase=COINBASE, mix_hash=b"\x05" * 32,
        base_fee_per_gas=BASE_FEE, excess_blob_gas=0, blob_gas_used=0, parent_beacon_block_root=bytes(32),
    )  # fmt: skip
    database = AtomicDB()
    machine = VM(header, ChainDB(database), ChainContext(CHAIN_ID), ConsensusContext(database))
    state = machine.state
    for address, account in alloc.items():
        state.set_balance(address, account.balance)
        state.set_nonce(address, account.nonce or 0)
        state.set_code(address, account.code or b"")
        for slot, value in (account.state_diff or {}).items():
            state.set_storage(address, slot, value)
    state.persist()
    before = state.state_root
    receipts = []
    for raw in raws:
        receipt, _ = machine.apply_transaction(header, machine.get_transaction_builder().decode(raw))
        header = machine.add_receipt_to_header(header, receipt)
        receipts.append(receipt.encode())
    state.persist()
    return before, state.state_root, header.gas_used, receipts


def test_the_oracle_is_py_evm_itself():
    opcodes = VM.get_state_class().computation_class.opcodes
    assert not [opcode for opcode in opcodes.values() if type(opcode).__module__.startswith("boa")]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(CODES, st.lists(TRANSACTIONS, min_size=1, max_size=8))
def test_py_evm_agrees(codes, transactions):
    nonces = [0] * len(KEYS)
    raws = [sign(fields, nonces) for fields in transactions]
    alloc = alloc_of(codes)
    writes, root = genesis_state(alloc)
    state = {key: value for key, value in writes if value is not None}
    environment = BlockEnvironment(
        chain_id=CHAIN_ID, fork="Prague", number=1, timestamp=1000, coinbase=COINBASE, gas_limit=30_000_000,
        base_fee=BASE_FEE, prev_randao=b"\x05" * 32, parent_hash=None, parent_beacon_root=None,
    )  # fmt: skip
    decoded = decode_transactions(raws)
    done = execute(environment, decoded, lambda keys: [state.get(key) for key in keys], on_invalid="skip")
    before, after, gas_used, receipts = oracle(alloc, [raws[index] for index in done.included])
    assert root == before
    assert [receipt.encode() for receipt in done.receipts] == receipts
    assert done.gas_used == gas_used
    assert done.state_root == after

    # What is stored afterwards is exactly what a state made from scratch out of the flat values would store.
    for key, value in done.writes:
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value
    fresh, root = genesis_state(alloc_in(state))
    assert root == done.state_root
    assert {key: value for key, value in fresh if key[:1] != b"c"} == {
        key: value for key, value in state.items() if key[:1] != b"c"
    }
    assert dict(fresh).items() <= state.items()


def alloc_in(state):
    """The accounts that the flat values describe."""
    alloc = {}
    for key, value in state.items():
        if key[:1] == b"a":
            account = decode_account(value)
            slots = {
                int.from_bytes(slot[21:], "big"): int.from_bytes(word, "big")
                for slot, word in state.items()
                if slot[:21] == b"s" + key[1:]
            }
            code = state[b"c" + account.code_hash] if account.code_hash != EMPTY_CODE_HASH else None
            alloc[key[1:]] = AccountOverride(account.balance, account.nonce, code, state_diff=slots)
    return alloc
