"""Gas of one `Court.prove` for each operator of a 7B decoder: `python -m benchmarks.fraud_gas [--write]`.

The structure is llama-tiny's with the sizes of a 7B model (32 layers, 4,096 wide, 32,000 tokens); weights are random
and the layers share them: what a proof costs follows from shapes, not from values. One subgraph is computed, the
others' outputs are random too, since nobody looks at them. With `--write` the table goes into docs/spec/fraud_proof.md.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chain.hashing import H, keccak256
from hyperdust.graph import read_graph
from pouw.backends.native import NativeBackend
from pouw.compiler.sampling import choose_segment
from pouw.execution import Execution, encode_tensors
from pouw.fraud import Difference, Facts, OwnTrace, Place, VerdictKind, build_proof
from pouw.fraud_own import form_of
from pouw.fraud_tensor import open_chunks
from pouw.graph_encoding import compute_graph_id, encode_top_layer
from pouw.hypergraph import (
    Constant,
    Hypergraph,
    Operator,
    OperatorOutput,
    Subgraph,
    SubgraphOutput,
    Symbol,
    check_graph,
)
from pouw.operators.elements import WITNESS_RULES
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor, TensorType
from pouw.scan import History
from pouw.trace import LEAF_BYTES, tensor_root
from precompiles.registry import JUDGE, PRECOMPILES

SPEC = Path(__file__).resolve().parents[1] / "docs" / "spec" / "fraud_proof.md"
LAYERS, HIDDEN, INNER, HEADS, HEAD_SIZE, VOCABULARY, POSITIONS = 32, 4096, 11_008, 32, 128, 32_000, 4_096
SIZES = {128: HIDDEN, 512: INNER, 1024: VOCABULARY, 256: 3 * HIDDEN, 64: HIDDEN, 192: POSITIONS, 32: HEAD_SIZE}
ATTRIBUTES = {
    (4, 32, 0): (HEADS, HEAD_SIZE, 0),
    (2, 32, 128): (HEADS, HEAD_SIZE, HIDDEN),
    (192, 64): (2 * HIDDEN, HIDDEN),
    (4, 2, 32, 14): (HEADS, HEADS, HEAD_SIZE, 16),
    (2,): (HEADS,),
}
PROMPT, LIMIT = 512, 512
TRANSACTION_GAS_MAX = 2**24
COURT_GAS = 600_000
"""Storage, events, the signature and the conviction; what grows with the evidence is counted beside it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One operator's proof."""

    operator: str
    step: int
    evidence: int
    judge: int
    total: int


def large(tensor: TensorType) -> TensorType:
    """The type at a 7B model's sizes; tables of one dimension stay, but for those as long as the vocabulary."""
    table = len(tensor.shape) == 1 and tensor.dtype.name == "int16" and tensor.shape[0] in {1024, 16_384}
    return tensor if table else TensorType(tensor.dtype, tuple(SIZES.get(size, size) for size in tensor.shape))


class Weights(dict[bytes, Tensor]):
    """Random constants by root; one for each type."""

    def __init__(self) -> None:
        super().__init__()
        self._by_type: dict[str, Constant] = {}
        self._random = np.random.default_rng(7)

    def of(self, tensor: TensorType) -> Constant:
        """A constant of a type."""
        if str(tensor) not in self._by_type:
            low, high = (1, 200) if tensor.dtype.size_bytes > 1 else (-60, 60)
            array = self._random.integers(low, high, tensor.at({}), dtype=tensor.dtype.name)
            root = tensor_root(array)
            self[root] = array
            self._by_type[str(tensor)] = Constant(root, tensor)
        return self._by_type[str(tensor)]


