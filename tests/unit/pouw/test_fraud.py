"""A wrong provider is found and convicted by one proof; each kind of fault has its own, and its rejecting twin."""

from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3

from chain.hashing import H, keccak256
from pouw.fraud import (
    Demand,
    Facts,
    FalseAnswer,
    Form,
    NoFault,
    NotCommitted,
    NotGuilty,
    OwnTrace,
    Proof,
    Question,
    QuestionKind,
    TreeNode,
    VerdictKind,
    Withheld,
    build_proof,
    check_answer,
    check_proof,
    check_question,
    find_difference,
    list_hash,
    prove_refused_job,
)
from pouw.fraud_codec import Claim, Path, decode_evidence, encode_evidence
from pouw.fraud_question import encode_demand
from pouw.fraud_tensor import open_chunks
from pouw.graph_encoding import encode_top_layer
from pouw.trace import INT32, root_of_bytes, tensor_root
from tests.unit.fraud_harness import BACKEND, Case, Liar, flip, loop_case, output_of, plain_case

PLAIN, LOOP = plain_case(), loop_case()
HONEST = {"plain": PLAIN.execute(), "loop": LOOP.execute()}


def convict(case: Case, liar: Liar, output: bytes, own: OwnTrace | None = None) -> Proof:
    facts = case.facts(liar.trace_root, output)
    own = own or HONEST[case.graph.name]
    difference = find_difference(facts, own, liar, output)
    assert difference is not None
    proof = build_proof(facts, own, difference, case.job_input, output)
    assert check_proof(facts, proof.evidence) == proof.verdict
    assert bool(proof.signature) == any(proof.verdict.list_hash)
    return proof


def convict_fault(case: Case, step: int, operator: int, place: int, bit: int) -> Proof:
    bad = case.execute(flip(step, operator, place, bit))
    return convict(case, Liar(bad), output_of(bad))


@pytest.mark.parametrize("case", [PLAIN, LOOP], ids=["plain", "loop"])
def test_an_honest_provider_differs_in_nothing(case):
    own = HONEST[case.graph.name]
    facts = case.facts(Liar(own).trace_root, output_of(own))
    assert find_difference(facts, own, Liar(case.execute()), output_of(own)) is None


@pytest.mark.parametrize(
    ("case", "step", "operator", "place", "bit", "kind", "rests_on_list"),
    [
        (PLAIN, 0, 0, 17, 5, VerdictKind.ELEMENT, False),
        (PLAIN, 0, 1, 3, 20, VerdictKind.ELEMENT, True),
        (PLAIN, 0, 2, 9, 2, VerdictKind.ELEMENT, True),
        (PLAIN, 0, 3, 70 * 1200 - 1, 3, VerdictKind.ELEMENT, False),
        (PLAIN, 0, 5, 0, 3, VerdictKind.WITNESS, True),
        (PLAIN, 0, 6, 100, 5, VerdictKind.ELEMENT, False),
        (LOOP, 0, 0, 17, 7, VerdictKind.ELEMENT, False),
        (LOOP, 3, 0, 3, 7, VerdictKind.ELEMENT, False),
        (LOOP, 2, 1, 3, 7, VerdictKind.ELEMENT, False),
        (LOOP, 4, 2, 10, 13, VerdictKind.ELEMENT, True),
        (LOOP, 4, 3, 10, 13, VerdictKind.ELEMENT, True),
        (LOOP, 5, 4, 6, 7, VerdictKind.ELEMENT, True),
        (LOOP, 1, 9, 0, 1, VerdictKind.ELEMENT, True),
    ],
)
def test_a_wrong_value_is_found_and_convicted(case, step, operator, place, bit, kind, rests_on_list):
    verdict = convict_fault(case, step, operator, place, bit).verdict
    assert (verdict.kind, verdict.step, verdict.operator) == (kind, step, operator)
    assert any(verdict.list_hash) == rests_on_list


