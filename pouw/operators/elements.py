"""One element of an operator's output: which bytes of its inputs it needs, and its value.

What the court recomputes. Values come from the definitions, applied to the little that is read; `core/` computes the
same as an EVM call (docs/spec/precompiles.md). Families state their operators in `elements_<family>.py`.
"""

from collections.abc import Sequence
from math import prod

from chain.errors import Mismatch, OutOfRange
from pouw.operators import elements_decoder, elements_encoder, elements_vision
from pouw.operators.element import Attributes, ElementRule, Read, Shapes, Window
from pouw.operators.rule import OperatorRule
from pouw.operators.types import Tensor, TensorType
from pouw.trace import dtype_by_name

LEAF_BYTES_MAX = 65_536

__all__ = [
    "ELEMENT_RULES",
    "LEAF_BYTES_MAX",
    "ElementOutOfRange",
    "ElementRule",
    "LeafTooLarge",
    "NoElementRule",
    "Window",
    "WrongOpening",
    "check_leaf_bytes",
    "compute_element",
    "element_inputs",
    "leaf_bytes",
    "open_inputs",
]

_FAMILIES = (elements_encoder.RULES, elements_decoder.RULES, elements_vision.RULES)
ELEMENT_RULES: dict[str, ElementRule] = {rule.name: rule for family in _FAMILIES for rule in family}


class NoElementRule(Mismatch):
    """An operator does not state how one element is recomputed."""


class ElementOutOfRange(OutOfRange):
    """The element lies outside of the operator's output."""


class WrongOpening(Mismatch):
    """An opened input holds another number of values than the element reads."""


class LeafTooLarge(OutOfRange):
    """One element of an operator needs more than 64 KiB: the compiler has to split it."""


def element_inputs(
    rule: OperatorRule, tensors: Sequence[Tensor], attributes: Attributes, index: int
) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return for each input tensor the byte ranges [start, end) that output element `index` (row-major) needs.

    `tensors` are whole: which entry of a table is read may depend on a value.

    Raises:
        NoElementRule, ElementOutOfRange, and what `compute_element` raises.
    """
    return tuple(
        window.byte_ranges(tensor.dtype.itemsize)
        for window, tensor in zip(_windows(rule, tensors, attributes, index), tensors, strict=True)
    )


def open_inputs(
    rule: OperatorRule, tensors: Sequence[Tensor], attributes: Attributes, index: int
) -> tuple[Tensor, ...]:
    """Return the values that output element `index` reads of each tensor, as `compute_element` takes them.

    Raises:
        As `element_inputs`.
    """
    windows = _windows(rule, tensors, attributes, index)
    return tuple(tensor.reshape(-1)[window.indices()] for window, tensor in zip(windows, tensors, strict=True))


def compute_element(
    rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes, index: int, opened: Sequence[Tensor]
) -> int:
    """Return element `index` of the output from what it reads of each input; `types` have no symbols.

    Raises:
        NoElementRule, ElementOutOfRange, WrongOpening; WrongArity, WrongDtype, WrongShape, AttributeOutOfRange;
        TensorOutOfRange: a value that the operator does not take.
    """

    def read(tensor: int, window: Window) -> Tensor:
        values = opened[tensor]
        if values.dtype.name != types[tensor].dtype.name or values.size != window.size:
            got = f"{values.dtype.name}[{values.size}]"
            raise WrongOpening(f"{rule.name}: opened input {tensor}", got, f"{types[tensor]}: {window.size}")
        return values

    return _compute(rule, types, attributes, index, read)


def leaf_bytes(rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes) -> int:
    """Return how many bytes of all inputs together one output element needs; `types` have no symbols.

    Raises:
        NoElementRule.
    """
    reads = _rule_of(rule).reads(_shapes(types), attributes)
    return sum(size * tensor.dtype.size_bytes for size, tensor in zip(reads, types, strict=True))


def check_leaf_bytes(rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes) -> None:
    """Refuse an operator of which one element could not be shown to the court.

    Raises:
        NoElementRule, LeafTooLarge.
    """
    size = leaf_bytes(rule, types, attributes)
    if size > LEAF_BYTES_MAX:
        raise LeafTooLarge(f"{rule.name}: bytes for one element", size, f"at most {LEAF_BYTES_MAX}")


def _rule_of(rule: OperatorRule) -> ElementRule:
    found = ELEMENT_RULES.get(rule.name)
    if found is None:
        raise NoElementRule("operator", rule.name, sorted(ELEMENT_RULES))
    return found


def _shapes(types: Sequence[TensorType]) -> Shapes:
    return tuple(tensor.at({}) for tensor in types)


def _compute(rule: OperatorRule, types: Sequence[TensorType], attributes: Attributes, index: int, read: Read) -> int:
    element = _rule_of(rule)
    output = rule.output_type(types, attributes).at({})
    if not 0 <= index < prod(output):
        raise ElementOutOfRange(f"{rule.name}: element", index, f"below {prod(output)}")
    return element.compute(_shapes(types), attributes, index, read)


def _windows(rule: OperatorRule, tensors: Sequence[Tensor], attributes: Attributes, index: int) -> tuple[Window, ...]:
    windows: list[Window] = []

    def read(tensor: int, window: Window) -> Tensor:
        windows.append(window)
        values: Tensor = tensors[tensor].reshape(-1)[window.indices()]
        return values

    types = tuple(TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors)
    _compute(rule, types, attributes, index, read)
    return tuple(windows)
