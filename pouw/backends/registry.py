"""Which backends exist, and the self-test that each passes before it may serve."""

from collections.abc import Callable, Mapping

import numpy as np

from chain.errors import NodeFault
from pouw.backends import cases_decoder, cases_encoder, cases_scene, cases_subgraph, cases_vision
from pouw.backends.cases_encoder import Case
from pouw.backends.native import NativeBackend
from pouw.backends.reference import NumpyBackend
from pouw.execution import Backend
from pouw.hypergraph import Constant, Subgraph, SubgraphInput
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor


def _torch(device: str) -> Callable[[], Backend]:
    def make() -> Backend:
        from pouw.backends.torch_backend import TorchBackend  # noqa: PLC0415  # an extra

        return TorchBackend(device)

    return make


MAKERS: tuple[tuple[str, Callable[[], Backend]], ...] = (
    ("native", NativeBackend),
    ("numpy", NumpyBackend),
    ("torch", _torch("cpu")),
    ("torch-cuda", _torch("cuda")),
)


EXTRAS = frozenset({"torch", "torch-cuda"})
"""Backends that a machine does well without."""


class BackendUnavailable(NodeFault):
    """A backend cannot serve on this machine; says why."""


class BackendWrong(NodeFault):
    """A backend computed another value than the definition; it must not serve."""


def load_backend(name: str) -> Backend:
    """Return a backend that has passed its self-test.

    Raises:
        BackendUnavailable, BackendWrong.
    """
    for known, make in MAKERS:
        if known == name:
            try:
                backend = make()
            except NodeFault as error:  # a backend that knows why it cannot serve
                raise BackendUnavailable(f"backend {name}: {error}") from error
            except (ImportError, AttributeError) as error:
                raise BackendUnavailable(f"backend {name}: {error}; `make setup` builds it") from error
            check_backend(backend)
            return backend
    raise BackendUnavailable(f"no backend {name!r}; known: {', '.join(known for known, _ in MAKERS)}")


def list_backends() -> tuple[list[str], dict[str, str]]:
    """Return (names that serve on this machine, name -> reason for the others)."""
    found = examine_backends()
    return [name for name, error in found if error is None], {name: str(error) for name, error in found if error}


def examine_backends() -> tuple[tuple[str, BackendUnavailable | BackendWrong | None], ...]:
    """Return each known backend with the reason why it does not serve."""
    found: list[tuple[str, BackendUnavailable | BackendWrong | None]] = []
    for name, _ in MAKERS:
        try:
            load_backend(name)
        except (BackendUnavailable, BackendWrong) as error:
            found.append((name, error))
        else:
            found.append((name, None))
    return tuple(found)


def check_backend(backend: Backend) -> None:
    """Compare every operator with its definition on full-range operands, and whole subgraphs where it runs them.

    Raises:
        BackendWrong: names the operator.
    """
    for name, tensors, attributes in all_cases():
        rule = RULE_BY_NAME[name]
        expected = rule.compute(tensors, attributes)
        _compare(backend, name, backend.compute(rule, tensors, attributes), expected)
    run_subgraph = getattr(backend, "run_subgraph", None)
    if run_subgraph is None:
        return
    subgraph, constants = cases_subgraph.subgraph()
    parts = (subgraph, cases_subgraph.patterns_alone(subgraph))
    for x in cases_subgraph.inputs():
        made = run_definitions(subgraph, (x,), constants)
        for part in parts:
            for output, got in zip(part.outputs, run_subgraph(part, (x,), constants), strict=True):
                _compare(backend, f"subgraph output {output.port.name}", got, made[output.operator])
    taps, constants = cases_subgraph.taps()
    for x in cases_subgraph.taps_inputs():
        made = run_definitions(taps, (x,), constants)
        for output, got in zip(taps.outputs, run_subgraph(taps, (x,), constants), strict=True):
            _compare(backend, f"subgraph output {output.port.name}", got, made[output.operator])


def run_definitions(
    subgraph: Subgraph, inputs: tuple[Tensor, ...], constants: Mapping[bytes, Tensor]
) -> tuple[Tensor, ...]:
    """Return the output of every operator of a subgraph, by definition."""
    made: list[Tensor] = []
    for operator in subgraph.operators:
        tensors = []
        for reference in operator.tensors:
            if isinstance(reference, Constant):
                tensors.append(constants[reference.root])
            else:
                source = inputs if isinstance(reference, SubgraphInput) else made
                tensors.append(source[reference.index])
        made.append(operator.rule.compute(tensors, operator.attributes))
    return tuple(made)


def _compare(backend: Backend, what: str, got: Tensor, expected: Tensor) -> None:
    if got.dtype != expected.dtype or got.shape != expected.shape or not np.array_equal(got, expected):
        wrong = int((got != expected).sum()) if got.shape == expected.shape else expected.size
        raise BackendWrong(f"backend {backend.name}: {what} differs in {wrong} of {expected.size} values")


def self_test_cases() -> tuple[Case, ...]:
    """Return the encoder's cases at one odd shape. The precompiles are tested on them as well."""
    return cases_encoder.cases()


def all_cases() -> tuple[Case, ...]:
    """Return every family's cases, and the encoder's edges; they cover every operator of the table."""
    families = (cases_encoder.edge_cases(), cases_decoder.cases(), cases_vision.cases(), cases_scene.cases())
    return (*self_test_cases(), *(case for family in families for case in family))
