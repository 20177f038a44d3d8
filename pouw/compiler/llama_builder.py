"""The graph of a decoder in work: constants by root, operators of the subgraph, and the parts that all layers have."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.calibration import Float64
from pouw.compiler.fp32 import Float, Weights
from pouw.compiler.llama_calibration import LlamaCalibration
from pouw.compiler.llama_config import LlamaShape
from pouw.hypergraph import Constant, Operator, OperatorOutput, Port, Reference, Subgraph, SubgraphOutput
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor, TensorType
from pouw.scan import History
from pouw.trace import dtype_by_name, tensor_root

GAMMA_BITS = 12
Q_MAX = {"qkv": 127, "out": 127, "inner": 127, "outer": 63, "head": 127}


@dataclass(slots=True)
class Builder:
    """Operators of the subgraph in work, and all constants so far."""

    weights: Weights
    shape: LlamaShape
    calibration: LlamaCalibration
    positions: int
    """Rows of the tables that a position chooses from."""
    tables: dict[str, Constant] = field(default_factory=dict)
    """By name: activation, power, rotation, still."""
    constants: dict[bytes, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)

    def constant(self, array: Tensor) -> Constant:
        """Keep a constant."""
        root = tensor_root(array)
        self.constants[root] = array
        return Constant(root, TensorType(dtype_by_name(array.dtype.name), array.shape))

    def add(self, name: str, label: str, *tensors: Reference, attributes: tuple[int, ...] = ()) -> OperatorOutput:
        """Append an operator."""
        self.operators.append(Operator(RULE_BY_NAME[name], label, tensors, attributes))
        return OperatorOutput(len(self.operators) - 1)

    def subgraph(
        self, name: str, inputs: tuple[str | History, ...], outputs: Sequence[tuple[str, TensorType, OperatorOutput]]
    ) -> Subgraph:
        """Close the subgraph in work: all operators since the last one."""
        ports = tuple(SubgraphOutput(Port(output, kind), made.index) for output, kind, made in outputs)
        subgraph = Subgraph(name, inputs, ports, tuple(self.operators))
        self.operators = []
        return subgraph

    def norm(self, label: str, x: Reference, name: str) -> OperatorOutput:
        """RMS norm of the stream, in Q.norm."""
        bits = self.calibration.bits
        gamma = self.constant(to_fixed(self.weights[f"{name}.weight"], GAMMA_BITS, np.int32))
        epsilon = round(self.shape.epsilon * self.shape.width * 4.0 ** bits["stream"])
        return self.add("rms_norm", label, x, gamma, attributes=(epsilon, 14 + GAMMA_BITS - bits["norm"]))

    def quantize(self, product: str, label: str, source: Reference) -> tuple[OperatorOutput, OperatorOutput]:
        """Return (rows as int8, their maxima)."""
        smooth = self.constant(self.calibration.factors[product])
        maximum = self.add("row_maximum", f"{label}.maximum", source, smooth)
        q_max = Q_MAX[product.rpartition(".")[2]]
        return self.add("quantize", f"{label}.quantize", source, maximum, smooth, attributes=(q_max,)), maximum

    def linear(
        self,
        product: str,
        label: str,
        rows: tuple[OperatorOutput, OperatorOutput],
        matrix: Float,
        bias: Float | None,
        scale: Float64,
        input_bits: int,
        *,
        wide: bool,
    ) -> OperatorOutput:
        """Multiply quantised rows; `scale` says the units of each column of the output."""
        q_max = Q_MAX[product.rpartition(".")[2]]
        shrunk = matrix.astype(np.float64) / self.calibration.factors[product].astype(np.float64)  # (n, k)
        largest = np.maximum(np.abs(shrunk).max(axis=1), 1e-30)  # (n,)
        quantised = np.rint(shrunk * (q_max / largest)[:, None]).astype(np.int8)
        weights = self.constant(quantised)
        raw = self.add("matmul", f"{label}.matmul", rows[0], weights, attributes=(int(q_max < 64),))
        exact = largest / q_max / q_max * (scale * 0.5**input_bits)  # (n,)
        # |product| <= k * q_max^2 and maximum <= 2^23: their product with the multipliers stays below 2^62
        most = 2.0 ** min(17, 62 - 23 - (matrix.shape[1] * q_max * q_max).bit_length())
        shift = 1
        while float(exact.max()) * 2 ** (shift + 1) < most and shift < 62:
            shift += 1
        multipliers = self.constant(np.rint(exact * 2**shift).astype(np.int32))
        offset = np.zeros(len(scale)) if bias is None else bias.astype(np.float64) * scale
        offsets = self.constant(np.rint(offset).astype(np.int32))
        tensors = (raw, rows[1], multipliers, offsets)
        if wide:
            return self.add("rescale_wide", f"{label}.rescale", *tensors, attributes=(shift,))
        return self.add("rescale", f"{label}.rescale", *tensors, attributes=(shift, 2**15 - 1))


def to_fixed(x: NDArray[np.floating], bits: int, dtype: type[np.signedinteger]) -> Tensor:
    """Return x in fixed point. Scaling by a power of two is exact, rounding is IEEE's."""
    bounds = np.iinfo(dtype)
    fixed: Tensor = np.clip(np.rint(x.astype(np.float64) * 2**bits), bounds.min, bounds.max).astype(dtype)
    return fixed
