"""One element of an operator's output: which bytes of its inputs it needs, and its value.

What the court recomputes. Values come from the definitions, applied to the little that is read; `core/` computes the
same as an EVM call (docs/spec/precompiles.md). Families state their operators in `elements_<family>.py`.

Where one element needs more than 64 KiB, WITNESS_RULES says how a wrong one is refuted: `refutes_element`.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from chain.errors import Mismatch, OutOfRange
from pouw.operators import elements_decoder, elements_encoder, elements_scene, elements_vision
from pouw.operators.element import Attributes, ElementRule, Read, Shapes, Window, WitnessRule
from pouw.operators.rule import OperatorRule
from pouw.operators.types import Tensor, TensorType
from pouw.trace import LEAF_BYTES, dtype_by_name

LEAF_BYTES_MAX = 65_536
COLUMNS: Mapping[str, int] = {"attention_mix": 1, "mean_pool": 0}
"""Operator -> the tensor of which an element reads a column: each entry is opened with the chunk that it lies in."""

__all__ = [
    "ELEMENT_RULES",
    "LEAF_BYTES_MAX",
    "WITNESS_RULES",
    "ElementOutOfRange",
    "ElementRule",
    "LeafTooLarge",
    "NoElementRule",
    "Window",
    "WitnessRule",
    "WrongOpening",
    "check_leaf_bytes",
    "compute_element",
    "element_inputs",
    "element_windows",
    "leaf_bytes",
    "open_inputs",
    "read_element",
    "refutes_element",
    "witness_bytes",
    "witness_windows",
]

_FAMILIES = (elements_encoder.RULES, elements_decoder.RULES, elements_vision.RULES, elements_scene.RULES)
ELEMENT_RULES: dict[str, ElementRule] = {rule.name: rule for family in _FAMILIES for rule in family}
_WITNESSES = (elements_decoder.WITNESS_RULES, elements_scene.WITNESS_RULES)
WITNESS_RULES: dict[str, WitnessRule] = {rule.name: rule for family in _WITNESSES for rule in family}

Windows = tuple[tuple[int, Window], ...]
"""(number of a tensor, window) in the order of reading."""


class NoElementRule(Mismatch):
    """An operator does not state how one element is recomputed, or refuted."""


class ElementOutOfRange(OutOfRange):
    """The element lies outside of the operator's output."""


class WrongOpening(Mismatch):
    """An opened input holds another number of values than the element reads."""


class LeafTooLarge(OutOfRange):
    """One element of an operator needs more than 64 KiB: the compiler has to split it."""


def element_windows(rule: OperatorRule, tensors: Sequence[Tensor], attributes: Attributes, index: int) -> Windows:
    """Return what output element `index` (row-major) reads, in the order of reading.

    `tensors` are whole: which entry of a table is read may depend on a value.

    Raises:
        NoElementRule, ElementOutOfRange, and what `compute_element` raises.
    """
    windows, read = _recorded(tensors)
    read_element(rule, _types(tensors), attributes, index, read)
    return tuple(windows)


