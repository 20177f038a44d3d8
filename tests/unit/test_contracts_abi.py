import json

import pytest
from eth_utils import keccak

from chain.errors import Malformed
from hyperdust import contracts_abi as abi

OPERAND = {"type": "tuple", "components": [{"name": "root", "type": "bytes32"}, {"name": "k", "type": "uint32"}]}
ARTIFACT = [
    {
        "type": "function",
        "name": "register",
        "inputs": [{"name": "operands", **OPERAND, "type": "tuple[]"}],
        "outputs": [],
    },
    {
        "type": "function",
        "name": "job",
        "inputs": [{"name": "id", "type": "uint256"}],
        "outputs": [{"name": "", **OPERAND}],
    },
    {
        "type": "event",
        "name": "Asked",
        "inputs": [
            {"name": "job", "type": "uint256", "indexed": True},
            {"name": "input", "type": "bytes", "indexed": False},
        ],
    },
]


@pytest.fixture(autouse=True)
def artifacts(tmp_path, monkeypatch):
    (tmp_path / "Toy.json").write_text(json.dumps({"abi": ARTIFACT}))
    monkeypatch.setattr(abi, "ARTIFACTS", tmp_path)
    for cached in (abi.load_artifact, abi.load_abi, abi._inputs, abi._outputs):
        cached.cache_clear()
    yield
    for cached in (abi.load_artifact, abi.load_abi, abi._inputs, abi._outputs):
        cached.cache_clear()


def test_a_call_with_structs_has_the_selector_of_its_tuple_types():
    call = abi.encode_call("Toy", "register", [(b"\x01" * 32, 384)])
    assert call[:4] == keccak(text="register((bytes32,uint32)[])")[:4]


def test_a_struct_is_read_by_field_name():
    output = b"\x02" * 32 + (384).to_bytes(32, "big")
    assert abi.decode_struct("Toy", "job", output) == {"root": b"\x02" * 32, "k": 384}


def test_a_cut_output_is_malformed():
    with pytest.raises(Malformed):
        abi.decode_output("Toy", "job", b"\x02" * 32)


def test_an_event_is_read_by_field_name():
    topic = abi.event_topic("Toy", "Asked")
    assert topic == keccak(text="Asked(uint256,bytes)")
    data = (32).to_bytes(32, "big") + (2).to_bytes(32, "big") + b"hi".ljust(32, b"\0")
    assert abi.decode_event("Toy", "Asked", [topic, (7).to_bytes(32, "big")], data) == {"job": 7, "input": b"hi"}
    with pytest.raises(Malformed):
        abi.decode_event("Toy", "Asked", [bytes(32), bytes(32)], data)


def test_an_argument_that_does_not_fit_is_malformed():
    with pytest.raises(Malformed):
        abi.encode_call("Toy", "job", -1)


def test_a_missing_artifact_names_the_next_command():
    with pytest.raises(abi.ArtifactMissing, match="make genesis"):
        abi.load_abi("Nobody")