def test_the_list_hash_is_of_the_list_that_the_provider_signs():
    fault = flip(0, 1, 3, 20)
    bad = PLAIN.execute(fault)
    verdict = convict(PLAIN, Liar(bad), output_of(bad)).verdict
    signed = bad.answer(Question(QuestionKind.OPERATOR_ROOTS, 0, 0)).data
    assert verdict.list_hash == list_hash(signed) == keccak256(signed)


# --- forms -----------------------------------------------------------------------------------------------------------


def wrong_form(own: OwnTrace, place: tuple[int, int, int], form: Form, port: int) -> Liar:
    """An accused whose port binds another form."""
    step, subgraph, operator = place
    ports = list(own.port_roots(step, subgraph))
    ports[port] = form.root()
    listed = bytearray(own.answer(Question(QuestionKind.OPERATOR_ROOTS, step, subgraph)).data)
    listed[32 * operator : 32 * operator + 32] = form.root()
    answers = {
        Question(QuestionKind.OPERATOR_ROOTS, step, subgraph): bytes(listed),
        Question(QuestionKind.FORM, *place): form.encode(),
    }
    return Liar(own, {(step, subgraph): tuple(ports)}, answers=answers)


@pytest.mark.parametrize(
    "change",
    [{"dtype": 2}, {"dtype": 9}, {"shape": (8, 70)}, {"shape": (70, 8, 1)}, {"leaves": 2}, {"shape": (1,) * 200}],
    ids=str,
)
def test_another_form_is_a_fault_by_itself(change):
    own = HONEST["plain"]
    form = Form.decode(own.answer(Question(QuestionKind.FORM, 0, 0, 2)).data)
    liar = wrong_form(own, (0, 0, 2), replace(form, **change), 1)
    verdict = convict(PLAIN, liar, output_of(own)).verdict
    assert (verdict.kind, verdict.operator) == (VerdictKind.FORM, 2)


def test_the_right_form_is_none():
    own = HONEST["plain"]
    form = Form.decode(own.answer(Question(QuestionKind.FORM, 0, 0, 2)).data)
    facts = PLAIN.facts(Liar(own).trace_root, output_of(own))
    lie = replace(form, dtype=2)
    difference = find_difference(
        PLAIN.facts(wrong_form(own, (0, 0, 2), lie, 1).trace_root, output_of(own)),
        own,
        wrong_form(own, (0, 0, 2), lie, 1),
        output_of(own),
    )
    listed = tuple(map(tensor_root, own.inside(0, 0).tensors))
    honest = replace(
        difference,
        trace_children=own.trace_children(),
        port_roots=own.port_roots(0, 0),
        operators=listed,
        form=form,
    )
    with pytest.raises(NoFault):
        build_proof(facts, own, honest, PLAIN.job_input, output_of(own))


# --- lists and histories ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["shorter", "longer", "port"])
def test_a_list_that_does_not_give_the_ports(change):
    bad = LOOP.execute(flip(2, 4, 1, 8))
    listed = bad.answer(Question(QuestionKind.OPERATOR_ROOTS, 2, 1)).data
    other = {"shorter": listed[:-32], "longer": listed + bytes(32), "port": listed[:64] + bytes(32) + listed[96:]}
    liar = Liar(bad, answers={Question(QuestionKind.OPERATOR_ROOTS, 2, 1): other[change]})
    verdict = convict(LOOP, liar, output_of(bad)).verdict
    assert (verdict.kind, verdict.step, verdict.subgraph) == (VerdictKind.LIST, 2, 1)
    assert verdict.list_hash == list_hash(other[change])