def element_inputs(
    rule: OperatorRule, tensors: Sequence[Tensor], attributes: Attributes, index: int
) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return for each input tensor the byte ranges [start, end) that output element `index` needs, as they are read.

    Raises:
        As `element_windows`.
    """
    windows = element_windows(rule, tensors, attributes, index)
    return tuple(
        tuple(
            span for place, window in windows if place == number for span in window.byte_ranges(tensor.dtype.itemsize)
        )
        for number, tensor in enumerate(tensors)
    )


def open_inputs(
    rule: OperatorRule, tensors: Sequence[Tensor], attributes: Attributes, index: int
) -> tuple[Tensor, ...]:
    """Return the values that output element `index` reads of each tensor, as `compute_element` takes them.

    Raises:
        As `element_windows`.
    """
    windows = element_windows(rule, tensors, attributes, index)
    return tuple(
        np.concatenate(
            [
                tensor.reshape(-1)[:0],
                *(tensor.reshape(-1)[window.indices()] for place, window in windows if place == number),
            ]
        )
        for number, tensor in enumerate(tensors)
    )


def compute_element(
    rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes, index: int, opened: Sequence[Tensor]
) -> int:
    """Return element `index` of the output from what it reads of each input; `types` have no symbols.

    opened: of each tensor the values of its windows, flat, in the order of reading.

    Raises:
        NoElementRule, ElementOutOfRange, WrongOpening; WrongArity, WrongDtype, WrongShape, AttributeOutOfRange;
        TensorOutOfRange: a value that the operator does not take.
    """
    positions = [0] * len(opened)

    def read(tensor: int, window: Window) -> Tensor:
        start = positions[tensor]
        positions[tensor] = end = start + window.size
        values = opened[tensor]
        if values.dtype.name != types[tensor].dtype.name or values.size < end:
            got = f"{values.dtype.name}[{values.size}]"
            raise WrongOpening(f"{rule.name}: opened input {tensor}", got, f"{types[tensor]}: at least {end}")
        return values[start:end]

    value = read_element(rule, types, attributes, index, read)
    for number, (values, end) in enumerate(zip(opened, positions, strict=True)):
        if values.size != end:
            raise WrongOpening(f"{rule.name}: opened input {number}", values.size, end)
    return value


def read_element(
    rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes, index: int, read: Read
) -> int:
    """Return element `index` of the output by reading windows of the inputs; `types` have no symbols.

    `read` has to give a window's values in the tensor's dtype, or raise.

    Raises:
        NoElementRule, ElementOutOfRange, WrongArity, WrongDtype, WrongShape, AttributeOutOfRange; what `read` raises;
        TensorOutOfRange: a value that the operator does not take.
    """
    element = _rule_of(rule)
    _check_index(rule, types, attributes, index)
    return element.compute(_shapes(types), attributes, index, read)


def refutes_element(
    rule: OperatorRule,
    types: Sequence[TensorType],
    attributes: Attributes,
    index: int,
    claimed: int,
    witness: int,
    read: Read,
) -> bool:
    """Return whether `witness` shows that element `index` is not `claimed`; arguments otherwise as `read_element`.

    Raises:
        As `read_element`; NoElementRule where the operator has no witnesses.
    """
    found = WITNESS_RULES.get(rule.name)
    if found is None:
        raise NoElementRule("operator with witnesses", rule.name, sorted(WITNESS_RULES))
    _check_index(rule, types, attributes, index)
    return found.refutes(_shapes(types), attributes, index, claimed, witness, read)


def witness_windows(
    rule: OperatorRule, tensors: Sequence[Tensor], attributes: Attributes, index: int, claimed: int, witness: int
) -> Windows:
    """Return what `refutes_element` reads of whole tensors, in the order of reading.

    Raises:
        As `refutes_element`.
    """
    windows, read = _recorded(tensors)
    refutes_element(rule, _types(tensors), attributes, index, claimed, witness, read)
    return tuple(windows)


def leaf_bytes(rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes) -> int:
    """Return how many bytes of all inputs together one output element needs; `types` have no symbols.

    Raises:
        NoElementRule.
    """
    reads = _rule_of(rule).reads(_shapes(types), attributes)
    return sum(size * tensor.dtype.size_bytes for size, tensor in zip(reads, types, strict=True))


def witness_bytes(rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes) -> int:
    """Return how many bytes of all inputs together a refutation needs at most; `types` have no symbols.

    Raises:
        NoElementRule.
    """
    found = WITNESS_RULES.get(rule.name)
    if found is None:
        raise NoElementRule("operator with witnesses", rule.name, sorted(WITNESS_RULES))
    reads = found.reads(_shapes(types), attributes)
    return sum(size * tensor.dtype.size_bytes for size, tensor in zip(reads, types, strict=True))


def check_leaf_bytes(rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes) -> None:
    """Refuse an operator of which one wrong element could not be shown to the court: recomputed, or by a witness.

    A column counts the chunks of BLAKE3 that its entries lie in, since those are what a proof holds.

    Raises:
        NoElementRule, LeafTooLarge.
    """
    size = (witness_bytes if rule.name in WITNESS_RULES else leaf_bytes)(rule, types, attributes)
    if rule.name in COLUMNS:
        place = COLUMNS[rule.name]
        entries, tensor = _rule_of(rule).reads(_shapes(types), attributes)[place], types[place]
        size -= entries * tensor.dtype.size_bytes
        size += min(entries * LEAF_BYTES, prod(tensor.at({})) * tensor.dtype.size_bytes)
    if size > LEAF_BYTES_MAX:
        raise LeafTooLarge(f"{rule.name}: bytes for one element", size, f"at most {LEAF_BYTES_MAX}")


def _rule_of(rule: OperatorRule) -> ElementRule:
    found = ELEMENT_RULES.get(rule.name)
    if found is None:
        raise NoElementRule("operator", rule.name, sorted(ELEMENT_RULES))
    return found


def _shapes(types: Sequence[TensorType]) -> Shapes:
    return tuple(tensor.at({}) for tensor in types)


def _types(tensors: Sequence[Tensor]) -> tuple[TensorType, ...]:
    return tuple(TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors)


def _check_index(rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes, index: int) -> None:
    output = rule.output_type(types, attributes).at({})
    if not 0 <= index < prod(output):
        raise ElementOutOfRange(f"{rule.name}: element", index, f"below {prod(output)}")


def _recorded(tensors: Sequence[Tensor]) -> tuple[list[tuple[int, Window]], Read]:
    windows: list[tuple[int, Window]] = []

    def read(tensor: int, window: Window) -> Tensor:
        windows.append((tensor, window))
        values: Tensor = tensors[tensor].reshape(-1)[window.indices()]
        return values

    return windows, read
