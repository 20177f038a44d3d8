"""What a nanosecond of each native call costs, beside Ethereum's own: `make bench-gas`.

The rule (execution.md): no call is cheaper per nanosecond than twice the cheapest of ecrecover and modexp at their
worst, measured in the same run, in processor time, so that a busy machine disturbs it less. With `--write` the table
goes into docs/spec/precompiles.md.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from eth_keys.datatypes import PrivateKey
from hyperdust_core import native_call

from benchmarks import gas_bitcoin, gas_judge
from chain.engine import AccountOverride, BlockEnvironment, CallMessage, StateCache, call, genesis_state
from docs.examples.digits import model
from pouw import ticket
from pouw.graph_encoding import compute_graph_id, encode, encode_top_layer
from pouw.hypergraph import Constant, Hypergraph, Operator, Port, Subgraph, SubgraphInput, SubgraphOutput, Symbol
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor, TensorType
from pouw.trace import INT8, INT16, INT32
from precompiles import registry
from precompiles.calls import (
    encode_element_call,
    encode_opening_call,
    encode_operator_call,
    encode_proven_element_call,
    encode_run_graph_call,
    encode_ticket_call,
)
from precompiles.registry import PRECOMPILES, name_of

TABLE = (*PRECOMPILES, *gas_bitcoin.CALLS)
SPEC = Path(__file__).resolve().parents[1] / "docs" / "spec" / "precompiles.md"
ENVIRONMENT = BlockEnvironment(
    chain_id=7, fork="Osaka", number=1, timestamp=1, coinbase=bytes(20), gas_limit=30_000_000, base_fee=0,
    prev_randao=bytes(32), parent_hash=None, parent_beacon_root=None,
)  # fmt: skip
LOOP = (0xA0).to_bytes(20, "big")
NOBODY = (0xDEAD).to_bytes(20, "big")
BLOCK_S = 0.005
"""How long one measurement runs at least."""
TRANSACTION_GAS = 400_000_000
BUDGET = 128 * 1024


@dataclass(frozen=True, slots=True)
class Case:
    """One input of one call."""

    name: str
    address: bytes
    data: bytes
    gas: int | None = None
    """What the call is given; None: all. Little makes it fail after its input was read."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a case cost."""

    case: Case
    gas: int
    ns: float

    @property
    def ns_per_gas(self) -> float:
        """How cheap it is."""
        return self.ns / self.gas


def loop_code(address: bytes, count: int, gas: int | None) -> bytes:
    """Calls an address `count` times with the whole calldata."""
    given = "5a" if gas is None else "63" + gas.to_bytes(4, "big").hex()
    again = "600190038060095700"
    return bytes.fromhex(
        "365f5f37" + "63" + count.to_bytes(4, "big").hex() + "5b5f5f365f73" + address.hex() + given + "fa50" + again
    )


def run(address: bytes, data: bytes, count: int, gas: int | None) -> tuple[float, int]:
    writes, _ = genesis_state({LOOP: AccountOverride(code=loop_code(address, count, gas))})
    state = dict(writes)
    cache = StateCache(1 << 20)
    message = CallMessage(b"\x0a" * 20, LOOP, data, gas=TRANSACTION_GAS)
    best, used = float("inf"), 0
    for _ in range(3):
        start = time.process_time()
        result = call(
            ENVIRONMENT,
            message,
            lambda keys: [state.get(key) for key in keys],
            precompiles=TABLE,
            overrides={},
            cache=cache,
        )
        best = min(best, time.process_time() - start)
        assert result.success, (result.error, count)
        used = result.gas_used + result.gas_refunded
    return best, used