@pytest.mark.parametrize(("step", "element"), [(4, 0), (4, 7 * 8 + 3), (0, 9), (4, 3 * 8)])
@pytest.mark.parametrize("history", [0, 1])
def test_a_joined_history_that_is_not_the_steps(step, element, history):
    own = HONEST["loop"]
    bad = LOOP.execute(flip(step, 4, 1, 8))  # something has to differ, or nobody looks
    tensors = list(bad.inside(step, 1).tensors)
    wrong = tensors[3 + history].copy()
    wrong.reshape(-1)[element] += 1
    tensors[3 + history] = wrong
    place = (step, 1, 3 + history)
    data = wrong.tobytes()
    form = Form.decode(bad.answer(Question(QuestionKind.FORM, *place)).data)
    form = replace(form, digest=blake3(data).digest())
    answers = {
        Question(QuestionKind.OPERATOR_ROOTS, step, 1): b"".join(map(tensor_root, tensors)),
        Question(QuestionKind.FORM, *place): form.encode(),
        Question(QuestionKind.LEAF, *place): data,
    }
    verdict = convict(LOOP, Liar(bad, answers=answers), output_of(bad), own).verdict
    assert (verdict.kind, verdict.step, verdict.element) == (VerdictKind.LIST, step, element)


# --- output and length -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [PLAIN, LOOP], ids=["plain", "loop"])
@pytest.mark.parametrize("change", ["first", "last", "shorter", "longer", "none"])
def test_an_output_that_is_not_the_trace_s(case, change):
    own = HONEST[case.graph.name]
    right = output_of(own)
    wrong = {
        "first": bytes([right[0] ^ 1]) + right[1:],
        "last": right[:-1] + bytes([right[-1] ^ 1]),
        "shorter": right[:-4],
        "longer": right + bytes(3),
        "none": b"",
    }[change]
    verdict = convict(case, Liar(own), wrong).verdict
    assert verdict.kind is VerdictKind.OUTPUT
    assert not any(verdict.list_hash)
    facts = case.facts(Liar(own).trace_root, right)
    path = Path(encode_top_layer(case.graph), own.trace_children(), job_output=right)
    with pytest.raises(NotGuilty):
        check_proof(facts, encode_evidence(path, Claim(VerdictKind.OUTPUT)))


def test_too_many_subgraphs_or_ports():
    own = HONEST["plain"]
    longer = Liar(own, children={0: (*own.step_roots(0), bytes(32))})
    assert convict(PLAIN, longer, output_of(own)).verdict.kind is VerdictKind.LENGTH
    ports = Liar(own, ports={(0, 1): (*own.port_roots(0, 1), bytes(32))})
    assert convict(PLAIN, ports, output_of(own)).verdict.kind is VerdictKind.LENGTH
    own = HONEST["loop"]
    steps = Liar(own, children={2: own.step_roots(2)[:2]})
    assert convict(LOOP, steps, output_of(own)).verdict.kind is VerdictKind.LENGTH


def stopped(limit: int = 6) -> tuple[Case, OwnTrace]:
    """A loop that stops at its third token."""
    tokens = np.frombuffer(output_of(HONEST["loop"]), "<i4")
    case = loop_case(stop=int(tokens[2]), limit=limit)
    own = case.execute()
    assert own.steps == 3
    return case, own


def test_steps_behind_the_stop_token():
    case, own = stopped()
    liar = Liar(HONEST["loop"])
    verdict = convict(case, liar, output_of(HONEST["loop"]), own).verdict
    assert (verdict.kind, verdict.step) == (VerdictKind.LENGTH, 2)


def test_too_few_steps():
    short = loop_case(limit=2).execute()
    verdict = convict(LOOP, Liar(short), output_of(short)).verdict
    assert (verdict.kind, verdict.step) == (VerdictKind.LENGTH, 1)
    none = Liar(short, steps=())
    assert convict(LOOP, none, b"").verdict.kind is VerdictKind.LENGTH


def test_more_steps_than_the_job_allows():
    short = loop_case(limit=2)
    verdict = convict(short, Liar(HONEST["loop"]), output_of(HONEST["loop"]), short.execute()).verdict
    assert verdict.kind is VerdictKind.LENGTH


