"""The native calls through the engine: addresses, gas to the last unit, what is malformed or too poor."""

import hashlib

import numpy as np
import pytest
from hyperdust_core import native_call

from chain.engine import BlockEnvironment, CallMessage, call
from chain.hashing import H
from pouw.backends.registry import all_cases
from pouw.operators.elements import ELEMENT_RULES
from pouw.operators.rules import RULE_BY_NAME, RULES
from pouw.trace import tensor_root
from precompiles import registry
from precompiles.calls import (
    decode_word,
    encode_data,
    encode_element_call,
    encode_opening_call,
    encode_operator_call,
    encode_proven_element_call,
)
from precompiles.registry import OPERATOR_RATES, PRECOMPILES

ENVIRONMENT = BlockEnvironment(
    chain_id=7, fork="Osaka", number=1, timestamp=1, coinbase=bytes(20), gas_limit=30_000_000, base_fee=0,
    prev_randao=bytes(32), parent_hash=None, parent_beacon_root=None,
)  # fmt: skip
BY_ADDRESS = {entry[0]: entry for entry in PRECOMPILES}
CASES = {f"{case[0]} {number}": case for number, case in enumerate(all_cases()) if case[0] in OPERATOR_RATES}
GAS = 16_000_000


def ask(address, data, gas=GAS):
    return call(
        ENVIRONMENT,
        CallMessage(b"\x0a" * 20, address, data, gas=gas),
        lambda keys: [None] * len(keys),
        precompiles=PRECOMPILES,
    )


def intrinsic(data):
    """21,000 and calldata; the floor of EIP-7623 is what is paid where it is higher."""
    zeros = data.count(0)
    return 21_000 + 4 * zeros + 16 * (len(data) - zeros)


def floor(data):
    zeros = data.count(0)
    return 21_000 + 10 * zeros + 40 * (len(data) - zeros)


def upfront(address, data):
    _, _, base, rates = BY_ADDRESS[address]
    return base + (rates if isinstance(rates, int) else rates[0]) * -(-len(data) // 32)


def test_addresses_ascend_and_every_operator_has_a_rate():
    addresses = [int.from_bytes(entry[0], "big") for entry in PRECOMPILES]
    assert addresses == sorted(set(addresses))
    assert addresses[:7] == list(range(0x4801, 0x4808))
    assert {rule.name for rule in RULES} == set(OPERATOR_RATES) == set(ELEMENT_RULES)
    assert all(rate > 0 for rate in OPERATOR_RATES.values())


@pytest.mark.parametrize("case", CASES)
def test_operator_equals_its_definition_and_costs_what_the_table_says(case):
    name, tensors, attributes = CASES[case]
    rule = RULE_BY_NAME[name]
    expected = rule.compute(tensors, attributes)
    data = encode_operator_call(rule, tensors, attributes)
    if max(len(data), expected.nbytes) > 2**17:
        assert not ask(registry.OPERATOR, data[: 2**17 + 1]).success
        return
    result = ask(registry.OPERATOR, data)
    assert (result.success, result.output) == (True, encode_data(expected))
    plan = native_call("operator", data)
    assert [code for code, _ in plan[0]] == [rule.code]
    units = plan[0][0][1]
    assert units >= expected.size
    work = -(-units * OPERATOR_RATES[name] // 1024)
    gas = intrinsic(data) + upfront(registry.OPERATOR, data) + work
    assert result.gas_used == max(gas, floor(data))
    enough = max(gas, floor(data))
    assert ask(registry.OPERATOR, data, enough).success
    if gas > floor(data):
        poor = ask(registry.OPERATOR, data, enough - 1)
        assert (poor.success, poor.output, poor.gas_used) == (False, b"", enough - 1)


@pytest.mark.parametrize("case", CASES)
def test_elements_equal_the_definition(case):
    name, tensors, attributes = CASES[case]
    rule = RULE_BY_NAME[name]
    expected = rule.compute(tensors, attributes).reshape(-1)
    for index in {0, expected.size // 3, expected.size - 1}:
        opened = ask(registry.ELEMENT, encode_element_call(rule, tensors, attributes, index))
        proven = ask(registry.PROVEN_ELEMENT, encode_proven_element_call(rule, tensors, attributes, index))
        assert opened.success
        assert proven.success
        assert decode_word(opened.output) == decode_word(proven.output) == expected[index]


def test_opening_of_chunks_under_a_root():
    tensor = np.arange(5000, dtype=np.int16).reshape(50, 100)
    for first, count in ((0, 1), (3, 2), (9, 1), (0, 10)):
        assert ask(registry.OPENING, encode_opening_call(tensor, first, count)).output == (1).to_bytes(32, "big")
    data = bytearray(encode_opening_call(tensor, 3, 2))
    for place in (0, 33, 36, 50, 60, len(data) - 1):
        wrong = bytearray(data)
        wrong[place] ^= 1
        assert not ask(registry.OPENING, bytes(wrong)).success
    assert not ask(registry.OPENING, bytes(data) + b"\0").success
    assert not ask(registry.OPENING, tensor_root(tensor) + bytes(data[32:-1])).success


def test_a_proof_under_another_root_or_with_too_little_opened_fails():
    name, tensors, attributes = next(case for case in CASES.values() if case[0] == "matmul")
    rule = RULE_BY_NAME[name]
    data = encode_proven_element_call(rule, tensors, attributes, 5)
    root = data.index(tensor_root(tensors[1]))
    assert not ask(registry.PROVEN_ELEMENT, data[:root] + bytes(32) + data[root + 32 :]).success
    # the openings of element 5, claimed to be those of the last
    place = 2 + 8 * len(attributes)
    other = data[:place] + (19 * 48 - 1).to_bytes(8, "big") + data[place + 8 :]
    assert not ask(registry.PROVEN_ELEMENT, other).success
    beyond = data[:place] + (19 * 48).to_bytes(8, "big") + data[place + 8 :]
    assert not ask(registry.PROVEN_ELEMENT, beyond).success


@pytest.mark.parametrize("entry", [entry for entry in PRECOMPILES if entry[1] != "blake3"], ids=lambda entry: entry[1])
def test_empty_and_malformed_input_consumes_all_gas(entry):
    for data in (b"", b"\0", b"\xff" * 64, hashlib.sha256(b"junk").digest() * 40, bytes(200_000)):
        result = ask(entry[0], data, GAS)
        assert (result.success, result.output, result.gas_used) == (False, b"", GAS)
    poor = 21_000 + BY_ADDRESS[entry[0]][2] - 1
    assert ask(entry[0], b"", poor).gas_used == poor


def test_blake3_of_nothing_and_of_a_tagged_hash():
    assert ask(registry.BLAKE3, b"").output.hex().startswith("af1349b9f5f9a1a6")
    assert ask(registry.BLAKE3, b"\x04test" + (3).to_bytes(4, "little") + b"abc").output == H("test", b"abc")