def enlarge(part: Subgraph, weights: Weights, layer: int) -> Subgraph:
    """A subgraph of llama-tiny at a 7B model's sizes, as that of another layer."""
    names = {f"{name}.0": f"{name}.{layer}" for name in ("stream", "queries", "keys", "values")}
    names |= {"stream.1": f"stream.{layer + 1}", "stream.3": f"stream.{LAYERS}"}

    def renamed(name: str) -> str:
        return names.get(name, name.replace("layer.0", f"layer.{layer}"))

    operators = []
    for operator in part.operators:
        tensors = tuple(weights.of(large(x.type)) if isinstance(x, Constant) else x for x in operator.tensors)
        if operator.rule.name == "sample":  # a row of 32,000 scores is more than a leaf: in two steps
            temperature, top_k, top_p = operator.attributes
            cut = (temperature, choose_segment(VOCABULARY, top_k), top_k)
            operators.append(Operator(RULE_BY_NAME["candidates"], "head.candidates", tensors[:1], cut))
            keys = OperatorOutput(len(operators) - 1)
            operators.append(Operator(RULE_BY_NAME["draw"], "head.draw", (keys, *tensors[1:]), (top_k, top_p)))
            continue
        attributes = ATTRIBUTES.get(operator.attributes, operator.attributes)
        operators.append(Operator(operator.rule, operator.label, tensors, attributes))
    inputs = tuple(History(renamed(x.name)) if isinstance(x, History) else renamed(x) for x in part.inputs)
    added = len(operators) - len(part.operators)  # behind the one that makes a head's only output
    outputs = tuple(
        SubgraphOutput(replace(x.port, name=renamed(x.port.name), type=large(x.port.type)), x.operator + added)
        for x in part.outputs
    )
    return Subgraph(renamed(part.name), inputs, outputs, tuple(operators))


def decoder() -> tuple[Hypergraph, Weights]:
    """The graph of a 7B decoder, and its constants."""
    tiny, weights = read_graph("llama-tiny"), Weights()
    embed, read, write, head = tiny.subgraphs[0], tiny.subgraphs[1], tiny.subgraphs[2], tiny.subgraphs[-1]
    layers = [enlarge(part, weights, layer) for layer in range(LAYERS) for part in (read, write)]
    parts = (enlarge(embed, weights, 0), *layers, enlarge(head, weights, 0))
    symbols = (Symbol("S", 1, PROMPT), Symbol("T", 1, LIMIT))
    graph = replace(tiny, name="decoder-7b", symbols=symbols, subgraphs=parts)
    check_graph(graph)
    return graph, weights


def pretend(graph: Hypergraph, weights: Weights, steps: int) -> OwnTrace:
    """An execution of so many steps whose outputs are random."""
    random = np.random.default_rng(1)
    made: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def tensor(output: SubgraphOutput, rows: int) -> Tensor:
        shape = output.port.type.at({"R": rows})
        key = (output.port.type.dtype.name, shape)
        if key not in made:
            made[key] = random.integers(0, 1_000, shape, dtype=key[0])
        return made[key]

    outputs = tuple(
        tuple(tensor(output, PROMPT if step == 0 else 1) for output in part.outputs)
        for step in range(steps)
        for part in graph.subgraphs
    )
    inputs = {"ids": random.integers(0, VOCABULARY, PROMPT, dtype=np.int32), "seed": np.array([1], dtype=np.int32)}
    execution = Execution({}, outputs, None, graph, {"S": PROMPT, "T": LIMIT})
    return OwnTrace(execution, weights, inputs, NativeBackend())


def roots_of(own: OwnTrace, steps: int) -> list[tuple[bytes, ...]]:
    """The subgraphs' roots of each step; tensors that are the same are hashed once."""
    known: dict[int, bytes] = {}

    def root(tensor: Tensor) -> bytes:
        return (
            known.setdefault(id(tensor), b"") or known.__setitem__(id(tensor), tensor_root(tensor)) or known[id(tensor)]
        )

    count = len(own.graph.subgraphs)
    return [
        tuple(H("subgraph-outputs", *map(root, own.ports(step, number))) for number in range(count))
        for step in range(steps)
    ]


def proofs(graph: Hypergraph, weights: Weights, steps: int) -> Iterator[Row]:
    """Convict one wrong value of each operator of four subgraphs, in the last of so many steps."""
    own = pretend(graph, weights, steps)
    step, last = steps - 1, len(graph.subgraphs) - 1
    own._roots.update(enumerate(roots_of(own, steps)))  # noqa: SLF001 - 512 steps of 66 tensors that are all the same
    for number in (0, last - 2, last - 1, last):
        tensors = own.inside(step, number).tensors
        roots = [tensor_root(tensor) for tensor in tensors]
        for place, operator in enumerate(graph.subgraphs[number].operators):
            yield prove(own, step, number, place, operator, tensors[place], roots)


