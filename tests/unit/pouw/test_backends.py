"""A backend equals the definitions bit for bit, or it does not serve."""

import numpy as np
import pytest

from pouw.backends import registry
from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import BackendUnavailable, BackendWrong, all_cases, check_backend, load_backend
from pouw.operators.rules import RULES


def test_the_self_test_covers_every_operator():
    assert {name for name, _, _ in all_cases()} == {rule.name for rule in RULES}


@pytest.mark.parametrize("name", [name for name, _ in registry.MAKERS])
def test_known_backends_pass(name):
    try:
        backend = load_backend(name)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    assert backend.name == name


class Saturating:
    """What an int8 product does on machines whose instruction saturates at 16 bits."""

    name = "saturating"

    def compute(self, rule, tensors, attributes):
        if rule.name != "matmul":
            return rule.compute(tensors, attributes)
        a, b = (tensor.astype(np.int32) for tensor in tensors)
        pairs = (a + 128)[:, None, :] * b[None, :, :]  # unsigned times signed
        pairs = np.pad(pairs, ((0, 0), (0, 0), (0, pairs.shape[2] % 2)))
        sums = np.clip(pairs[..., ::2] + pairs[..., 1::2], -(2**15), 2**15 - 1).sum(axis=2)
        return (sums - 128 * b.sum(axis=1)).astype(np.int32)


def test_a_saturating_product_is_refused():
    with pytest.raises(BackendWrong, match="matmul differs"):
        check_backend(Saturating())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_one_wrong_value_in_any_operator_is_refused(rule):
    class OffByOne(NumpyBackend):
        def compute(self, asked, tensors, attributes):
            output = super().compute(asked, tensors, attributes)
            if asked is rule:
                output = output.copy()
                output.reshape(-1)[-1] ^= 1
            return output

    with pytest.raises(BackendWrong, match=rule.name):
        check_backend(OffByOne())


def test_an_unknown_backend_names_the_known():
    with pytest.raises(BackendUnavailable, match="native, numpy"):
        load_backend("abacus")


def test_a_missing_core_names_the_way_to_build_it(monkeypatch):
    def missing():
        raise ImportError("no core")

    monkeypatch.setattr(registry, "MAKERS", (("native", missing),))
    assert registry.list_backends() == ([], {"native": "backend native: no core; `make setup` builds it"})


def test_doctor_warns_of_what_is_needed_or_wrong_not_of_extras(monkeypatch):
    from hyperdust.doctor import _backends

    def absent():
        raise ImportError("absent")

    class Wrong(NumpyBackend):
        def compute(self, rule, tensors, attributes):
            return super().compute(rule, tensors, attributes) * 0

    makers = (("native", absent), ("numpy", NumpyBackend), ("torch", absent), ("torch-cuda", Wrong))
    monkeypatch.setattr(registry, "MAKERS", makers)
    assert [(finding.verdict, finding.text.split(":")[0]) for finding in _backends()] == [
        ("warn", "backend native"),
        ("ok", "numpy passes its self-test"),
        ("ok", "not used, an extra"),
        ("warn", "backend numpy"),
    ]
    monkeypatch.setattr(registry, "MAKERS", (("native", absent),))
    assert [finding.verdict for finding in _backends()] == ["warn", "fail"]