@pytest.mark.parametrize("variant", range(5))
@pytest.mark.parametrize("step", range(7))
def test_an_honest_number_of_steps_is_none(variant, step):
    for case, own in ((LOOP, HONEST["loop"]), stopped(), stopped(3)):
        facts = case.facts(Liar(own).trace_root, output_of(own))
        top = encode_top_layer(case.graph)
        steps = tuple((at, own.step_roots(at)) for at in (step,) if at < own.steps)
        ports = tuple((at, 2, own.port_roots(at, 2)) for at, _ in steps)
        claim = Claim(VerdictKind.LENGTH, variant, step, 2)
        with pytest.raises(NotGuilty):
            check_proof(facts, encode_evidence(Path(top, own.trace_children(), steps, ports), claim))


# --- what nobody can compute -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [40, -1, 2**31 - 1])
def test_a_token_that_the_embedding_refuses(token):
    ids = PLAIN.inputs["ids"].copy()
    ids[33] = token
    case = replace(PLAIN, inputs={"ids": ids})
    own = OwnTrace.until_refused(case.graph, case.constants, case.inputs, case.symbols, BACKEND)
    liar = Liar(HONEST["plain"])
    verdict = convict(case, liar, output_of(HONEST["plain"]), own).verdict
    assert (verdict.kind, verdict.operator, verdict.element) == (VerdictKind.INVALID, 0, 33 * 8)


def test_a_refusal_in_a_loop():
    case = LOOP
    ids = case.inputs["ids"].copy()
    ids[-1] = 77
    case = replace(case, inputs={**case.inputs, "ids": ids})
    own = OwnTrace.until_refused(case.graph, case.constants, case.inputs, case.symbols, BACKEND)
    verdict = convict(case, Liar(HONEST["loop"]), output_of(HONEST["loop"]), own).verdict
    assert (verdict.kind, verdict.step) == (VerdictKind.INVALID, 0)


def test_values_that_are_taken_are_no_refusal():
    own = HONEST["plain"]
    facts = PLAIN.facts(Liar(own).trace_root, output_of(own))
    proof = convict_fault(PLAIN, 0, 0, 17, 5)
    _, claim = decode_evidence(proof.evidence)
    path = Path(encode_top_layer(PLAIN.graph), own.trace_children(), job_input=PLAIN.job_input)
    for element in range(0, 70 * 8, 5):
        refused = replace(claim, kind=VerdictKind.INVALID, element=element, tensors=claim.tensors[:-1])
        with pytest.raises(NotGuilty):
            check_proof(facts, encode_evidence(path, refused))


def test_a_job_that_the_graph_does_not_take():
    facts = PLAIN.facts(bytes(32), b"")
    short = PLAIN.job_input[:-4]
    wrong_size = replace(facts, input_hash=keccak256(short))
    assert prove_refused_job(wrong_size, PLAIN.graph, short).verdict.kind is VerdictKind.INVALID
    outside = replace(facts, symbols=(91,))
    assert prove_refused_job(outside, PLAIN.graph, PLAIN.job_input).verdict.kind is VerdictKind.INVALID
    with pytest.raises(NoFault):
        prove_refused_job(facts, PLAIN.graph, PLAIN.job_input)


# --- protocol vector 6: an honest provider is never convicted ---------------------------------------------------------


def lie_about(case: Case, step: int, operator: int, place: int, bit: int) -> tuple[Facts, Path, Claim]:
    """Evidence that convicts a wrong provider, and the facts of the honest one."""
    own = HONEST[case.graph.name]
    proof = convict_fault(case, step, operator, place, bit)
    path, claim = decode_evidence(proof.evidence)
    return case.facts(Liar(own).trace_root, output_of(own)), path, claim


def honest_path(case: Case, path: Path, claim: Claim) -> Path:
    own = HONEST[case.graph.name]
    listed = tuple(map(tensor_root, own.inside(claim.step, claim.subgraph).tensors))
    return replace(
        path,
        trace_children=own.trace_children(),
        steps=tuple((step, own.step_roots(step)) for step, _ in path.steps),
        ports=tuple((step, number, own.port_roots(step, number)) for step, number, _ in path.ports),
        operators=None if path.operators is None else listed,
    )


