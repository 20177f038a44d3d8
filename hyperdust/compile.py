"""`hyperdust graph compile`: what a source is, its calibration inputs, the folder that comes out, the report.

A PyTorch source is the user's own code and is executed; a Hugging Face folder or a scene is data and is not.
"""

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from chain.errors import NodeFault
from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import BackendUnavailable, BackendWrong, load_backend
from pouw.compiler.assemble import clean_name
from pouw.compiler.export import export_module, import_torch
from pouw.compiler.folder import Evaluation, ModelFolder, read_image, read_tokenizer, to_integers, write_model
from pouw.compiler.hf import ENCODERS, load_bert
from pouw.compiler.llama_families import FAMILIES
from pouw.compiler.loading import FileMissing, read_bounded, read_header, read_settings
from pouw.compiler.lowering import Mining
from pouw.compiler.program import Array, Program, evaluate
from pouw.compiler.quantise import quantise
from pouw.compiler.ranges import observe_columns
from pouw.compiler.report import measure_cost, measure_fidelity, symbols_of
from pouw.compiler.vit import load_vit
from pouw.execution import Backend
from pouw.graph_encoding import compute_graph_id, encode_top_layer

TEXTS_MAX: Final = 4096
TEXT_BYTES_MAX: Final = 16 * 2**20
HELD_OUT: Final = 4  # one input of four is kept for the report, once there are as many
DECODERS: Final = tuple(FAMILIES)
# several kinds and lengths, for language models that come without a calibration file
DEFAULT_TEXTS: Final = (
    "Thanks!",
    "Bitcoin is electronic cash; useful work makes the blocks.",
    "The quick brown fox jumps over the lazy dog, and nobody knows why it does so every single time.",
    "How many neurons does a honey bee have?",
    "In 1687 Newton published the Principia; 300 years later, people still compute orbits with its laws.",
    "def add(a, b): return a + b",
    "Water boils at 100 degrees Celsius at sea level, but only at about 70 on the top of Mount Everest.",
    "We regret to inform you that your flight BA 2490 to Lisbon has been delayed by 4 hours and 20 minutes.",
    "Stir the onions until they are golden, add the rice, and pour in the broth one ladle at a time.",
    "Is there a way to undo the last commit without losing the changes in the working directory?",
    "The contract shall terminate automatically upon expiry of the term, unless renewed in writing by both parties.",
    "cats",
)

Tick = Callable[[str, int, int], None]
"""(what, done, of) -> None: shows progress."""


class SourceUnknown(NodeFault):
    """The source is nothing that compiles; says what would."""


class SourceFailed(NodeFault):
    """The user's module cannot be imported or built."""


