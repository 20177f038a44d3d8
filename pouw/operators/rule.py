"""What a graph may say about one operator: the row of the table in `rules.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pouw.operators.errors import WrongArity
from pouw.operators.types import Tensor, TensorType, Term

Types = Sequence[TensorType]
Attributes = Sequence[int]


@dataclass(frozen=True, slots=True)
class OperatorRule:
    """What a graph may say about one operator."""

    code: int
    """Byte that names the operator in an encoding."""
    name: str
    arity: int
    """Number of tensors."""
    attributes: tuple[str, ...]
    """Names of the integer attributes, in the order of the encoding."""
    infer: Callable[[Types, Attributes], TensorType]
    """Type of the output; raises a named error where tensors or attributes do not fit."""
    define: Callable[..., Any]
    """The definition: tensors, then attributes."""
    multiplications: Callable[[Types, Attributes], Term | None] = lambda _types, _attributes: None
    """Multiply-accumulates as a term in the graph's symbols."""

    def output_type(self, tensors: Types, attributes: Attributes) -> TensorType:
        """Return the type of the output.

        Raises:
            WrongArity, WrongDtype, WrongShape, AttributeOutOfRange.
        """
        if len(tensors) != self.arity:
            raise WrongArity(f"{self.name}: tensors", len(tensors), self.arity)
        if len(attributes) != len(self.attributes):
            raise WrongArity(f"{self.name}: attributes", len(attributes), len(self.attributes))
        return self.infer(tensors, attributes)

    def compute(self, tensors: Sequence[Tensor], attributes: Attributes) -> Tensor:
        """Return the output as the definition says."""
        output: Tensor = self.define(*tensors, *attributes)
        return output
