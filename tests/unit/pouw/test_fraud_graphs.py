"""The graphs that ship: a wrong value of an operator of each kind is found and convicted, and by that operator."""

from functools import cache

import numpy as np
import pytest

from hyperdust import graph as g
from pouw.fraud import VerdictKind, build_proof, check_proof, find_difference
from tests.unit.fraud_harness import Case, Liar, flip, output_of

EVIDENCE_MAX = 16_384  # of graphs of this size
LONGEST = np.resize(np.arange(1000, 1255), 256).astype(np.int32)


@cache
def case_of(name: str) -> Case:
    loaded = g.load_graph(name)
    inputs = g.input_tensors(loaded, None if name.startswith("render") else "Every block", None)
    symbols = dict(g.symbols_of(loaded.graph, inputs))
    if loaded.graph.scan is not None:
        symbols[loaded.graph.scan.limit] = 4
    return Case(loaded.graph, loaded.constants, inputs, symbols)


@cache
def own_of(name: str):
    return case_of(name).execute()


def visible_fault(name: str, step: int, operator: int):
    """A bit flip that changes the trace: rounding swallows most small errors."""
    case, own = case_of(name), own_of(name)
    random = np.random.default_rng(operator)
    for bit in (3, 5, 6, 7, 9, 11, 13):
        bad = case.execute(flip(step, operator, int(random.integers(2**31)), bit))
        if Liar(bad).trace_root != Liar(own).trace_root:
            return bad
    raise AssertionError(f"no fault of operator {operator} shows")


@pytest.mark.parametrize(
    ("name", "step", "operator", "kind"),
    [
        ("llama-tiny", 3, 0, VerdictKind.ELEMENT),  # embedding
        ("llama-tiny", 2, 5, VerdictKind.ELEMENT),  # matmul
        ("llama-tiny", 3, 10, VerdictKind.ELEMENT),  # causal_scores, over the keys of all steps
        ("llama-tiny", 0, 12, VerdictKind.ELEMENT),  # grouped_mix
        ("llama-tiny", 1, 98, VerdictKind.ELEMENT),  # sample
        ("minilm", 0, 2, VerdictKind.ELEMENT),  # layer_norm
        ("minilm", 0, 10, VerdictKind.ELEMENT),  # grouped_mix
        ("minilm", 0, 156, VerdictKind.ELEMENT),  # grouped_mix, the mean over rows
        ("render_island", 0, 6, VerdictKind.WITNESS),  # rasterize
        ("render_island", 0, 11, VerdictKind.ELEMENT),  # shade
    ],
)
def test_a_wrong_value_in_a_graph_that_ships(name, step, operator, kind):
    case, own = case_of(name), own_of(name)
    bad = visible_fault(name, step, operator)
    facts = case.facts(Liar(bad).trace_root, output_of(bad))
    difference = find_difference(facts, own, Liar(bad), output_of(bad))
    assert difference is not None
    proof = build_proof(facts, own, difference, case.job_input, output_of(bad))
    verdict = check_proof(facts, proof.evidence)
    assert (verdict.kind, verdict.step, verdict.operator) == (kind, step, operator)
    assert len(proof.evidence) < EVIDENCE_MAX


@cache
def longest_text():
    loaded = g.load_graph("minilm")
    case = Case(loaded.graph, loaded.constants, {"ids": LONGEST}, {"S": len(LONGEST)})
    return case, case.execute()


@pytest.mark.parametrize("operator", [8, 10, 156, 157])
def test_attention_and_the_mean_are_proven_at_the_longest_text(operator):
    case, own = longest_text()
    for bit in (13, 14, 11, 9, 7):
        bad = case.execute(flip(0, operator, 5000, bit))
        if Liar(bad).trace_root != Liar(own).trace_root:
            break
    facts = case.facts(Liar(bad).trace_root, output_of(bad))
    difference = find_difference(facts, own, Liar(bad), output_of(bad))
    assert difference is not None
    proof = build_proof(facts, own, difference, case.job_input, output_of(bad))
    assert check_proof(facts, proof.evidence).operator == operator
    assert len(proof.evidence) < EVIDENCE_MAX
