"""The scan and a decoder's operators: values, steps, stop, limit, and what is refused."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from chain.errors import Invalid
from chain.hashing import H
from pouw.backends.reference import NumpyBackend
from pouw.compiler import llama
from pouw.compiler.llama_calibration import calibrate
from pouw.compiler.llama_config import LlamaShape
from pouw.compiler.llama_folder import expected_tensors
from pouw.compiler.llama_fp32 import logits_of
from pouw.compiler.llama_tables import frequencies, rotation_table, silu_table
from pouw.compiler.tables import power_table
from pouw.execution import (
    TensorBytesWrong,
    decode_outputs,
    encode_tensors,
    run,
    subgraph_root,
    trace_children,
    trace_root,
)
from pouw.graph_encoding import (
    GraphTruncated,
    TrailingBytes,
    UnknownTag,
    compute_graph_id,
    decode,
    encode,
    encode_top_layer,
)
from pouw.hypergraph import (
    GraphTooLarge,
    Port,
    Symbol,
    UnknownSymbol,
    UnknownTensor,
    check_graph,
)
from pouw.operators import causal, decoder, sampling
from pouw.operators.errors import TensorOutOfRange, WrongShape
from pouw.operators.types import TensorType
from pouw.scan import BadScan, History, Scan
from pouw.trace import INT32

SHAPE = LlamaShape(
    layers=2,
    width=32,
    heads=4,
    kv_heads=2,
    head_size=8,
    inner=512,
    vocabulary=40,
    context=32,
    theta=Decimal(10_000),
    epsilon=1e-5,
    tied=False,
    stop=-1,
)


def weights(seed=1):
    rng = np.random.default_rng(seed)
    made = {name: rng.normal(0, 0.3, sizes).astype(np.float32) for name, sizes in expected_tensors(SHAPE).items()}
    made |= {name: np.ones_like(array) for name, array in made.items() if "norm" in name}
    for part, width in (("q", 32), ("k", 16), ("v", 16)):  # biases as Qwen2 has them
        made[f"model.layers.0.self_attn.{part}_proj.bias"] = rng.normal(0, 0.5, width).astype(np.float32)
    return made


WEIGHTS = weights()
TEXTS = [np.random.default_rng(seed).integers(0, 40, 20, dtype=np.int32) for seed in range(6)]
CALIBRATION = calibrate(WEIGHTS, SHAPE, TEXTS)
GREEDY, CONSTANTS = llama.build("greedy", WEIGHTS, SHAPE, CALIBRATION)
SAMPLED, SAMPLED_CONSTANTS = llama.build("sampled", WEIGHTS, SHAPE, CALIBRATION, llama.Sampling(40_000, 12, 60_000))
PROMPT = TEXTS[0][:7]


def generate(graph, prompt, limit, seed=0, **options):
    inputs = {"ids": np.array(prompt, dtype=np.int32)}
    if graph is SAMPLED:
        inputs["seed"] = np.array([seed], dtype=np.int32)
    constants = CONSTANTS | SAMPLED_CONSTANTS
    return run(graph, constants, inputs, {"S": len(prompt), "T": limit}, NumpyBackend(), **options)


def tokens(execution):
    return execution.outputs["token"].tolist()


@pytest.mark.parametrize("graph", [GREEDY, SAMPLED], ids=lambda graph: graph.name)
def test_a_prompt_token_by_token_gives_the_same(graph):
    found = tokens(generate(graph, PROMPT, 6, 5))
    assert len(found) == 6
    for cut in range(1, 6):
        assert tokens(generate(graph, [*PROMPT, *found[:cut]], 6 - cut, 5)) == found[cut:]


def test_steps_in_one_batch_or_singly_have_the_same_rows():
    one = generate(GREEDY, PROMPT, 4)
    batch = generate(GREEDY, [*PROMPT, *tokens(one)[:3]], 1)
    size = len(GREEDY.subgraphs)
    for index, subgraph in enumerate(GREEDY.subgraphs[:-1]):
        for place, output in enumerate(subgraph.outputs):
            axis = output.port.type.shape.index("R")
            steps = [one.subgraph_outputs[start + index][place] for start in range(0, 4 * size, size)]
            assert np.array_equal(np.concatenate(steps, axis=axis), batch.subgraph_outputs[index][place])


def test_the_tokens_are_those_of_the_float_model():
    agreed = 0
    for text in [text[:16] for text in TEXTS]:
        exact = llama.all_logits(GREEDY, CONSTANTS, text, NumpyBackend())
        agreed += int((exact.argmax(axis=1) == logits_of(WEIGHTS, SHAPE, text).argmax(axis=1)).sum())
        assert tokens(generate(GREEDY, text, 1)) == [int(exact[15].argmax())]
    assert agreed >= 84  # of 96


def test_the_stop_token_is_the_last_output():
    free = tokens(generate(GREEDY, PROMPT, 8))
    stop = free[3]
    stopped = replace(GREEDY, scan=replace(GREEDY.scan, stop=stop))
    found = generate(stopped, PROMPT, 8)
    assert tokens(found) == free[: free.index(stop) + 1]
    assert len(found.subgraph_outputs) == len(tokens(found)) * len(GREEDY.subgraphs)
    seen = []
    generate(stopped, PROMPT, 8, on_token=seen.append)
    assert seen == tokens(found)


def test_the_trace_covers_the_steps():
    found = generate(GREEDY, PROMPT, 3)
    size = len(GREEDY.subgraphs)
    roots = [subgraph_root(outputs) for outputs in found.subgraph_outputs]
    steps = tuple(H("step", *roots[start : start + size]) for start in (0, size, 2 * size))
    assert trace_children(found) == steps
    assert trace_root(found) == H("trace", *steps)
    assert trace_root(generate(GREEDY, PROMPT, 2)) != trace_root(found)


def test_hooks_are_called_in_each_step():
    count = GREEDY.operator_count()
    seen = []

    def watch(index, output):
        seen.append(index)
        return output

    products = []

    def multiply(index, a, b_transposed):
        products.append((index, a.shape))
        return a.astype(np.int32) @ b_transposed.astype(np.int32).T

    found = generate(GREEDY, PROMPT, 3, on_output=watch, matmul_hook=multiply, keep="all")
    assert seen == list(range(count)) * 3
    mined = [operand.operator for operand in GREEDY.mining_operands()]
    assert products == [(index, (rows, 512)) for rows in (7, 1, 1) for index in mined]
    assert len(found.operator_outputs) == 3 * count
    assert trace_root(found) == trace_root(generate(GREEDY, PROMPT, 3))


def test_macs_bound_the_work():
    def worked(prompt, limit):
        total = 0
        for rows, so_far in [(prompt, prompt), *((1, prompt + step) for step in range(1, limit))]:
            linear = 2 * (32 * 64 + 32 * 32 + 3 * 32 * 512)
            total += rows * linear + 40 * 32 + 2 * rows * so_far * (32 + 32)
        return total

    for prompt, limit in ((1, 1), (7, 5), (16, 16)):
        symbols = {"S": prompt, "T": limit}
        bound = GREEDY.macs(symbols)
        assert worked(prompt, limit) <= bound <= 4 * worked(prompt, limit)
        assert bound == sum(c * prompt ** e[0] * limit ** e[1] for c, e in GREEDY.macs_terms())
    assert GREEDY.mining_macs_terms() == ((2 * 32 * 512, (0, 1, 0, 0)), (2 * 32 * 512, (1, 0, 0, 0)))


def test_round_trip_and_version():
    for graph in (GREEDY, SAMPLED):
        assert decode(encode(graph)) == graph
        assert encode_top_layer(graph)[0] == 2
    assert compute_graph_id(encode_top_layer(GREEDY)) != compute_graph_id(
        encode_top_layer(replace(GREEDY, scan=replace(GREEDY.scan, stop=1)))
    )


def test_every_truncation_is_refused_and_every_flipped_byte_is_another_graph_or_none():
    data = encode(GREEDY)
    top = int.from_bytes(data[:4], "little") + 4
    for size in [*range(0, top, 7), *range(top - 30, top), len(data) - 1]:
        with pytest.raises(Invalid):
            decode(data[:size])
    with pytest.raises(TrailingBytes):
        decode(data + b"\0")
    for place in [*range(0, top, 3), *range(top - 30, top)]:
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        try:
            graph = decode(bytes(changed))
        except Invalid:
            continue
        assert encode(graph) == bytes(changed)
        assert graph != GREEDY


def edited(old, new):
    data = encode(GREEDY)
    assert data.count(old) >= 1
    return data.replace(old, new, 1)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (edited(b"\1\0\3ids", b"\1\2\3ids"), UnknownTag),  # neither now nor history
        (edited(b"\2\0\0\0\0\0\x20\0\0\0", b"\2\1\0\0\0\0\x20\0\0\0"), UnknownTag),  # R with a value
        (edited(b"\5token\xff\xff\xff\xff\1", b"\5token\xff\xff\xff\xff\2"), UnknownTag),  # no symbol 2
        (edited(b"\5token\xff\xff\xff\xff\1", b"\5token\xff\xff\xff\xff\0"), BadScan),  # the prompt's symbol
        (edited(b"\2\6greedy", b"\1\6greedy"), Invalid),  # version 1 has no scan
        (encode(GREEDY)[:40], GraphTruncated),
    ],
)
def test_bytes_that_are_no_scan(data, error):
    with pytest.raises(error):
        decode(data)


def with_input(place, source):
    subgraph = replace(GREEDY.subgraphs[place], inputs=(source, *GREEDY.subgraphs[place].inputs[1:]))
    return replace(GREEDY, subgraphs=(*GREEDY.subgraphs[:place], subgraph, *GREEDY.subgraphs[place + 1 :]))


@pytest.mark.parametrize(
    ("graph", "error"),
    [
        (replace(GREEDY, scan=None), (UnknownSymbol, BadScan, WrongShape)),
        (replace(GREEDY, scan=replace(GREEDY.scan, input="other")), BadScan),
        (replace(GREEDY, scan=replace(GREEDY.scan, output="stream.0")), BadScan),
        (replace(GREEDY, scan=replace(GREEDY.scan, output="stream.0"), outputs=("stream.0",)), BadScan),
        (replace(SAMPLED, scan=replace(SAMPLED.scan, output="seed"), outputs=("seed",)), BadScan),
        (replace(GREEDY, scan=replace(GREEDY.scan, limit="U")), BadScan),
        (replace(GREEDY, scan=replace(GREEDY.scan, limit="S")), BadScan),
        (replace(GREEDY, scan=replace(GREEDY.scan, stop=-2)), Invalid),
        (replace(GREEDY, scan=replace(GREEDY.scan, stop=2**31)), Invalid),
        (replace(GREEDY, outputs=("token", "stream.1")), BadScan),
        (replace(GREEDY, symbols=(*GREEDY.symbols, Symbol("R", 1, 5))), BadScan),
        (replace(GREEDY, symbols=(*GREEDY.symbols, Symbol("H", 1, 5))), BadScan),
        (replace(GREEDY, symbols=(Symbol("S", 1, 16), Symbol("T", 1, 2**31))), GraphTooLarge),
        (replace(GREEDY, inputs=(Port("ids", TensorType(INT32, ("S", 1))),)), BadScan),
        (replace(GREEDY, inputs=(Port("ids", TensorType(INT32, (4,))),)), BadScan),
        (with_input(1, History("stream.9")), UnknownTensor),
        (with_input(2, History("token")), UnknownTensor),  # made later
        (with_input(2, History("stream.0")), (WrongShape, Invalid)),
        (with_input(5, History("keys.0")), Invalid),
    ],
)
def test_scans_that_are_not_well_formed(graph, error):
    with pytest.raises(error):
        check_graph(graph)


def test_a_history_has_one_growing_dimension():
    graph = replace(GREEDY, scan=Scan("ids", "token", -1, "T"))
    head = replace(graph.subgraphs[-1], inputs=("stream.2", History("token")))
    # what comes after the head may not read its history: int32[1] has no R
    last = replace(head, name="after", outputs=())
    with pytest.raises(BadScan, match="history of token"):
        check_graph(replace(graph, subgraphs=(*graph.subgraphs, last)))


def test_outputs_of_a_job():
    found = generate(GREEDY, PROMPT, 5).outputs["token"]
    data = encode_tensors([found])
    symbols = {"S": 7, "T": 5}
    (decoded,) = decode_outputs(GREEDY, symbols, data)
    assert decoded.tolist() == found.tolist()
    assert decode_outputs(GREEDY, symbols, data[:8])[0].tolist() == found.tolist()[:2]
    for wrong in (b"", data[:-1], data + data[:4]):
        with pytest.raises(TensorBytesWrong):
            decode_outputs(GREEDY, symbols, wrong)


def test_more_rows_than_positions_are_named():
    narrow = replace(GREEDY, symbols=(Symbol("S", 1, 64), Symbol("T", 1, 64)))
    with pytest.raises(TensorOutOfRange, match="rows so far"):
        generate(narrow, np.zeros(40, dtype=np.int32), 1)


def ints(*values, dtype=np.int16):
    return np.array(values, dtype=dtype)


def test_stream_is_held():
    big = ints([2**24, -(2**24), 5], dtype=np.int32)
    assert decoder.accumulate(big, big).tolist() == [[2**24, -(2**24), 10]]
    assert decoder.widen(ints([-32768, 3]), 9).tolist() == [[-(2**24), 1536]]
    assert decoder.last_row(np.arange(6, dtype=np.int32).reshape(2, 3)).tolist() == [[3, 4, 5]]


def test_rms_norm_of_equal_values_is_one():
    gamma = np.full(4, 4096, dtype=np.int32)
    found = decoder.rms_norm(ints([1000] * 4, [-7] * 4, [0] * 4, dtype=np.int32), gamma, 0, 16)
    assert found.tolist() == [[1024] * 4, [-1024] * 4, [0] * 4]
    # an epsilon as large as the mean square shrinks by the square root of two
    assert decoder.rms_norm(ints([1000] * 4, dtype=np.int32), gamma, 4 * 1000**2, 16).tolist() == [[724] * 4]


def test_rope_turns_by_position():
    quarter = ints([16384, 0], [0, 16384], [-16384, 0])  # 0, 90 and 180 degrees
    x = ints([100, 7, 3], [100, 7, 3])
    assert decoder.rope(x, np.zeros(2, np.int32), quarter, 1, 2, 1).tolist() == [[7, 3], [-3, 7]]
    assert decoder.rope(x, np.zeros(3, np.int32), quarter, 1, 2, 1).tolist() == [[-3, 7], [-7, -3]]
    for rows in (1, 4):
        with pytest.raises(TensorOutOfRange):
            decoder.rope(x, np.zeros(rows, np.int32), quarter, 1, 2, 1)


def test_what_is_not_seen_has_no_weight():
    scores = ints([[9, 2**30, 2**30], [1024, 0, 1024]], dtype=np.int32)
    weights = causal.causal_softmax(scores, power_table())
    assert weights.tolist() == [[[0, 32767, 0], [32767, 16383, 32767]]]
    with pytest.raises(TensorOutOfRange):
        causal.causal_softmax(scores[:, :, :1], power_table())


def test_groups_of_heads_share_keys_and_values():
    queries, keys = ints([1, 2, 3, 4]), ints([10, 100])
    assert causal.causal_scores(queries, keys, 4, 2, 1, 1).reshape(-1).tolist() == [5, 10, 150, 200]
    weights = np.full((4, 1, 1), 32767, dtype=np.int16)
    assert causal.grouped_mix(weights, ints([7], [-9]), 2).tolist() == [[7, 7, -9, -9]]


def test_argmax_takes_the_lowest():
    assert sampling.argmax(ints([3, 9, 9], [-5, -5, -6], dtype=np.int32)).tolist() == [1, 0]


def sample(logits, position=0, seed=0, attributes=(2**16, 8, 2**16)):
    row = np.array([logits], dtype=np.int32)
    so_far = np.zeros(position + 1, dtype=np.int32)
    return int(sampling.sample(row, ints(seed, dtype=np.int32), so_far, power_table(), *attributes)[0])


def test_sampling_follows_the_weights():
    logits = [0, 1024, 2048, -(2**31), 0, 0, 0, 0]  # weights 1, 2, 4, 0, 1, 1, 1, 1
    drawn = [sample(logits, position, 3) for position in range(1100)]
    shares = np.bincount(drawn, minlength=8) / 1100
    assert np.abs(shares - np.array([1, 2, 4, 0, 1, 1, 1, 1]) / 11).max() < 0.04
    assert {sample(logits, position, 3, (2**16, 2, 2**16)) for position in range(50)} == {1, 2}
    assert {sample(logits, position, 3, (2**16, 8, 2**16 // 2)) for position in range(50)} == {1, 2}
    assert {sample(logits, position, 3, (2**22, 8, 2**16)) for position in range(50)} == {2}  # nearly cold
    assert [sample(logits, position, 3) for position in range(9)] == drawn[:9]
    assert [sample(logits, position, 4) for position in range(40)] != drawn[:40]


def test_ties_stand_in_the_order_of_their_index():
    assert {sample([5] * 8, position, 0, (2**16, 3, 2**16)) for position in range(60)} == {0, 1, 2}


def test_tables():
    silu = silu_table()
    assert [int(silu[8192 + x]) for x in (-8192, -1024, 0, 1024, 8191)] == [-3, -275, 0, 749, 8188]
    table = rotation_table(40, frequencies(8, Decimal(10_000)))
    angles = np.arange(40)[:, None] * 10_000.0 ** -(np.arange(4) / 4)
    assert np.abs(table[:, :4] / 16384 - np.cos(angles)).max() < 2**-14
    assert np.abs(table[:, 4:] / 16384 - np.sin(angles)).max() < 2**-14
