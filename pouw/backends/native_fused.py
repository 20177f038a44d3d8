"""Operators that the native core runs in one pass: linear layers with what follows them, attention, taps.

Decides only which operators of a subgraph go together: those whose outputs nothing else reads. The values are those of
the operators one by one; a subgraph that has none of these patterns is run operator by operator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pouw.backends import native_taps
from pouw.hypergraph import Constant, Operator, OperatorOutput, Reference, Subgraph, SubgraphInput
from pouw.operators.linear import MINING_OPERAND_MAX
from pouw.operators.norm import scaled_root
from pouw.operators.types import Tensor


class Pack(Protocol):
    """Puts weights into the core's layout; `mining` has them looked at first."""

    def __call__(self, b_transposed: Tensor, *, mining: bool) -> Any:
        """Return the packed weights."""
        ...


Constants = Mapping[bytes, Tensor]


@dataclass(frozen=True, slots=True)
class Step:
    """Operators that run together; the last one's output is what comes out."""

    kind: str
    operators: tuple[Operator, ...]
    output: int
    inputs: tuple[Reference, ...]
    """Tensors that are not constants of the pattern."""


def plan(subgraph: Subgraph) -> tuple[Step, ...]:
    """Return the steps of a subgraph, in an order in which every input is made before it is read."""
    readers = _readers(subgraph)
    steps: dict[int, Step] = {}
    taken: set[int] = set()
    for chain in native_taps.find(subgraph, readers):
        taken.update(chain)
        operators = tuple(subgraph.operators[member] for member in chain)
        steps[chain[-1]] = Step("taps", operators, chain[-1], (operators[0].tensors[1],))
    for index, operator in enumerate(subgraph.operators):
        if index in taken:
            continue
        members = _linear(subgraph, readers, index) or _attention(subgraph, readers, index)
        if members is None:
            steps[index] = Step("operator", (operator,), index, operator.tensors)
            continue
        taken.update(members)
        steps[members[-1]] = _step(subgraph, members)
    return tuple(steps[index] for index in sorted(steps))


def plan_each(subgraph: Subgraph) -> tuple[Step, ...]:
    """Return one step for each operator."""
    operators = enumerate(subgraph.operators)
    return tuple(Step("operator", (operator,), index, operator.tensors) for index, operator in operators)


def prepare(step: Step, core: Any, constants: Constants, pack: Pack) -> Callable[..., Tensor] | None:
    """Return a function of the step's inputs; None where the core refuses the constants (the definition names why)."""
    try:
        if step.kind == "taps":
            return native_taps.prepare(step.operators, core, constants)
        if step.kind == "attention":
            return _prepare_attention(step, core, constants)
        return _prepare_linear(step, core, constants, pack)
    except (TypeError, ValueError):
        return None


def prepare_whole(
    subgraph: Subgraph, steps: tuple[Step, ...], core: Any, constants: Constants, pack: Pack
) -> Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] | None:
    """Return a function of the subgraph's inputs that runs all steps in one call of the core; None where it cannot."""
    if not hasattr(core.operators, "Steps") or any(step.kind in {"operator", "taps"} for step in steps):
        return None
    references = [reference for step in steps for reference in step.inputs]
    if any(isinstance(reference, Constant) for reference in references):
        return None
    used = sorted({reference.index for reference in references if isinstance(reference, SubgraphInput)})
    places: dict[Reference, int] = {SubgraphInput(index): place for place, index in enumerate(used)}
    places |= {OperatorOutput(step.output): len(used) + place for place, step in enumerate(steps)}
    try:
        works = [_whole_step(step, core, constants, pack) for step in steps]
        sources = [[places[reference] for reference in step.inputs] for step in steps]
        wanted = [places[OperatorOutput(output.operator)] - len(used) for output in subgraph.outputs]
        whole = core.operators.Steps(len(used), list(zip(works, sources, strict=True)), wanted)
    except (KeyError, TypeError, ValueError):
        return None
    return lambda inputs: tuple(whole.run([inputs[index] for index in used]))


def _whole_step(step: Step, core: Any, constants: Constants, pack: Pack) -> Any:
    if step.kind == "attention":
        return core.operators.Attention(*_attention_constants(step, constants))
    return _linear_layer(step, core, constants, pack)


def _readers(subgraph: Subgraph) -> list[list[int]]:
    """For each operator those that read it; -1 stands for the subgraph's outputs."""
    readers: list[list[int]] = [[] for _ in subgraph.operators]
    for index, operator in enumerate(subgraph.operators):
        for reference in operator.tensors:
            if isinstance(reference, OperatorOutput) and index not in readers[reference.index]:
                readers[reference.index].append(index)
    for output in subgraph.outputs:
        readers[output.operator].append(-1)
    return readers


def _only_reader(subgraph: Subgraph, readers: list[list[int]], index: int, name: str, place: int) -> int | None:
    """Return the operator `name` that alone reads another, as its tensor number `place`."""
    if len(readers[index]) != 1 or readers[index][0] < 0:
        return None
    reader = readers[index][0]
    operator = subgraph.operators[reader]
    places = [at for at, reference in enumerate(operator.tensors) if reference == OperatorOutput(index)]
    return reader if operator.rule.name == name and places == [place] else None


def _constants(operator: Operator, *places: int) -> bool:
    return all(isinstance(operator.tensors[place], Constant) for place in places)


