"""Neurons whose values are many times larger than their layer's are computed several times, their weights shared out.

Behind an activation a product has 7 bits, and one scale for a row: a single large neuron leaves few of them to all
others. Split into copies, each with a share of the outgoing weights, it fits, at a fraction of a percent more work.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pouw.compiler.calibration import choose_copies
from pouw.compiler.program import Float, Program
from pouw.operators.arithmetic import Int16
from pouw.ticket import ShapeRefused, check_shape

NEURONS_FOR_A_COPY = 192  # MiniLM: 8 copies for 1,536 gave the best mean and least cosine, more gave no better


def split_neurons(program: Program, largest: Mapping[int, Float]) -> tuple[Program, dict[int, Float]]:
    """Return an equal program with copies in each pair of layers around an activation, and its largest values.

    largest: node -> float[width] as `observe_columns` gives it.
    """
    nodes, values, readers = list(program.nodes), dict(largest), program.readers()
    outputs = set(program.outputs.values())
    for outer, node in enumerate(program.nodes):
        if node.kind != "linear" or program.nodes[node.sources[0]].kind != "activation":
            continue
        middle = node.sources[0]
        inner = program.nodes[middle].sources[0]
        alone = readers[middle] == [outer] and readers[inner] == [middle] and not outputs & {middle, inner}
        weight = node.arrays["weight"]  # (n, k)
        if not alone or program.nodes[inner].kind != "linear" or not _may_mine(weight):
            continue
        copies = choose_copies(values[middle] * np.abs(weight).max(axis=0), weight.shape[1] // NEURONS_FOR_A_COPY)
        shares = 1 + np.bincount(copies, minlength=weight.shape[1])  # (k,)
        shared = (weight / shares).astype(np.float32)
        nodes[outer] = replace(node, arrays={**node.arrays, "weight": _with(shared.T, copies).T})
        held = nodes[inner].arrays
        nodes[inner] = replace(nodes[inner], arrays={name: _with(held[name], copies) for name in ("weight", "bias")})
        for index in (inner, middle):
            values[index] = _with(values[index], copies)
    return replace(program, nodes=tuple(nodes)), values


def _may_mine(weight: Float) -> bool:
    try:
        check_shape(16, *weight.shape)
    except ShapeRefused:
        return False
    return True


def _with(rows: Float, copies: Int16) -> Float:
    """Return rows, and some of them again."""
    return np.concatenate([rows, rows[copies]])
