"""Bitcoin as contracts see it: at or below the origin, on its branch, nothing else; with its gas."""

import hashlib

import pytest
from coincurve import PrivateKey

from bridge.header_chain import HeaderChain
from bridge.headers import apply_header, check_header
from bridge.inclusion import Branch, build_branch, compute_branch_root, compute_merkle_root
from bridge.params import REGTEST
from bridge.work import sha256d
from chain.engine import BlockEnvironment, CallMessage, call
from chain.errors import NodeFault
from precompiles.bitcoin import (
    BIP340,
    BITCOIN_HEADER,
    BITCOIN_ORIGIN,
    BITCOIN_TRANSACTION,
    bitcoin_calls,
    encode_transaction_call,
)
from tests.unit.bridge.mining import NOW, extend, mine, start

ENVIRONMENT = BlockEnvironment(
    chain_id=7, fork="Osaka", number=1, timestamp=1, coinbase=bytes(20), gas_limit=30_000_000, base_fee=0,
    prev_randao=bytes(32), parent_hash=None, parent_beacon_root=None,
)  # fmt: skip
TRANSACTIONS = [hashlib.sha256(bytes([at])).digest() * 5 for at in range(7)]
TXIDS = tuple(sha256d(raw) for raw in TRANSACTIONS)
GAS = 1_000_000


def built():
    """A chain of 30 blocks with the transactions in block 11, and a branch of 3 that left it at 20."""
    chain = HeaderChain(REGTEST)
    rows, context = extend(REGTEST, start(REGTEST), 10)
    raw = mine(REGTEST, context, root=compute_merkle_root(TXIDS))
    context = apply_header(REGTEST, context, *check_header(REGTEST, context, raw, NOW))
    more, _ = extend(REGTEST, context, 19)
    chain.extend(b"".join([*rows, raw, *more]), NOW)
    side, _ = extend(REGTEST, chain.context_after(chain.hash_at(20)), 3, root=b"\1" * 32)
    chain.extend(b"".join(side), NOW)
    return chain, sha256d(side[-1])


CHAIN, SIDE = built()
ORIGIN = CHAIN.hash_at(24)


def ask(address, data=b"", origin=ORIGIN, view=CHAIN, gas=GAS):
    table = bitcoin_calls(view, origin)
    message = CallMessage(b"\x0a" * 20, address, data, gas=gas)
    return call(ENVIRONMENT, message, lambda keys: [None] * len(keys), precompiles=table)


def fails(address, data, origin=ORIGIN, view=CHAIN):
    result = ask(address, data, origin, view)
    assert (result.success, result.output, result.gas_used) == (False, b"", GAS)
    return True


def word(value):
    return value.to_bytes(32, "big")


def test_the_origin_is_the_tip():
    assert ask(BITCOIN_ORIGIN).output == ORIGIN + word(24)
    assert fails(BITCOIN_ORIGIN, b"\0")
    assert fails(BITCOIN_ORIGIN, b"", bytes(32))


@pytest.mark.parametrize("height", [0, 1, 20, 24])
def test_headers_at_and_below_the_origin(height):
    block_hash = CHAIN.hash_at(height)
    assert ask(BITCOIN_HEADER, block_hash).output == word(height) + CHAIN.raw_header(block_hash)


def test_nothing_above_or_beside_the_origin_is_seen():
    assert fails(BITCOIN_HEADER, CHAIN.hash_at(25))
    assert fails(BITCOIN_HEADER, SIDE)
    assert fails(BITCOIN_HEADER, b"\1" * 32)
    for data in (b"", CHAIN.hash_at(3)[:-1], CHAIN.hash_at(3) + b"\0"):
        assert fails(BITCOIN_HEADER, data)
    assert fails(BITCOIN_HEADER, CHAIN.hash_at(3), bytes(32)), "no origin: nothing to see"


def test_an_origin_on_a_lost_branch_answers_for_its_own_branch():
    assert ask(BITCOIN_HEADER, SIDE, SIDE).output[:32] == word(23)
    assert ask(BITCOIN_HEADER, CHAIN.hash_at(20), SIDE).success
    assert fails(BITCOIN_HEADER, CHAIN.hash_at(21), SIDE)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_transaction_is_proven(at):
    branch = build_branch(TXIDS, at)
    data = encode_transaction_call(CHAIN.hash_at(11), branch, TRANSACTIONS[at])
    assert ask(BITCOIN_TRANSACTION, data).output == TXIDS[at] + word(11)
    assert fails(BITCOIN_TRANSACTION, data, CHAIN.hash_at(10))
    assert ask(BITCOIN_TRANSACTION, data, CHAIN.hash_at(11)).success
    for wrong in (
        encode_transaction_call(CHAIN.hash_at(12), branch, TRANSACTIONS[at]),
        encode_transaction_call(CHAIN.hash_at(11), branch, TRANSACTIONS[at - 1]),
        encode_transaction_call(CHAIN.hash_at(11), build_branch(TXIDS, (at + 1) % 7), TRANSACTIONS[at]),
        encode_transaction_call(CHAIN.hash_at(11), branch, b""),
        data[:-1],
        data + b"\0",
        data[:33],
        data[:32] + b"\xff\xff" + data[34:],
        b"",
    ):
        assert fails(BITCOIN_TRANSACTION, wrong)


