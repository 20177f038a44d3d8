"""Native calls on whatever Hypothesis finds: equal to the definitions, and safe for any bytes."""

from contextlib import suppress

import numpy as np
import pytest
from hyperdust_core import native_call
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import Invalid
from docs.examples.digits import model
from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import all_cases
from pouw.execution import run
from pouw.graph_encoding import compute_graph_id, decode, encode
from pouw.operators.elements import ELEMENT_RULES, compute_element, element_inputs, leaf_bytes, open_inputs
from pouw.operators.rules import RULE_BY_CODE, RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import dtype_by_name
from precompiles.calls import (
    decode_word,
    encode_data,
    encode_element_call,
    encode_model,
    encode_operator_call,
    encode_proven_element_call,
    encode_run_graph_call,
)

CALLS = ("opening", "operator", "element", "proven_element", "ticket", "run_graph")
CASES = [case for case in all_cases() if case[0] in ELEMENT_RULES and sum(t.nbytes for t in case[1]) < 2**16]
GRAPH, CONSTANTS = model.build(model.load_weights())
FILE = encode(GRAPH)
HELD = [CONSTANTS[root] for root in GRAPH.constants()]
IMAGE = model.image_tensor(np.arange(64) % 17)


def small(name):
    """The smallest case of an operator, for inputs that are short enough to mutate."""
    return min((case for case in CASES if case[0] == name), key=lambda case: sum(t.nbytes for t in case[1]))


def seeds():
    found = {call: [] for call in CALLS}
    for name in ELEMENT_RULES:
        _, tensors, attributes = small(name)
        rule = RULE_BY_NAME[name]
        found["operator"].append(encode_operator_call(rule, tensors, attributes))
        found["element"].append(encode_element_call(rule, tensors, attributes, 0))
        found["proven_element"].append(encode_proven_element_call(rule, tensors, attributes, 0))
    found["run_graph"].append(encode_run_graph_call(model.graph_id(GRAPH), (), FILE, HELD, [IMAGE]))
    return found


SEEDS = seeds()


@given(st.sampled_from(CASES), st.data())
@settings(max_examples=300, deadline=None)
def test_any_element_of_any_operator(case, data):
    name, tensors, attributes = case
    rule = RULE_BY_NAME[name]
    # other values of the same kind: what a case holds, shuffled (tables and sizes keep their meaning)
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    plain = {"matmul", "attention_scores", "causal_scores", "layer_norm", "rms_norm", "add", "argmax", "patches"}
    if name in plain | {"candidates", "draw"}:
        tensors = tuple(random.permuted(tensor, axis=None).reshape(tensor.shape) for tensor in tensors)
    expected = rule.compute(tensors, attributes).reshape(-1)
    index = data.draw(st.integers(0, expected.size - 1))
    types = [TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors]
    opened = open_inputs(rule, tensors, attributes, index)
    assert compute_element(rule, types, attributes, index, opened) == expected[index]
    assert sum(part.nbytes for part in opened) == leaf_bytes(rule, types, attributes)
    ranges = element_inputs(rule, tensors, attributes, index)
    assert [sum(end - start for start, end in each) for each in ranges] == [part.nbytes for part in opened]
    _, element = native_call("element", encode_element_call(rule, tensors, attributes, index))
    assert decode_word(element) == expected[index]
    _, proven = native_call("proven_element", encode_proven_element_call(rule, tensors, attributes, index))
    assert decode_word(proven) == expected[index]


@given(st.sampled_from(CALLS), st.binary(max_size=400))
@settings(max_examples=400, deadline=None)
def test_random_bytes_are_refused_or_answered(call, data):
    native_call(call, data)


@given(st.data())
@settings(max_examples=1500, deadline=None)
def test_mutated_inputs_are_refused_or_answered(data):
    call = data.draw(st.sampled_from([name for name in CALLS if SEEDS[name]]))
    mutated = bytearray(data.draw(st.sampled_from(SEEDS[call])))
    for _ in range(data.draw(st.integers(1, 4))):
        # headers are where the harm is: most places lie near the front
        place = min(data.draw(st.integers(0, 80)) * data.draw(st.sampled_from((1, 1, 1, 37))), len(mutated) - 1)
        kind = data.draw(st.sampled_from(("set", "cut", "insert")))
        if kind == "set":
            mutated[place] = data.draw(st.sampled_from((0, 1, 2, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
        elif kind == "cut" and len(mutated) > 1:
            del mutated[place : place + data.draw(st.integers(1, 40))]
        else:
            mutated[place:place] = data.draw(st.binary(max_size=40))
        mutated = mutated or bytearray(1)
    done = native_call(call, bytes(mutated))
    if call == "operator" and done is not None and done[1] is not None:
        check_against_definition(bytes(mutated), done[1])


def check_against_definition(data, output):
    """What a mutated call answers is what the definition says of the same tensors."""
    rule = RULE_BY_CODE[data[0]]
    attributes = [int.from_bytes(data[2 + 8 * i : 10 + 8 * i], "big", signed=True) for i in range(data[1])]
    at = 3 + 8 * data[1]
    tensors = []
    for _ in range(rule.arity):
        dtype = np.dtype({1: "i1", 2: "<i2", 3: "<i4", 4: "<i8", 5: "u1"}[data[at]])
        rank = data[at + 1]
        shape = [int.from_bytes(data[at + 2 + 4 * i : at + 6 + 4 * i], "big") for i in range(rank)]
        at += 2 + 4 * rank
        count = int(np.prod(shape, dtype=np.int64))
        tensors.append(np.frombuffer(data, dtype, count, at).reshape(shape))
        at += count * dtype.itemsize
    types = [TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors]
    assert rule.output_type(types, attributes).at({}) is not None
    with np.errstate(over="ignore"):
        assert encode_data(rule.compute(tensors, attributes)) == output


def run_python(file, inputs):
    graph = decode(file)
    return b"".join(map(encode_data, run(graph, CONSTANTS, inputs, {}, NumpyBackend()).outputs.values()))


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=64, max_size=64))
@settings(max_examples=50, deadline=None)
def test_run_graph_equals_execution(pixels):
    image = np.array(pixels, np.int16).reshape(1, 64)
    _, output = native_call("run_graph", encode_run_graph_call(model.graph_id(GRAPH), (), FILE, HELD, [image]))
    assert output == run_python(FILE, {"image": image})


@given(st.integers(0, len(FILE) - 1), st.integers(0, 255))
@settings(max_examples=600, deadline=None)
def test_both_decoders_agree_on_mutated_graphs(place, value):
    """With the id made anew: what the native decoder runs, Python decodes and runs to the same bytes."""
    file = bytearray(FILE)
    file[place] = value
    size = int.from_bytes(file[:4], "little")
    identity = compute_graph_id(bytes(file[4 : 4 + size]))
    done = native_call("run_graph", identity + encode_model((), bytes(file), HELD) + encode_data(IMAGE))
    native = None if done is None else done[1]
    python = None
    with suppress(Invalid):
        python = run_python(bytes(file), {decode(bytes(file)).inputs[0].name: IMAGE})
    assert native == python


def test_limits_of_a_call():
    assert native_call("operator", bytes(2**17 + 1)) is None
    with pytest.raises(ValueError, match="no native call"):
        native_call("nothing", b"")
