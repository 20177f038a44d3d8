"""Decoders with real vocabularies that sample: registered, the same on every backend; every lie about a token falls."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from safetensors.numpy import save_file

from hyperdust.graph_text import read_model
from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.compiler import llama
from pouw.compiler.llama_calibration import calibrate
from pouw.compiler.llama_config import parse_config
from pouw.compiler.llama_folder import expected_tensors
from pouw.compiler.llama_options import SizeOutOfRange
from pouw.execution import run, trace_root
from pouw.fraud import NoFault, NotGuilty, VerdictKind, build_proof, check_proof, find_difference
from pouw.fraud_codec import decode_evidence, encode_evidence
from pouw.fraud_tensor import open_chunks
from pouw.graph_encoding import decode, encode
from pouw.hypergraph import Operator
from pouw.operators.elements import LeafTooLarge
from pouw.operators.rules import RULE_BY_NAME
from pouw.trace import tensor_root
from precompiles.graph_facts import read_facts
from precompiles.judge import judge
from tests.unit.fraud_harness import Case, Liar, output_of

SAMPLING = llama.Sampling(round(2**16 / 0.8), 40, round(2**16 * 0.95))
FAMILIES = {"llama": 32_000, "qwen2": 151_936}
PROMPT = np.array([5, 31_999, 77, 16_000, 9], dtype=np.int32)
STEPS = 4


def config_of(family, vocabulary):
    architecture = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[family]
    sizes = {"hidden_size": 32, "intermediate_size": 512, "num_hidden_layers": 1, "max_position_embeddings": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": family == "qwen2"}
    return json.dumps({"model_type": family, "architectures": [architecture], "vocab_size": vocabulary} | sizes | heads)


def write_folder(folder, family):
    """A Hugging Face folder with random weights."""
    (folder / "config.json").write_text(config_of(family, FAMILIES[family]))
    random = np.random.default_rng(7)
    made = {}
    for name, sizes in expected_tensors(parse_config((folder / "config.json").read_bytes())).items():
        made[name] = random.normal(0, 0.3, sizes).astype(np.float32) + np.float32("norm" in name)
    save_file(made, folder / "model.safetensors")


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    """Family -> (shape, weights, calibration, graph, constants)."""

    @cache
    def decoder(family):
        folder = tmp_path_factory.mktemp(family)
        write_folder(folder, family)
        shape, weights = read_model(folder)
        calibration = calibrate(weights, shape, [PROMPT])
        graph, constants = llama.build(family, weights, shape, calibration, SAMPLING)
        return shape, weights, calibration, graph, constants

    return decoder


@pytest.fixture(scope="module")
def lied(decoders):
    """A case, the honest execution, and convictions by lie."""
    graph, constants = decoders("llama")[3:]
    inputs = {"ids": PROMPT, "seed": np.array([12], dtype=np.int32)}
    case = Case(graph, constants, inputs, {"S": len(PROMPT), "T": STEPS})
    own = case.execute()

    @cache
    def convict(lie):
        bad = case.execute(LIES[lie](case, own))
        facts = case.facts(Liar(bad).trace_root, output_of(bad))
        difference = find_difference(facts, own, Liar(bad), output_of(bad))
        assert difference is not None
        return facts, difference, build_proof(facts, own, difference, case.job_input, output_of(bad))

    return case, own, convict


def place_of(graph, name):
    """Number of the operator that has this name in the head."""
    before = sum(len(part.operators) for part in graph.subgraphs[:-1])
    return before + [operator.rule.name for operator in graph.subgraphs[-1].operators].index(name)


STEP = 2  # in which every lie is told


def lie_about(name, change):
    def lie(case, own):
        right = own.execution.outputs["token"].tolist()

        def apply(step, operator, output):
            if (step, operator) != (STEP, place_of(case.graph, name)):
                return output
            return change(output.copy(), right[STEP])

        return apply

    return lie


def without_the_token(keys, token):
    """The candidate that was drawn left out, the others moved up, the last one twice."""
    at = int(np.flatnonzero(index_of(keys[0]) == token)[0])
    end = (at // SAMPLING.top_k + 1) * SAMPLING.top_k
    keys[0, at : end - 1] = keys[0, at + 1 : end].copy()
    return keys


def another_index(keys, token):
    at = int(np.flatnonzero(index_of(keys[0]) == token)[0])
    keys[0, at] -= 1
    return keys


def a_favourite(keys, _):
    keys[0, -1] = (2**38 << 20) + 2**20 - 1 - 7
    return keys


def the_next_token(tokens, token):
    return np.full_like(tokens, token + 1)


def quieter(logits, token):
    logits[0, token] -= 2**20
    return logits


def index_of(keys):
    return 2**20 - 1 - (keys & (2**20 - 1))


LIES = {
    "a candidate left out": lie_about("candidates", without_the_token),
    "another index for a score": lie_about("candidates", another_index),
    "a candidate put in": lie_about("candidates", a_favourite),
    "another draw": lie_about("draw", the_next_token),
    "another score": lie_about("rescale_wide", quieter),
}
OPERATOR_OF = dict(zip(LIES, ("candidates", "candidates", "candidates", "draw", "rescale_wide"), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_backend_has_one_trace(family, decoders):
    graph, constants = decoders(family)[3:]
    names = [operator.rule.name for operator in graph.subgraphs[-1].operators]
    assert names[-2:] == ["candidates", "draw"]
    found = {}
    for name in ("numpy", "native", "torch"):
        try:
            backend = load_backend(name)
        except BackendUnavailable:
            continue
        for seed in (0, 3, -(2**31)):
            inputs = {"ids": PROMPT, "seed": np.array([seed], dtype=np.int32)}
            execution = run(graph, constants, inputs, {"S": len(PROMPT), "T": STEPS}, backend)
            tokens = execution.outputs["token"].tolist()
            found.setdefault(seed, set()).add((trace_root(execution), *tokens))
    assert all(len(each) == 1 for each in found.values())
    assert len({tuple(tokens) for each in found.values() for _, *tokens in each}) == len(found)


def test_the_tokens_are_those_of_sample_on_the_whole_row(decoders):
    """The graph with `sample` in place of the two, which runs but cannot be registered."""
    graph, constants = decoders("llama")[3:]
    head = graph.subgraphs[-1]
    drawn = head.operators[-1]
    attributes = (SAMPLING.multiplier, SAMPLING.top_k, SAMPLING.top_p)
    whole = Operator(RULE_BY_NAME["sample"], "sample", (head.operators[-2].tensors[0], *drawn.tensors[1:]), attributes)
    outputs = (replace(head.outputs[0], operator=len(head.operators) - 2),)
    other = replace(head, operators=(*head.operators[:-2], whole), outputs=outputs)
    sampled = replace(graph, subgraphs=(*graph.subgraphs[:-1], other))
    backend = load_backend("numpy")
    for seed in range(3):
        inputs = {"ids": PROMPT, "seed": np.array([seed], dtype=np.int32)}
        symbols = {"S": len(PROMPT), "T": STEPS}
        made = [run(each, constants, inputs, symbols, backend).outputs["token"].tolist() for each in (graph, sampled)]
        assert made[0] == made[1]
    with pytest.raises(LeafTooLarge, match="sample: bytes for one element: got 130052, expected at most 65536"):
        read_facts(encode(sampled))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_can_be_registered(family, decoders):
    graph = decoders(family)[3]
    assert decode(encode(graph)) == graph
    assert read_facts(encode(graph))
    assert graph.mining_operands()


def test_what_cannot_be_proven_names_the_bound(decoders):
    shape, weights, calibration, *_ = decoders("llama")
    with pytest.raises(SizeOutOfRange, match="top_k: got 4000, expected at most 3967 where there are 32000 tokens"):
        llama.build("x", weights, shape, calibration, llama.Sampling(2**16, 4000, 2**16))
    graph, _ = llama.build("x", weights, shape, calibration, llama.Sampling(2**16, 3967, 2**16))
    assert read_facts(encode(graph))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_a_token_is_convicted(lie, lied):
    case, _, convict = lied
    facts, _, proof = convict(lie)
    verdict = check_proof(facts, proof.evidence)
    place = place_of(case.graph, OPERATOR_OF[lie])
    assert (verdict.kind, verdict.step, verdict.operator) == (VerdictKind.ELEMENT, STEP, place)
    assert len(proof.evidence) < 20_000
    found = judge(b"\1" + facts.encode() + proof.evidence)
    assert found is not None
    numbers = [int.from_bytes(found[at : at + 32], "big") for at in range(0, 160, 32)]
    assert numbers == [1, VerdictKind.ELEMENT, STEP, place, verdict.element]


@pytest.mark.parametrize("lie", ["a candidate left out", "another draw"])
def test_the_right_value_convicts_nobody(lie, lied):
    case, own, convict = lied
    facts, difference, _ = convict(lie)
    place = difference.place
    right = own.tensor(place)
    honest = replace(
        difference,
        trace_children=own.trace_children(),
        step_children=None,
        port_roots=own.port_roots(place.step, place.subgraph),
        operators=tuple(tensor_root(tensor) for tensor in own.inside(place.step, place.subgraph).tensors),
        leaf=open_chunks(right.tobytes(), difference.leaf.first_chunk, 1),
    )
    facts = case.facts(Liar(own).trace_root, output_of(own))
    for element in range(0, right.size, 97):
        chunk = open_chunks(right.tobytes(), element * right.itemsize // 1024, 1)
        with pytest.raises(NoFault):
            build_proof(facts, own, replace(honest, element=element, leaf=chunk), case.job_input, output_of(own))


@pytest.mark.parametrize("lie", ["a candidate left out", "another draw"])
def test_evidence_that_is_not_the_true_one_convicts_not_even_a_liar(lie, lied):
    _, _, convict = lied
    facts, _, proof = convict(lie)
    path, claim = decode_evidence(proof.evidence)
    first, *others, last = claim.tensors
    opening = first.openings[0]

    def with_opening(**changed):
        return replace(claim, tensors=(replace(first, openings=(replace(opening, **changed),)), *others, last))

    rejected = [
        replace(claim, kind=VerdictKind.WITNESS),
        replace(claim, kind=VerdictKind.INVALID, tensors=claim.tensors[:-1]),
        replace(claim, kind=VerdictKind.FORM),
        replace(claim, step=claim.step - 1),
        replace(claim, operator=claim.operator - 1),
        replace(claim, element=claim.element + 2**40),
        replace(claim, element=claim.element ^ 2**20),
        replace(claim, tensors=(replace(first, openings=()), *others, last)),
        replace(claim, tensors=(replace(first, form=b""), *others, last)),
        replace(claim, tensors=(first, *others, replace(last, openings=()))),
        with_opening(data=bytes([opening.data[0] ^ 1]) + opening.data[1:]),
        with_opening(data=opening.data[1024:]),
        with_opening(first_chunk=opening.first_chunk + 1),
    ]
    for at in range(len(claim.encoding)):  # the temperature, a segment's size, the count, the rule
        wrong = claim.encoding[:at] + bytes([claim.encoding[at] ^ 1]) + claim.encoding[at + 1 :]
        rejected.append(replace(claim, encoding=wrong))
    for other in rejected:
        with pytest.raises(NotGuilty):
            check_proof(facts, encode_evidence(path, other))
        assert judge(b"\1" + facts.encode() + encode_evidence(path, other)) is None