def test_an_inner_node_is_no_transaction():
    """64 bytes that hash to a node of the tree (CVE-2017-12842), in a tree that is said to be one level lower."""
    inner = TXIDS[0] + TXIDS[1]
    higher = build_branch(TXIDS, 0).siblings[1:]
    branch = Branch(0, 4, higher)
    assert compute_branch_root(branch, sha256d(inner)) == compute_merkle_root(TXIDS), "it would be proven"
    assert fails(BITCOIN_TRANSACTION, encode_transaction_call(CHAIN.hash_at(11), branch, inner))


def test_a_branch_longer_than_any_block_is_refused_before_it_is_read():
    branch = Branch(0, 0xFFFF, tuple(b"\1" * 32 for _ in range(16)))
    assert fails(BITCOIN_TRANSACTION, encode_transaction_call(CHAIN.hash_at(11), branch, TRANSACTIONS[0]))


# Source: BIP-340, test vectors 0, 1, 5 (public key not on the curve), 6 (wrong parity of R), 8 (negated s)
VECTORS = [
    (
        "F9308A019258C31049344F85F89D5229B531C845836F99B08601F113BCE036F9",
        "0" * 64,
        "E907831F80848D1069A5371B402410364BDF1C5F8307B0084C55F1CE2DCA8215",
        "25F66A4A85EA8B71E482A74F382D2CE5EBEEE8FDB2172F477DF4900D310536C0",
        True,
    ),
    (
        "DFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659",
        "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89",
        "6896BD60EEAE296DB48A229FF71DFE071BDE413E6D43F917DC8DCF8C78DE3341",
        "8906D11AC976ABCCB20B091292BFF4EA897EFCB639EA871CFA95F6DE339E4B0A",
        True,
    ),
    (
        "EEFDEA4CDB677750A420FEE807EACF21EB9898AE79B9768766E4FAA04A2D4A34",
        "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89",
        "6CFF5C3BA86C69EA4B7376F31A9BCB4F74C1976089B2D9963DA2E5543E177769",
        "69E89B4C5564D00349106B8497785DD7D1D713A8AE82B32FA79D5F7FC407D39B",
        False,
    ),
    (
        "DFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659",
        "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89",
        "FFF97BD5755EEEA420453A14355235D382F6472F8568A18B2F057A1460297556",
        "3CC27944640AC607CD107AE10923D9EF7A73C643E166BE5EBEAFA34B1AC553E2",
        False,
    ),
    (
        "DFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659",
        "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89",
        "6CFF5C3BA86C69EA4B7376F31A9BCB4F74C1976089B2D9963DA2E5543E177769",
        "961764B3AA9B2FFCB6EF947B6887A226E8D7C93E00C5ED0C1834FF0D0C2E6DA6",
        False,
    ),
]


@pytest.mark.parametrize(("key", "message", "r", "s", "is_right"), VECTORS)
def test_signatures_of_bip340(key, message, r, s, is_right):
    data = bytes.fromhex(key + message + r + s)
    if is_right:
        assert ask(BIP340, data).output == word(1)
        assert ask(BIP340, data, bytes(32), None).success, "it needs no Bitcoin"
        for place in (0, 40, 70, 127):
            assert fails(BIP340, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    else:
        assert fails(BIP340, data)
    assert fails(BIP340, data[:-1])


def test_what_a_node_does_not_hold_is_its_own_fault_and_no_answer():
    for view, origin in ((None, ORIGIN), (CHAIN, b"\1" * 32)):
        for address, data in ((BITCOIN_ORIGIN, b""), (BITCOIN_HEADER, CHAIN.hash_at(3))):
            with pytest.raises(NodeFault, match="--bitcoin-rpc"):
                ask(address, data, origin, view)
    assert fails(BITCOIN_HEADER, CHAIN.hash_at(3), bytes(32), None), "no origin: all nodes agree, with Bitcoin or not"


def test_gas_to_the_last_unit():
    key = PrivateKey(b"\1" * 32)
    signed = key.public_key_xonly.format() + b"\2" * 32 + key.sign_schnorr(b"\2" * 32)
    for address, _, base, per_word in bitcoin_calls(CHAIN, ORIGIN):
        data = {BITCOIN_HEADER: CHAIN.hash_at(3), BIP340: signed}.get(address, b"")
        if address == BITCOIN_TRANSACTION:
            data = encode_transaction_call(CHAIN.hash_at(11), build_branch(TXIDS, 2), TRANSACTIONS[2])
        zeros = data.count(0)
        gas = 21_000 + 4 * zeros + 16 * (len(data) - zeros) + base + per_word * -(-len(data) // 32)
        result = ask(address, data)
        assert result.success
        assert result.gas_used == max(gas, 21_000 + 10 * zeros + 40 * (len(data) - zeros))
        assert not ask(address, data, gas=gas - 1).success