class CalibrationUnreadable(NodeFault):
    """The calibration file is not there or does not fit the model."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    source: str
    out: Path
    calibration: Path | None = None
    name: str | None = None
    mining: Mining = "some"
    rows_max: int = 512


def compile_source(options: Options, tick: Tick = lambda _what, _done, _of: None) -> dict[str, Any]:
    """Compile a source into a folder and return the report.

    Raises:
        SourceUnknown, SourceFailed, CalibrationUnreadable, TorchMissing, UnmappableOperator, and what loaders name.
    """
    source = Path(options.source)
    if source.suffix in {".gltf", ".glb"}:
        return _compile_scene(options, source)
    if source.is_dir():
        kind = str(read_settings(source / "config.json").get("model_type"))[:40]
        if kind in ENCODERS:
            return _compile_bert(options, source, tick)
        if kind == "vit":
            return _compile_vit(options, source, tick)
        if kind in DECODERS:
            return _compile_decoder(options, source)
        known = ", ".join((*ENCODERS, "vit", *DECODERS))
        raise SourceUnknown(
            f"{source}/config.json: model_type {kind!r} is not read as data; known: {known}. Its PyTorch module may "
            f"compile: MODEL.py:make, where make() returns (module, example inputs); docs/guides/bring_a_model.md"
        )
    if ":" in options.source:
        return _compile_module(options, tick)
    raise SourceUnknown(
        f"{options.source}: expected a Hugging Face folder, a .gltf or .glb file, or module.py:name of a torch module"
    )


# PyTorch


def _compile_module(options: Options, tick: Tick) -> dict[str, Any]:
    torch = import_torch()
    module, examples = _load_module(torch, options)
    if options.calibration is not None:
        examples = _read_examples(torch, options.calibration)
    if not examples:
        raise CalibrationUnreadable(
            "no example inputs: let the function return (module, inputs), give the module an attribute "
            "`example_inputs`, or use --calibration FILE.safetensors"
        )
    tick("exporting", 0, 1)
    exported = export_module(module, examples, options.rows_max)
    name = options.name or clean_name(options.source.rpartition(":")[2])
    return _finish(options, name, exported.program, exported.inputs, exported.expected, tick)


def _load_module(torch: Any, options: Options) -> tuple[Any, list[tuple[Any, ...]]]:
    where, _, attribute = options.source.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(where).stem, where) if where.endswith(".py") else None
    if where.endswith(".py") and not Path(where).is_file():
        raise SourceFailed(f"no such file: {where}")
    try:
        if spec is not None and spec.loader is not None:
            loaded = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = loaded
            with _import_path(Path(where).resolve().parent):
                spec.loader.exec_module(loaded)
        else:
            with _import_path(Path.cwd()):
                loaded = importlib.import_module(where)
        found = getattr(loaded, attribute)
        made = found if isinstance(found, torch.nn.Module) else found()
    except Exception as error:  # the user's own code may fail in any way
        raise SourceFailed(f"{options.source}: {type(error).__name__}: {error}") from error
    module, given = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise SourceFailed(f"{options.source} gives {type(module).__name__}, not a torch.nn.Module")
    if given is None:
        given = getattr(module, "example_inputs", None)
        given = given() if callable(given) else given
    return module, _examples_of(torch, given)


@contextmanager
def _import_path(folder: Path) -> Any:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _examples_of(torch: Any, given: Any) -> list[tuple[Any, ...]]:
    """One tensor, a tuple of tensors (one example), or a list of either."""
    if given is None:
        return []
    if isinstance(given, torch.Tensor):
        return [(given,)]
    if isinstance(given, tuple):
        return [given]
    if isinstance(given, list):
        return [example if isinstance(example, tuple) else (example,) for example in given]
    raise SourceFailed(f"example inputs are {type(given).__name__}, not tensors")


def _read_examples(torch: Any, path: Path) -> list[tuple[Any, ...]]:
    """safetensors: `x`, or `0.x`, `1.x` ... one example a number; inputs in the order of their names."""
    if path.suffix != ".safetensors":
        raise CalibrationUnreadable(f"{path}: a torch module is calibrated on a .safetensors file")
    found: dict[int, list[tuple[str, Any]]] = {}
    for name, entry in sorted(read_header(path).items()):
        number, dot, rest = name.partition(".")
        place = int(number) if dot and number.isdigit() else 0
        array = entry.read()
        tensor = torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))
        found.setdefault(place, []).append((rest if dot and number.isdigit() else name, tensor))
    return [tuple(tensor for _, tensor in found[place]) for place in sorted(found)]


# Hugging Face


def _compile_bert(options: Options, source: Path, tick: Tick) -> dict[str, Any]:
    program = load_bert(source)
    tokenizer = read_tokenizer(source)
    vocabulary = len(next(node.arrays["table"] for node in program.nodes if node.kind == "embedding"))
    if options.calibration is not None and options.calibration.suffix == ".safetensors":
        rows = [entry.read().reshape(-1) for _, entry in sorted(read_header(options.calibration).items())]
    elif tokenizer is None:
        raise CalibrationUnreadable(f"{source} has no tokenizer.json: give --calibration FILE.safetensors with ids")
    else:
        texts = DEFAULT_TEXTS if options.calibration is None else read_texts(options.calibration)
        rows = [np.array(tokenizer.encode(text).ids) for text in texts]
    inputs = []
    for ids in rows:
        if not len(ids) or ids.dtype.kind not in "iu" or int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
            raise CalibrationUnreadable(f"calibration: token ids have to be integers from 0 to {vocabulary - 1}")
        inputs.append({"ids": ids[: program.rows_max].astype(np.int32)})
    expected = [evaluate(program, given) for given in inputs]
    name = options.name or clean_name(source.resolve().name)
    return _finish(options, name, program, inputs, expected, tick, source if tokenizer else None)


def _compile_vit(options: Options, source: Path, tick: Tick) -> dict[str, Any]:
    program = load_vit(source)
    numbers = program.inputs()["image"].numbers
    shape = (int(numbers["height"]), int(numbers["width"]), int(numbers["channels"]))
    images = [] if options.calibration is None else _read_images(options.calibration, shape)
    if not images:
        raise CalibrationUnreadable(
            f"a vision model is calibrated on images: --calibration FOLDER of PNG or JPEG files, or a .safetensors of "
            f"uint8{list(shape)}"
        )
    inputs = [{"image": image} for image in images]
    expected = [evaluate(program, given) for given in inputs]
    return _finish(options, options.name or source.resolve().name, program, inputs, expected, tick)


def _read_images(path: Path, shape: tuple[int, ...]) -> list[Array]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in {".png", ".jpg", ".jpeg"})
        return [read_image(read_bounded(file, TEXT_BYTES_MAX), shape, str(file)) for file in files[:TEXTS_MAX]]
    arrays = [entry.read() for _, entry in sorted(read_header(path).items())]
    for array in arrays:
        if array.dtype != np.uint8 or array.shape != shape:
            raise CalibrationUnreadable(f"{path}: {array.dtype}{list(array.shape)}, expected uint8{list(shape)}")
    return arrays


def _compile_decoder(options: Options, source: Path) -> dict[str, Any]:
    from hyperdust import graph_text  # noqa: PLC0415  # not needed by the others

    name = options.name or clean_name(source.resolve().name)
    texts = list(DEFAULT_TEXTS if options.calibration is None else read_texts(options.calibration))
    held = texts[::HELD_OUT]
    context = graph_text.read_model(source)[0].longest
    sizes = (min(256, context // 2), min(256, context // 2))
    (options.out / name).mkdir(parents=True, exist_ok=True)
    for path in (source / "config.json", source / "tokenizer.json", *sorted(source.glob("*.safetensors"))):
        shutil.copyfile(path, options.out / name / path.name)
    (options.out / name / "heldout.txt").write_text("\n".join(held) + "\n", encoding="utf-8")
    rest = [text for place, text in enumerate(texts) if place % HELD_OUT] or texts
    graph = graph_text.compile_folder(options.out, name, source, rest, sizes, graph_text.DEFAULT_SAMPLING)
    _, constants = graph_text.build(options.out, name)
    fidelity = graph_text.check(options.out, graph, constants, _backend())
    cost = measure_cost(graph, constants, {symbol.name: symbol.high for symbol in graph.symbols})
    return _answer(graph, options.out / f"{name}.graph", dict(fidelity), cost.as_row(), "held out")


def _compile_scene(options: Options, source: Path) -> dict[str, Any]:
    from hyperdust import graph_scene  # noqa: PLC0415  # not needed by the others

    if not source.is_file():
        raise FileMissing(str(source), "no such file")
    name = options.name or clean_name(source.stem)
    options.out.mkdir(parents=True, exist_ok=True)
    graph = graph_scene.compile_scene(name, source, options.out)
    inputs = graph_scene.example(options.out, name)
    cost = measure_cost(graph, graph_scene.load_constants(options.out, graph), symbols_of(graph, inputs))
    return _answer(graph, options.out / f"{name}.graph", {}, cost.as_row(), "none")


# What all share


def read_texts(path: Path) -> list[str]:
    """Return the lines of a calibration file.

    Raises:
        CalibrationUnreadable.
    """
    try:
        lines = read_bounded(path, TEXT_BYTES_MAX).decode("utf-8").splitlines()
    except (FileMissing, ValueError) as error:
        raise CalibrationUnreadable(f"--calibration {path}: {error}") from error
    texts = [line for line in lines if line.strip()][:TEXTS_MAX]
    if not texts:
        raise CalibrationUnreadable(f"--calibration {path}: no lines of text")
    return texts


def _backend() -> Backend:
    try:
        return load_backend("native")
    except (BackendUnavailable, BackendWrong):
        return NumpyBackend()  # slower, and the same to the bit


def _finish(
    options: Options,
    name: str,
    program: Program,
    inputs: Sequence[Mapping[str, Array]],
    expected: Sequence[Mapping[str, Array]],
    tick: Tick,
    tokenizer_from: Path | None = None,
) -> dict[str, Any]:
    name = clean_name(name)
    split = len(inputs) >= HELD_OUT
    chosen = [place for place in range(len(inputs)) if not split or place % HELD_OUT == HELD_OUT - 1]
    seen = [given for place, given in enumerate(inputs) if not split or place not in chosen]
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        tick("calibrating", done, len(seen))

    largest = observe_columns(program, seen, step)
    tick("quantising", 0, 1)
    made = quantise(name, program, largest, options.mining)
    kinds = {port.name: port.type for port in made.built.graph.inputs}
    evaluations = tuple(
        Evaluation(
            {
                label: to_integers(label, inputs[place][label], kinds[label], made.input_scales[label])
                for label in kinds
            },
            {output: np.asarray(expected[place][output], dtype=np.float32) for output in made.output_scales},
        )
        for place in chosen
    )
    graph, constants = made.built.graph, made.built.constants
    tick("measuring", 0, 1)
    fidelity = measure_fidelity(graph, constants, evaluations, _backend())
    symbols = symbols_of(graph, evaluations[0].inputs)
    cost = measure_cost(graph, constants, symbols)
    model = ModelFolder(graph, constants, made.input_scales, made.output_scales, evaluations)
    path = options.out / f"{name}.graph"
    how = "held out" if split else "calibration inputs"
    report = _answer(graph, path, asdict(fidelity), cost.as_row(), how)
    write_model(options.out, model, {key: report[key] for key in ("id", "fidelity", "cost")}, tokenizer_from)
    return report


def _answer(
    graph: Any, path: Path, fidelity: Mapping[str, Any], cost: Mapping[str, Any], inputs: str
) -> dict[str, Any]:
    return {
        "name": graph.name,
        "id": "0x" + compute_graph_id(encode_top_layer(graph)).hex(),
        "path": str(path),
        "fidelity": {**fidelity, "inputs": inputs},
        "cost": dict(cost),
    }
