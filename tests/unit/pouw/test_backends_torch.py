"""torch computes what the definitions say, or it does not serve."""

import importlib.util

import numpy as np
import pytest

from pouw.backends import registry, torch_backend
from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.operators.errors import TensorOutOfRange
from pouw.operators.rules import RULE_BY_NAME

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def test_without_torch_the_way_to_install_it_is_named(monkeypatch):
    monkeypatch.setattr(torch_backend, "find_spec", lambda _name: None)
    with pytest.raises(BackendUnavailable, match=r"torch is not installed; pip install 'hyperdust\[compile\]'"):
        load_backend("torch")
    assert "torch" in registry.list_backends()[1]


@needs_torch
def test_a_product_that_saturates_is_passed_over():
    backend = load_backend("torch")

    def saturating(a, b):
        exact = a.int() @ b.int().t()
        return exact.clamp(-(2**15), 2**15 - 1)

    def missing(a, b):
        raise RuntimeError("not on this device")

    def exact(a, b):
        return (a.double() @ b.double().t()).int()

    assert backend._choose_product((missing, saturating, exact)) is exact
    with pytest.raises(torch_backend.NoExactProduct):
        backend._choose_product((missing, saturating))


@needs_torch
def test_every_product_that_it_may_choose_is_exact_here():
    from pouw.backends.torch_operators import PRODUCTS

    backend = load_backend("torch")
    for product in PRODUCTS["cpu"]:
        assert backend._choose_product((product,)) is product


@needs_torch
def test_values_that_an_operator_refuses_are_named():
    backend = load_backend("torch")
    ids, table = np.array([0, 3], dtype=np.int32), np.zeros((3, 2), dtype=np.int16)
    with pytest.raises(TensorOutOfRange, match="token id"):
        backend.compute(RULE_BY_NAME["embedding"], (ids, table), ())
    operand = np.full((2, 4), 65, dtype=np.int8)
    with pytest.raises(TensorOutOfRange, match="mining operand A"):
        backend.compute(RULE_BY_NAME["matmul"], (operand, operand), (1,))
    factors, maximum = np.array([1, 257], dtype=np.int16), np.array([1, 0], dtype=np.int32)
    x = np.zeros((2, 2), dtype=np.int16)
    with pytest.raises(TensorOutOfRange, match="factors"):
        backend.compute(RULE_BY_NAME["row_maximum"], (x, factors), ())
    with pytest.raises(TensorOutOfRange, match="maximum"):
        backend.compute(RULE_BY_NAME["quantize"], (x, maximum, np.ones(2, dtype=np.int16)), (127,))


@needs_torch
def test_roots_are_floors_where_float64_is_not():
    from pouw.backends.torch_operators import floor_root, torch

    roots = [0, 1, 2, 94_906_265, 94_906_266, 2**31, 3_037_000_498, 3_037_000_499]
    values = [near for root in roots for near in (root * root - 1, root * root, root * root + 1) if near >= 0]
    values.append(2**63 - 1)
    got = floor_root(torch.tensor(values, dtype=torch.int64)).tolist()
    from math import isqrt

    assert got == [isqrt(value) for value in values]
