"""A compiled model as a folder: NAME.graph, constants.safetensors, model.json, evaluation.safetensors, tokenizer.json.

Reading one from a stranger is safe: no code, no pickle, every size checked before memory is taken, every constant
checked against the root that the graph commits to.
"""

import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from chain.errors import Malformed, Mismatch, OutOfRange
from pouw.compiler.loading import (
    FileMissing,
    SettingsMalformed,
    TensorEntry,
    parse_json,
    read_bounded,
    read_header,
    read_settings,
)
from pouw.compiler.program import Array
from pouw.graph_encoding import GRAPH_BYTES_MAX, decode, encode
from pouw.hypergraph import Hypergraph, output_types
from pouw.operators.types import Tensor, TensorType
from pouw.trace import UINT8, tensor_root

VERSION: Final = 1
CONSTANTS_FILE: Final = "constants.safetensors"
SETTINGS_FILE: Final = "model.json"
EVALUATION_FILE: Final = "evaluation.safetensors"
TOKENIZER_FILE: Final = "tokenizer.json"
TOKENIZER_MAX: Final = 64 * 2**20
EVALUATION_MAX: Final = 256
NUMPY_NAMES: Final[Mapping[str, str]] = {"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8"}
IMAGE_MAGICS: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
PIXELS_MAX: Final = 2**25
PIXEL_MAX: Final = 255  # a module's picture holds numbers from 0 to 1, as torchvision's ToTensor gives them
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.\-]{0,63}")


class FolderUnclear(Malformed):
    """A folder holds no graph, or more than one, or the file's name is not the graph's."""


class ConstantAltered(Mismatch):
    """A constant in the file is not the one that the graph commits to."""


class ConstantAbsent(Malformed):
    """The file has no such constant."""


class MemoryNeeded(OutOfRange):
    """Loading or running the graph would take more memory than allowed."""


class InputMisfit(Malformed):
    """What an input file or a text says does not fit the graph."""


