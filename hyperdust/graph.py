"""Graphs on this machine: load, run, list, check. No chain. Reads genesis/graphs and the model; caches constants."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil  # type: ignore[import-untyped]
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from chain.errors import Mismatch, NodeFault
from hyperdust import graph_scene, graph_text
from hyperdust.graph_minilm import MINILM_SHAPE, load_calibration, load_tokenizer, load_weights
from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import list_backends, load_backend
from pouw.compiler import bert, folder, fp32
from pouw.compiler.loading import parse_json
from pouw.compiler.report import measure_fidelity
from pouw.execution import decode_outputs as decode_output_tensors
from pouw.execution import encode_tensors, trace_root
from pouw.execution import run as execute
from pouw.graph_encoding import compute_graph_id, decode, encode_top_layer
from pouw.hypergraph import Hypergraph
from pouw.operators.types import Tensor
from pouw.trace import tensor_root

GRAPHS_DIR: Final = Path(__file__).resolve().parent.parent / "genesis" / "graphs"
EXAMPLE_TEXT: Final = "Bitcoin is electronic cash; useful work makes the blocks."


class UnknownGraph(NodeFault):
    """No graph of that name on this machine."""


class ConstantDiffers(Mismatch):
    """Constants made here are not those that the graph commits to."""


class InputUnreadable(NodeFault):
    """An input file or text does not fit the graph."""


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph with all that is needed to run it."""

    graph: Hypergraph
    constants: Mapping[bytes, Tensor]
    graph_id: bytes
    top_layer: bytes
    files: Path = GRAPHS_DIR
    """Folder that holds the graph's files."""
    compiled: folder.ModelFolder | None = None
    """Formats, tokenizer and examples of a folder that `hyperdust graph compile` wrote."""

    def encode_text(self, text: str) -> dict[str, Tensor]:
        """Return the input tensors of a text: token ids, cut to the graph's longest sequence."""
        if graph_scene.is_render(self.graph):
            raise InputUnreadable(f"{self.graph.name} renders a view: give --input FILE, not --text")
        if graph_text.is_text(self.graph):
            return graph_text.encode_text(self.files, self.graph, text)
        if self.compiled is not None:
            return self.compiled.encode_text(text)
        return {"ids": np.array(load_tokenizer().encode(text).ids, dtype=np.int32)}

    def example(self) -> dict[str, Tensor]:
        """Return the graph's own example."""
        if graph_scene.is_render(self.graph):
            return graph_scene.example(self.files, self.graph.name)
        if self.compiled is not None:
            return self.compiled.example()
        return self.encode_text(graph_text.EXAMPLE_TEXT if graph_text.is_text(self.graph) else EXAMPLE_TEXT)


@dataclass(frozen=True, slots=True)
class JobInput:
    """What a request carries."""

    data: bytes
    """Input tensors, row-major little-endian, in the graph's order."""
    symbols: tuple[int, ...]
    """In the graph's order."""


def list_graphs() -> list[dict[str, str]]:
    """Return name and id of each graph in genesis/graphs."""
    found = []
    for path in sorted(GRAPHS_DIR.glob("*.graph")):
        graph = decode(path.read_bytes())
        found.append({"name": graph.name, "id": "0x" + compute_graph_id(encode_top_layer(graph)).hex()})
    return found


def _given(name: str) -> Path | None:
    """Return the graph file that a path means; a shipped graph's name is no path."""
    shipped = re.fullmatch(r"[a-z0-9_][a-z0-9_-]*", name) and (GRAPHS_DIR / f"{name}.graph").is_file()
    return None if shipped else folder.find_graph(name)


