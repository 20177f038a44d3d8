"""Every fault that a trace shows is convicted where it is; nothing convicts an honest provider."""

from dataclasses import replace
from functools import cache

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chain.errors import Invalid
from pouw.fraud import (
    OwnTrace,
    Question,
    VerdictKind,
    build_proof,
    check_answer,
    check_proof,
    check_question,
    find_difference,
    list_hash,
)
from pouw.fraud_codec import Cursor, Path, decode_evidence, encode_evidence
from pouw.operators.errors import TensorOutOfRange
from pouw.trace import tensor_root
from tests.unit.fraud_harness import Case, Liar, flip, loop_case, output_of, plain_case

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CASES = st.one_of(
    st.tuples(st.just("plain"), st.integers(1, 6), st.sampled_from([1, 3, 70, 90]), st.just(1)),
    st.tuples(st.just("loop"), st.integers(1, 6), st.integers(1, 6), st.integers(1, 8)),
)
FAULTS = st.tuples(st.integers(0, 7), st.integers(0, 9), st.integers(0, 10**6), st.integers(0, 30))


@cache
def honest(kind: str, seed: int, rows: int, limit: int) -> tuple[Case, OwnTrace]:
    case = plain_case(seed, rows) if kind == "plain" else loop_case(seed, rows, limit)
    return case, case.execute()


def wrong(case: Case, own: OwnTrace, fault: tuple[int, int, int, int]) -> tuple[tuple[int, int], Liar, bytes]:
    step, operator = fault[0] % own.steps, fault[1] % case.graph.operator_count()
    try:
        bad = case.execute(flip(step, operator, fault[2], fault[3]))
    except TensorOutOfRange:
        bad = own  # what nobody can go on from shows in no trace
    liar = Liar(bad)
    assume(liar.trace_root != Liar(own).trace_root)
    return (step, operator), liar, output_of(bad)


@SETTINGS
@given(CASES, FAULTS)
def test_every_fault_that_shows_is_convicted_where_it_is(kind, fault):
    case, own = honest(*kind)
    place, liar, output = wrong(case, own, fault)
    facts = case.facts(liar.trace_root, output)
    difference = find_difference(facts, own, liar, output)
    assert difference is not None
    proof = build_proof(facts, own, difference, case.job_input, output)
    verdict = check_proof(facts, proof.evidence)
    assert (verdict.step, verdict.operator) == place
    assert verdict.kind in {VerdictKind.ELEMENT, VerdictKind.WITNESS}
    path, claim = decode_evidence(proof.evidence)
    assert encode_evidence(path, claim) == proof.evidence


@SETTINGS
@given(CASES, FAULTS, st.data())
def test_no_evidence_convicts_the_honest(kind, fault, data):
    """Evidence against a wrong provider with honest commitments put in, then changed anywhere."""
    case, own = honest(*kind)
    _, liar, output = wrong(case, own, fault)
    facts = case.facts(liar.trace_root, output)
    difference = find_difference(facts, own, liar, output)
    path, claim = decode_evidence(build_proof(facts, own, difference, case.job_input, output).evidence)
    place = (claim.step, claim.subgraph)
    listed = tuple(map(tensor_root, own.inside(*place).tensors))
    honest_path = Path(
        path.top_layer,
        own.trace_children(),
        tuple((step, own.step_roots(step)) for step, _ in path.steps),
        tuple((step, number, own.port_roots(step, number)) for step, number, _ in path.ports),
        None if path.operators is None else listed,
        case.job_input,
        output_of(own),
    )
    claim = replace(
        claim,
        kind=data.draw(st.sampled_from([kind for kind in VerdictKind if kind != VerdictKind.WITHHELD])),
        variant=data.draw(st.integers(0, 4)),
        element=data.draw(st.one_of(st.just(claim.element), st.integers(0, 2000))),
        step=data.draw(st.one_of(st.just(claim.step), st.integers(0, 8))),
        subgraph=data.draw(st.one_of(st.just(claim.subgraph), st.integers(0, 3))),
        operator=data.draw(st.one_of(st.just(claim.operator), st.integers(0, 7))),
    )
    evidence = bytearray(encode_evidence(honest_path, claim))
    for _ in range(data.draw(st.integers(0, 2))):
        evidence[data.draw(st.integers(0, len(evidence) - 1))] ^= data.draw(st.integers(0, 255))
    honest_facts = case.facts(Liar(own).trace_root, output_of(own))
    try:
        verdict = check_proof(honest_facts, bytes(evidence))
    except Invalid:
        return
    # the one thing that evidence brings itself is a list, and the honest one signed only his own, for its own place
    assert any(verdict.list_hash)
    signed = b"".join(map(tensor_root, own.inside(verdict.step, verdict.subgraph).tensors))
    assert verdict.list_hash != list_hash(signed)


@SETTINGS
@given(CASES, FAULTS, st.data())
def test_the_honest_can_answer_whatever_may_be_demanded(kind, fault, data):
    """Demands made on the way to a wrong provider, with honest commitments put in, then changed anywhere."""
    case, own = honest(*kind)
    _, liar, output = wrong(case, own, fault)
    find_difference(case.facts(liar.trace_root, output), own, liar, output)
    demand = data.draw(st.sampled_from(liar.asked))
    facts = case.facts(Liar(own).trace_root, output_of(own))
    asked = replace(
        demand.question,
        step=data.draw(st.integers(0, 8)) if demand.question.step else 0,
        subgraph=data.draw(st.integers(0, 3)) if demand.question.subgraph else 0,
        operator=data.draw(st.integers(0, 6)) if demand.question.operator else 0,
        level=data.draw(st.integers(0, 3)) if demand.question.level else 0,
        index=data.draw(st.integers(0, 400)) if demand.question.index else 0,
    )
    cursor = Cursor(demand.data, Question.SIZE_BYTES)
    path = Path.read(cursor)
    # without the list: one that rests on it is only taken with the signature of the very list
    honest_path = Path(
        path.top_layer,
        None if path.trace_children is None else own.trace_children(),
        tuple((step, own.step_roots(step)) for step, _ in path.steps),
        tuple((step, number, own.port_roots(step, number)) for step, number, _ in path.ports),
    )
    changed = bytearray(asked.encode() + honest_path.encode() + demand.data[cursor.position :])
    for _ in range(data.draw(st.integers(0, 1))):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(0, 255))
    try:
        found = check_question(facts, bytes(changed))
    except Invalid:
        return
    if any(found.list_hash):
        return
    check_answer(facts, bytes(changed), own.answer(found.question).data)
