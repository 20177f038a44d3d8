"""torch.nn.Module -> float program, through torch.export: each ATen operator by name, or a named refusal.

Values are matrices [rows, width]; what a module does to shapes (heads, packed queries, transposes) is followed as a
table that says which column each position holds, and costs nothing in the graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from chain.errors import Mismatch, NodeFault
from pouw.compiler.aten import HANDLERS, IMAGE_HANDLERS
from pouw.compiler.aten_masks import is_sized, sized
from pouw.compiler.aten_taps import channels_first
from pouw.compiler.aten_taps import concatenate as join_images
from pouw.compiler.program import INPUTS, Array, Node, Program, UnmappableOperator, evaluate
from pouw.compiler.translation import Image, Matrix, Translation

TOLERANCE = 2e-3  # of the largest output: float32 sums in another order
CHECKED = 8  # examples on which the program has to agree with the module; other lengths find frozen sizes


class TorchMissing(NodeFault):
    """PyTorch is not installed."""


class InputUnsupported(Mismatch):
    """An example input has a shape or dtype that no graph input has."""


class ProgramDiffers(Mismatch):
    """The module's program does not compute what the module does."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A program and the module's own float outputs."""

    program: Program
    expected: tuple[Mapping[str, Array], ...]
    """For each example: output -> float32[rows, width], by the module itself."""
    inputs: tuple[Mapping[str, Array], ...]
    """For each example: input -> array as the program takes it."""


def import_torch() -> Any:
    """Return the module torch.

    Raises:
        TorchMissing: with the command that installs it.
    """
    if find_spec("torch") is None:
        raise TorchMissing("compiling a PyTorch module needs torch: pip install 'hyperdust[compile]'")
    import torch  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415  # an extra: everything else works without it

    return torch


def export_module(module: Any, examples: Sequence[tuple[Any, ...]], rows_max: int = 512) -> Exported:
    """Return the program of a module and its outputs on the examples; the first one shapes the export.

    Raises:
        TorchMissing, InputUnsupported, UnmappableOperator, ProgramDiffers.
    """
    torch = import_torch()
    module = module.eval().float()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator would hide attention's parts
    try:
        dynamic = tuple(_dynamic(torch, index, example) for index, example in enumerate(examples[0]))
        exported = torch.export.export(module, tuple(examples[0]), dynamic_shapes=dynamic, strict=False)
        with torch.no_grad():
            expected = [_flat(torch, module(*example)) for example in examples]
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    program = translate(torch, exported, rows_max)
    inputs = [_arrays(program, example) for example in examples]
    names = list(program.outputs)
    wanted = tuple(dict(zip(names, outputs, strict=True)) for outputs in expected)
    for place, (given, outputs) in enumerate(zip(inputs[:CHECKED], wanted[:CHECKED], strict=True)):
        for name, got in evaluate(program, given).items():
            want = outputs[name].reshape(got.shape).astype(np.float32)
            largest = float(np.abs(got - want).max())
            if not largest <= TOLERANCE * max(1e-6, float(np.abs(want).max())):
                raise ProgramDiffers(f"output {name} of example {place}", f"off by {largest:.3g}", "the module's")
    return Exported(program, wanted, tuple(inputs))


def _dynamic(torch: Any, index: int, example: Any) -> dict[int, Any] | None:
    if not isinstance(example, torch.Tensor):
        raise InputUnsupported(f"example input {index}", type(example).__name__, "a torch.Tensor")
    axis = _rows_axis(torch, index, example)
    return None if axis is None else {axis: torch.export.Dim.AUTO}


def _rows_axis(torch: Any, index: int, example: Any) -> int | None:
    """Which axis counts rows; None for an image."""
    rank, ids = int(example.dim()), example.dtype in {torch.int32, torch.int64}
    if not ids and not example.dtype.is_floating_point:
        raise InputUnsupported(f"example input {index}", str(example.dtype), "int64 ids or floats")
    if rank == 4 and not ids and example.shape[0] == 1:
        return None
    axis = rank - 1 if ids else rank - 2
    if not 0 <= axis <= 1 or (axis == 1 and example.shape[0] != 1):
        wanted = "[rows] or [1, rows]" if ids else "[rows, width], [1, rows, width] or [1, channels, height, width]"
        raise InputUnsupported(f"shape of example input {index}", list(example.shape), wanted)
    return axis


def _flat(torch: Any, outputs: Any) -> list[Array]:
    found = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    if isinstance(outputs, Mapping):
        found = [value for value in outputs.values() if value is not None]
    if not all(isinstance(output, torch.Tensor) for output in found):
        raise InputUnsupported("output of the module", [type(output).__name__ for output in found], "tensors")
    return [output.detach().numpy().astype(np.float32) for output in found]


def _arrays(program: Program, example: tuple[Any, ...]) -> dict[str, Array]:
    arrays = {}
    for (label, node), tensor in zip(program.inputs().items(), example, strict=True):
        array = tensor.detach().numpy()
        if node.kind == "ids":
            arrays[label] = array.reshape(-1).astype(np.int32)
        elif node.kind == "picture":
            arrays[label] = np.ascontiguousarray(array[0].transpose(1, 2, 0))
        else:
            arrays[label] = array.reshape(-1, array.shape[-1])
    return arrays


def translate(torch: Any, exported: Any, rows_max: int) -> Program:
    """Return the program of an exported module.

    Raises:
        UnmappableOperator.
    """
    work = Translation(torch, rows_max)
    signature = exported.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    read = _read_nodes(exported.graph)
    for node in exported.graph.nodes:
        if node.op == "call_function" and node not in read:
            continue  # what the module computes and drops, the weights of an attention, say
        work.locate(node)
        if node.op == "placeholder":
            if node.name in names:
                held = exported.state_dict.get(names[node.name])
                work.values[node] = exported.constants[names[node.name]] if held is None else held
            elif node.name in constants:
                work.values[node] = exported.constants[constants[node.name]]
            else:
                rows = _rows_axis(torch, 0, node.meta["val"])
                work.picture(node) if rows is None else work.input(node, rows)
        elif node.op == "get_attr":
            work.values[node] = getattr(exported.graph_module, node.target)
        elif node.op == "call_function":
            _call(work, node)
        elif node.op == "output":
            return _finish(work, node)
        else:
            raise UnmappableOperator(node.op, "no such node is known", work.origin)
    raise UnmappableOperator("output", "the module returns nothing", work.origin)


def _read_nodes(graph: Any) -> set[Any]:
    """Return the nodes that the module's outputs depend on."""
    read: set[Any] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in read:
            read.update(node.all_input_nodes)
    return read


