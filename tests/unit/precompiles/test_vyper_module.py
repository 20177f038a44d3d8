"""Operators.vy, as a contract that imports it sees it."""

import numpy as np
import pytest
from eth_abi.abi import decode, encode
from eth_utils import keccak

from chain.engine import AccountOverride, CallMessage, call, genesis_state
from docs.examples.digits import model
from pouw.backends.reference import NumpyBackend
from pouw.execution import run
from pouw.operators.rules import RULE_BY_NAME
from precompiles.calls import encode_data, encode_operator_call, encode_proven_element_call
from precompiles.registry import PRECOMPILES
from tests.unit.contracts.harness import ROOT
from tests.unit.precompiles.test_engine_calls import ENVIRONMENT

SOURCE = """
# pragma version ~=0.4.3
import Operators

@external
@view
def first_score(graph: bytes32, model: Bytes[24575], image: Bytes[4096]) -> int16:
    return Operators.int16_at(Operators.run_graph(graph, model, image), 0)

@external
@view
def compute(input: Bytes[32768]) -> Bytes[8192]:
    return Operators.compute(input)

@external
@view
def element(input: Bytes[32768]) -> int256:
    return Operators.proven_element(input)
"""
USER = (0xC0).to_bytes(20, "big")


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FilesystemInputBundle

    folder = tmp_path_factory.mktemp("vyper")
    (folder / "User.vy").write_text(SOURCE, encoding="utf-8")
    bundle = FilesystemInputBundle([ROOT / "contracts" / "interfaces", folder])
    compiled = compile_from_file_input(
        bundle.load_file(folder / "User.vy"), input_bundle=bundle, output_formats=["bytecode_runtime"]
    )
    code = bytes.fromhex(compiled["bytecode_runtime"].removeprefix("0x"))
    writes, _ = genesis_state({USER: AccountOverride(code=code)})
    return dict(writes)


def ask(state, signature, *values, returns):
    types = signature[signature.index("(") + 1 : -1].split(",")
    data = keccak(text=signature)[:4] + encode(types, values)
    message = CallMessage(b"\x0a" * 20, USER, data, gas=16_000_000)
    result = call(ENVIRONMENT, message, lambda keys: [state.get(key) for key in keys], precompiles=PRECOMPILES)
    return decode([returns], result.output)[0] if result.success else result.error


def test_a_graph(state):
    graph, constants = model.build(model.load_weights())
    image = model.image_tensor(np.arange(64) % 17)
    expected = run(graph, constants, {"image": image}, {}, NumpyBackend()).outputs["scores"]
    given = (model.graph_id(graph), model.model_bytes(graph, constants), encode_data(image))
    assert ask(state, "first_score(bytes32,bytes,bytes)", *given, returns="int16") == expected[0, 0]
    wrong = (bytes(32), *given[1:])
    assert ask(state, "first_score(bytes32,bytes,bytes)", *wrong, returns="int16") == "execution reverted"


def test_an_operator_and_an_element(state):
    rule = RULE_BY_NAME["matmul"]
    a, b = np.arange(-32, 32, dtype=np.int8).reshape(4, 16), np.arange(48, dtype=np.int8).reshape(3, 16) - 24
    expected = rule.compute((a, b), (0,))
    output = ask(state, "compute(bytes)", encode_operator_call(rule, (a, b), (0,)), returns="bytes")
    assert output == encode_data(expected)
    for index in range(12):
        data = encode_proven_element_call(rule, (a, b), (0,), index)
        assert ask(state, "element(bytes)", data, returns="int256") == expected.reshape(-1)[index]
