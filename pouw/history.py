"""What attention at step t reads: the rows of a tensor of all steps up to t, kept so that a step costs its own rows."""

from dataclasses import dataclass

import numpy as np

from pouw.operators.types import Tensor

FIRST_CAPACITY = 64


@dataclass(slots=True)
class RowsSoFar:
    """One tensor's steps, joined along `axis`. Views given out stay as they were."""

    axis: int
    _buffer: Tensor | None = None
    _rows: int = 0

    def append(self, tensor: Tensor) -> Tensor:
        """Add a step's tensor; return all steps up to it, read-only."""
        rows = self._rows + tensor.shape[self.axis]
        if self._buffer is None or rows > self._buffer.shape[self.axis]:
            shape = list(tensor.shape)
            shape[self.axis] = max(FIRST_CAPACITY, 2 * rows)
            grown = np.zeros(shape, dtype=tensor.dtype)
            if self._buffer is not None:
                self._part(grown, 0, self._rows)[...] = self._part(self._buffer, 0, self._rows)
            self._buffer = grown
        self._part(self._buffer, self._rows, rows)[...] = tensor
        self._rows = rows
        view = self._part(self._buffer, 0, rows)
        view.flags.writeable = False
        return view

    def _part(self, buffer: Tensor, start: int, end: int) -> Tensor:
        return buffer[(slice(None),) * self.axis + (slice(start, end),)]
