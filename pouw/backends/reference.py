"""Backend "numpy": the definitions, with products through BLAS where floats are exact integers."""

from dataclasses import dataclass

import numpy as np

from pouw.operators.arithmetic import check_values
from pouw.operators.linear import MINING_OPERAND_MAX
from pouw.operators.rules import MATMUL, OperatorRule
from pouw.operators.types import Tensor

SLICE = 1024  # 1024 * 2^14 = 2^24: every partial sum is an integer that float32 holds exactly, in any order


def matmul_by_slices(a: Tensor, b_transposed: Tensor) -> Tensor:
    """Return a @ b exactly. a: int8[m, k], b_transposed: int8[n, k] -> int32[m, n]."""
    total = np.zeros((a.shape[0], b_transposed.shape[0]), dtype=np.int32)
    for start in range(0, a.shape[1], SLICE):
        left = a[:, start : start + SLICE].astype(np.float32)
        right = b_transposed[:, start : start + SLICE].astype(np.float32)
        total += (left @ right.T).astype(np.int32)  # (m, slice) @ (slice, n) -> (m, n)
    return total


@dataclass(frozen=True, slots=True)
class NumpyBackend:
    """Needs numpy alone; runs everywhere."""

    name: str = "numpy"

    def compute(self, rule: OperatorRule, tensors: tuple[Tensor, ...], attributes: tuple[int, ...]) -> Tensor:
        """Return the operator's output."""
        if rule is MATMUL:
            if attributes[0]:
                for tensor in tensors:
                    check_values("mining operand", tensor, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)
            return matmul_by_slices(*tensors)
        return rule.compute(tensors, attributes)
