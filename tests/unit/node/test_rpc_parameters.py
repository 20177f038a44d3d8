import pytest

from hyperdust.node.rpc import parsing
from hyperdust.node.rpc.errors import InvalidParams, Reverted
from hyperdust.node.rpc.parameters import BlockReference
from hyperdust.node.rpc.table import DEBUG_METHODS, METHODS, build_table


@pytest.mark.parametrize(("text", "number"), [("0x0", 0), ("0x1", 1), ("0xff", 255), ("0XaB", 171)])
def test_quantities_parse(text, number):
    assert parsing.parse_quantity(text) == number


@pytest.mark.parametrize("text", ["0x", "", "1", "0x01", "0x00", "0xg", "0x" + "f" * 65, 1, None, True, "0x-1", "0x 1"])
def test_bad_quantities_are_refused(text):
    with pytest.raises(InvalidParams):
        parsing.parse_quantity(text)


@pytest.mark.parametrize("value", ["0x1", "00", "0xzz", None, 5, ["0x00"]])
def test_bad_data_is_refused(value):
    with pytest.raises(InvalidParams):
        parsing.parse_data(value)


def test_blocks_parse_in_all_their_forms():
    block_hash = "0x" + "ab" * 32
    assert parsing.parse_block("latest") == BlockReference(tag="latest")
    assert parsing.parse_block("0x10") == BlockReference(number=16)
    assert parsing.parse_block(block_hash) == BlockReference(hash=bytes.fromhex("ab" * 32))
    assert parsing.parse_block({"blockNumber": "0x10"}) == BlockReference(number=16)
    strict = {"blockHash": block_hash, "requireCanonical": True}
    assert parsing.parse_block(strict) == BlockReference(hash=bytes.fromhex("ab" * 32), require_canonical=True)


@pytest.mark.parametrize(
    "value", ["newest", "10", "0x010", {}, {"blockHash": "0x00"}, {"blockHash": "0x", "blockNumber": "0x1"}, 10, []]
)
def test_bad_blocks_are_refused(value):
    with pytest.raises(InvalidParams):
        parsing.parse_block(value)


def test_input_goes_before_data():
    assert parsing.parse_call({"data": "0x01"}).data == b"\1"
    assert parsing.parse_call({"input": "0x01"}).data == b"\1"
    assert parsing.parse_call({"input": "0x01", "data": "0x01"}).data == b"\1"
    assert parsing.parse_call({"input": "0x01", "data": "0x02"}).data == b"\1"
    with pytest.raises(InvalidParams):
        parsing.parse_call({"gasPrice": "0x1", "maxFeePerGas": "0x1"})
    with pytest.raises(InvalidParams):
        parsing.parse_call({"maxPriorityFeePerGas": "0x2", "maxFeePerGas": "0x1"})


def test_filters_parse():
    topic = "0x" + "01" * 32
    wanted = parsing.parse_log_filter({"address": "0x" + "02" * 20, "topics": [None, topic, [topic, None], []]})
    assert wanted.addresses == {b"\2" * 20}
    assert wanted.topics == (frozenset(), frozenset({b"\1" * 32}), frozenset(), frozenset())
    for bad in (
        {"blockHash": topic, "fromBlock": "0x1"},
        {"topics": [None] * 5},
        {"address": "0x1"},
        {"fromBlock": "1"},
    ):
        with pytest.raises(InvalidParams):
            parsing.parse_log_filter(bad)


def test_storage_keys_may_be_short_but_not_long():
    assert parsing.parse_slot("0x0") == bytes(32)
    assert parsing.parse_slot("0x" + "0" * 64) == bytes(32)
    for bad in ("0xasdf", "0x" + "0" * 65, 0):
        with pytest.raises(InvalidParams):
            parsing.parse_slot(bad)


@pytest.mark.parametrize(("value", "count"), [("0x5", 5), (5, 5), ("5", 5)])
def test_counts_come_in_three_notations(value, count):
    assert parsing.parse_count(value) == count


@pytest.mark.parametrize("value", ["5", ["5"], [True], [None], [0] * 101])
def test_bad_percentiles_are_refused(value):
    with pytest.raises(InvalidParams):
        parsing.parse_percentiles(value)


def test_revert_reasons_are_read():
    text = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + (2).to_bytes(32, "big") + b"no".ljust(32, b"\0")
    assert Reverted(text).as_json() == {
        "code": 3,
        "message": "execution reverted: no",
        "data": "0x" + text.hex(),
    }
    panic = bytes.fromhex("4e487b71") + (0x11).to_bytes(32, "big")
    assert "arithmetic underflow or overflow" in Reverted(panic).message
    for odd in (b"", b"\1\2", bytes.fromhex("08c379a0") + b"\xff" * 40):
        assert Reverted(odd).message == "execution reverted"


def test_every_parameter_of_every_method_has_a_parser():
    table = build_table(debug_enabled=True)
    assert set(table) == {*METHODS, *DEBUG_METHODS}
    for method in table.values():
        assert all(parameter.type in parsing.PARSERS for parameter in method.parameters), method.name
        assert method.handler.__doc__
