"""Which backends exist, and the self-test that each passes before it may serve."""

from collections.abc import Callable

import numpy as np

from chain.errors import NodeFault
from pouw.backends.native import NativeBackend
from pouw.backends.reference import NumpyBackend
from pouw.execution import Backend
from pouw.operators.activation import TABLE_SIZE
from pouw.operators.attention import WEIGHT_TABLE_SIZE
from pouw.operators.linear import FACTOR_MAX
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor


def _torch(device: str) -> Callable[[], Backend]:
    def make() -> Backend:
        from pouw.backends.torch_backend import TorchBackend  # noqa: PLC0415  # an extra

        return TorchBackend(device)

    return make


MAKERS: tuple[tuple[str, Callable[[], Backend]], ...] = (
    ("native", NativeBackend),
    ("numpy", NumpyBackend),
    ("torch", _torch("cpu")),
    ("torch-cuda", _torch("cuda")),
)


class BackendUnavailable(NodeFault):
    """A backend cannot serve on this machine; says why."""


class BackendWrong(NodeFault):
    """A backend computed another value than the definition; it must not serve."""


def load_backend(name: str) -> Backend:
    """Return a backend that has passed its self-test.

    Raises:
        BackendUnavailable, BackendWrong.
    """
    for known, make in MAKERS:
        if known == name:
            try:
                backend = make()
            except NodeFault as error:  # a backend that knows why it cannot serve
                raise BackendUnavailable(f"backend {name}: {error}") from error
            except (ImportError, AttributeError) as error:
                raise BackendUnavailable(f"backend {name}: {error}; `make setup` builds it") from error
            check_backend(backend)
            return backend
    raise BackendUnavailable(f"no backend {name!r}; known: {', '.join(known for known, _ in MAKERS)}")


def list_backends() -> tuple[list[str], dict[str, str]]:
    """Return (names that serve on this machine, name -> reason for the others)."""
    available, unavailable = [], {}
    for name, _ in MAKERS:
        try:
            load_backend(name)
        except (BackendUnavailable, BackendWrong) as error:
            unavailable[name] = str(error)
        else:
            available.append(name)
    return available, unavailable


def check_backend(backend: Backend) -> None:
    """Compare every operator with its definition on full-range operands.

    Raises:
        BackendWrong: names the operator.
    """
    for name, tensors, attributes in self_test_cases():
        rule = RULE_BY_NAME[name]
        expected = rule.compute(tensors, attributes)
        got = backend.compute(rule, tensors, attributes)
        if got.dtype != expected.dtype or got.shape != expected.shape or not np.array_equal(got, expected):
            wrong = int((got != expected).sum()) if got.shape == expected.shape else expected.size
            raise BackendWrong(f"backend {backend.name}: {name} differs in {wrong} of {expected.size} values")


def self_test_cases() -> tuple[tuple[str, tuple[Tensor, ...], tuple[int, ...]], ...]:
    """Return (operator, tensors, attributes) with operands over their whole range; odd shapes leave remainders.

    Saturating int8 instructions gave 94 % wrong products on some machines: only full-range operands show that.
    """
    m, n, k = 19, 48, 1030
    full8 = _full(np.int8, (m, k), 1)
    weights8 = _full(np.int8, (n, k), 2)
    full8[:3], weights8[:3] = ((-128,), (127,), (0,)), ((-128,), (127,), (1,))  # the largest sums of either sign
    x = _full(np.int16, (m, n), 3)
    factors = (_full(np.int16, (n,), 5).astype(np.int32) % FACTOR_MAX + 1).astype(np.int16)
    maximum = np.abs(_full(np.int32, (m,), 6).astype(np.int64) % 2**23).astype(np.int32) + 1
    wide = _full(np.int32, (m, n), 7)
    row = _full(np.int32, (n,), 8)
    scores = (_full(np.int32, (3, m, n), 9) >> 12).astype(np.int32)
    powers = np.abs(_full(np.int16, (WEIGHT_TABLE_SIZE,), 10).astype(np.int32)).clip(0, 2**15 - 1).astype(np.int16)
    table = _full(np.int16, (TABLE_SIZE,), 11)
    weights = np.abs(_full(np.int16, (3, m, m), 12).astype(np.int32)).clip(0, 2**15 - 1).astype(np.int16)
    ids = (np.arange(m, dtype=np.int32) * 7) % 40
    return (
        ("embedding", (ids, _full(np.int16, (40, n), 13)), ()),
        ("add_positions", (x, _full(np.int16, (m + 2, n), 14)), ()),
        ("row_maximum", (x, factors), ()),
        ("quantize", (x, maximum, factors), (127,)),
        ("quantize", (x, maximum, factors), (63,)),
        ("matmul", (full8, weights8), (0,)),
        ("matmul", ((full8 >> 1).astype(np.int8), (weights8 >> 1).astype(np.int8)), (1,)),
        ("rescale", (wide, maximum, row, wide[0].copy()), (30, 2**15 - 1)),
        ("rescale", (wide >> 9, maximum, row >> 14, row), (40, 8191)),
        ("add", (x, x[::-1].copy()), ()),
        ("layer_norm", (wide, row >> 12, row), ()),
        ("layer_norm", (wide >> 16, row >> 12, row), ()),
        ("attention_scores", (x, x), (3, 8, 0, 24, 10)),
        ("softmax_weights", (scores, powers), ()),
        ("attention_mix", (weights, x), (8, 24)),
        ("lookup", (x, table), ()),
        ("mean_pool", (x,), (6,)),
        ("l2_normalize", (row,), ()),
        ("l2_normalize", (row >> 20,), ()),
    )


def _full(dtype: type[np.signedinteger], shape: tuple[int, ...], seed: int) -> Tensor:
    """Return every bit pattern of the dtype, spread by a Weyl sequence; no randomness in protocol code."""
    count = int(np.prod(shape))
    spread = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15 + 2 * seed)) >> np.uint64(17)
    values = spread.astype(np.uint32).view(np.int32).astype(dtype).reshape(shape)
    limits = np.iinfo(dtype)
    values.reshape(-1)[:2] = (limits.min, limits.max)
    return values
