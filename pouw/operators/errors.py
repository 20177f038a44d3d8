"""Why a tensor or an attribute does not fit an operator."""

from chain.errors import Mismatch, OutOfRange


class WrongShape(Mismatch):
    """A tensor's shape is not the one that the operator needs."""


class WrongDtype(Mismatch):
    """A tensor's dtype is not the one that the operator needs."""


class WrongArity(Mismatch):
    """An operator has another number of tensors or attributes than its rule says."""


class AttributeOutOfRange(OutOfRange):
    """An integer attribute outside of the bounds of its operator."""


class TensorOutOfRange(OutOfRange):
    """A tensor holds a value that its operator does not allow (a token id, a shift, a mining operand)."""
