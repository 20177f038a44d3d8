"""Draws: multiply rows by a graph's weights on a template, and make a certificate from a tile that wins."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from consensus.certificate import Certificate, sign_seal
from hyperdust.work_client import Work
from pouw.hypergraph import MiningOperand
from pouw.ticket import (
    MAX_ROWS,
    TILE,
    Prepared,
    compute_key_a,
    compute_key_b,
    mine,
    open_ticket,
    prepare_weights,
    threshold,
)
from pouw.trace import tensor_root

OWN_ROW_BOUND: Final = 63  # rows of the miner's own are uniform in [-63, 63]
MAX_OWN_ROWS: Final = 256  # one product stays short, so that a new template is seen soon


@dataclass(frozen=True, slots=True)
class Found:
    """A ticket that wins, ready to be handed in."""

    work: Work
    nonce: bytes
    certificate: bytes
    label: int


@dataclass(slots=True)
class Effort:
    """What was multiplied."""

    macs: int = 0
    seconds: float = 0.0
    products: int = 0

    def macs_per_second(self) -> int:
        """Speed so far."""
        return int(self.macs / self.seconds) if self.seconds else 0


@dataclass(slots=True)
class Drawer:
    """Multiplies on templates; keeps weights prepared for the newest parent. One thread at a time."""

    graph_id: bytes
    operands: Mapping[int, MiningOperand]
    weights: Mapping[bytes, npt.NDArray[Any]]
    """Root -> B transposed, int8[n, k]."""
    private_key: bytes
    random: np.random.Generator = field(default_factory=np.random.default_rng)
    effort: Effort = field(default_factory=Effort)
    _prepared: dict[int, tuple[bytes, Prepared]] = field(default_factory=dict)

    def multiply(
        self, work: Work, operator: int, a: npt.NDArray[np.int8], label: int
    ) -> tuple[npt.NDArray[np.int32], Found | None]:
        """Exact product of a job's rows `a: int8[m, k]`, filled with own rows to whole tiles, and a ticket if one wins.

        Raises:
            ShapeRefused, OperandOutOfRange: the rows are none that can be mined.
        """
        parts = []
        found = None
        for start in range(0, a.shape[0], MAX_ROWS):
            product, ticket = self._multiply_part(work, operator, a[start : start + MAX_ROWS], label)
            parts.append(product)
            found = found or ticket
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)), found

    def draw(self, work: Work) -> Found | None:
        """One product of rows of the miner's own, sized for about one expected ticket."""
        operator = next(iter(self.operands))
        operand = self.operands[operator]
        rows = min(MAX_OWN_ROWS, TILE * max(1, -(-work.difficulty // (TILE * operand.n * operand.k))))
        return self._multiply_part(work, operator, self._own_rows(rows, operand.k), 0)[1]

    def _multiply_part(
        self, work: Work, operator: int, a: npt.NDArray[np.int8], label: int
    ) -> tuple[npt.NDArray[np.int32], Found | None]:
        started = time.perf_counter()
        operand = self.operands[operator]
        rows, k = a.shape
        missing = -rows % TILE
        filled = np.concatenate([a, self._own_rows(missing, k)]) if missing else np.ascontiguousarray(a)  # (m, k)
        m = filled.shape[0]
        prepared = self._prepare(work.parent_hash, operand)
        key_b = compute_key_b(work.parent_hash, operand.root)
        nonce = self.random.bytes(8)
        key_a = compute_key_a(key_b, work.seal_hash, nonce, tensor_root(filled), operand.root, m, operand.n, operand.k)
        mined = mine(filled, prepared, key_a, threshold(work.difficulty, operand.k))
        self.effort.macs += m * operand.n * operand.k
        self.effort.products += 1
        self.effort.seconds += time.perf_counter() - started
        found = None
        if mined.winners:
            row_block, column_block, _ = mined.winners[0]
            proof = open_ticket(filled, self.weights[operand.root], row_block, column_block)
            honest_label = label if row_block * TILE < rows else 0  # a tile of own rows alone is no job's
            certificate = Certificate(
                self.graph_id, operator, honest_label, sign_seal(work.seal_hash, self.private_key), proof
            )
            found = Found(work, nonce, certificate.encode(), honest_label)
        return mined.product[:rows], found  # (m, n) -> (rows, n)

    def _prepare(self, parent_hash: bytes, operand: MiningOperand) -> Prepared:
        kept = self._prepared.get(operand.operator)
        if kept is not None and kept[0] == parent_hash:
            return kept[1]
        prepared = prepare_weights(self.weights[operand.root], compute_key_b(parent_hash, operand.root))
        self._prepared[operand.operator] = (parent_hash, prepared)
        return prepared

    def _own_rows(self, rows: int, k: int) -> npt.NDArray[np.int8]:
        return self.random.integers(-OWN_ROW_BOUND, OWN_ROW_BOUND, (rows, k), np.int8, endpoint=True)
