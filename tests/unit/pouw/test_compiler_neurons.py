"""Large neurons are split: the program stays equal, the integers come closer, what is read elsewhere stays whole."""

from dataclasses import replace

import numpy as np
import pytest

from pouw.backends.reference import NumpyBackend
from pouw.compiler.folder import Evaluation
from pouw.compiler.neurons import split_neurons
from pouw.compiler.program import Node, Program, evaluate
from pouw.compiler.quantise import quantise
from pouw.compiler.ranges import observe_columns
from pouw.compiler.report import measure_fidelity

WIDTH, INNER = 64, 768


def program(large=100.0, outputs=("outer",), outer=16):
    random = np.random.default_rng(5)

    def linear(n, k):
        weight = (random.standard_normal((n, k)) / np.sqrt(k)).astype(np.float32)
        return {"weight": weight, "bias": np.zeros(n, dtype=np.float32)}

    first = linear(INNER, WIDTH)
    first["weight"][[3, 500]] *= large
    nodes = (
        Node("rows", "x", numbers={"width": WIDTH}),
        Node("linear", "inner", (0,), arrays=first),
        Node("activation", "middle", (1,), function="relu"),
        Node("linear", "outer", (2,), arrays=linear(outer, INNER)),
    )
    places = {node.label: place for place, node in enumerate(nodes)}
    return Program(nodes, {name: places[name] for name in outputs}, 64)


def inputs(count):
    random = np.random.default_rng(count)
    return [{"x": random.standard_normal((16, WIDTH)).astype(np.float32)} for _ in range(count)]


def test_copies_share_the_weights_of_their_neuron():
    whole = program()
    largest = observe_columns(whole, inputs(3))
    split, values = split_neurons(whole, largest)
    assert len(split.nodes[1].arrays["weight"]) == INNER + INNER // 192 == len(values[2])
    x = inputs(2)[0]
    got, want = evaluate(split, x)["outer"], evaluate(whole, x)["outer"]
    assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()
    seen = observe_columns(split, inputs(3))
    assert all(np.allclose(seen[place], values[place], rtol=1e-4, atol=1e-4) for place in values)


def test_integers_come_closer():
    whole, seen = program(), inputs(8)
    largest = observe_columns(whole, seen)
    made = quantise("g", whole, largest)
    (operand,) = made.built.graph.mining_operands()
    assert operand.k == INNER + INNER // 192
    scale = made.input_scales["x"]
    found = [
        Evaluation({"x": np.rint(given["x"] * scale).astype(np.int16)}, evaluate(whole, given)) for given in inputs(4)
    ]
    with_copies = measure_fidelity(made.built.graph, made.built.constants, found, NumpyBackend())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pouw.compiler.quantise.split_neurons", lambda program, largest: (program, largest))
        plain = quantise("g", whole, largest)
    without = measure_fidelity(plain.built.graph, plain.built.constants, found, NumpyBackend())
    assert with_copies.cosine_min > without.cosine_min


@pytest.mark.parametrize(
    "made",
    [
        program(outputs=("outer", "middle")),
        program(outputs=("outer", "inner")),
        program(outer=12),  # no whole tiles: it is not mined
        replace(program(), nodes=(*program().nodes, Node("activation", "again", (1,), function="relu"))),
    ],
)
def test_what_others_read_stays_whole(made):
    largest = observe_columns(made, inputs(1))
    assert split_neurons(made, largest) == (made, largest)
