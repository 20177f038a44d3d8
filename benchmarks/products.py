"""int8 x int8 -> int32: the native product, weights packed once, against torch's and onnxruntime's.

Same threads and clock as in `minilm.py`, rounds interleaved, the best of each. Each peer is compared with the exact
product first: one that is wrong on this machine is no peer.
"""

from collections.abc import Callable

import numpy as np
from hyperdust_core import PackedWeights

from benchmarks.minilm import THREADS, clock
from benchmarks.rounds import best_of
from benchmarks.skip import Skipped

Row = dict[str, object]
Product = Callable[[], np.ndarray]
SHAPES = ((512, 384, 1536), (1024, 1024, 1024), (2048, 2048, 2048))
ROUNDS = 15


def operands(m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Operands over the whole range: a [m, k], b transposed [n, k]."""
    rng = np.random.default_rng(1)
    return rng.integers(-128, 128, (m, k), dtype=np.int8), rng.integers(-128, 128, (n, k), dtype=np.int8)


def torch_product(a: np.ndarray, b_transposed: np.ndarray) -> Product:
    try:
        import torch  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Skipped("torch is not installed; pip install 'hyperdust[compile]'") from error
    torch.set_num_threads(THREADS)
    left, right = torch.from_numpy(a), torch.from_numpy(b_transposed).t()
    return lambda: torch._int_mm(left, right).numpy()  # noqa: SLF001 - the only int8 product that torch has


def onnxruntime_product(a: np.ndarray, b_transposed: np.ndarray) -> Product:
    """As uint8 times int8 with zero point 128, its fast path; int8 times int8 is twenty times slower in it."""
    try:
        import onnx  # noqa: PLC0415 - an extra
        import onnxruntime  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Skipped(f"{error.name} is not installed; pip install onnx onnxruntime") from error
    helper, types = onnx.helper, onnx.TensorProto
    weights = helper.make_tensor("b", types.INT8, b_transposed.T.shape, b_transposed.T.tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "zero"], ["y"])],
        "product",
        [helper.make_tensor_value_info("a", types.UINT8, a.shape)],
        [helper.make_tensor_value_info("y", types.INT32, (len(a), len(b_transposed)))],
        [weights, helper.make_tensor("zero", types.UINT8, (), [128])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    offset = a.view(np.uint8) ^ np.uint8(128)
    return lambda: np.asarray(session.run(None, {"a": offset})[0])


PEERS = {"torch_int_mm": torch_product, "onnxruntime": onnxruntime_product}


def native_against(name: str, peer: str, shape: tuple[int, int, int]) -> Row:
    a, b_transposed = operands(*shape)
    other = PEERS[peer](a, b_transposed)
    weights = PackedWeights(b_transposed)
    if not np.array_equal(weights.matmul(a), other()):
        raise Skipped(f"{peer} is wrong on this machine: its int8 product saturates")
    fast, slow = best_of(ROUNDS, lambda: weights.matmul(a), other, clock=clock)
    m, k, n = shape
    operations = 2e-9 * m * k * n
    return {
        "name": name,
        "ours": operations / fast,
        "peer": operations / slow,
        "ratio": slow / fast,
        "unit": "GOP/s",
        "peer_name": f"{peer}, {m} x {k} x {n}, {THREADS} threads",
    }


def measure(name: str, peer: str, shape: tuple[int, int, int]) -> Callable[[], Row]:
    return lambda: native_against(name, peer, shape)


BENCHMARKS = {
    name: measure(name, peer, shape)
    for peer in PEERS
    for shape in SHAPES
    for name in [f"native_int8_vs_{peer}_{'x'.join(map(str, shape))}"]
}