class TokenizerMalformed(Malformed):
    """A tokenizer.json that does not load."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Inputs as the graph takes them, and what the float model answered."""

    inputs: Mapping[str, Tensor]
    expected: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A compiled model."""

    graph: Hypergraph
    constants: Mapping[bytes, Tensor]
    input_scales: Mapping[str, float]
    output_scales: Mapping[str, float]
    evaluations: tuple[Evaluation, ...]
    tokenizer: Tokenizer | None = None
    rows_max: int = 512

    def encode_text(self, text: str) -> dict[str, Tensor]:
        """Return the input tensors of a text.

        Raises:
            InputMisfit: the model takes no text.
        """
        if self.tokenizer is None or len(self.graph.inputs) != 1:
            raise InputMisfit(self.graph.name, "takes no text: give --input FILE")
        ids = self.tokenizer.encode(text).ids[: self.rows_max]
        return {self.graph.inputs[0].name: np.array(ids, dtype=np.int32)}

    def example(self) -> dict[str, Tensor]:
        """Return the first evaluation input.

        Raises:
            InputMisfit: the folder carries none.
        """
        if not self.evaluations:
            raise InputMisfit(self.graph.name, f"has no example ({EVALUATION_FILE}): give --input FILE")
        return dict(self.evaluations[0].inputs)

    def parse_input(self, raw: bytes, what: str) -> dict[str, Tensor]:
        """Return the input tensors of a file.

        JSON: an object input -> nested list, or the list alone where there is one input; numbers are the model's own.
        Raw bytes: the one input's integers, little-endian.

        Raises:
            InputMisfit: says what does not fit.
        """
        if raw.lstrip()[:1] in {b"{", b"["}:
            try:
                said = parse_json(raw)
            except ValueError as error:
                raise InputMisfit(what, f"not JSON: {error}") from error
            if isinstance(said, list) and len(self.graph.inputs) == 1:
                said = {self.graph.inputs[0].name: said}
            names = sorted(port.name for port in self.graph.inputs)
            if not isinstance(said, dict) or sorted(said) != names:
                raise InputMisfit(what, f"expected an object with {', '.join(names)}")
            return {port.name: self._numbers(port.name, port.type, said[port.name], what) for port in self.graph.inputs}
        if raw.startswith(IMAGE_MAGICS) and len(self.graph.inputs[0].type.shape) == 3:
            port = self.graph.inputs[0]
            pixels = read_image(raw, port.type.at({}), what)
            if port.type.dtype == UINT8:
                return {port.name: pixels}
            shown = pixels / np.float64(PIXEL_MAX)
            return {port.name: to_integers(port.name, shown, port.type, self.input_scales.get(port.name, 1.0))}
        if len(self.graph.inputs) != 1:
            raise InputMisfit(what, "raw bytes serve one input only; use JSON")
        (port,) = self.graph.inputs
        return {port.name: _raw(port.type, raw, what)}

    def _numbers(self, name: str, kind: TensorType, said: Any, what: str) -> Tensor:
        try:
            array = np.array(said, dtype=np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputMisfit(what, f"{name} is no list of numbers of one shape") from error
        if array.ndim == len(kind.shape) - 1:
            array = array[..., None] if kind.shape[-1] == 1 and len(kind.shape) == 3 else array[None]
        return to_integers(name, array, kind, self.input_scales.get(name, 1.0))


def to_integers(name: str, array: Array, kind: TensorType, scale: float) -> Tensor:
    """Return an input in the graph's fixed point; a value beyond its range saturates.

    Raises:
        InputMisfit: another rank or width, a value that is not finite, or an id that is no int32.
    """
    wide = np.asarray(array, dtype=np.float64) * scale
    fits = wide.ndim == len(kind.shape) and all(
        isinstance(want, str) or want == size for want, size in zip(kind.shape, wide.shape, strict=True)
    )
    if not fits:
        raise InputMisfit(name, f"shape {list(wide.shape)}, expected {kind}")
    bounds = np.iinfo(kind.dtype.name)
    low = max(bounds.min, -bounds.max)
    beyond = scale == 1.0 and bool(((wide < low) | (wide > bounds.max) | (wide % 1 != 0)).any())  # ids and pixels
    if not np.isfinite(wide).all() or beyond:
        raise InputMisfit(name, f"holds values that are no {kind.dtype.name}")
    limited: Tensor = np.clip(np.rint(wide), low, bounds.max).astype(kind.dtype.name)
    return limited


def _raw(kind: TensorType, raw: bytes, what: str) -> Tensor:
    row = prod(size for size in kind.shape if isinstance(size, int)) * kind.dtype.size_bytes
    fixed = all(isinstance(size, int) for size in kind.shape)
    if not raw or len(raw) % row or (fixed and len(raw) != row):
        raise InputMisfit(what, f"{len(raw)} bytes are no whole rows of {kind}")
    wire = np.frombuffer(raw, dtype=np.dtype(kind.dtype.name).newbyteorder("<"))
    made: Tensor = wire.astype(kind.dtype.name).reshape(
        [-1 if isinstance(size, str) else size for size in kind.shape]
        if any(isinstance(size, str) for size in kind.shape)
        else kind.at({})
    )
    return made


def read_image(raw: bytes, shape: tuple[int, ...], what: str) -> Tensor:
    """Return a PNG or JPEG as uint8[height, width, channels], resized to the shape.

    Raises:
        InputMisfit: no such image, or one of more than 2^25 pixels.
    """
    from PIL import Image  # noqa: PLC0415  # only for images

    try:
        with Image.open(io.BytesIO(raw), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > PIXELS_MAX:
                raise InputMisfit(what, f"{image.width} x {image.height} pixels, at most {PIXELS_MAX}")
            shown = image.convert("L" if shape[2] == 1 else "RGB")
            pixels: Tensor = np.asarray(shown.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputMisfit(what, f"no image: {error}") from error
    return np.ascontiguousarray(pixels.reshape(shape))


def find_graph(name: str) -> Path | None:
    """Return the graph file that a path means: a file *.graph, or the one in a folder. None: no path, a name.

    Raises:
        FolderUnclear.
    """
    path = Path(name)
    if path.is_dir():
        files = sorted(path.glob("*.graph"))
        if len(files) != 1:
            raise FolderUnclear(name, f"{len(files)} files *.graph, expected one")
        return files[0]
    return path if path.suffix == ".graph" or "/" in name else None


def read_graph_file(path: Path) -> Hypergraph:
    """Return the checked graph of a file; the file is named after the graph.

    Raises:
        FileMissing, FileTooLarge, FolderUnclear, and all that `decode` raises.
    """
    graph = decode(read_bounded(path, GRAPH_BYTES_MAX))
    if graph.name != path.stem or not _NAME.fullmatch(graph.name):
        raise FolderUnclear(path.name, f"the graph in it is called {graph.name}")
    return graph


def read_model(path: Path, graph: Hypergraph, memory_max: int) -> ModelFolder:
    """Return the model around a graph file.

    Raises:
        MemoryNeeded, ConstantAbsent, ConstantAltered, and all that `loading.py` names.
    """
    folder = path.parent
    needed = sum(_bytes_of(kind, {}) for _, kind in graph.constants().values())
    if needed > memory_max:
        raise MemoryNeeded(f"bytes of the constants of {graph.name}", needed, f"at most {memory_max}")
    constants = dict(_read_constants(folder / CONSTANTS_FILE, graph))
    settings = read_settings(folder / SETTINGS_FILE)
    if settings.get("version") != VERSION:
        raise SettingsMalformed(SETTINGS_FILE, f"version {str(settings.get('version'))[:20]}, not {VERSION}")
    inputs = _scales(settings.get("inputs"), [port.name for port in graph.inputs])
    outputs = _scales(settings.get("outputs"), list(graph.outputs))
    evaluations = tuple(_read_evaluations(folder / EVALUATION_FILE, graph, memory_max - needed))
    rows = graph.symbols[0].high if graph.symbols else 2**31
    return ModelFolder(graph, constants, inputs, outputs, evaluations, read_tokenizer(folder), rows)


def _read_constants(path: Path, graph: Hypergraph) -> Iterator[tuple[bytes, Tensor]]:
    entries = read_header(path)
    for root, (label, kind) in graph.constants().items():
        entry = entries.get(root.hex())
        if entry is None:
            raise ConstantAbsent(path.name, f"no constant {label} of root 0x{root.hex()}")
        array = _read_exact(entry, kind, {}, f"constant {label}")
        if tensor_root(array) != root:
            raise ConstantAltered(f"root of constant {label}", tensor_root(array), root)
        yield root, array


def _read_exact(entry: TensorEntry, kind: TensorType, symbols: Mapping[str, int], what: str) -> Tensor:
    if NUMPY_NAMES.get(entry.dtype) != kind.dtype.name or entry.shape != kind.at(symbols):
        raise ConstantAltered(f"type of {what}", f"{entry.dtype}{list(entry.shape)}", str(kind))
    found: Tensor = entry.read().astype(kind.dtype.name)
    return found


def _scales(said: object, names: Sequence[str]) -> dict[str, float]:
    if not isinstance(said, dict) or sorted(said) != sorted(names):
        raise SettingsMalformed(SETTINGS_FILE, f"inputs and outputs have to name {', '.join(names)}")
    scales = {}
    for name, scale in said.items():
        if type(scale) not in {int, float} or not 0 < scale < 2**64:
            raise SettingsMalformed(SETTINGS_FILE, f"scale of {name} is no positive number")
        scales[name] = float(scale)
    return scales


def _read_evaluations(path: Path, graph: Hypergraph, memory_max: int) -> Iterator[Evaluation]:
    try:
        entries = read_header(path)
    except FileMissing:
        return
    needed = sum(entry.size_bytes for entry in entries.values())
    if needed > memory_max:
        raise MemoryNeeded(f"bytes of {path.name}", needed, f"at most {memory_max}")
    for number in range(EVALUATION_MAX):
        if f"{number}.in.{graph.inputs[0].name}" not in entries:
            return
        yield _read_evaluation(path, entries, graph, number)


def _read_evaluation(path: Path, entries: Mapping[str, TensorEntry], graph: Hypergraph, number: int) -> Evaluation:
    inputs: dict[str, Tensor] = {}
    symbols: dict[str, int] = {}
    for port in graph.inputs:
        entry = entries.get(f"{number}.in.{port.name}")
        if entry is None or len(entry.shape) != len(port.type.shape):
            raise ConstantAbsent(path.name, f"input {port.name} of evaluation {number}")
        sizes = zip(port.type.shape, entry.shape, strict=True)
        symbols.update((name, size) for name, size in sizes if isinstance(name, str))
        inputs[port.name] = _read_exact(entry, port.type, symbols, f"input {port.name} of evaluation {number}")
    graph.check_symbols(symbols)
    expected: dict[str, Array] = {}
    for output in graph.outputs:
        answer = entries.get(f"{number}.out.{output}")
        if answer is None or answer.dtype != "F32":
            raise ConstantAbsent(path.name, f"output {output} of evaluation {number}")
        expected[output] = answer.read()
    return Evaluation(inputs, expected)


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """Return the tokenizer of a folder, or None.

    Raises:
        FileTooLarge, TokenizerMalformed.
    """
    try:
        data = read_bounded(folder / TOKENIZER_FILE, TOKENIZER_MAX)
    except FileMissing:
        return None
    try:
        tokenizer = Tokenizer.from_str(data.decode("utf-8"))
    except Exception as error:  # the library raises Exception itself
        raise TokenizerMalformed(TOKENIZER_FILE, str(error)[:200]) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def write_model(folder: Path, model: ModelFolder, report: Mapping[str, Any], tokenizer_from: Path | None) -> Path:
    """Write a compiled model and return its graph file."""
    folder.mkdir(parents=True, exist_ok=True)
    # save_file writes memory as it lies
    constants = {root.hex(): np.ascontiguousarray(array) for root, array in model.constants.items()}
    save_file(constants, folder / CONSTANTS_FILE)
    stored: dict[str, Array] = {}
    for number, evaluation in enumerate(model.evaluations[:EVALUATION_MAX]):
        stored |= {f"{number}.in.{name}": np.ascontiguousarray(array) for name, array in evaluation.inputs.items()}
        stored |= {f"{number}.out.{name}": np.ascontiguousarray(array) for name, array in evaluation.expected.items()}
    save_file(stored, folder / EVALUATION_FILE)
    settings = {
        "version": VERSION,
        "inputs": dict(model.input_scales),
        "outputs": dict(model.output_scales),
        "report": dict(report),
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    if tokenizer_from is not None:
        shutil.copyfile(tokenizer_from / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    path = folder / f"{model.graph.name}.graph"
    path.write_bytes(encode(model.graph))
    return path


def check_memory(graph: Hypergraph, symbols: Mapping[str, int], memory_max: int) -> None:
    """Refuse a run whose tensors would take more memory than allowed.

    Counted: every tensor that crosses subgraphs, the largest subgraph's operators, and the definitions' int64
    intermediates of the largest operator.

    Raises:
        MemoryNeeded.
    """
    steps = 1 if graph.scan is None else max(symbols.get(graph.scan.limit, 1), 1)
    kinds = output_types(graph)
    edges = [port.type for port in graph.inputs]
    edges += [output.port.type for subgraph in graph.subgraphs for output in subgraph.outputs]
    held = sum(_bytes_of(kind, symbols) for kind in edges) * (1 if graph.scan is None else steps)
    inside = max((sum(_bytes_of(kind, symbols) for kind in row) for row in kinds), default=0)
    widest = max((prod(kind.at(_known(kind, symbols))) for row in kinds for kind in row), default=0)
    needed = held + inside + 3 * 8 * widest
    if needed > memory_max:
        raise MemoryNeeded(f"bytes of one run of {graph.name}", needed, f"at most {memory_max}")


def _known(kind: TensorType, symbols: Mapping[str, int]) -> dict[str, int]:
    return {size: symbols.get(size, 1) for size in kind.shape if isinstance(size, str)}


def _bytes_of(kind: TensorType, symbols: Mapping[str, int]) -> int:
    return prod(kind.at(_known(kind, symbols))) * kind.dtype.size_bytes


__all__ = ["ModelFolder", "check_memory", "find_graph", "read_graph_file", "read_model", "write_model"]
