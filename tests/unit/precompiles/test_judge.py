"""The judge in the engine: words for what is shown, nothing and no gas left for everything else."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.engine import BlockEnvironment, CallMessage, call
from pouw.fraud import Facts, Question, QuestionKind, VerdictKind, build_proof, check_question, find_difference
from precompiles.judge import INPUT_BYTES_MAX, judge
from precompiles.registry import JUDGE, PRECOMPILES
from tests.unit.fraud_harness import Liar, flip, loop_case, output_of, plain_case

ENVIRONMENT = BlockEnvironment(
    chain_id=7, fork="Osaka", number=1, timestamp=1, coinbase=bytes(20), gas_limit=30_000_000, base_fee=0,
    prev_randao=bytes(32), parent_hash=None, parent_beacon_root=None,
)  # fmt: skip
GAS = 16_000_000


def case_of(case, step, operator, place, bit):
    own = case.execute()
    bad = case.execute(flip(step, operator, place, bit))
    liar = Liar(bad)
    facts = case.facts(liar.trace_root, output_of(bad))
    difference = find_difference(facts, own, liar, output_of(bad))
    return facts, liar, build_proof(facts, own, difference, case.job_input, output_of(bad))


LOOP = case_of(loop_case(), 4, 2, 10, 13)
PLAIN = case_of(plain_case(), 0, 3, 5, 3)


def words(output: bytes) -> list[int]:
    assert len(output) % 32 == 0
    return [int.from_bytes(output[at : at + 32], "big") for at in range(0, len(output), 32)]


def run(data: bytes):
    message = CallMessage(b"s" * 20, JUDGE, data, gas=GAS)
    return call(ENVIRONMENT, message, lambda keys: [None] * len(keys), precompiles=PRECOMPILES)


@pytest.mark.parametrize(("facts", "liar", "proof"), [LOOP, PLAIN], ids=["loop", "plain"])
def test_a_proof_is_seven_words(facts, liar, proof):
    found = judge(b"\1" + facts.encode() + proof.evidence)
    verdict = proof.verdict
    assert found is not None
    assert len(found) == 224
    guilty, kind, step, operator, element, list_hash, subgraph = words(found)
    assert (guilty, kind, step, operator) == (1, verdict.kind, verdict.step, verdict.operator)
    assert (element, subgraph) == (verdict.element, verdict.subgraph)
    assert list_hash.to_bytes(32, "big") == verdict.list_hash
    assert liar.asked


def test_a_question_names_the_list_that_it_rests_on():
    facts, liar, _ = LOOP
    seen = 0
    for demand in liar.asked:
        asked = check_question(facts, demand.data)
        found = judge(b"\2" + facts.encode() + demand.data)
        place = demand.question.step << 32 | demand.question.subgraph
        head = asked.key + int(demand.question.kind).to_bytes(32, "big")
        assert found == head + asked.list_hash + place.to_bytes(32, "big")
        seen += any(asked.list_hash)
    assert 0 < seen < len(liar.asked)


def test_an_answer_is_three_words():
    facts, liar, proof = LOOP
    for demand in liar.asked:
        answer = liar.own.answer(demand.question).data
        data = b"\3" + facts.encode() + len(demand.data).to_bytes(4, "big") + demand.data + answer
        found = judge(data)
        assert found is not None
        ok, list_hash, place = words(found)
        is_list = demand.question.kind is QuestionKind.OPERATOR_ROOTS
        assert list_hash.to_bytes(32, "big") == (proof.verdict.list_hash if is_list else bytes(32))
        assert (ok, place) == (1, demand.question.step << 32 | demand.question.subgraph)
        assert judge(data + b"\0") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"\0" + data[1:],
        lambda data: b"\5" + data[1:],
        lambda data: data[:40],
        lambda _: b"",
        lambda data: data[:1] + bytes(32) + data[33:],
        lambda data: data[:33] + bytes(32) + data[65:],
        lambda data: data + bytes(INPUT_BYTES_MAX),
    ],
)
def test_everything_else_is_nothing(change):
    facts, _, proof = PLAIN
    data = b"\1" + facts.encode() + proof.evidence
    assert judge(data) is not None
    assert judge(change(data)) is None


def test_in_the_engine():
    facts, _, proof = LOOP
    data = b"\1" + facts.encode() + proof.evidence
    done = run(data)
    assert done.success
    assert words(done.output)[:2] == [1, VerdictKind.ELEMENT]
    failed = run(b"\1" + replace(facts, symbols=(4, 6)).encode() + proof.evidence)
    assert not failed.success
    assert failed.output == b""


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"\1", b"\2", b"\3", b"\4"]))
def test_any_bytes_are_safe(data, mode):
    facts = PLAIN[0]
    assert judge(data) is None
    assert judge(mode + facts.encode() + data) is None


def test_a_question_about_the_trace_root_needs_the_graph_alone():
    facts, liar, _ = PLAIN
    demand = liar.asked[0]
    assert demand.question == Question(QuestionKind.TRACE_CHILDREN)
    assert judge(b"\2" + facts.encode() + demand.data) is not None
    assert judge(b"\2" + Facts.encode(replace(facts, graph=bytes(32))) + demand.data) is None
