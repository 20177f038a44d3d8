"""Backend "native": the kernels of core/, and the definitions for what has no kernel."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pouw.backends import native_decoder, native_scene
from pouw.operators.arithmetic import check_values
from pouw.operators.linear import MINING_OPERAND_MAX
from pouw.operators.norm import scaled_root
from pouw.operators.rules import OperatorRule
from pouw.operators.types import Tensor

KERNELS = (
    "row_maximum",
    "quantize",
    "rescale",
    "add",
    "layer_norm",
    "attention_scores",
    "softmax_weights",
    "attention_mix",
    "lookup",
)
PACKED_MAX = 256  # weights kept in the kernel's layout; a model has tens


class NativeBackend:
    """The Rust core. Weights are repacked once and kept as long as the array that they came from."""

    name = "native"

    def __init__(self) -> None:
        import hyperdust_core  # noqa: PLC0415  # the other backends serve without it

        self._core = hyperdust_core
        self._packed: dict[int, tuple[Tensor, Any]] = {}
        self._kernels: dict[str, Callable[..., Tensor]] = {
            name: getattr(hyperdust_core.operators, name) for name in KERNELS
        }
        # a core built before a family's kernels serves it by definition
        families = (*native_decoder.NATIVE_KERNELS, *native_scene.NATIVE_KERNELS)
        found = {name: getattr(hyperdust_core.operators, name, None) for name in families}
        self._kernels |= {name: kernel for name, kernel in found.items() if kernel is not None}

    def compute(self, rule: OperatorRule, tensors: tuple[Tensor, ...], attributes: tuple[int, ...]) -> Tensor:
        """Return the operator's output."""
        if rule.name == "matmul":
            return self._matmul(*tensors, mining=bool(attributes[0]))
        kernel = self._kernels.get(rule.name)
        if kernel is None:
            return rule.compute(tensors, attributes)
        # the core reads memory in order, and takes a transposed view's memory for its rows
        ordered = [np.ascontiguousarray(tensor) for tensor in tensors]
        extra = (scaled_root(tensors[0].shape[1]),) if rule.name == "layer_norm" else attributes
        try:
            return kernel(*ordered, *extra)
        except (TypeError, ValueError):
            # a value that the operator does not take: the definition names the error
            return rule.compute(tensors, attributes)

    def _matmul(self, a: Tensor, b_transposed: Tensor, *, mining: bool) -> Tensor:
        if mining:
            check_values("mining operand A", a, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)
        held = self._packed.get(id(b_transposed))
        if held is None:
            if mining:
                check_values("mining operand B", b_transposed, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)
            if len(self._packed) >= PACKED_MAX:
                self._packed.clear()
            held = (b_transposed, self._core.PackedWeights(np.ascontiguousarray(b_transposed)))
            self._packed[id(b_transposed)] = held
        product: Tensor = held[1].matmul(np.ascontiguousarray(a))
        return product
