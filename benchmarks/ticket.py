"""What a ticket costs: noise on top of an exact product, a verification, a commitment.

Each function measures us and a peer in interleaved rounds and returns one row; the best round of each counts.
"""

from collections.abc import Callable

import numpy as np
from blake3 import blake3
from hyperdust_core import PackedWeights, matmul_path

from benchmarks.rounds import best_of
from chain.hashing import keccak256
from pouw.ticket import compute_key_a, compute_key_b, mine, open_ticket, prepare_weights, verify
from pouw.trace import tensor_root

Row = dict[str, object]
PARENT, SEAL, NONCE = bytes(32), bytes(32), bytes(8)


def row(name: str, ours: float, peer: float, unit: str, peer_name: str) -> Row:
    return {"name": name, "ours": ours, "peer": peer, "ratio": peer / ours, "unit": unit, "peer_name": peer_name}


def operands(m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    return generator.integers(-64, 65, (m, k), np.int8), generator.integers(-64, 65, (n, k), np.int8)


def torch_product(a: np.ndarray, b: np.ndarray) -> Callable[[], object] | None:
    """`torch._int_mm` on the same operands, weights stored transposed, or None without torch."""
    try:
        import torch  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    left, right = torch.from_numpy(a), torch.from_numpy(b).t()
    return lambda: torch._int_mm(left, right)  # noqa: SLF001 - its only int8 product


def noisy_over_plain(name: str, m: int, n: int, k: int, rounds: int) -> Row:
    """Mining a product against the same product without noise, fold or tickets, both exact, weights packed."""
    a, b = operands(m, n, k)
    prepared, packed = prepare_weights(b, bytes(32)), PackedWeights(b)
    noisy, plain = best_of(rounds, lambda: mine(a, prepared, bytes(32), 0), lambda: packed.matmul(a))
    peer_name = f"own int8 product ({matmul_path()}), {m} x {n} x {k}"
    return row(name, noisy * 1e3, plain * 1e3, "ms", peer_name)


def noisy_gemm_overhead() -> Row:
    return noisy_over_plain("noisy_gemm_overhead_vs_int8", 2048, 2048, 2048, 12)


def noisy_gemm_overhead_minilm() -> Row:
    """The shape that mines: MiniLM's second feed-forward product, 512 rows."""
    return noisy_over_plain("noisy_gemm_overhead_minilm", 512, 384, 1536, 100)


def int8_product() -> Row:
    """Our exact product; the peer is torch's, or numpy's float32 in exact slices where torch is absent."""
    a, b = operands(1024, 1024, 1024)
    packed = PackedWeights(b)
    peer, peer_name = torch_product(a, b), "torch._int_mm, 1024^3"
    if peer is None:
        left, right = a.astype(np.float32), np.ascontiguousarray(b.T.astype(np.float32))
        peer, peer_name = lambda: (left @ right).astype(np.int32), "numpy float32 (exact: below 2^24), 1024^3"
    ours, theirs = best_of(20, lambda: packed.matmul(a), peer)
    return row("int8_product", ours * 1e3, theirs * 1e3, "ms", peer_name)


def ticket_verify() -> Row:
    """Checking one proof against recomputing the whole product that it was drawn from."""
    a, b = operands(512, 384, 1536)
    proof = open_ticket(a, b, 31, 23)
    root_a, root_b = tensor_root(a), tensor_root(b)

    def recompute() -> None:
        key_b = compute_key_b(PARENT, root_b)
        key_a = compute_key_a(key_b, SEAL, NONCE, root_a, root_b, 512, 384, 1536)
        mine(a, prepare_weights(b, key_b), key_a, 0)

    ours, theirs = best_of(60, lambda: verify(proof, PARENT, SEAL, NONCE, 1), recompute)
    return row("ticket_verify_ms", ours * 1e3, theirs * 1e3, "ms", "recomputing the whole product, 512 x 384 x 1536")


def tensor_commitment() -> Row:
    """Bytes committed per second; keccak256 is what a contract would use."""
    array = np.random.default_rng(2).integers(-128, 128, (4096, 4096), np.int8)
    small = array[:64].tobytes()
    ours, library, keccak = best_of(
        8, lambda: tensor_root(array), lambda: blake3(array.data).digest(), lambda: keccak256(small)
    )
    speed, peer = array.nbytes / ours / 1e9, len(small) / keccak / 1e9
    name = f"keccak256, one core (BLAKE3 alone, one thread: {array.nbytes / library / 1e9:.2f} GB/s)"
    return row("tensor_root_speed", speed, peer, "GB/s", name) | {"ratio": speed / peer}


BENCHMARKS = {
    "noisy_gemm_overhead_vs_int8": noisy_gemm_overhead,
    "noisy_gemm_overhead_minilm": noisy_gemm_overhead_minilm,
    "int8_product": int8_product,
    "ticket_verify_ms": ticket_verify,
    "tensor_root_speed": tensor_commitment,
}
