"""ATen's functions of one entry, each a table: by name, or with the parameters that a module gives."""

from collections.abc import Callable
from typing import Any, Final

from pouw.compiler.translation import Matrix, Scores, Translation

Namer = Callable[..., str]

FUNCTIONS: Final[dict[str, Namer]] = {
    "gelu": lambda approximate="none": "gelu_tanh" if approximate == "tanh" else "gelu",
    "relu": lambda: "relu",
    "silu": lambda: "silu",
    "tanh": lambda: "tanh",
    "sigmoid": lambda: "sigmoid",
    "relu6": lambda: "relu6",
    "hardswish": lambda: "hardswish",
    "hardsigmoid": lambda: "hardsigmoid",
    "mish": lambda: "mish",
    "abs": lambda: "abs",
    "square": lambda: "square",
    "exp": lambda: "exp",
    "sin": lambda: "sin",
    "cos": lambda: "cos",
    "softplus": lambda beta=1, threshold=20: _of("softplus", (beta, threshold), (1, 20)),
    "leaky_relu": lambda slope=0.01: f"leaky_relu:{float(slope)!r}:0",
    "elu": lambda alpha=1, scale=1, inner=1: f"elu:{float(alpha)!r}:{float(scale)!r}" if inner == 1 else "",
    "selu": lambda: "elu:1.6732632423543772:1.0507009873554805",
    "hardtanh": lambda low=-1, high=1: f"clamp:{float(low)!r}:{float(high)!r}",
    "clamp": lambda low=None, high=None: f"clamp:{_bound(low, -1e30)!r}:{_bound(high, 1e30)!r}",
    "clamp_min": lambda low: f"clamp:{float(low)!r}:1e+30",
    "clamp_max": lambda high: f"clamp:-1e+30:{float(high)!r}",
    "pow": lambda power: "square" if power == 2 else f"pow:{float(power)!r}:0" if power in {3, 4} else "",
    "neg": lambda: "",
}


def _bound(given: Any, otherwise: float) -> float:
    return otherwise if given is None else float(given)


def _of(name: str, given: tuple[Any, ...], known: tuple[Any, ...]) -> str:
    return name if given == known else ""


def activation(operator: str) -> Callable[..., Matrix]:
    """Return the handler of an elementwise function."""

    def handle(work: Translation, node: Any, x: Any, *parameters: Any, **options: Any) -> Matrix:
        if isinstance(x, Scores):
            raise work.refuse(operator, "of attention's scores: nothing stands between them and their softmax")
        if not isinstance(x, Matrix):
            raise work.refuse(operator, "takes a value that is no matrix of the module's")
        options.pop("inplace", None)
        name = FUNCTIONS[operator](*parameters, **options)
        if not name:
            raise work.refuse(operator, f"with parameters {list(parameters)} {options or ''}".rstrip())
        single = work.single[x.node]
        if x.columns.size == work.widths[x.node]:
            made = work.add("activation", work.widths[x.node], x.node, single=single, function=name)
            return Matrix(made, x.columns, x.rows)
        source = work.whole(x, operator)
        made = work.add("activation", work.widths[source], source, single=single, function=name)
        return work.like(made, node.meta["val"].shape, single=single)

    return handle