def measure(case: Case) -> Measured:
    """Gas and time of one call, less those of calling nobody."""
    data = case.data
    zeros = data.count(0)
    # calldata has a floor price (EIP-7623) that would hide the gas of a short loop
    floor = 21_000 + 10 * zeros + 40 * (len(data) - zeros)
    single = priced(case)
    count = max(1, min(2000, (TRANSACTION_GAS - floor - 200_000) // (single + 400)))
    idle_s, _ = run(NOBODY, data, count, case.gas)
    busy_s, _ = run(case.address, data, count, case.gas)
    if (busy_s - idle_s) > BLOCK_S * 4 and count > 8:
        count = max(4, int(count * BLOCK_S * 4 / (busy_s - idle_s)))
        idle_s, _ = run(NOBODY, data, count, case.gas)
        busy_s, _ = run(case.address, data, count, case.gas)
    return Measured(case, single, max(busy_s - idle_s, 1e-9) / count * 1e9)


def priced(case: Case) -> int:
    """What one call takes; a failing one all that it is given."""
    if case.gas is not None:
        return case.gas
    writes, _ = genesis_state({LOOP: AccountOverride(code=loop_code(case.address, 1, None))})
    state = dict(writes)
    message = CallMessage(b"\x0a" * 20, LOOP, case.data, gas=TRANSACTION_GAS)
    tracer = '{"tracer": "callTracer"}'
    result = call(ENVIRONMENT, message, lambda keys: [state.get(key) for key in keys], precompiles=TABLE, trace=tracer)
    inner = json.loads(result.trace)["calls"][0]
    assert "error" not in inner, (case.name, inner["error"])
    return int(inner["gasUsed"], 16)


# Ethereum's own, at their worst.


def ethereum() -> Iterator[Case]:
    key, digest = PrivateKey(b"\x01" * 32), b"\x77" * 32
    signature = key.sign_msg_hash(digest)
    data = digest + (27 + signature.v).to_bytes(32, "big") + signature.r.to_bytes(32, "big")
    yield Case("ecrecover", (1).to_bytes(20, "big"), data + signature.s.to_bytes(32, "big"))
    for base, exponent, modulus, kind in (
        (32, 32, 32, "odd"), (32, 32, 32, "even"), (64, 32, 64, "odd"), (64, 64, 64, "even"), (128, 32, 128, "odd"),
        (192, 32, 192, "even"), (256, 32, 256, "odd"), (256, 32, 256, "even"), (512, 32, 512, "odd"),
        (1024, 32, 1024, "odd"), (1024, 8, 1024, "even"), (32, 256, 32, "odd"), (8, 512, 8, "even"),
    ):  # fmt: skip
        number = bytes([0xFF]) * (modulus - 1) + (b"\xff" if kind == "odd" else b"\xfe")
        sizes = b"".join(size.to_bytes(32, "big") for size in (base, exponent, modulus))
        data = sizes + b"\xfd" * base + b"\xff" * exponent + number
        yield Case(f"modexp {base}/{exponent}/{modulus} {kind}", (5).to_bytes(20, "big"), data)


# Ours, from the smallest to the largest inputs, and in the shapes that give the most work for a unit.


def full(dtype: type[np.signedinteger], *shape: int) -> Tensor:
    limits = np.iinfo(dtype)
    return np.random.default_rng(5).integers(limits.min, limits.max, shape, dtype, endpoint=True)


def operator_inputs(m: int, n: int, k: int) -> Iterator[tuple[str, tuple[Tensor, ...], tuple[int, ...]]]:
    x, factors = full(np.int16, m, n), np.full(n, 256, np.int16)
    maximum = np.full(m, 2**31 - 1, np.int32)
    wide, row = full(np.int32, m, n), full(np.int32, n)
    yield "embedding", (np.arange(m, dtype=np.int32) % 3, full(np.int16, 3, n)), ()
    yield "add_positions", (x, x), ()
    yield "row_maximum", (x, factors), ()
    yield "quantize", (x, maximum, factors), (127,)
    yield "matmul", (full(np.int8, m, k), full(np.int8, n, k)), (0,)
    small = np.full((1, 1), 64, np.int8)
    yield "matmul", (np.tile(small, (m, k)), np.tile(small, (n, k))), (1,)
    yield "rescale", (wide, maximum, row, row), (62, 32_767)
    yield "add", (x, x), ()
    if n <= 1024:
        yield "layer_norm", (wide, row, row), ()
    if k <= 8192:
        yield "attention_scores", (full(np.int16, m, k), full(np.int16, n, k)), (1, k, 0, 0, 10)
    yield "softmax_weights", (full(np.int32, 1, m, n), full(np.int16, 1024)), ()
    yield "attention_mix", (np.abs(full(np.int16, 1, m, k) >> 1), full(np.int16, k, n)), (min(n, 8192), 0)
    yield "lookup", (x, full(np.int16, 16_384)), ()
    yield "mean_pool", (x,), (8,)
    if n <= 2**14:
        yield "l2_normalize", (row,), ()
    yield from decoder_inputs(m, n, k)
    yield from vision_inputs(m, n, k)
    yield from scene_inputs(min(m, 4000), min(n, 4000), k)


def decoder_inputs(m: int, n: int, k: int) -> Iterator[tuple[str, tuple[Tensor, ...], tuple[int, ...]]]:
    x, wide, row = full(np.int16, m, n), full(np.int32, m, n), full(np.int32, n)
    table, so_far = full(np.int16, 1024), np.zeros(m, np.int32)
    yield "widen", (x,), (9,)
    yield "rescale_wide", (wide, np.full(m, 2**31 - 1, np.int32), row, row), (62,)
    yield "accumulate", (wide, wide), ()
    if n <= 8192:
        yield "rms_norm", (wide, row), (1, 20)
    if n % 2 == 0 and n <= 8192:
        yield "rope", (x, so_far, full(np.int16, m, n)), (1, n, 0)
    yield "transpose_columns", (x,), (0, n)
    if m <= n and k <= 8192:
        yield "causal_scores", (full(np.int16, m, k), full(np.int16, n, k)), (1, 1, k, 10)
        yield "causal_softmax", (full(np.int32, 1, m, n), table), ()
    if n <= 8192:
        yield "grouped_mix", (np.abs(full(np.int16, 1, m, k) >> 1), full(np.int16, n, k)), (1,)
    yield "gated_product", (x, x), (15,)
    yield "last_row", (wide,), ()
    yield "argmax", (wide,), ()
    softmax = np.linspace(2**15 - 1, 2**14, 1024).astype(np.int16)
    yield "sample", (wide >> 16, np.ones(1, np.int32), so_far, softmax), (65_536, n, 65_536)
    for segment in sorted({1, min(n, 50), n}):  # all of a segment is sorted, half of it, or its best found
        for count in sorted({1, (n % segment or segment) // 2 or 1, n % segment or segment}):
            yield "candidates", (wide,), (65_536, segment, count)
    keys = full(np.int64, m, n)
    yield "draw", (keys, np.ones(1, np.int32), so_far, softmax), (n, 65_536)
    yield "draw", (keys >> 30, np.ones(1, np.int32), so_far, softmax), (n, 65_536)


def vision_inputs(m: int, n: int, k: int) -> Iterator[tuple[str, tuple[Tensor, ...], tuple[int, ...]]]:
    x, image = full(np.int16, m, n), full(np.int16, m, n, 1)
    yield "normalize_pixels", (full(np.uint8, m, n, 1), full(np.int32, 1), full(np.int32, 1)), (8,)
    yield "rectify", (x,), ()
    yield "concat_rows", (x, x), ()
    yield "slice_rows", (x,), (0, m)
    yield "reshape", (x,), (n, m, 0)
    if max(m, n) < 2**14:
        for size in {1, min(k, m, n, 8)}:
            yield "patches", (full(np.int8, m, n, 1),), (size, max(1, size // 2), 1)
            yield "max_pool", (image,), (size, size)
            yield "average_pool", (image,), (size, 1)


def scene_inputs(m: int, n: int, k: int) -> Iterator[tuple[str, tuple[Tensor, ...], tuple[int, ...]]]:
    """A frame of m x n pixels under k triangles, all of which cover all of it."""
    view = np.array([5, 9, 1 << 20, 77, 99, 4096, 4096], np.int32)
    sines, matrix = full(np.int32, 4096) >> 15, full(np.int32, 4, 4) >> 2
    corner = [4095, 2**19, -(2**19)]
    screen = np.array([[-(2**19), -corner[1], 9, 7], [-(2**19), corner[1], 77, 9], [corner[1], 0, 5, 2**26]], np.int32)
    triangles = np.tile(np.array([[0, 1, 2]], np.int32), (k, 1))
    rows, columns = np.arange(m, dtype=np.int16), np.arange(n, dtype=np.int16)
    keys = np.full((m, n), 5 << 24, np.int64)
    weights = full(np.int32, m, n, 3) & ((1 << 18) - 1)
    materials = np.array([[0, 2, 2, 256, 255, 254]] * k, np.int32)
    normals, light = full(np.int32, m, n, 3) >> 16, np.array([2**15, 2**15, -(2**15)], np.int32)
    yield "orbit", (view, sines), ()
    yield "light_direction", (view, sines), ()
    yield "matrix_product", (matrix, matrix), ()
    yield "transform_vertices", (matrix, full(np.int32, m * n, 3) >> 3), ()
    yield "project", (np.abs(full(np.int32, m * n, 4) >> 1), view), ()
    yield "rasterize", (screen, triangles, rows, columns), (8, 8, 0)
    yield "surface_weights", (keys, screen, triangles, rows, columns), (8, 8)
    yield "interpolate", (keys, weights, triangles, full(np.int32, 3, min(k, 64))), ()
    places, texels = full(np.int32, m, n, 2), full(np.uint8, 4, 3)
    yield "sample_texture", (keys, places, np.zeros(k, np.int32), materials[: 2**16], texels), (1,)
    sky = np.array([[0, 255, 9], [255, 0, 7]], np.uint8)
    yield "shade", (keys, full(np.uint8, m, n, 3), normals, light, sky, rows, view), (1024, 1024)


def operators() -> Iterator[Case]:
    for m, n, k in (
        (1, 1, 1), (64, 64, 64), (1, 7000, 1), (7000, 1, 1), (150, 50, 2), (50, 150, 300), (1, 32, 2000),
        (1, 1, 16_000), (1000, 1, 32), (170, 170, 1),
    ):  # fmt: skip
        for name, tensors, attributes in operator_inputs(m, n, k):
            rule = RULE_BY_NAME[name]
            data = encode_operator_call(rule, tensors, attributes)
            planned = native_call("operator", data) if len(data) <= BUDGET else None
            if planned is None:  # larger than a call takes or makes
                continue
            mining = " mining" if name == "matmul" and attributes[0] else ""
            yield Case(f"{name}{mining} {m} x {n} x {k}", registry.OPERATOR, data)
            if len(data) > 60_000:
                upfront = PRECOMPILES[2][2] + PRECOMPILES[2][3][0] * -(-len(data) // 32)
                yield Case(f"{name}{mining} {m} x {n} x {k}, unpaid", registry.OPERATOR, data, upfront)


def elements() -> Iterator[Case]:
    for m, n, k in ((1, 1, 1), (64, 64, 64), (40, 500, 500), (2, 16_000, 2), (2, 2, 30_000), (300, 64, 64)):
        for name, tensors, attributes in operator_inputs(m, n, k):
            rule = RULE_BY_NAME[name]
            index = 0 if rule.compute(tensors, attributes).size < m * n else m * min(n, 8192) - 1
            data = encode_element_call(rule, tensors, attributes, index)
            if len(data) <= BUDGET:
                yield Case(f"{name} {m} x {n} x {k}", registry.ELEMENT, data)
            data = encode_proven_element_call(rule, tensors, attributes, index)
            if len(data) <= BUDGET:
                yield Case(f"{name} {m} x {n} x {k}", registry.PROVEN_ELEMENT, data)


def openings() -> Iterator[Case]:
    for size in (1, 1024, 100_000, 1 << 26):
        tensor = np.zeros(size, np.int8)
        yield Case(f"first chunk of {size:,} bytes", registry.OPENING, encode_opening_call(tensor, 0, 1))
    yield Case("98 chunks of 100,000 bytes", registry.OPENING, encode_opening_call(np.zeros(100_000, np.int8), 0, 98))
    for size in (0, 1, 1024, 100_000):
        yield Case(f"{size:,} bytes", registry.BLAKE3, bytes(size))


def tickets() -> Iterator[Case]:
    for m, n, k in ((16, 16, 512), (256, 384, 1536), (16, 64, 4096), (16, 32, 16_384), (16, 16, 2047), (16, 16, 8191)):
        random = np.random.default_rng(3)
        a = random.integers(-64, 65, (m, k), np.int8)
        b = random.integers(-64, 65, (n, k), np.int8)
        proof = ticket.open_ticket(a, b, 0, 0).encode()
        yield Case(f"{m} x {n} x {k}", registry.TICKET, encode_ticket_call(bytes(32), bytes(32), bytes(8), 1, proof))


def chain_graph(name: str, count: int, width: int) -> tuple[Hypergraph, Tensor]:
    """A graph of many operators: what costs most to read."""
    if name == "l2_normalize":
        port = Port("x", TensorType(INT32, (width,)))
        rule, tensors = RULE_BY_NAME[name], (SubgraphInput(0),)
        made = TensorType(INT16, (width,))
        value: Tensor = full(np.int32, width)
    else:
        port = Port("x", TensorType(INT16, (width, width)))
        rule, tensors = RULE_BY_NAME[name], (SubgraphInput(0), SubgraphInput(0))
        made = TensorType(INT32, (width, width))
        value = full(np.int16, width, width)
    steps = tuple(Operator(rule, "a", tensors, ()) for _ in range(count))
    outputs = (SubgraphOutput(Port("y", made), count - 1),)
    return Hypergraph("chain", (), (port,), ("y",), (Subgraph("s", ("x",), outputs, steps),)), value


def graphs() -> Iterator[Case]:
    graph, constants = model.build(model.load_weights())
    held = [constants[root] for root in graph.constants()]
    pixels = model.image_tensor(np.arange(64) % 17)
    data = encode_run_graph_call(model.graph_id(graph), (), encode(graph), held, [pixels])
    yield Case("digits, 2,368 MACs", registry.RUN_GRAPH, data)
    base, rates = PRECOMPILES[6][2], PRECOMPILES[6][3]
    for name, count, width in (("add", 128, 1), ("l2_normalize", 128, 1), ("add", 32, 90), ("l2_normalize", 1, 10_000)):
        graph, value = chain_graph(name, count, width)
        identity = compute_graph_id(encode_top_layer(graph))
        data = encode_run_graph_call(identity, (), encode(graph), [], [value])
        yield Case(f"{count} x {name} [{width}]", registry.RUN_GRAPH, data)
        upfront = base + rates[0] * -(-len(data) // 32)
        yield Case(f"{count} x {name} [{width}], unpaid", registry.RUN_GRAPH, data, upfront + 1)


def graph_files() -> Iterator[Case]:
    """What costs most to check for a word: short operators, short names, a graph of nothing else than itself."""
    row, image = TensorType(INT16, ("S",)), TensorType(INT16, ("S", 4))
    for name, count, arity, given, made in (
        ("rectify", 1, 1, row, row),
        ("rectify", 3900, 1, row, row),
        ("l2_normalize", 3900, 1, TensorType(INT32, (4,)), TensorType(INT16, (4,))),
        ("add", 3900, 2, image, TensorType(INT32, ("S", 4))),
        ("matmul", 3900, 2, TensorType(INT8, (4, 32)), TensorType(INT32, (4, 4))),
    ):
        attributes = (0,) if name == "matmul" else ()
        label = "a" * max(1, 33 - (10 + 5 * (arity - 1) + 8 * len(attributes)))  # 32 bytes for each
        step = Operator(RULE_BY_NAME[name], label, (SubgraphInput(0),) * arity, attributes)
        part = Subgraph("s", ("x",), (SubgraphOutput(Port("y", made), count - 1),), (step,) * count)
        graph = Hypergraph("g", (Symbol("S", 1, 4),), (Port("x", given),), ("y",), (part,))
        yield Case(f"{count} x {name}", registry.GRAPH_FACTS, bytes(2) + encode(graph))
    for parts, inputs, outputs in ((128, 64, 1), (30, 64, 20), (200, 1, 1)):
        graph = named(parts, inputs, outputs)
        name, file, top = f"{parts} subgraphs, {inputs} to {outputs}", encode(graph), 4 + len(encode_top_layer(graph))
        last = file[-(len(file) - top) // parts :]  # all have one size
        yield Case(name, registry.GRAPH_FACTS, bytes(2) + file)
        yield Case(f"{name}: top layer", registry.GRAPH_FACTS, bytes(2) + file[:top])
        yield Case(f"{name}: the last", registry.GRAPH_FACTS, (parts - 1).to_bytes(2, "big") + file[:top] + last)
    weights = [Constant(number.to_bytes(32, "big"), TensorType(INT8, (4, 32))) for number in range(256)]
    steps = tuple(Operator(RULE_BY_NAME["matmul"], "a", (SubgraphInput(0), each), (1,)) for each in weights)
    part = Subgraph("s", ("x",), (SubgraphOutput(Port("y", TensorType(INT32, (4, 4))), 0),), steps)
    graph = Hypergraph("g", (), (Port("x", TensorType(INT8, (4, 32))),), ("y",), (part,))
    yield Case("256 mining operands", registry.GRAPH_FACTS, bytes(2) + encode(graph))
    for path in sorted((SPEC.parents[2] / "genesis" / "graphs").glob("*.graph")):
        yield Case(path.stem, registry.GRAPH_FACTS, bytes(2) + path.read_bytes())
    yield Case("nothing", registry.GRAPH_FACTS, b"", PRECOMPILES_BY_ADDRESS[registry.GRAPH_FACTS][2])


def bitcoin() -> Iterator[Case]:
    for name, address, data, gas in gas_bitcoin.inputs():
        yield Case(name, address, data, gas)


def judged() -> Iterator[Case]:
    for name, data in gas_judge.inputs():
        yield Case(name, registry.JUDGE, data)


def named(parts: int, inputs: int, outputs: int) -> Hypergraph:
    """A graph that is names, mostly."""
    kind = TensorType(INT16, (2,))
    letters = "abcdefghijklmnopqrstuvwxyz0123456789_."
    names = ("".join(letters[number // 38**place % 38] for place in range(3)) for number in range(38**3))
    step = (Operator(RULE_BY_NAME["rectify"], "a", (SubgraphInput(0),), ()),)
    subgraphs = tuple(
        Subgraph(
            next(names),
            ("X",) * inputs,
            tuple(SubgraphOutput(Port(next(names), kind), 0) for _ in range(outputs)),
            step,
        )
        for _ in range(parts)
    )
    return Hypergraph("g", (), (Port("X", kind),), (subgraphs[0].outputs[0].port.name,), subgraphs)


def prices() -> str:
    """Return what the registry says."""
    lines = ["| call | base | per word |", "|---|--:|--:|"]
    words = ((entry, entry[3] if isinstance(entry[3], int) else entry[3][0]) for entry in TABLE)
    lines += [f"| `{name_of(entry)}` | {entry[2]:,} | {word:,} |" for entry, word in words]
    by_rate: dict[int, list[str]] = {}
    for name, rate in registry.OPERATOR_RATES.items():
        by_rate.setdefault(rate, []).append(f"`{name}`")
    lines += ["", "| gas per 1,024 units | operators |", "|--:|---|"]
    lines += [f"| {rate:,} | {', '.join(by_rate[rate])} |" for rate in sorted(by_rate)]
    return "\n".join(lines)


NAMES = {entry[0]: name_of(entry) for entry in TABLE}
PRECOMPILES_BY_ADDRESS = {entry[0]: entry for entry in PRECOMPILES}


def table(limit: float, rows: list[Measured]) -> str:
    lines = ["| call | input | gas | us | ns per gas | of the limit |", "|---|---|--:|--:|--:|--:|"]
    lines += [
        f"| {NAMES.get(row.case.address, 'ethereum')} | {row.case.name} | {row.gas:,} | {row.ns / 1000:.1f} "
        f"| {row.ns_per_gas:.2f} | {row.ns_per_gas / limit:.0%} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/spec/precompiles.md")
    parser.add_argument("--all", action="store_true", help="print every input, not each call's worst")
    parser.add_argument("--only", default="", help="calls whose name holds this")
    arguments = parser.parse_args()
    before = [measure(case) for case in ethereum()]
    cases = (
        case
        for make in (openings, operators, elements, tickets, graphs, graph_files, judged, bitcoin)
        for case in make()
    )
    rows = [measure(case) for case in cases if arguments.only in f"{NAMES[case.address]} {case.name}"]
    again = (measure(case) for case in ethereum())
    best = (min(pair, key=lambda row: row.ns) for pair in zip(before, again, strict=True))
    peers = sorted(best, key=lambda row: -row.ns_per_gas)
    limit = peers[0].ns_per_gas / 2
    worst: dict[str, Measured] = {}
    for row in rows:
        call_name = NAMES[row.case.address]
        name = f"{call_name} {row.case.name.split()[0]}" if call_name == "operator" else call_name
        if name not in worst or row.ns_per_gas > worst[name].ns_per_gas:
            worst[name] = row
    shown = rows if arguments.all else list(worst.values())
    text = table(limit, [*peers[:3], *shown])
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    head = f"Limit: {limit:.2f} ns per gas, half of {peers[0].case.name}'s {peers[0].ns_per_gas:.2f} ({machine})."
    print(head, text, sep="\n\n")
    if arguments.write:
        content = SPEC.read_text(encoding="utf-8")
        for mark, part in (("prices", prices()), ("measured", f"{head}\n\n{text}")):
            before, _, rest = content.partition(f"<!-- {mark}: from here -->")
            after = rest.partition("<!-- to here -->")[2]
            content = f"{before}<!-- {mark}: from here -->\n\n{part}\n\n<!-- to here -->{after}"
        SPEC.write_text(content, encoding="utf-8")
    cheap = [row for row in rows if row.ns_per_gas > limit]
    for row in cheap:
        print(f"too cheap: {NAMES[row.case.address]} {row.case.name}: {row.ns_per_gas:.2f} ns per gas", file=sys.stderr)
    return int(bool(cheap))


if __name__ == "__main__":
    sys.exit(main())