@cache
def read_graph(name: str) -> Hypergraph:
    """Read the structure of a graph, without constants.

    Raises:
        UnknownGraph: names the known ones.
    """
    given = _given(name)
    if given is not None:
        return folder.read_graph_file(given)
    path = GRAPHS_DIR / f"{name}.graph"
    if not re.fullmatch(r"[a-z0-9_][a-z0-9_-]*", name) or not path.is_file():
        raise UnknownGraph(f"no graph {name!r}; known: {', '.join(row['name'] for row in list_graphs())}")
    return decode(path.read_bytes())


@cache
def load_graph(name: str) -> LoadedGraph:
    """Read a graph and its constants: from the cache, else made from the model's package and cached.

    Raises:
        UnknownGraph, WeightsMissing, ConstantDiffers.
    """
    graph = read_graph(name)
    top_layer = encode_top_layer(graph)
    graph_id = compute_graph_id(top_layer)
    given = _given(name)
    files = GRAPHS_DIR if given is None else given.parent
    if graph_scene.is_render(graph):
        return LoadedGraph(graph, graph_scene.load_constants(files, graph), graph_id, top_layer, files)
    if given is not None and not graph_text.is_text(graph):
        model = folder.read_model(given, graph, _memory_max())
        return LoadedGraph(graph, model.constants, graph_id, top_layer, files, model)
    cached = _cache_dir() / f"{graph_id.hex()}.safetensors"
    constants = _load_constants(cached, graph)
    if constants is None:
        if graph_text.is_text(graph):
            built, made = _build_text(files, graph.name)
        else:
            built, made = bert.build(name, load_weights(), MINILM_SHAPE, load_calibration(name))
        check_constants(graph, built)
        constants = made
        _store_constants(cached, constants)
    return LoadedGraph(graph, constants, graph_id, top_layer, files)


def _build_text(files: Path, name: str) -> tuple[Hypergraph, dict[bytes, Tensor]]:
    try:
        return graph_text.build(files, name)
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        what = f"{name}.calibration.safetensors"
        raise folder.FolderUnclear(what, f"does not load: {type(error).__name__}: {str(error)[:200]}") from error


def check_constants(graph: Hypergraph, built: Hypergraph) -> None:
    """Refuse constants that are not the graph's.

    Raises:
        ConstantDiffers: names the first one.
    """
    for (root, (label, _)), made in zip(graph.constants().items(), built.constants(), strict=False):
        if root != made:
            raise ConstantDiffers(f"constant {label} of graph {graph.name}", made, root)
    if built != graph:
        raise ConstantDiffers(f"structure of graph {graph.name}", "another", "the committed one")


