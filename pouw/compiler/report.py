"""What a compiled graph costs and how close it comes to its float model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt

import numpy as np

from pouw.compiler.folder import Evaluation
from pouw.execution import Backend, run
from pouw.hypergraph import Hypergraph
from pouw.operators.types import Tensor


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Cosines between the integers' outputs and the float model's, over evaluation inputs."""

    cosine_mean: float
    cosine_min: float
    n: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run takes, at the symbols given."""

    macs: int
    mining_macs: int
    mining_share: float
    constants_bytes: int
    operators: int
    subgraphs: int
    symbols: Mapping[str, int]

    def as_row(self) -> dict[str, object]:
        """Return the fields by name."""
        return asdict(self)


def symbols_of(graph: Hypergraph, inputs: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the symbols' values that the inputs' shapes say."""
    return {
        name: size
        for port in graph.inputs
        for size, name in zip(inputs[port.name].shape, port.type.shape, strict=True)
        if isinstance(name, str)
    }


def measure_fidelity(
    graph: Hypergraph, constants: Mapping[bytes, Tensor], evaluations: Sequence[Evaluation], backend: Backend
) -> Fidelity:
    """Run the graph on each evaluation and compare with what the float model answered."""
    cosines = []
    for evaluation in evaluations:
        execution = run(graph, constants, evaluation.inputs, symbols_of(graph, evaluation.inputs), backend)
        for name, output in execution.outputs.items():
            cosines.append(cosine(output, evaluation.expected[name]))
    return Fidelity(sum(cosines) / max(1, len(cosines)), min(cosines, default=0.0), len(cosines))


def cosine(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the cosine between two tensors as vectors; two zeros are equal."""
    x, y = got.reshape(-1).astype(np.float64), expected.reshape(-1).astype(np.float64)
    length = sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / length if length else float(bool((x == 0).all() and (y == 0).all()))


def measure_cost(graph: Hypergraph, constants: Mapping[bytes, Tensor], symbols: Mapping[str, int]) -> Cost:
    """Return MACs, mining share and sizes at the symbols."""
    values = [symbols[symbol.name] for symbol in graph.symbols]
    mining = sum(_at(coefficient, exponents, values) for coefficient, exponents in graph.mining_macs_terms())
    macs = graph.macs(symbols)
    return Cost(
        macs=macs,
        mining_macs=mining,
        mining_share=mining / max(1, macs),
        constants_bytes=sum(array.nbytes for array in constants.values()),
        operators=graph.operator_count(),
        subgraphs=len(graph.subgraphs),
        symbols=dict(symbols),
    )


def _at(coefficient: int, exponents: tuple[int, ...], values: Sequence[int]) -> int:
    for exponent, value in zip(exponents, values, strict=False):
        coefficient *= value**exponent
    return coefficient