FAULTS = [(PLAIN, 0, 0, 17, 5), (PLAIN, 0, 2, 9, 2), (PLAIN, 0, 3, 5, 3), (PLAIN, 0, 5, 0, 3), (LOOP, 3, 0, 3, 7)]
FAULTS += [(LOOP, 4, 2, 10, 13), (LOOP, 5, 4, 6, 7), (LOOP, 1, 9, 0, 1)]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0].graph.name}-{fault[2]}")
def test_another_job_s_roots_convict_nobody(fault):
    facts, path, claim = lie_about(*fault)
    with pytest.raises(NotCommitted):
        check_proof(facts, encode_evidence(path, claim))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0].graph.name}-{fault[2]}")
def test_a_right_value_convicts_nobody(fault):
    case = fault[0]
    facts, path, claim = lie_about(*fault)
    own = HONEST[case.graph.name]
    path = honest_path(case, path, claim)
    with pytest.raises(NotCommitted):  # the wrong chunk does not lead to the honest root
        check_proof(facts, encode_evidence(path, claim))
    proof = convict_fault(*fault)
    difference = find_difference(
        case.facts(Liar(case.execute(flip(*fault[1:]))).trace_root, output_of(own)),
        own,
        Liar(case.execute(flip(*fault[1:]))),
        output_of(own),
    )
    tensor = own.tensor(difference.place)
    chunk = difference.leaf.first_chunk
    honest = replace(
        difference,
        trace_children=own.trace_children(),
        step_children=None,
        port_roots=own.port_roots(difference.place.step, difference.place.subgraph),
        operators=path.operators,
        leaf=open_chunks(tensor.tobytes(), chunk, 1),
    )
    with pytest.raises(NoFault):
        build_proof(facts, own, honest, case.job_input, output_of(own))
    assert proof.verdict.kind in {VerdictKind.ELEMENT, VerdictKind.WITNESS}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0].graph.name}-{fault[2]}")
def test_wrong_constants_wiring_input_or_step(fault):
    """Each on the way to the very provider that is wrong: nothing but the true evidence is taken."""
    case = fault[0]
    bad = case.execute(flip(*fault[1:]))
    facts = case.facts(Liar(bad).trace_root, output_of(bad))
    proof = convict_fault(*fault)
    path, claim = decode_evidence(proof.evidence)
    rejected = [
        replace(claim, step=claim.step + 1),
        replace(claim, subgraph=(claim.subgraph + 1) % 3),
        replace(claim, operator=claim.operator + 1),
        replace(claim, siblings=claim.siblings[:-1] if claim.siblings else (bytes(32),)),
        replace(claim, tensors=claim.tensors[:-1]),
        replace(claim, tensors=tuple(reversed(claim.tensors))),
        replace(claim, element=2**63),
        replace(claim, variant=1, kind=VerdictKind.LIST),
    ]
    for at in range(len(claim.encoding)):  # a constant's root, its type, a reference, an attribute, the rule
        wrong = claim.encoding[:at] + bytes([claim.encoding[at] ^ 1]) + claim.encoding[at + 1 :]
        rejected.append(replace(claim, encoding=wrong))
    for other in rejected:
        if other == claim:
            continue
        with pytest.raises(NotGuilty):
            check_proof(facts, encode_evidence(path, other))
    paths = [replace(path, top_layer=path.top_layer[:-1] + bytes([path.top_layer[-1] ^ 1]))]
    if path.job_input is not None:
        paths.append(replace(path, job_input=bytes([path.job_input[0] ^ 1]) + path.job_input[1:]))
    if path.operators is not None:
        paths.append(replace(path, operators=None))
    for step, number, roots in path.ports:
        paths.append(replace(path, ports=((step, (number + 1) % 3, roots),)))
        paths.append(replace(path, ports=((step, number, (*roots[1:], roots[0], roots[0])),)))
    for wrong_path in paths:
        with pytest.raises(NotGuilty):
            check_proof(facts, encode_evidence(wrong_path, claim))