def symbols_of(graph: Hypergraph, inputs: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the symbols' values that the inputs' shapes say; a scan's limit is its default."""
    symbols = {
        dimension: size
        for port in graph.inputs
        for size, dimension in zip(inputs[port.name].shape, port.type.shape, strict=True)
        if isinstance(dimension, str)
    }
    if graph.scan is not None:
        symbols[graph.scan.limit] = graph_text.limit_of(graph, None)
    return symbols


def input_tensors(loaded: LoadedGraph, text: str | None, input_file: Path | None) -> dict[str, Tensor]:
    """Return the tensors of a text, of a file (JSON list of numbers, or raw little-endian bytes), or of the example.

    Raises:
        InputUnreadable: says what does not fit.
    """
    if text is not None and input_file is not None:
        raise InputUnreadable("give --text or --input, not both")
    if text is not None:
        return loaded.encode_text(text)
    if input_file is None:
        return loaded.example()
    try:
        raw = input_file.read_bytes()
    except OSError as error:
        raise InputUnreadable(f"cannot read {input_file}: {error.strerror}") from error
    if graph_scene.is_render(loaded.graph):
        return graph_scene.parse_input(loaded.files, loaded.graph, raw, str(input_file))
    if graph_text.is_text(loaded.graph):
        return graph_text.parse_input(loaded.graph, raw, str(input_file))
    if loaded.compiled is not None:
        return loaded.compiled.parse_input(raw, str(input_file))
    (port,) = loaded.graph.inputs
    return {port.name: _parse_numbers(raw, port.type.dtype.name, str(input_file))}


def _question(
    loaded: LoadedGraph, text: str | None, input_file: Path | None
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return inputs and symbols; a prompt's file may also say how many tokens to make."""
    inputs = input_tensors(loaded, text, input_file)
    symbols = symbols_of(loaded.graph, inputs)
    if loaded.graph.scan is not None and input_file is not None:
        symbols[loaded.graph.scan.limit] = graph_text.limit_of(loaded.graph, input_file.read_bytes())
    return inputs, symbols


def input_bytes(name: str, text: str | None, input_file: Path | None) -> JobInput:
    """Return what a job's request carries for a text or a file.

    Raises:
        UnknownGraph, WeightsMissing, InputUnreadable, SymbolOutOfRange, AnswerTooLarge.
    """
    loaded = load_graph(name)
    if graph_scene.is_render(loaded.graph) and text is None and input_file is None:
        inputs = graph_scene.job_example(loaded.files, name)
        symbols = symbols_of(loaded.graph, inputs)
    else:
        inputs, symbols = _question(loaded, text, input_file)
    loaded.graph.check_symbols(symbols)
    if graph_scene.is_render(loaded.graph):
        graph_scene.check_answer_fits(inputs)
    data = encode_tensors([inputs[port.name] for port in loaded.graph.inputs])
    return JobInput(data, tuple(symbols[symbol.name] for symbol in loaded.graph.symbols))


def decode_outputs(name: str, symbols: Sequence[int], data: bytes) -> Any:
    """Return the output that a job's bytes hold, as nested lists (one output: itself, more: a list of them).

    Raises:
        UnknownGraph, TensorBytesWrong.
    """
    graph = read_graph(name)
    values = {symbol.name: value for symbol, value in zip(graph.symbols, symbols, strict=True)}
    tensors = decode_output_tensors(graph, values, data)
    outputs = [graph_scene.describe_output(tensor) for tensor in tensors]
    return outputs[0] if len(outputs) == 1 else outputs


def text_of(name: str, output: Any) -> str | None:
    """Return what a language model's output tokens say; None for other graphs.

    Raises:
        UnknownGraph.
    """
    loaded = load_graph(name)
    if not graph_text.is_text(loaded.graph):
        return None
    return graph_text.decode_text(loaded.files, loaded.graph, output)


def run(
    name: str,
    *,
    text: str | None = None,
    input_file: Path | None = None,
    backend: str = "native",
    out: Path | None = None,
    on_text: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Execute a graph without the chain: `{"trace_root", "output", "operators", "macs", "seconds"}`.

    `out`: a file for the image that a render makes. `on_text` is shown a decoder's text piece by piece; all of it
    stands under "text".

    Raises:
        UnknownGraph, WeightsMissing, InputUnreadable, BackendUnavailable, BackendWrong, ImageUnwritable.
    """
    loaded = load_graph(name)
    serving = load_backend(backend)
    inputs, symbols = _question(loaded, text, input_file)
    loaded.graph.check_symbols(symbols)
    folder.check_memory(loaded.graph, symbols, _memory_max())
    show = None
    if on_text is not None and graph_text.is_text(loaded.graph):
        show = graph_text.streamer(loaded.files, loaded.graph, on_text)
    started = time.perf_counter()
    execution = execute(loaded.graph, loaded.constants, inputs, symbols, serving, on_token=show)
    root = trace_root(execution)
    seconds = time.perf_counter() - started
    if out is not None:
        graph_scene.write_image(next(iter(execution.outputs.values())), out)
    outputs = [graph_scene.describe_output(tensor) for tensor in execution.outputs.values()]
    texts = (
        {"text": graph_text.decode_text(loaded.files, loaded.graph, outputs[0])}
        if graph_text.is_text(loaded.graph)
        else {}
    )
    return texts | {
        "trace_root": "0x" + root.hex(),
        "output": outputs[0] if len(outputs) == 1 else outputs,
        "operators": loaded.graph.operator_count(),
        "macs": execution.macs,
        "seconds": seconds,
    }


def check(name: str) -> dict[str, float | int]:
    """Compare the integers with the float32 model on the evaluation texts: `{"cosine_mean", "cosine_min", "n"}`.

    Raises:
        UnknownGraph, WeightsMissing.
    """
    loaded = load_graph(name)
    available, _ = list_backends()
    backend = load_backend(available[0]) if available else NumpyBackend()
    if loaded.compiled is not None:
        for evaluation in loaded.compiled.evaluations:
            folder.check_memory(loaded.graph, symbols_of(loaded.graph, evaluation.inputs), _memory_max())
        return asdict(measure_fidelity(loaded.graph, loaded.constants, loaded.compiled.evaluations, backend))
    if graph_text.is_text(loaded.graph):
        return graph_text.check(loaded.files, loaded.graph, loaded.constants, backend)
    if graph_scene.is_render(loaded.graph):
        return graph_scene.check_render(loaded.graph, loaded.constants, loaded.example()["view"], backend)
    weights = load_weights()
    cosines = []
    for text in (GRAPHS_DIR / f"{name}.evaluation.txt").read_text(encoding="utf-8").splitlines():
        inputs = loaded.encode_text(text)
        expected = fp32.encode(weights, MINILM_SHAPE, inputs["ids"]).astype(np.float64)
        execution = execute(loaded.graph, loaded.constants, inputs, symbols_of(loaded.graph, inputs), backend)
        got = execution.outputs["embedding"].astype(np.float64)
        cosines.append(float(got @ expected / np.sqrt((got @ got) * (expected @ expected))))
    return {"cosine_mean": sum(cosines) / len(cosines), "cosine_min": min(cosines), "n": len(cosines)}


def backends() -> dict[str, Any]:
    """Return `{"available": [names], "unavailable": {name: reason}}`."""
    available, unavailable = list_backends()
    return {"available": available, "unavailable": unavailable}


def _parse_numbers(raw: bytes, dtype: str, what: str) -> Tensor:
    if raw.startswith((b"[", b"{")) and raw.rstrip().endswith((b"]", b"}")):
        try:
            numbers = parse_json(raw)
        except ValueError as error:
            raise InputUnreadable(f"{what}: not JSON: {error}") from error
        if isinstance(numbers, dict) and len(numbers) == 1:
            (numbers,) = numbers.values()
        bounds = np.iinfo(dtype)
        if not isinstance(numbers, list) or not all(
            type(number) is int and bounds.min <= number <= bounds.max for number in numbers
        ):
            raise InputUnreadable(f"{what}: expected a list of {dtype}")
        return np.array(numbers, dtype=dtype)
    size = np.dtype(dtype).itemsize
    if len(raw) % size:
        raise InputUnreadable(f"{what}: {len(raw)} bytes are no whole number of {dtype}")
    return np.frombuffer(raw, dtype=np.dtype(dtype).newbyteorder("<")).astype(dtype)


def _memory_max() -> int:
    """Bytes that a graph may take: four fifths of what this machine has free."""
    return int(psutil.virtual_memory().available) * 4 // 5


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "hyperdust" / "constants"


def _load_constants(path: Path, graph: Hypergraph) -> dict[bytes, Tensor] | None:
    """Return the cached constants, or None where one is missing or not the committed one."""
    try:
        stored = load_file(path)
    except (OSError, ValueError, RuntimeError):
        return None
    constants = {}
    for root in graph.constants():
        array = stored.get(root.hex())
        if array is None or tensor_root(array) != root:
            return None
        constants[root] = array
    return constants


def _store_constants(path: Path, constants: Mapping[bytes, Tensor]) -> None:
    """Write the cache; without a writable home every start makes the constants anew."""
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({root.hex(): array for root, array in constants.items()}, partial)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
