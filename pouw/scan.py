"""What makes a graph a decoding loop: one scan, histories, and the bound of its MACs over all steps (ADR 7)."""

from dataclasses import dataclass
from math import comb

from chain.errors import Mismatch
from pouw.operators.types import TensorType, Term

STEP_ROWS, ROWS_SO_FAR = "R", "H"
"""Dimensions within a scan: rows of this step (the prompt's at step 0, then 1), and of all steps up to this one."""


class BadScan(Mismatch):
    """A scan names tensors or symbols that do not fit it, or a history where there is none."""


@dataclass(frozen=True, slots=True)
class History:
    """A subgraph's input: the named tensor of all steps up to this one, joined along its dimension R."""

    name: str


@dataclass(frozen=True, slots=True)
class Scan:
    """The one loop of a graph: its top layer runs once for each step. Step 0 reads the prompt, later ones one token."""

    input: str
    """The graph's input int32[symbol] that is the prompt; within a step int32[R]."""
    output: str
    """The tensor int32[1] that a step makes and the next one reads; all of them are the graph's output."""
    stop: int
    """The step whose output is this one is the last; -1 for none."""
    limit: str
    """The symbol that is the largest number of steps."""


def history_axis(name: str, tensor: TensorType) -> int:
    """Return the dimension along which a tensor's steps are joined: its only R.

    Raises:
        BadScan: it has none or several, or already counts the rows so far.
    """
    if tensor.shape.count(STEP_ROWS) != 1 or ROWS_SO_FAR in tensor.shape:
        raise BadScan(f"history of {name}", tensor, f"one dimension {STEP_ROWS}, none {ROWS_SO_FAR}")
    return tensor.shape.index(STEP_ROWS)


def bound_steps(terms: list[Term], prompt: str, limit: str) -> list[Term]:
    """Return terms in the graph's symbols that bound the sum of these over all steps.

    `prompt` and `limit` name the symbols S and T. R^a H^b adds up to at most (S + T)^(a + b) for a > 0, for a = 0 to
    T (S + T)^b: the rows of all steps are S + T - 1, and no step has more than that so far.
    """
    bounds = []
    for term in terms:
        rows, so_far = term.symbols.count(STEP_ROWS), term.symbols.count(ROWS_SO_FAR)
        others = [name for name in term.symbols if name not in {STEP_ROWS, ROWS_SO_FAR}]
        if rows == 0:
            others.append(limit)
        degree = rows + so_far
        for power in range(degree + 1):
            powers = [prompt] * power + [limit] * (degree - power)
            bounds.append(Term(term.coefficient * comb(degree, power), tuple(sorted(others + powers))))
    return bounds