def _inline(work: Translation, node: Any) -> None:
    """A part of the module that runs without gradients, or without autocast: its nodes as if they stood here."""
    place = next(number for number, given in enumerate(node.args) if _is_graph(work, given))
    inner, outer = work.values[node.args[place]].graph, iter(node.args[place + 1 :])
    for part in inner.nodes:
        if part.op == "placeholder":
            work.values[part] = work.arguments([next(outer)])[0]
        elif part.op == "get_attr":
            work.values[part] = getattr(work.values[node.args[place]], part.target)
        elif part.op == "call_function":
            _call(work, part)
        else:
            work.values[node] = work.arguments(part.args[0])


def _is_graph(work: Translation, given: Any) -> bool:
    return isinstance(given, work.torch.fx.Node) and isinstance(work.values.get(given), work.torch.fx.GraphModule)


def _call(work: Translation, node: Any) -> None:
    if any(_is_graph(work, given) for given in node.args):
        _inline(work, node)
        return
    name = str(getattr(node.target, "_schema", None) and node.target._schema.name).replace("aten::", "")  # noqa: SLF001
    arguments = work.arguments(node.args)
    options = work.arguments(node.kwargs)
    if work.is_constant(arguments) and work.is_constant(options):
        with work.torch.no_grad():
            work.values[node] = node.target(*arguments, **options)
        return
    if getattr(node.target, "__name__", "") == "getitem":
        work.values[node] = arguments[0][arguments[1]]
        return
    if is_sized(work, node, name, arguments, options):
        work.values[node] = sized(work, node, name)
        return
    on_image = any(isinstance(argument, Image) for argument in arguments)
    if name == "cat" and any(isinstance(part, Image) for part in arguments[0]):
        work.values[node] = join_images(work, node, *arguments, **options)
        return
    handler = (IMAGE_HANDLERS if on_image else HANDLERS).get(name)
    if handler is None:
        if isinstance(node.meta.get("val"), (int, work.torch.SymInt)):
            work.values[node] = node.meta["val"]  # sizes; shapes are read off the results
            return
        if "assert" in str(node.target):
            return  # about sizes; the graph has its own bounds
        raise UnmappableOperator(str(node.target), "has no exact operator yet", work.origin)
    try:
        work.values[node] = handler(work, node, *arguments, **options)
    except (TypeError, ValueError, LookupError, StopIteration, AttributeError) as error:
        raise UnmappableOperator(str(node.target), f"in a form that is not known: {error}", work.origin) from error


def _finish(work: Translation, node: Any) -> Program:
    results = [work.values[result] for result in node.args[0] if result is not None]
    outputs = {}
    made_by = [result for result in node.args[0] if result is not None]
    for place, result in enumerate(results):
        work.locate(made_by[place])
        if isinstance(result, Image):
            result = channels_first(work, result)  # noqa: PLW2901  # as the module gives it
        if not isinstance(result, Matrix):
            raise UnmappableOperator("output", f"output {place} is no matrix of the module's", work.origin)
        outputs["output" if len(results) == 1 else f"output.{place}"] = work.whole(result)
    return prune(work.nodes, outputs, work.rows_max, work.fixed_rows)


def prune(nodes: Sequence[Node], outputs: Mapping[str, int], rows_max: int, fixed_rows: int | None) -> Program:
    """Return the program without nodes that no output needs; inputs stay."""
    needed = set(outputs.values()) | {index for index, node in enumerate(nodes) if node.kind in INPUTS}
    for index in range(len(nodes) - 1, -1, -1):
        if index in needed:
            needed.update(nodes[index].sources)
    places = {index: place for place, index in enumerate(sorted(needed))}
    kept = []
    for index in sorted(needed):
        node = nodes[index]
        sources = tuple(places[source] for source in node.sources)
        kept.append(
            Node(node.kind, node.label, sources, node.arrays, node.numbers, node.function, node.block, node.origin)
        )
    return Program(tuple(kept), {name: places[index] for name, index in outputs.items()}, rows_max, fixed_rows)
