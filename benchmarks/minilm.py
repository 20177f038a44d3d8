"""How fast MiniLM runs in exact integers against torch in float32 and bfloat16, and what committing to it costs.

The peer is the same encoder written in torch operations, eager, on as many threads as the core's pool has
(RAYON_NUM_THREADS); turns are apart (`rounds.py`) and the best of each counts. With RAYON_NUM_THREADS=1 time is the
process's CPU time, which other programs on the machine disturb least; else it is wall time.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.rounds import best_of
from benchmarks.skip import Skipped
from hyperdust.graph import load_graph
from hyperdust.graph_minilm import MINILM_SHAPE, load_weights
from pouw.backends.registry import load_backend
from pouw.execution import Execution, run, trace_root
from pouw.trace import tensor_root

Row = dict[str, object]
TOKENS = 128
ROUNDS = 12
THREADS = int(os.environ.get("RAYON_NUM_THREADS") or os.cpu_count() or 1)
clock = time.process_time if THREADS == 1 else time.perf_counter


def tokens(count: int) -> np.ndarray:
    """Ids like a text's: a start, words, an end."""
    words = [(i * 977) % 20_000 + 1_000 for i in range(count - 2)]
    return np.array([101, *words, 102], dtype=np.int32)


def torch_encoder(ids: np.ndarray, dtype: str = "float32", batch: int = 1) -> Callable[[], object]:
    """The encoder in torch operations, on `batch` equal texts at once."""
    try:
        import torch  # noqa: PLC0415 - an extra
        from torch.nn import functional  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Skipped("torch is not installed; pip install 'hyperdust[compile]'") from error

    torch.set_num_threads(THREADS)
    shape = MINILM_SHAPE
    weights = {name: torch.from_numpy(array).to(getattr(torch, dtype)) for name, array in load_weights().items()}
    indices = torch.from_numpy(ids.astype(np.int64)).repeat(batch, 1)  # (batch, S)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (shape.width,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    heads = (batch, len(ids), shape.heads, shape.head_size)

    def encode() -> torch.Tensor:
        with torch.inference_mode():
            x = weights["embeddings.word_embeddings.weight"][indices]
            x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
            x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
            for layer in range(shape.layers):
                name = f"encoder.layer.{layer}."
                q, k, v = (
                    linear(x, f"{name}attention.self.{part}").view(heads).transpose(1, 2)
                    for part in ("query", "key", "value")
                )
                mixed = functional.scaled_dot_product_attention(q, k, v)
                mixed = mixed.transpose(1, 2).reshape(batch, -1, shape.width)
                x = norm(x + linear(mixed, f"{name}attention.output.dense"), f"{name}attention.output.LayerNorm")
                inner = functional.gelu(linear(x, f"{name}intermediate.dense"))
                x = norm(x + linear(inner, f"{name}output.dense"), f"{name}output.LayerNorm")
            return functional.normalize(x.mean(dim=1), dim=1)

    return encode


def executions(count: int) -> tuple[Callable[[], Execution], np.ndarray]:
    loaded, backend, ids = load_graph("minilm"), load_backend("native"), tokens(count)
    return lambda: run(loaded.graph, loaded.constants, {"ids": ids}, {"S": count}, backend), ids


def integer_against_torch(name: str, count: int, dtype: str, batch: int) -> Row:
    """Inference alone on both sides; the trace is measured below. A batch is so many jobs, side by side."""
    once, ids = executions(count)
    peer = torch_encoder(ids, dtype, batch)

    threads = ThreadPoolExecutor(min(batch, THREADS))

    def ours() -> object:
        return once() if batch == 1 else list(threads.map(lambda _: once(), range(batch)))

    fast, slow = best_of(ROUNDS if batch == 1 else 3, ours, peer, clock=clock)
    return {
        "name": name,
        "ours": fast * 1e3,
        "peer": slow * 1e3,
        "ratio": slow / fast,
        "unit": "ms",
        "peer_name": f"torch {dtype} eager, batch {batch}, {count} tokens, {THREADS} threads",
    }


def commitment_share(name: str, count: int) -> Row:
    """What the trace root adds to an execution; the peer hashes every operator's output instead of the subgraphs'."""
    ours, ids = executions(count)
    loaded, backend = load_graph("minilm"), load_backend("native")
    full = run(loaded.graph, loaded.constants, {"ids": ids}, {"S": count}, backend, keep="all")
    operators = full.operator_outputs or ()
    inference, commit, every = best_of(
        ROUNDS, ours, lambda: trace_root(full), lambda: [tensor_root(output) for output in operators], clock=clock
    )
    share, peer = 100 * commit / inference, 100 * every / inference
    return {
        "name": name,
        "ours": share,
        "peer": peer,
        "ratio": peer / share,
        "unit": "% of inference",
        "peer_name": f"hashing every operator's output, {count} tokens",
    }


def measure(name: str, count: int, dtype: str, batch: int) -> Callable[[], Row]:
    return lambda: integer_against_torch(name, count, dtype, batch)


BENCHMARKS = {"minilm_commitment_share": lambda: commitment_share("minilm_commitment_share", TOKENS)}
for peer, peer_dtype in (("fp32", "float32"), ("bf16", "bfloat16")):
    base = f"minilm_integer_vs_torch_{peer}"
    BENCHMARKS |= {
        f"{base}{suffix}": measure(f"{base}{suffix}", count, peer_dtype, batch)
        for suffix, count, batch in (
            ("", TOKENS, 1),
            ("_16", 16, 1),
            ("_64", 64, 1),
            ("_256", 256, 1),
            ("_batch32", TOKENS, 32),
        )
    }