def _linear(subgraph: Subgraph, readers: list[list[int]], first: int) -> tuple[int, ...] | None:
    """row_maximum, quantize, matmul, rescale; then lookup, or add and layer_norm."""
    operators = subgraph.operators
    if operators[first].rule.name != "row_maximum" or len(readers[first]) != 2 or -1 in readers[first]:
        return None
    second = readers[first][0]
    quantize = operators[second]
    source, factors = operators[first].tensors
    if quantize.rule.name != "quantize" or quantize.tensors != (source, OperatorOutput(first), factors):
        return None
    product = _only_reader(subgraph, readers, second, "matmul", 0)
    if product is not None and operators[product].attributes[0] and quantize.attributes[0] > MINING_OPERAND_MAX:
        return None  # an operand may be out of range
    if product is None or not _constants(operators[first], 1) or not _constants(operators[product], 1):
        return None
    scaled = _only_reader(subgraph, readers, product, "rescale", 0)
    if scaled is None or readers[first][1] != scaled or operators[scaled].tensors[1] != OperatorOutput(first):
        return None
    if not _constants(operators[scaled], 2, 3):
        return None
    members = (first, second, product, scaled)
    found = _only_reader(subgraph, readers, scaled, "lookup", 0)
    if found is not None and _constants(operators[found], 1):
        return (*members, found)
    added = _only_reader(subgraph, readers, scaled, "add", 1)
    if added is not None:
        normed = _only_reader(subgraph, readers, added, "layer_norm", 0)
        if normed is not None and _constants(operators[normed], 1, 2):
            return (*members, added, normed)
    return members


def _attention(subgraph: Subgraph, readers: list[list[int]], first: int) -> tuple[int, ...] | None:
    """attention_scores, softmax_weights, then attention_mix, or transpose_columns and grouped_mix."""
    operators = subgraph.operators
    if operators[first].rule.name != "attention_scores":
        return None
    weights = _only_reader(subgraph, readers, first, "softmax_weights", 0)
    if weights is None or not _constants(operators[weights], 1):
        return None
    heads, head_size, *_ = operators[first].attributes
    mixed = _only_reader(subgraph, readers, weights, "attention_mix", 0)
    if mixed is not None:
        return (first, weights, mixed) if operators[mixed].attributes[0] == head_size else None
    mixed = _only_reader(subgraph, readers, weights, "grouped_mix", 0)
    if mixed is None or operators[mixed].attributes[0] != heads:
        return None
    values = operators[mixed].tensors[1]
    if not isinstance(values, OperatorOutput) or values.index < first or readers[values.index] != [mixed]:
        return None
    turned = operators[values.index]
    if turned.rule.name != "transpose_columns" or turned.attributes[1] != heads * head_size:
        return None
    return (first, *sorted((weights, values.index)), mixed)


def _step(subgraph: Subgraph, members: tuple[int, ...]) -> Step:
    operators = tuple(subgraph.operators[member] for member in members)
    inputs: tuple[Reference, ...]
    if operators[0].rule.name == "attention_scores":
        return Step("attention", operators, members[-1], (*operators[0].tensors, _values(operators)[0]))
    inputs = (operators[0].tensors[0],)
    if operators[-1].rule.name == "layer_norm":
        inputs = (*inputs, operators[-2].tensors[0])
    return Step("linear", operators, members[-1], inputs)


def _values(operators: tuple[Operator, ...]) -> tuple[Reference, int]:
    """Return the values of an attention before they are turned, and their first column."""
    for operator in operators:
        if operator.rule.name == "transpose_columns":
            return operator.tensors[0], operator.attributes[0]
    return operators[-1].tensors[1], operators[-1].attributes[1]


def _prepare_linear(step: Step, core: Any, constants: Constants, pack: Pack) -> Callable[..., Tensor]:
    run: Callable[..., Tensor] = _linear_layer(step, core, constants, pack).run
    return run


def _linear_layer(step: Step, core: Any, constants: Constants, pack: Pack) -> Any:
    maximum, quantize, product, rescale, *after = step.operators
    weights, factors = _constant(product, 1, constants), _constant(maximum, 1, constants)
    table = norm = None
    if after and after[-1].rule.name == "lookup":
        table = _constant(after[-1], 1, constants)
    elif after:
        gamma, beta = _constant(after[-1], 1, constants), _constant(after[-1], 2, constants)
        norm = (gamma, beta, scaled_root(len(gamma)))
    return core.operators.Linear(
        pack(weights, mining=bool(product.attributes[0])),
        factors,
        quantize.attributes[0],
        _constant(rescale, 2, constants),
        _constant(rescale, 3, constants),
        *rescale.attributes,
        table,
        norm,
    )


def _prepare_attention(step: Step, core: Any, constants: Constants) -> Callable[..., Tensor]:
    table, *attributes = _attention_constants(step, constants)

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        output: Tensor = core.operators.attend(queries, keys, values, table, *attributes)
        return output

    return attend


def _attention_constants(step: Step, constants: Constants) -> tuple[Any, ...]:
    """Table, heads, head size, first columns of queries, keys and values, shift."""
    heads, head_size, query, key, shift = step.operators[0].attributes
    (softmax,) = (operator for operator in step.operators if operator.rule.name == "softmax_weights")
    offsets = (query, key, _values(step.operators)[1])
    return _constant(softmax, 1, constants), heads, head_size, offsets, shift


def _constant(operator: Operator, place: int, constants: Constants) -> Tensor:
    reference = operator.tensors[place]
    if not isinstance(reference, Constant):
        raise TypeError(f"{operator.label}: tensor {place} is no constant")
    return np.ascontiguousarray(constants[reference.root])


def fits_mining(subgraph: Subgraph, product: Operator) -> bool:
    """Return whether a product's A comes from `quantize` with a bound that a mining operand may reach."""
    reference = product.tensors[0]
    if not isinstance(reference, OperatorOutput):
        return False
    made_by = subgraph.operators[reference.index]
    return made_by.rule.name == "quantize" and made_by.attributes[0] <= MINING_OPERAND_MAX
