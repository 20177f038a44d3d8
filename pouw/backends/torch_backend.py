"""Backends "torch" (CPU) and "torch-cuda": torch computes, and the definitions compute what has no torch form.

torch is an extra and imported only here, when asked for. A whole subgraph stays on the device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from chain.errors import NodeFault
from pouw.backends.reference import matmul_by_slices
from pouw.hypergraph import Constant, Operator, OperatorOutput, Reference, Subgraph, SubgraphInput
from pouw.operators.arithmetic import INT32_MAX, check_values
from pouw.operators.linear import FACTOR_MAX, MINING_OPERAND_MAX
from pouw.operators.rules import OperatorRule
from pouw.operators.types import Tensor

DeviceTensor = Any
PLANS_MAX = 256  # subgraphs whose plan is kept; a model has tens
INSTALL = "pip install 'hyperdust[compile]'"


class TorchUnusable(NodeFault):
    """torch or its device is not there; says why."""


class NoExactProduct(NodeFault):
    """None of torch's products is exact on this device."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Values that an operator allows in one of its tensors."""

    place: int
    what: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class _Step:
    """One operator of a subgraph, and what to look at before it runs."""

    operator: Operator
    sure: frozenset[int]
    """Tensors whose maker holds them within any range that this operator asks for."""
    dead: tuple[int, ...]
    """Operators whose outputs nothing reads any more."""


class TorchBackend:
    """The operators in torch on one device."""

    def __init__(self, device: str = "cpu") -> None:
        if find_spec("torch") is None:
            raise TorchUnusable(f"torch is not installed; {INSTALL}")
        from pouw.backends import torch_operators  # noqa: PLC0415  # imports torch, seconds

        torch = torch_operators.torch
        if device == "cuda" and not torch.cuda.is_available():
            raise TorchUnusable("torch sees no CUDA device")
        self.name = "torch" if device == "cpu" else f"torch-{device}"
        self._torch = torch
        self._device = torch.device(device)
        self._kernels = dict(torch_operators.KERNELS)
        self._kernels["matmul"] = self._choose_product(torch_operators.PRODUCTS[device])
        self._constants: dict[bytes, tuple[Tensor, DeviceTensor]] = {}
        self._checked: set[tuple[bytes, int, int]] = set()
        self._plans: dict[int, tuple[Subgraph, tuple[_Step, ...]]] = {}

    @property
    def mapped(self) -> frozenset[str]:
        """Names of the operators that torch computes."""
        return frozenset(self._kernels)

    @property
    def product(self) -> str:
        """Name of the product that passed: int8, float32 slices or float64."""
        return str(self._kernels["matmul"].__name__)

    def compute(self, rule: OperatorRule, tensors: tuple[Tensor, ...], attributes: tuple[int, ...]) -> Tensor:
        """Return the operator's output."""
        kernel = self._kernels.get(rule.name)
        if kernel is None or not all(tensor.size for tensor in tensors):
            return rule.compute(tensors, attributes)
        for allowed in _ranges(rule.name, attributes, tensors):
            check_values(allowed.what, tensors[allowed.place], allowed.low, allowed.high)
        given = [self._to_device(tensor) for tensor in tensors]
        return self._to_host(kernel(*given, *(() if rule.name == "matmul" else attributes)))

    def run_subgraph(
        self, subgraph: Subgraph, inputs: tuple[Tensor, ...], constants: Mapping[bytes, Tensor]
    ) -> tuple[Tensor, ...]:
        """Return the subgraph's outputs, in the order of its ports; nothing else leaves the device."""
        given = [self._to_device(tensor) for tensor in inputs]
        made: list[DeviceTensor] = []
        for step in self._plan(subgraph):
            tensors = [self._tensor(reference, given, made, constants) for reference in step.operator.tensors]
            self._check(step, tensors)
            made.append(self._run(step.operator, tensors))
            for index in step.dead:
                made[index] = None
        return tuple(self._to_host(made[output.operator]) for output in subgraph.outputs)

    def _run(self, operator: Operator, tensors: list[DeviceTensor]) -> DeviceTensor:
        kernel = self._kernels.get(operator.rule.name)
        if kernel is None or not all(tensor.numel() for tensor in tensors):
            return self._to_device(
                operator.rule.compute([self._to_host(tensor) for tensor in tensors], operator.attributes)
            )
        return kernel(*tensors, *(() if operator.rule.name == "matmul" else operator.attributes))

    def _tensor(
        self,
        reference: Reference,
        inputs: list[DeviceTensor],
        made: list[DeviceTensor],
        constants: Mapping[bytes, Tensor],
    ) -> DeviceTensor:
        if isinstance(reference, SubgraphInput):
            return inputs[reference.index]
        if isinstance(reference, OperatorOutput):
            return made[reference.index]
        array = constants[reference.root]
        held = self._constants.get(reference.root)
        if held is None or held[0] is not array:
            held = (array, self._to_device(array))
            self._constants[reference.root] = held
            self._checked = {checked for checked in self._checked if checked[0] != reference.root}
        return held[1]

    def _check(self, step: _Step, tensors: list[DeviceTensor]) -> None:
        for allowed in _ranges(step.operator.rule.name, step.operator.attributes, tensors):
            if allowed.place in step.sure:
                continue
            reference = step.operator.tensors[allowed.place]
            if isinstance(reference, Constant):
                key = (reference.root, allowed.low, allowed.high)
                if key in self._checked:
                    continue
            tensor = tensors[allowed.place]
            if tensor.numel():
                ends = np.array([int(end) for end in self._torch.aminmax(tensor)])
                check_values(allowed.what, ends, allowed.low, allowed.high)
            if isinstance(reference, Constant):
                self._checked.add(key)

    def _plan(self, subgraph: Subgraph) -> tuple[_Step, ...]:
        held = self._plans.get(id(subgraph))
        if held is None or held[0] is not subgraph:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            held = (subgraph, _plan(subgraph))
            self._plans[id(subgraph)] = held
        return held[1]

    def _to_device(self, array: Tensor) -> DeviceTensor:
        ordered = np.ascontiguousarray(array)
        if not ordered.flags.writeable:
            ordered = ordered.copy()  # torch warns of memory that it may not write
        return self._torch.from_numpy(ordered).to(self._device)

    def _to_host(self, tensor: DeviceTensor) -> Tensor:
        array: Tensor = tensor.contiguous().cpu().numpy()
        return array

    def _choose_product(self, candidates: tuple[Any, ...]) -> Any:
        """Return the first product that is exact over the whole range: int8 units saturate on some machines."""
        cases = [_extremes(m, n, k) for m, n, k in ((1, 8, 8), (17, 24, 72), (33, 40, 1032), (3, 5, 7), (4, 9, 1))]
        for candidate in candidates:
            try:
                products = [self._to_host(candidate(*map(self._to_device, case))) for case in cases]
            except RuntimeError:  # this build, this device or these shapes: the next one
                continue
            if all(np.array_equal(got, matmul_by_slices(*case)) for got, case in zip(products, cases, strict=True)):
                return candidate
        raise NoExactProduct(f"no product of torch {self._torch.__version__} is exact on {self._device}")


