"""`run_graph` and `ticket`: what they accept, what they refuse, what they cost."""

import numpy as np
import pytest
from hyperdust_core import native_call

from chain.hashing import H
from docs.examples.digits import model
from pouw import ticket
from pouw.backends.reference import NumpyBackend
from pouw.execution import run
from pouw.graph_encoding import compute_graph_id, encode, encode_top_layer
from pouw.hypergraph import Hypergraph, Operator, Port, Subgraph, SubgraphInput, SubgraphOutput, Symbol
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT16, INT32
from precompiles import registry
from precompiles.calls import encode_data, encode_model, encode_run_graph_call, encode_ticket_call
from tests.unit.precompiles.test_engine_calls import ask, floor, intrinsic, upfront

GRAPH, CONSTANTS = model.build(model.load_weights())
FILE = encode(GRAPH)
HELD = [CONSTANTS[root] for root in GRAPH.constants()]
IMAGE = model.image_tensor(np.arange(64) % 17)
PARENT, SEAL, NONCE = H("parent"), H("seal"), b"nonce 42"


def digits(**changed):
    given = {"identity": model.graph_id(GRAPH), "symbols": (), "file": FILE, "held": HELD, "inputs": [IMAGE]} | changed
    return encode_run_graph_call(given["identity"], given["symbols"], given["file"], given["held"], given["inputs"])


def test_run_graph_equals_every_backend_and_costs_what_the_table_says():
    data = digits()
    result = ask(registry.RUN_GRAPH, data)
    expected = run(GRAPH, CONSTANTS, {"image": IMAGE}, {}, NumpyBackend()).outputs["scores"]
    assert (result.success, result.output) == (True, encode_data(expected))
    work, _ = native_call("run_graph", data)
    rates = registry.PRECOMPILES[6][3]
    gas = upfront(registry.RUN_GRAPH, data) + sum(-(-units * rates[code] // 1024) for code, units in work)
    assert result.gas_used == max(intrinsic(data) + gas, floor(data))


@pytest.mark.parametrize(
    "changed",
    [
        {"identity": bytes(32)},
        {"symbols": (1,)},
        {"file": FILE[:-1]},
        {"file": FILE + b"\0"},
        {"held": HELD[:-1]},
        {"held": [*HELD, HELD[0]]},
        {"held": [HELD[0], HELD[2], HELD[1], *HELD[3:]]},
        {"held": [HELD[0] + 1, *HELD[1:]]},
        {"inputs": []},
        {"inputs": [IMAGE, IMAGE]},
    ],
    ids=str,
)
def test_run_graph_refuses_what_is_not_the_graph(changed):
    result = ask(registry.RUN_GRAPH, digits(**changed))
    assert (result.success, result.output, result.gas_used) == (False, b"", 16_000_000)


def chain(count, symbols=(), size=4):
    rule = RULE_BY_NAME["l2_normalize"]
    steps = tuple(Operator(rule, "a", (SubgraphInput(0),), ()) for _ in range(count))
    outputs = (SubgraphOutput(Port("y", TensorType(INT16, (size,))), count - 1),)
    return Hypergraph("chain", symbols, (Port("x", TensorType(INT32, (size,))),), ("y",), (
        Subgraph("s", ("x",), outputs, steps),
    ))  # fmt: skip


def ask_chain(graph, symbols=(), size=4):
    value = np.arange(1, size + 1, dtype=np.int32)
    identity = compute_graph_id(encode_top_layer(graph))
    return ask(registry.RUN_GRAPH, encode_run_graph_call(identity, symbols, encode(graph), [], [value]))


def test_run_graph_runs_128_operators_and_no_more():
    assert ask_chain(chain(128)).success
    assert not ask_chain(chain(129)).success


def test_symbols_bind():
    rule = RULE_BY_NAME["add"]
    shape = TensorType(INT16, ("m", 2))
    steps = (Operator(rule, "a", (SubgraphInput(0), SubgraphInput(0)), ()),)
    outputs = (SubgraphOutput(Port("y", TensorType(INT32, ("m", 2))), 0),)
    subgraphs = (Subgraph("s", ("x",), outputs, steps),)
    graph = Hypergraph("twice", (Symbol("m", 2, 5),), (Port("x", shape),), ("y",), subgraphs)
    identity = compute_graph_id(encode_top_layer(graph))
    for m, runs in ((1, False), (2, True), (5, True), (6, False)):
        x = np.arange(2 * m, dtype=np.int16).reshape(m, 2)
        result = ask(registry.RUN_GRAPH, identity + encode_model((m,), encode(graph), []) + encode_data(x))
        assert result.success is runs
        assert not runs or result.output == encode_data(2 * x.astype(np.int32))


def proof_of(m, n, k):
    random = np.random.default_rng(11)
    a, b = random.integers(-64, 65, (m, k), np.int8), random.integers(-64, 65, (n, k), np.int8)
    return ticket.open_ticket(a, b, m // 16 - 1, n // 16 - 1)


@pytest.mark.parametrize("shape", [(16, 16, 512), (48, 32, 530), (32, 80, 2048), (32, 16, 8192)])
def test_ticket_equals_its_definition(shape):
    proof = proof_of(*shape)
    expected = ticket.verify(proof, PARENT, SEAL, NONCE, 1)
    _, got = native_call("ticket", encode_ticket_call(PARENT, SEAL, NONCE, 1, proof.encode()))
    assert got == expected
    # the largest difficulty at which it wins, and the next one
    low, high = 1, 2**256 - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if ticket.wins(expected, middle, proof.k) else (low, middle - 1)
    for difficulty, wins in ((low, True), (low + 1, False), (0, False), (2**256 - 1, False), (2, True)):
        _, got = native_call("ticket", encode_ticket_call(PARENT, SEAL, NONCE, difficulty, proof.encode()))
        assert (got == expected) is wins or difficulty == 2


def test_ticket_is_refused_for_another_block_or_proof():
    proof = proof_of(16, 16, 512)
    data = encode_ticket_call(PARENT, SEAL, NONCE, 1, proof.encode())
    ticket_bytes = ask(registry.TICKET, data).output
    assert len(ticket_bytes) == 32
    for place in (0, 32, 64):  # parent, seal hash, nonce: another ticket
        other = bytearray(data)
        other[place] ^= 1
        assert ask(registry.TICKET, bytes(other)).output != ticket_bytes
    for place in (104, 108, 112, 116, 120, 124, 156, 200, len(data) - 1):  # the proof itself
        other = bytearray(data)
        other[place] ^= 1
        assert not ask(registry.TICKET, bytes(other)).success
    assert not ask(registry.TICKET, data + b"\0").success
    assert not ask(registry.TICKET, data[:-1]).success
