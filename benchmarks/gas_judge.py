"""Inputs of `judge` that take longest for their length: top layers of short names, lists, operators on long rows."""

from collections.abc import Iterator

import numpy as np

from chain.hashing import H, keccak256
from pouw.backends.reference import NumpyBackend
from pouw.execution import encode_tensors, run
from pouw.fraud import Difference, Facts, OwnTrace, Place, Question, QuestionKind, VerdictKind, build_proof
from pouw.fraud_codec import Claim, Path, encode_evidence
from pouw.fraud_own import form_of
from pouw.fraud_question import encode_demand
from pouw.fraud_tensor import open_chunks
from pouw.graph_encoding import TOP_LAYER_MAX, compute_graph_id, encode_top_layer
from pouw.hypergraph import Hypergraph, Operator, Port, Subgraph, SubgraphInput, SubgraphOutput
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor, TensorType
from pouw.trace import LEAF_BYTES, dtype_by_name, tensor_root

LONG = 29_000  # int32 of a row that evidence of 131,072 bytes holds


def top_layer(kind: str) -> bytes:
    """A top layer as long as may be, of the parts that take longest to read: no graph, but the judge has to read it."""
    one = {
        "inputs": b"\1a\x40" + b"\0\1a" * 64 + b"\0",
        "dimensions": b"\1a\0\x40" + (b"\1a\1\4" + b"\0\1\0\0\0" * 4 + bytes(4)) * 64,
        "outputs": b"\1a\0\x40" + (b"\1a\1\0" + bytes(4)) * 64,
    }[kind] + bytes(32) + b"\1\0\0\0"  # fmt: skip
    head, tail = b"\2\1a\1\1S\1\0\0\0\x09\0\0\0\0\0", b"\1a\1a" + bytes(5)
    count = (TOP_LAYER_MAX - len(head) - len(tail) - 2) // len(one)
    return head + count.to_bytes(2, "little") + one * count + tail


def inputs() -> Iterator[tuple[str, bytes]]:
    """Yield (name, input)."""
    for kind in ("inputs", "dimensions", "outputs"):
        top = top_layer(kind)
        graph, question = compute_graph_id(top), Question(QuestionKind.TRACE_CHILDREN)
        facts = Facts(graph, bytes(32), bytes(32), bytes(32), (5,))
        demand = encode_demand(question, Path(top))
        yield f"question, top layer of {kind}", b"\2" + facts.encode() + demand
        children = tuple(bytes([number % 256]) * 32 for number in range(3_200))
        facts = Facts(graph, H("trace", *children), bytes(32), bytes(32), (5,))
        evidence = encode_evidence(Path(top, children), Claim(VerdictKind.LENGTH))
        yield f"3,200 steps, top layer of {kind}", b"\1" + facts.encode() + evidence
        data = len(demand).to_bytes(4, "big") + demand + b"".join(children)
        yield f"answer, top layer of {kind}", b"\3" + facts.encode() + data
    random = np.random.default_rng(3)
    row = random.integers(-(2**20), 2**20, LONG, dtype=np.int32)
    one, table = np.ones(1, np.int32), np.full(1024, 9, np.int16)
    wide = random.integers(-60, 60, (1, 2 * LONG), dtype=np.int8)
    for name, tensors, attributes in (
        ("sample", (row[None], one, one, table), (1 << 16, LONG, 1 << 16)),
        ("sample", (row[None], one, one, table), (1, 1, 1)),
        ("softmax_weights", (row[None, None], table), ()),
        ("causal_softmax", (row[None, None], table), ()),
        ("l2_normalize", (row[:8192],), ()),
        ("matmul", (wide, wide), (1,)),
        ("average_pool", (random.integers(-99, 99, (64, 64, 1), dtype=np.int16),), (64, 1)),
    ):
        yield f"{name}", convict(name, tensors, attributes)


def convict(name: str, tensors: tuple[Tensor, ...], attributes: tuple[int, ...]) -> bytes:
    """The proof that one element of an operator on a job's input is wrong."""
    rule = RULE_BY_NAME[name]
    types = [TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors]
    names = [f"x{number}" for number in range(len(tensors))]
    ports = tuple(Port(label, found) for label, found in zip(names, types, strict=True))
    operator = Operator(rule, name, tuple(SubgraphInput(number) for number in range(len(tensors))), attributes)
    output = SubgraphOutput(Port("y", rule.output_type(types, attributes)), 0)
    graph = Hypergraph("g", (), ports, ("y",), (Subgraph("s", tuple(names), (output,), (operator,)),))
    given = dict(zip(names, tensors, strict=True))
    own = OwnTrace(run(graph, {}, given, {}, NumpyBackend()), {}, given, NumpyBackend())
    wrong = own.ports(0, 0)[0].copy()
    wrong.reshape(-1)[0] ^= 1
    roots = (tensor_root(wrong),)
    children = (H("subgraph-outputs", *roots),)
    leaf = open_chunks(encode_tensors([wrong]), 0, 1)
    assert len(leaf.data) <= LEAF_BYTES
    found = Difference(
        VerdictKind.ELEMENT, 0, Place(0, 0, 0), 0, children, None, roots, None, b"", form_of(wrong), leaf
    )
    data = encode_tensors(list(tensors))
    facts = Facts(compute_graph_id(encode_top_layer(graph)), H("trace", *children), keccak256(data), keccak256(b""), ())
    return b"\1" + facts.encode() + build_proof(facts, own, found, data, b"").evidence