def test_other_symbols_are_another_job():
    proof = convict_fault(PLAIN, 0, 3, 5, 3)
    bad = PLAIN.execute(flip(0, 3, 5, 3))
    facts = PLAIN.facts(Liar(bad).trace_root, output_of(bad))
    for symbols in ((69,), (71,), (), (70, 1)):
        with pytest.raises(NotGuilty):
            check_proof(replace(facts, symbols=symbols), proof.evidence)


def test_a_forged_list_rests_on_another_signature():
    """The list is the only thing that evidence brings itself: it counts with the accused's signature alone."""
    own = HONEST["plain"]
    bad = PLAIN.execute(flip(0, 1, 3, 20))
    forged = list(map(tensor_root, own.inside(0, 0).tensors))
    forged[1] = tensor_root(bad.inside(0, 0).tensors[1])
    facts = PLAIN.facts(Liar(own).trace_root, output_of(own))
    proof = convict_fault(PLAIN, 0, 1, 3, 20)
    path, claim = decode_evidence(proof.evidence)
    path = replace(honest_path(PLAIN, path, claim), operators=tuple(forged))
    verdict = check_proof(facts, encode_evidence(path, claim))
    assert verdict.list_hash != list_hash(own.answer(Question(QuestionKind.OPERATOR_ROOTS, 0, 0)).data)
    assert any(verdict.list_hash)


# --- questions -------------------------------------------------------------------------------------------------------


def demands_of(case: Case, step: int, operator: int, place: int, bit: int) -> tuple[Facts, Liar]:
    bad = case.execute(flip(step, operator, place, bit))
    liar = Liar(bad)
    facts = case.facts(liar.trace_root, output_of(bad))
    find_difference(facts, HONEST[case.graph.name], liar, output_of(bad))
    return facts, liar


@pytest.mark.parametrize("fault", [(PLAIN, 0, 3, 70 * 1200 - 1, 3), (PLAIN, 0, 1, 3, 20), (LOOP, 4, 2, 10, 13)])
def test_what_is_asked_may_be_demanded_and_is_answered(fault):
    facts, liar = demands_of(*fault)
    kinds = [demand.question.kind for demand in liar.asked]
    assert kinds[-1] is QuestionKind.LEAF
    keys = set()
    for demand in liar.asked:
        asked = check_question(facts, demand.data)
        keys.add(asked.key)
        assert asked.question == demand.question == Question.decode(demand.question.encode())
        assert bool(demand.signature) == any(asked.list_hash)
        answer = liar.own.answer(demand.question).data
        found = check_answer(facts, demand.data, answer)
        if demand.question.kind is QuestionKind.OPERATOR_ROOTS:
            assert found.list_hash == list_hash(answer)
        else:
            assert not any(found.list_hash)
        for wrong in (answer[:-1], answer + b"\0", b"", bytes([answer[0] ^ 1]) + answer[1:], answer[:-32]):
            if demand.question.kind is QuestionKind.OPERATOR_ROOTS and len(wrong) == len(answer):
                continue  # what is no port is bound by the signature alone
            with pytest.raises(NotGuilty):
                check_answer(facts, demand.data, wrong)
    assert len(keys) == len(liar.asked)


def test_the_tree_of_a_large_tensor_is_asked_level_by_level():
    _, liar = demands_of(PLAIN, 0, 3, 70 * 1200 - 1, 3)
    nodes = [d.question.node for d in liar.asked if d.question.kind is QuestionKind.TREE_CHILDREN]
    assert nodes == [TreeNode(2, 0), TreeNode(1, 1)]