def prove(
    own: OwnTrace, step: int, number: int, place: int, operator: Operator, right: Tensor, roots: list[bytes]
) -> Row:
    """The proof that the middle element of an operator's output is wrong."""
    graph = own.graph
    wrong = right.copy()
    element = right.size // 2
    wrong.reshape(-1)[element] ^= 1
    data = encode_tensors([wrong])
    listed = (*roots[:place], tensor_root(wrong), *roots[place + 1 :])
    ports = tuple(listed[output.operator] for output in graph.subgraphs[number].outputs)
    children = own.step_roots(step)
    children = (*children[:number], H("subgraph-outputs", *ports), *children[number + 1 :])
    others = [H("step", *own.step_roots(at)) for at in range(step)]
    trace_children = (*others, H("step", *children))
    witnessed = operator.rule.name in WITNESS_RULES
    difference = Difference(
        VerdictKind.WITNESS if witnessed else VerdictKind.ELEMENT,
        0,
        Place(step, number, place),
        element,
        trace_children,
        children,
        ports,
        listed,
        b"s" * 65,
        form_of(wrong),
        open_chunks(data, element * wrong.dtype.itemsize // LEAF_BYTES, 1),
    )
    job_input = encode_tensors([own.inputs["ids"], own.inputs["seed"]])
    top_layer = encode_top_layer(graph)
    hashes = (keccak256(job_input), keccak256(b""))
    facts = Facts(compute_graph_id(top_layer), H("trace", *trace_children), *hashes, (PROMPT, LIMIT))
    proof = build_proof(facts, own, difference, job_input, b"")
    judge, total = gas_of(proof.evidence, proof.signature)
    return Row(f"{operator.rule.name} ({operator.label})", step, len(proof.evidence), judge, total)


def gas_of(evidence: bytes, signature: bytes) -> tuple[int, int]:
    """Gas of the judge, and of the transaction (EIP-7623)."""
    base, per_word = next((entry[2], entry[3]) for entry in PRECOMPILES if entry[0] == JUDGE)
    assert isinstance(per_word, int)
    words = -(-(1 + 160 + len(evidence)) // 32)
    judge = base + per_word * words
    padded = evidence + bytes(-len(evidence) % 32)
    calldata = bytes(3) + b"prove" + padded + signature + bytes(31 + 32 * 5)
    tokens = calldata.count(0) + 4 * (len(calldata) - calldata.count(0))
    memory = 4 * words  # the argument, its copy behind facts, and their copies
    court = COURT_GAS + 6 * words + 3 * memory + memory * memory // 512 + 3 * memory
    return judge, max(21_000 + 4 * tokens + judge + court, 21_000 + 10 * tokens)


def table(rows: list[Row]) -> str:
    """The table of the spec: each operator once, its dearest place."""
    lines = [
        (
            f"A 7B decoder: {LAYERS} layers, {HIDDEN:,} wide, {VOCABULARY:,} tokens; prompt of {PROMPT} tokens; "
            f"limit {TRANSACTION_GAS_MAX:,} gas."
        ),
        "",
        "| operator | step | evidence, bytes | judge, gas | transaction, gas |",
        "|---|--:|--:|--:|--:|",
    ]
    dearest: dict[tuple[str, int], Row] = {}
    for row in rows:
        key = (row.operator.split(" ")[0], row.step)
        if key not in dearest or row.total > dearest[key].total:
            dearest[key] = row
    lines += [
        f"| {row.operator} | {row.step} | {row.evidence:,} | {row.judge:,} | {row.total:,} |"
        for row in sorted(dearest.values(), key=lambda row: (row.operator, row.step))
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/spec/fraud_proof.md")
    parser.add_argument("--steps", type=int, nargs="*", default=[1, 256, 512])
    arguments = parser.parse_args()
    graph, weights = decoder()
    rows = [row for steps in arguments.steps for row in proofs(graph, weights, steps)]
    text = table(rows)
    print(text)
    if arguments.write:
        before, _, rest = SPEC.read_text().partition("<!-- gas: from here -->\n")
        _, _, after = rest.partition("<!-- to here -->")
        SPEC.write_text(f"{before}<!-- gas: from here -->\n\n{text}\n\n<!-- to here -->{after}")
    return 0 if all(row.total < TRANSACTION_GAS_MAX for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
