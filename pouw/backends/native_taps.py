"""A convolution of each channel by itself, as the compiler writes it, without the rows of taps that it gathers.

`embedding` by constant ids, `reshape`, `transpose_columns`, `reshape`, then `attention_scores` of one constant key with
a head for each channel: entry [row][channel * taps + tap] of the queries is table[ids[tap * rows + row]][channel].
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from pouw.hypergraph import Constant, Operator, OperatorOutput, Subgraph
from pouw.operators.types import Tensor

CHAIN = ("embedding", "reshape", "transpose_columns", "reshape")


def find(subgraph: Subgraph, readers: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """Yield for each such `attention_scores` the chain before it and itself; the chain may have several."""
    operators = subgraph.operators
    for first in range(len(operators)):
        chain = _chain(subgraph, readers, first)
        if chain is not None and all(
            _reads(operators[reader], chain[-1], operators[chain[1]]) for reader in readers[chain[-1]]
        ):
            for reader in readers[chain[-1]]:
                yield (*chain, reader)


def _chain(subgraph: Subgraph, readers: list[list[int]], first: int) -> tuple[int, ...] | None:
    operators = subgraph.operators
    members = [first]
    for name in CHAIN[1:]:
        found = readers[members[-1]]
        if len(found) != 1 or found[0] < 0 or operators[found[0]].rule.name != name:
            return None
        members.append(found[0])
    embedding, spread, turned, joined = (operators[member] for member in members)
    ids = embedding.tensors[0]
    if embedding.rule.name != CHAIN[0] or not isinstance(ids, Constant) or -1 in readers[members[-1]]:
        return None
    (count,) = ids.type.at({})
    (taps, wide, _), (rows, joint, _) = spread.attributes, joined.attributes
    whole = taps * rows == count and wide % rows == 0 and joint == wide // rows * taps
    flat = spread.attributes[2] == joined.attributes[2] == 0 and turned.attributes == (0, wide)
    return tuple(members) if whole and flat else None


def _reads(scores: Operator, queries: int, spread: Operator) -> bool:
    if scores.rule.name != "attention_scores" or scores.tensors[0] != OperatorOutput(queries):
        return False
    key, taps = scores.tensors[1], spread.attributes[0]
    _, head_size, first, *_ = scores.attributes
    return isinstance(key, Constant) and key.type.shape[0] == 1 and head_size == taps and first % taps == 0


def prepare(
    operators: tuple[Operator, ...], core: Any, constants: Mapping[bytes, Tensor]
) -> Callable[[Tensor], Tensor] | None:
    """Return a function of the table; None where the core has no kernel."""
    kernel = getattr(core.operators, "tap_scores", None)
    if kernel is None:
        return None
    ids, key = (
        np.ascontiguousarray(constants[of.root])
        for of in (operators[0].tensors[0], operators[-1].tensors[1])
        if isinstance(of, Constant)
    )
    channels, taps, first, key_offset, shift = operators[-1].attributes

    def run(table: Tensor) -> Tensor:
        try:
            made: Tensor = kernel(table, ids, key, [channels, taps], [first // taps, key_offset], shift)
        except (TypeError, ValueError):
            # a value that an operator does not take: its definition names the error
            made = operators[0].rule.compute((ids, table), operators[0].attributes)
            for operator in operators[1:-1]:
                made = operator.rule.compute((made,), operator.attributes)
            made = operators[-1].rule.compute((made, key), operators[-1].attributes)
        return made

    return run