@pytest.mark.parametrize("kind", list(QuestionKind))
def test_what_is_withheld_is_named_with_its_demand(kind):
    facts, liar = demands_of(PLAIN, 0, 2, 9, 2)
    if kind is QuestionKind.STEP_CHILDREN:
        facts, liar = demands_of(LOOP, 4, 2, 10, 13)
    if kind is QuestionKind.TREE_CHILDREN:
        facts, liar = demands_of(PLAIN, 0, 3, 5, 3)
    question = next(demand.question for demand in liar.asked if demand.question.kind is kind)
    case = LOOP if kind is QuestionKind.STEP_CHILDREN else PLAIN
    silent = Liar(liar.own, answers={question: None})
    with pytest.raises(Withheld) as raised:
        find_difference(facts, HONEST[case.graph.name], silent, output_of(liar.own))
    assert check_question(facts, raised.value.demand.data).question == question
    if kind is QuestionKind.OPERATOR_ROOTS:
        return
    false = Liar(liar.own, answers={question: liar.own.answer(question).data[:-1] + b"\xff"})
    with pytest.raises(FalseAnswer) as disbelieved:
        find_difference(facts, HONEST[case.graph.name], false, output_of(liar.own))
    assert isinstance(disbelieved.value.expected, Demand)
    assert disbelieved.value.expected.question == question


def test_nobody_is_asked_for_what_he_did_not_commit_to():
    own = HONEST["plain"]
    facts, liar = demands_of(PLAIN, 0, 3, 5, 3)
    honest = PLAIN.facts(Liar(own).trace_root, output_of(own))
    for demand in liar.asked[1:]:
        with pytest.raises(NotGuilty):
            check_question(honest, demand.data)
        with pytest.raises(NotGuilty):
            check_question(facts, demand.data[:-1])
        with pytest.raises(NotGuilty):
            check_question(facts, demand.data + b"\0")
    top = encode_top_layer(PLAIN.graph)
    children = own.trace_children()
    ports = tuple((0, number, own.port_roots(0, number)) for number in range(3))
    for question in (
        Question(QuestionKind.STEP_CHILDREN, 0),
        Question(QuestionKind.PORT_ROOTS, 0, 3),
        Question(QuestionKind.PORT_ROOTS, 1, 0),
        Question(QuestionKind.FORM, 0, 1, 1),
        Question(QuestionKind.FORM, 0, 0, 1),  # no port, and no list
        Question(QuestionKind.LEAF, 0, 1, 0, 0, 10**6),
    ):
        with pytest.raises(NotGuilty):
            check_question(honest, encode_demand(question, Path(top, children, (), ports)))


def test_the_honest_answer_every_demand():
    for case, own in ((PLAIN, HONEST["plain"]), (LOOP, HONEST["loop"])):
        facts = case.facts(Liar(own).trace_root, output_of(own))
        asked = Liar(own).asked
        wrong = case.execute(flip(0, 0, 1, 3))
        for demand in asked:
            check_answer(facts, demand.data, own.answer(demand.question).data)
        assert Liar(wrong).trace_root != facts.trace_root


def test_facts_are_packed_as_the_market_packs_them():
    facts = Facts(b"g" * 32, b"t" * 32, b"i" * 32, b"o" * 32, (100, 7))
    data = facts.encode()
    assert int.from_bytes(data[128:], "big") == (2 << 128) + (7 << 32) + 100
    assert Facts.decode(data) == facts
    for wrong in (data[:-1], data + b"\0", data[:128] + ((5 << 128) + 1).to_bytes(32, "big")):
        with pytest.raises(NotGuilty):
            Facts.decode(wrong)
    stray = data[:128] + ((1 << 128) + (7 << 32)).to_bytes(32, "big")
    with pytest.raises(NotGuilty):
        Facts.decode(stray)


def test_the_stop_token_s_root_is_the_tensor_s():
    token = np.array([7], dtype=np.int32)
    assert root_of_bytes(INT32, (1,), token.tobytes()) == tensor_root(token)
    assert H("trace") != H("step")