def _extremes(m: int, n: int, k: int) -> tuple[Tensor, Tensor]:
    """Return operands with every bit pattern, and rows of the largest sums of either sign."""
    a = ((np.arange(m * k) * 151 + 7) % 256 - 128).astype(np.int8).reshape(m, k)
    b = ((np.arange(n * k) * 211 + 3) % 256 - 128).astype(np.int8).reshape(n, k)
    a[0], b[0], b[1] = -128, -128, 127
    a[-1] = 127 if m > 1 else -128
    return a, b


def _ranges(name: str, attributes: tuple[int, ...], tensors: Sequence[Any]) -> tuple[_Range, ...]:
    """Return what the definition refuses. `tensors`: numpy's or torch's, only shapes are read."""
    if name == "embedding":
        return (_Range(0, "token id", 0, tensors[1].shape[0] - 1),)
    if name == "row_maximum":
        return (_Range(1, "factors", 1, FACTOR_MAX),)
    if name == "quantize":
        return (_Range(2, "factors", 1, FACTOR_MAX), _Range(1, "maximum", 1, INT32_MAX))
    if name == "matmul" and attributes[0]:
        bound = MINING_OPERAND_MAX
        return (_Range(0, "mining operand A", -bound, bound), _Range(1, "mining operand B", -bound, bound))
    return ()


def _plan(subgraph: Subgraph) -> tuple[_Step, ...]:
    last: dict[int, int] = {}
    for index, operator in enumerate(subgraph.operators):
        for reference in operator.tensors:
            if isinstance(reference, OperatorOutput):
                last[reference.index] = index
    kept = [output.operator for output in subgraph.outputs]
    steps = []
    for index, operator in enumerate(subgraph.operators):
        sure = (place for place in range(len(operator.tensors)) if _is_sure(operator, place, subgraph))
        dead = tuple(made for made, user in last.items() if user == index and made not in kept)
        steps.append(_Step(operator, frozenset(sure), dead))
    return tuple(steps)


def _is_sure(operator: Operator, place: int, subgraph: Subgraph) -> bool:
    reference = operator.tensors[place]
    if not isinstance(reference, OperatorOutput):
        return False
    source = subgraph.operators[reference.index]
    if operator.rule.name == "matmul":
        return source.rule.name == "quantize" and source.attributes[0] <= MINING_OPERAND_MAX
    return operator.rule.name == "quantize" and place == 1 and source.rule.name == "row_maximum"
