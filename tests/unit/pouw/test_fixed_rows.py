"""Nodes of a program on a fixed number of rows: integers stay close to floats, the same on every backend."""

import numpy as np
import pytest

from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import list_backends, load_backend
from pouw.compiler.aten_taps import tap_ids, upward_ids
from pouw.compiler.program import Node, Program, UnmappableOperator, evaluate
from pouw.compiler.quantise import quantise
from pouw.compiler.ranges import observe_columns
from pouw.compiler.report import cosine
from pouw.execution import run, trace_root
from pouw.graph_encoding import encode
from precompiles.graph_facts import read_facts

BACKENDS = [NumpyBackend(), *(load_backend(name) for name in list_backends()[0] if name == "native")]
RNG = np.random.default_rng(5)
SIDE = 6
IDS, _, _ = tap_ids((SIDE, SIDE), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
UPWARD, _, _ = upward_ids((SIDE, SIDE), (2, 2), (2, 2), (0, 0), (0, 0), (1, 1))


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def affine(width):
    return {"gamma": floats(width), "beta": floats(width)}


def nodes(kind, rows, width):
    """A program of one node of a kind, behind an input of rows."""
    half = width // 2
    arrays, numbers, sources = {}, {}, (0,)
    if kind == "depthwise":
        arrays = {"ids": IDS, "weight": floats(width, 9), "bias": floats(width)}
    elif kind == "taps":
        arrays = {"ids": UPWARD}
    elif kind == "gather":
        arrays = {"ids": np.array([3, -1, 0, rows - 1], dtype=np.int32)}
    elif kind == "blend":
        arrays = {"ids": IDS[:, :2], "weight": np.full((rows, 2), 0.375, dtype=np.float32)}
    elif kind == "group_norm":
        arrays, numbers = affine(width), {"groups": 2, "epsilon": 1e-5}
    elif kind == "columns":
        numbers = {"first": half, "count": half}
    elif kind == "join":
        sources = (0, 0)
    elif kind == "rms":
        arrays, numbers = {"gamma": floats(width)}, {"epsilon": 1e-6}
    elif kind == "rope":
        angles = np.arange(rows)[:, None] * 0.7 ** np.arange(half)
        table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        arrays, numbers = {"table": table}, {"heads": 1, "head_size": width}
    given = Node("rows", "x", numbers={"width": width})
    return Program((given, Node(kind, kind, sources, arrays, numbers)), {"y": 1}, rows, rows)


CASES = {
    **dict.fromkeys(("depthwise", "taps", "gather", "blend", "columns", "join", "turned", "rms"), (SIDE * SIDE, 8)),
    "rope": (SIDE * SIDE, 8),
    "group_norm": (SIDE * SIDE, 8),
    "group_norm of long rows": (600, 8),
    "group_norm of several rows": (5000, 8),
}


@pytest.mark.parametrize("name", CASES)
def test_integers_stay_close(name):
    rows, width = CASES[name]
    program = nodes(name.partition(" ")[0], rows, width)
    inputs = [{"x": floats(rows, width) * 3 + 1} for _ in range(3)]
    made = quantise("x", program, observe_columns(program, inputs), "none")
    read_facts(encode(made.built.graph))  # the registry would take it
    given = {"x": np.rint(inputs[0]["x"] * made.input_scales["x"]).astype(np.int16)}
    found = [run(made.built.graph, made.built.constants, given, {}, backend) for backend in BACKENDS]
    assert len({trace_root(one) for one in found}) == 1
    wanted = evaluate(program, inputs[0])["y"]
    assert cosine(found[0].outputs["y"], wanted) > 0.9999
    assert np.abs(found[0].outputs["y"] / made.output_scales["y"] - wanted).max() < 0.02 * np.abs(wanted).max()


def test_a_group_that_cannot_be_cut_is_named():
    program = nodes("group_norm", 8209, 2)  # a prime number of rows, longer than one row of a norm
    inputs = [{"x": floats(8209, 2)}]
    with pytest.raises(UnmappableOperator, match="group_norm: groups of 8209 values.*group_norm"):
        quantise("x", program, observe_columns(program, inputs), "none")


def test_taps_are_those_of_a_convolution():
    assert IDS[0].tolist() == [-1, -1, -1, -1, 0, 1, -1, SIDE, SIDE + 1]
    wide, high, across = tap_ids((4, 5), (1, 3), (2, 1), (0, 0, 2, 2), (1, 2))
    assert (high, across) == (2, 5)
    assert wide[0].tolist() == [-1, 0, 2]
    assert wide[-1].tolist() == [12, 14, -1]
    assert UPWARD[0].tolist() == [0, -1, -1, -1]
    assert UPWARD[1].tolist() == [-1, 0, -1, -1]
