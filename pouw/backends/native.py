"""Backend "native": the kernels of core/, and the definitions for what has no kernel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Any

import numpy as np

from pouw.backends import native_decoder, native_fused, native_moves, native_scene
from pouw.hypergraph import Constant, Operator, OperatorOutput, Reference, Subgraph, SubgraphInput
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
    """Steps of a subgraph with their constants in the kernels' layout and all names looked up."""

    subgraph: Subgraph
    calls: tuple[tuple[Callable[..., Tensor], tuple[int, ...]], ...]
    """What makes each step's output, and where its tensors lie: inputs, constants, then outputs of the steps."""
    constants: tuple[Tensor, ...]
    outputs: tuple[int, ...]
    roots: tuple[bytes, ...]
    arrays: tuple[Tensor, ...]
    """What lay under each root: another array in its place asks for new steps."""
    whole: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] | None
    """All steps in one call, where the core has every one of them."""

    def serves(self, subgraph: Subgraph, constants: Mapping[bytes, Tensor]) -> bool:
        return self.subgraph is subgraph and all(map(is_, map(constants.get, self.roots), self.arrays))


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
        ordered = [np.ascontiguousarray(tensor) for tensor in inputs]
        prepared = self._steps(subgraph, constants)
        if prepared.whole is not None:
            return prepared.whole(tuple(ordered))
        values = [*ordered, *prepared.constants]
        for call, places in prepared.calls:
            values.append(call(*[values[place] for place in places]))
        return tuple([values[place] for place in prepared.outputs])

    def _steps(self, subgraph: Subgraph, constants: Mapping[bytes, Tensor]) -> _Prepared:
        held = self._prepared.get(id(subgraph))
        if held is None or not held.serves(subgraph, constants):
            if len(self._prepared) >= PLANS_MAX:
                self._prepared.clear()
            held = self._prepare(subgraph, constants)
            self._prepared[id(subgraph)] = held
        return held

    def _prepare(self, subgraph: Subgraph, constants: Mapping[bytes, Tensor]) -> _Prepared:
        # a core that lacks a pattern's kernel runs the subgraph one by one
        steps = native_fused.plan(subgraph) if hasattr(self._core.operators, "Linear") else ()
        runs: list[Callable[..., Tensor] | None] = []
        for step in steps:
            fused = step.kind != "operator"
            runs.append(native_fused.prepare(step, self._core, constants, self._pack) if fused else None)
        if not steps or any(step.kind != "operator" and run is None for step, run in zip(steps, runs, strict=True)):
            # the core refuses a constant: one by one, so that the definition names it
            steps = native_fused.plan_each(subgraph)
            runs = [None] * len(steps)
        whole = native_fused.prepare_whole(subgraph, steps, self._core, constants, self._pack)
        references = [reference for operator in subgraph.operators for reference in operator.tensors]
        roots = tuple(dict.fromkeys(reference.root for reference in references if isinstance(reference, Constant)))
        types = {reference: None for step in steps for reference in step.inputs if isinstance(reference, Constant)}
        places: dict[Reference, int] = {SubgraphInput(index): index for index in range(len(subgraph.inputs))}
        places |= {reference: len(places) + index for index, reference in enumerate(types)}
        places |= {OperatorOutput(step.output): len(places) + index for index, step in enumerate(steps)}
        calls = [
            (run or self._call(subgraph, step.operators[0]), tuple(places[reference] for reference in step.inputs))
            for step, run in zip(steps, runs, strict=True)
        ]
        return _Prepared(
            subgraph,
            tuple(calls),
            tuple(np.ascontiguousarray(constants[reference.root]) for reference in types),
            tuple(places[OperatorOutput(output.operator)] for output in subgraph.outputs),
            roots,
            tuple(constants[root] for root in roots),
            whole,
        )

    def _call(self, subgraph: Subgraph, operator: Operator) -> Callable[..., Tensor]:
        """Return what computes an operator of tensors that lie in order, its kernel looked up."""
        rule, attributes = operator.rule, operator.attributes
        kernel = self._kernels.get(rule.name)
        if rule.name == "matmul":
            mining = bool(attributes[0]) and not native_fused.fits_mining(subgraph, operator)
            return lambda a, b: self._product(a, b, check_a=mining, check_b=bool(attributes[0]))
        if kernel is None:
            return lambda *tensors: np.ascontiguousarray(rule.compute(tensors, attributes))
        if rule.name == "layer_norm":
            return lambda *tensors: self.compute(rule, tensors, attributes)

        def call(*tensors: Tensor) -> Tensor:
            try:
                return kernel(*tensors, *attributes)
            except (TypeError, ValueError):
                return np.ascontiguousarray(rule.compute(tensors, attributes))

        return call

    def _matmul(self, a: Tensor, b_transposed: Tensor, *, mining: bool) -> Tensor:
        return self._product(np.ascontiguousarray(a), b_transposed, check_a=mining, check_b=mining)

    def _product(self, a: Tensor, b_transposed: Tensor, *, check_a: bool, check_b: bool) -> Tensor:
        if check_a:
            check_values("mining operand A", a, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)
        product: Tensor = self._pack(b_transposed, mining=check_b).matmul(a)
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
