"""Backend "native": the kernels of core/, and the definitions for what has no kernel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pouw.backends import native_decoder, native_fused, native_moves, native_scene
from pouw.hypergraph import Subgraph
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
PLANS_MAX = 256  # subgraphs whose steps are kept


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Steps of a subgraph with their constants in the kernels' layout."""

    subgraph: Subgraph
    steps: tuple[tuple[native_fused.Step, Callable[..., Tensor] | None], ...]
    constants: tuple[tuple[bytes, Tensor], ...]
    whole: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] | None
    """All steps in one call, where the core has every one of them."""


class NativeBackend:
    """The Rust core. Weights are repacked once and kept as long as the array that they came from."""

    name = "native"

    def __init__(self) -> None:
        import hyperdust_core  # noqa: PLC0415  # the other backends serve without it

        self._core = hyperdust_core
        self._packed: dict[int, tuple[Tensor, Any]] = {}
        self._mining: set[int] = set()
        self._prepared: dict[int, _Prepared] = {}
        self._kernels: dict[str, Callable[..., Tensor]] = {
            name: getattr(hyperdust_core.operators, name) for name in KERNELS
        }
        # a core built before a family's kernels serves it by definition
        families = (*native_decoder.NATIVE_KERNELS, *native_moves.NATIVE_KERNELS, *native_scene.NATIVE_KERNELS)
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

    def run_subgraph(
        self, subgraph: Subgraph, inputs: tuple[Tensor, ...], constants: Mapping[bytes, Tensor]
    ) -> tuple[Tensor, ...]:
        """Return the subgraph's outputs, in the order of its ports; operators that nobody observes run together.

        Raises:
            TensorOutOfRange.
        """
        made: dict[int, Tensor] = {}
        ordered = tuple(np.ascontiguousarray(tensor) for tensor in inputs)
        prepared = self._steps(subgraph, constants)
        if prepared.whole is not None:
            return prepared.whole(ordered)
        for step, run in prepared.steps:
            tensors = [native_fused.tensor_of(reference, ordered, made, constants) for reference in step.inputs]
            if run is not None:
                made[step.output] = run(*tensors)
                continue
            operator = step.operators[0]
            made[step.output] = self.compute(operator.rule, tuple(tensors), operator.attributes)
        return tuple(made[output.operator] for output in subgraph.outputs)

    def _steps(self, subgraph: Subgraph, constants: Mapping[bytes, Tensor]) -> _Prepared:
        held = self._prepared.get(id(subgraph))
        if (
            held is None
            or held.subgraph is not subgraph
            or any(constants.get(root) is not array for root, array in held.constants)
        ):
            if len(self._prepared) >= PLANS_MAX:
                self._prepared.clear()
            held = self._prepare(subgraph, constants)
            self._prepared[id(subgraph)] = held
        return held

    def _prepare(self, subgraph: Subgraph, constants: Mapping[bytes, Tensor]) -> _Prepared:
        plan = native_fused.plan(subgraph) if hasattr(self._core.operators, "Linear") else ()
        steps: list[tuple[native_fused.Step, Callable[..., Tensor] | None]] = []
        held: list[tuple[bytes, Tensor]] = []
        for step in plan or native_fused.plan_each(subgraph):
            run = None
            if step.kind != "operator":
                held += native_fused.held_constants(step, constants)
                run = native_fused.prepare(step, self._core, constants, self._pack)
            steps.append((step, run))
        if any(step.kind != "operator" and run is None for step, run in steps):
            # the core refuses a constant: one by one, so that the definition names it
            steps = [(step, None) for step in native_fused.plan_each(subgraph)]
        whole = native_fused.prepare_whole(
            subgraph, tuple(step for step, _ in steps), self._core, constants, self._pack
        )
        return _Prepared(subgraph, tuple(steps), tuple(held), whole)

    def _matmul(self, a: Tensor, b_transposed: Tensor, *, mining: bool) -> Tensor:
        if mining:
            check_values("mining operand A", a, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)
        product: Tensor = self._pack(b_transposed, mining=mining).matmul(np.ascontiguousarray(a))
        return product

    def _pack(self, b_transposed: Tensor, *, mining: bool) -> Any:
        held = self._packed.get(id(b_transposed))
        if held is None:
            if len(self._packed) >= PACKED_MAX:
                self._packed.clear()
                self._mining.clear()
            held = (b_transposed, self._core.PackedWeights(np.ascontiguousarray(b_transposed)))
            self._packed[id(b_transposed)] = held
        if mining and id(b_transposed) not in self._mining:
            check_values("mining operand B", b_transposed, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)
            self._mining.add(id(b_transposed))
        return held[1]
