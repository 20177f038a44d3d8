"""One table: which address is which native call, what it costs, who computes it.

Addresses run from 0x…4801 up (execution.md, Precompiles). Input layouts: docs/spec/precompiles.md. Rates are consensus;
`make bench-gas` measures them: none may be cheaper per nanosecond than twice Ethereum's cheapest.
"""

from collections.abc import Mapping
from typing import Final

from bridge.view import BitcoinView
from chain.engine import Precompile
from pouw.operators.rules import RULE_BY_NAME
from precompiles.bitcoin import bitcoin_calls
from precompiles.graph_facts import graph_facts
from precompiles.judge import judge

BLAKE3: Final = (0x4801).to_bytes(20, "big")
OPENING: Final = (0x4802).to_bytes(20, "big")
OPERATOR: Final = (0x4803).to_bytes(20, "big")
ELEMENT: Final = (0x4804).to_bytes(20, "big")
PROVEN_ELEMENT: Final = (0x4805).to_bytes(20, "big")
TICKET: Final = (0x4806).to_bytes(20, "big")
RUN_GRAPH: Final = (0x4807).to_bytes(20, "big")
JUDGE: Final = (0x4808).to_bytes(20, "big")
GRAPH_FACTS: Final = (0x4809).to_bytes(20, "big")

OPERATOR_RATES: Final[Mapping[str, int]] = {
    "embedding": 1024,
    "add_positions": 1536,
    "row_maximum": 1024,
    "quantize": 1024,
    "matmul": 128,
    "rescale": 1024,
    "add": 1024,
    "layer_norm": 3072,
    "attention_scores": 512,
    "softmax_weights": 1024,
    "attention_mix": 512,
    "lookup": 3072,
    "mean_pool": 1024,
    "l2_normalize": 1024,
    "widen": 8192,
    "rescale_wide": 12_288,
    "accumulate": 8192,
    "rms_norm": 2048,
    "rope": 20_480,
    "transpose_columns": 10_240,
    "causal_scores": 1024,
    "causal_softmax": 2048,
    "grouped_mix": 1024,
    "gated_product": 8192,
    "last_row": 8192,
    "argmax": 1024,
    "sample": 10_240,
    "candidates": 6144,
    "draw": 6144,
    "normalize_pixels": 12_288,
    "patches": 12_288,
    "max_pool": 4096,
    "average_pool": 6144,
    "rectify": 8192,
    "concat_rows": 8192,
    "slice_rows": 8192,
    "reshape": 8192,
    "orbit": 16_384,
    "light_direction": 16_384,
    "matrix_product": 4096,
    "transform_vertices": 1536,
    "project": 12_288,
    "rasterize": 1536,
    "surface_weights": 32_768,
    "interpolate": 8192,
    "sample_texture": 32_768,
    "shade": 32_768,
}
"""Gas per 1,024 units: multiply-accumulates where an operator has them, else elements."""


def rates_of(gas_per_word: int) -> tuple[int, ...]:
    """Return the rates of a planned call: gas per word of input, then per 1,024 units by the operator's code."""
    by_code = {RULE_BY_NAME[name].code: rate for name, rate in OPERATOR_RATES.items()}
    return (gas_per_word, *(by_code.get(code, 0) for code in range(1, max(by_code) + 1)))


PRECOMPILES: Final[tuple[Precompile, ...]] = (
    # Any bytes -> their 32-byte BLAKE3. Priced as SHA-256, which is slower.
    (BLAKE3, "blake3", 60, 12),
    # Chunks of a tensor under its root -> 1.
    (OPENING, "opening", 600, 12),
    # An operator on whole tensors -> the output's bytes.
    (OPERATOR, "operator", 600, rates_of(12)),
    # One element from what it reads -> int256.
    (ELEMENT, "element", 600, rates_of(12)),
    # One element of tensors known by their roots -> int256.
    (PROVEN_ELEMENT, "proven_element", 1200, rates_of(24)),
    # A winning ticket's proof -> the ticket.
    (TICKET, "ticket", 6000, 56),
    # A small graph with its constants and inputs -> the outputs' bytes.
    (RUN_GRAPH, "run_graph", 28_000, rates_of(24)),
    # Evidence, a question or an answer about a job -> what it shows. Priced for the worst top layer, in Python.
    (JUDGE, judge, 1_400_000, 1_600),
    # A graph file -> what GraphRegistry keeps of it. The base price is of entering Python beside a busy thread.
    (GRAPH_FACTS, graph_facts, 200_000, 6000),
)
"""Those that answer the same in every block; `precompiles_for` adds the others."""


def precompiles_for(bitcoin: BitcoinView | None, origin: bytes) -> tuple[Precompile, ...]:
    """Return all native calls of a block: `origin` is its header's `parent_beacon_block_root`.

    Everything that executes on a block's behalf takes its table from here. Without a view, a call that needs Bitcoin
    below an origin ends the execution with `OriginNotHeld`.
    """
    return (*PRECOMPILES, *bitcoin_calls(bitcoin, origin))


def name_of(entry: Precompile) -> str:
    """Return the name of a native call."""
    return entry[1] if isinstance(entry[1], str) else str(getattr(entry[1], "__name__", "call"))
