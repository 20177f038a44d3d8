"""How fast MiniLM runs in exact integers against torch in float32, and what committing to it costs.

The peer is the same encoder written in torch operations, float32, eager, on the same threads; rounds are interleaved
and the best of each counts. Without torch there is no peer, so those two are left out.
"""

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from hyperdust.graph import MINILM_SHAPE, _weights, load_graph
from pouw.backends.registry import load_backend
from pouw.execution import Execution, run, trace_root
from pouw.trace import tensor_root

Row = dict[str, object]
TOKENS = 128
ROUNDS = 12


def best_of(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """Seconds of the fastest round of each function, rounds interleaved."""
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def tokens(count: int) -> np.ndarray:
    """Ids like a text's: a start, words, an end."""
    words = [(i * 977) % 20_000 + 1_000 for i in range(count - 2)]
    return np.array([101, *words, 102], dtype=np.int32)


def torch_encoder(ids: np.ndarray) -> Callable[[], object]:
    """The encoder in torch operations."""
    import torch  # noqa: PLC0415 - an extra
    from torch.nn import functional  # noqa: PLC0415 - an extra

    shape = MINILM_SHAPE
    weights = {name: torch.from_numpy(array) for name, array in _weights().items()}
    indices = torch.from_numpy(ids.astype(np.int64))

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (shape.width,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    def encode() -> torch.Tensor:
        with torch.inference_mode():
            x = weights["embeddings.word_embeddings.weight"][indices]
            x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
            x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
            for layer in range(shape.layers):
                name = f"encoder.layer.{layer}."
                q, k, v = (
                    linear(x, f"{name}attention.self.{part}").view(-1, shape.heads, shape.head_size).transpose(0, 1)
                    for part in ("query", "key", "value")
                )
                mixed = functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]
                mixed = mixed.transpose(0, 1).reshape(-1, shape.width)
                x = norm(x + linear(mixed, f"{name}attention.output.dense"), f"{name}attention.output.LayerNorm")
                inner = functional.gelu(linear(x, f"{name}intermediate.dense"))
                x = norm(x + linear(inner, f"{name}output.dense"), f"{name}output.LayerNorm")
            return functional.normalize(x.mean(dim=0), dim=0)

    return encode


def executions(count: int) -> tuple[Callable[[], Execution], np.ndarray]:
    loaded, backend, ids = load_graph("minilm"), load_backend("native"), tokens(count)
    return lambda: run(loaded.graph, loaded.constants, {"ids": ids}, {"S": count}, backend), ids


def integer_against_fp32(name: str, count: int) -> Row:
    """Inference alone on both sides; the trace is measured below."""
    ours, ids = executions(count)
    peer, peer_name = torch_encoder(ids), f"torch fp32 eager, {count} tokens"
    fast, slow = best_of(ROUNDS, ours, peer)
    ratio = slow / fast
    return {"name": name, "ours": fast * 1e3, "peer": slow * 1e3, "ratio": ratio, "unit": "ms", "peer_name": peer_name}


def commitment_share(name: str, count: int) -> Row:
    """What the trace root adds to an execution; the peer hashes every operator's output instead of the subgraphs'."""
    ours, ids = executions(count)
    loaded, backend = load_graph("minilm"), load_backend("native")
    full = run(loaded.graph, loaded.constants, {"ids": ids}, {"S": count}, backend, keep="all")
    operators = full.operator_outputs or ()
    inference, commit, every = best_of(
        ROUNDS, ours, lambda: trace_root(full), lambda: [tensor_root(output) for output in operators]
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


BENCHMARKS = {"minilm_commitment_share": lambda: commitment_share("minilm_commitment_share", TOKENS)}
if find_spec("torch"):
    BENCHMARKS |= {
        "minilm_integer_vs_torch_fp32": lambda: integer_against_fp32("minilm_integer_vs_torch_fp32", TOKENS),
        "minilm_integer_vs_torch_fp32_16": lambda: integer_against_fp32("minilm_integer_vs_torch_fp32_16", 16),
    }
else:
    print("minilm_integer_vs_torch_fp32 is not measured: torch is not installed", file=sys.stderr)
