"""Renders on this machine: a scene's constants, views as people write them, images as files. No chain.

`python -m hyperdust.graph_scene NAME SCENE.glb` compiles a scene into genesis/graphs/NAME.* (`hyperdust[compile]`).
"""

import base64
import gzip
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from chain.errors import NodeFault
from pouw.compiler.loading import parse_json
from pouw.execution import Backend, encode_tensors, run
from pouw.graph_encoding import encode
from pouw.hypergraph import Hypergraph
from pouw.operators.scene import FRAME_MAX, HEIGHT, LENGTH_MAX, VIEW_SIZE, WIDTH
from pouw.operators.types import Tensor
from pouw.trace import tensor_root

CONSTANTS_MAX: Final = 2**28
INPUTS: Final = ("view", "rows", "columns")
VIEW_KEY: Final = "example.view"
TURN: Final = 2**16
FIELDS: Final = ("yaw", "pitch", "distance", "light_yaw", "light_pitch", "width", "height")
ANSWER_MAX: Final = 8_192  # JobMarket.submit's bound
JOB_SIDE: Final = 48
CHECKED_VIEWS: Final = 6
CHECKED_SIDE: Final = 256
WINDOW: Final = ("left", "top", "columns", "rows")


class ViewUnreadable(NodeFault):
    """An input file is no view of a scene."""


class AnswerTooLarge(NodeFault):
    """A picture has more bytes than a job's answer may have: nobody could submit it."""


class ConstantsMissing(NodeFault):
    """The file with a scene's constants is not there, or is not the graph's."""


class ImageUnwritable(NodeFault):
    """An image cannot be written to the file."""


def is_render(graph: Hypergraph) -> bool:
    """Whether a graph takes a view and a window of a frame."""
    return tuple(port.name for port in graph.inputs) == INPUTS


def constants_path(folder: Path, name: str) -> Path:
    """Where a scene's constants are kept."""
    return folder / f"{name}.constants.safetensors.gz"


def load_constants(folder: Path, graph: Hypergraph) -> dict[bytes, Tensor]:
    """Return a scene's constants by root, each checked.

    Raises:
        ConstantsMissing.
    """
    stored = _load(folder, graph.name)
    constants = {}
    for root, (label, _) in graph.constants().items():
        array = stored.get(root.hex())
        if array is None or tensor_root(array) != root:
            raise ConstantsMissing(f"{constants_path(folder, graph.name)} has no {label} of root 0x{root.hex()}")
        constants[root] = array
    return constants


def example(folder: Path, name: str) -> dict[str, Tensor]:
    """Return the input of the scene's own view, a whole frame.

    Raises:
        ConstantsMissing.
    """
    return whole_frame(_example_view(folder, name))


def job_example(folder: Path, name: str) -> dict[str, Tensor]:
    """Return the input of the scene's own view on a frame that a job can answer.

    Raises:
        ConstantsMissing.
    """
    view = _example_view(folder, name)
    view[WIDTH:] = JOB_SIDE
    return whole_frame(view)


def check_answer_fits(inputs: Mapping[str, Tensor]) -> None:
    """Refuse a window whose picture is too large for a job.

    Raises:
        AnswerTooLarge.
    """
    height, width = len(inputs["rows"]), len(inputs["columns"])
    if 3 * width * height > ANSWER_MAX:
        raise AnswerTooLarge(
            f"{width} x {height} pixels are {3 * width * height:,} bytes; a job's answer has at most {ANSWER_MAX:,}: "
            "ask for a smaller frame, or for parts of it (left, top, columns, rows)"
        )


def whole_frame(view: NDArray[np.int32]) -> dict[str, Tensor]:
    """Return the input that asks for every pixel of a view's frame."""
    return window(view, 0, 0, int(view[WIDTH]), int(view[HEIGHT]))


def window(view: NDArray[np.int32], left: int, top: int, columns: int, rows: int) -> dict[str, Tensor]:
    """Return the input that asks for a part of a view's frame."""
    return {
        "view": view,
        "rows": np.arange(top, top + rows, dtype=np.int16),
        "columns": np.arange(left, left + columns, dtype=np.int16),
    }


def parse_input(folder: Path, graph: Hypergraph, raw: bytes, what: str) -> dict[str, Tensor]:
    """Return the input that a file says.

    JSON: an object with any of yaw, pitch, light_yaw, light_pitch (degrees), distance (units of the scene), width,
    height (of the frame, pixels), left, top, columns, rows (of the part to render); what is missing is the example's.
    Or a list of seven integers, the view. Raw bytes: the view alone (int32 little-endian) for a whole frame, or the
    view, all rows and all columns of that frame (int16), as a job carries them.

    Raises:
        ViewUnreadable: says what does not fit. ConstantsMissing.
    """
    if raw.lstrip()[:1] in {b"{", b"["}:
        try:
            said = parse_json(raw)
        except ValueError as error:
            raise ViewUnreadable(f"{what}: not JSON: {error}") from error
        if isinstance(said, list):
            return whole_frame(_checked_view(said, what))
        return _from_words(cast("dict[str, Any]", said), _example_view(folder, graph.name), what)
    size = 4 * VIEW_SIZE
    if len(raw) < size:
        raise ViewUnreadable(f"{what}: {len(raw)} bytes; a view has {size}, then rows and columns")
    made = whole_frame(_checked_view(np.frombuffer(raw[:size], dtype="<i4").tolist(), what))
    if raw not in {raw[:size], encode_tensors([made[port.name] for port in graph.inputs])}:
        raise ViewUnreadable(f"{what}: after the view stand other rows and columns than its frame's; JSON takes parts")
    return made


def describe_output(tensor: Tensor) -> Any:
    """Return an image as shape, dtype and base64 bytes; every other tensor as nested lists."""
    if tensor.dtype.name != "uint8":
        return tensor.tolist()
    data = base64.b64encode(encode_tensors([tensor])).decode("ascii")
    return {"shape": list(tensor.shape), "dtype": "uint8", "data": data}


def write_described(output: Any, path: Path) -> None:
    """Write an image as `describe_output` says it.

    Raises:
        ImageUnwritable.
    """
    if not isinstance(output, dict):
        raise ImageUnwritable(f"{path}: the output is no image")
    pixels = np.frombuffer(base64.b64decode(output["data"]), dtype=np.uint8).reshape(output["shape"])
    write_image(cast("Tensor", pixels), path)


def write_image(image: Tensor, path: Path) -> None:
    """Write uint8[height, width, 1, 3 or 4] as a PNG.

    Raises:
        ImageUnwritable.
    """
    from PIL import Image  # noqa: PLC0415  # the rest serves without it

    if image.dtype.name != "uint8" or image.ndim != 3 or image.shape[2] not in {1, 3, 4}:
        raise ImageUnwritable(f"{path}: the output is no image but {image.dtype.name}{list(image.shape)}")
    pixels = cast("NDArray[np.uint8]", image)
    try:
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path, "PNG")
    except OSError as error:
        raise ImageUnwritable(f"cannot write {path}: {error.strerror or error}") from error


def check_render(
    graph: Hypergraph, constants: Mapping[bytes, Tensor], example_view: NDArray[np.int32], backend: Backend
) -> dict[str, float | int]:
    """Compare views around the scene with a float64 render: `{"pixel_error_mean", "pixels_within_2", "psnr_db", "n"}`.

    The errors are of colour values in 0 .. 255; `pixels_within_2` is the share of pixels that are at most 2 off.
    """
    from pouw.compiler.scene_float import render  # noqa: PLC0415  # not needed to render

    errors = []
    for step in range(CHECKED_VIEWS):
        view = example_view.copy()
        view[0] += step * TURN // CHECKED_VIEWS
        view[WIDTH:] = CHECKED_SIDE
        inputs = whole_frame(view)
        sizes = {"H": CHECKED_SIDE, "W": CHECKED_SIDE}
        image = run(graph, constants, inputs, sizes, backend).outputs["image"]
        errors.append(np.abs(image - render(graph, constants, view)))
    found = np.stack(errors)
    return {
        "pixel_error_mean": float(found.mean()),
        "pixels_within_2": float((found.max(axis=3) <= 2).mean()),
        "psnr_db": float(10 * np.log10(255**2 / (found**2).mean())),
        "n": CHECKED_VIEWS,
    }


def compile_scene(name: str, source: Path, folder: Path) -> Hypergraph:
    """Compile a .glb or .gltf file and write NAME.graph and NAME.constants.safetensors.gz.

    Raises:
        SceneMalformed, SceneUnsupported, SceneFileTooLarge, SceneTooLarge, LoaderMissing.
    """
    from pouw.compiler.gltf import FILE_MAX, read_scene  # noqa: PLC0415  # not needed to render
    from pouw.compiler.scene import build  # noqa: PLC0415

    beside = {
        path.name: path.read_bytes()
        for path in sorted(source.parent.iterdir())
        if source.suffix == ".gltf" and path.suffix in {".bin", ".png"} and path.stat().st_size <= FILE_MAX
    }
    scene, view = read_scene(source.read_bytes(), beside)
    graph, constants = build(name, scene)
    stored = {root.hex(): array for root, array in constants.items()}
    stored[VIEW_KEY] = np.array(view, dtype=np.int32)
    constants_path(folder, name).write_bytes(gzip.compress(save_tensors(stored), 9, mtime=0))
    (folder / f"{name}.graph").write_bytes(encode(graph))
    return graph


def _load(folder: Path, name: str) -> dict[str, Tensor]:
    path = constants_path(folder, name)
    try:
        with gzip.open(path) as file:
            data = file.read(CONSTANTS_MAX + 1)
        if len(data) > CONSTANTS_MAX:
            raise ConstantsMissing(f"{path}: more than {CONSTANTS_MAX} bytes")
        loaded: dict[str, Tensor] = load_tensors(data)
    except (OSError, EOFError, ValueError, zlib.error, SafetensorError) as error:
        raise ConstantsMissing(f"{path}: {error}") from error
    return loaded


def _example_view(folder: Path, name: str) -> NDArray[np.int32]:
    view = _load(folder, name).get(VIEW_KEY)
    if view is None or view.shape != (VIEW_SIZE,):
        raise ConstantsMissing(f"{constants_path(folder, name)} has no view of its own")
    return view.astype(np.int32)


def _checked_view(numbers: list[Any], what: str) -> NDArray[np.int32]:
    if len(numbers) != VIEW_SIZE or not all(type(number) is int and abs(number) < 2**31 for number in numbers):
        raise ViewUnreadable(f"{what}: a view is {VIEW_SIZE} integers: {', '.join(FIELDS)}")
    for field, low, high in (("distance", 0, LENGTH_MAX), ("width", 1, FRAME_MAX), ("height", 1, FRAME_MAX)):
        if not low <= numbers[FIELDS.index(field)] <= high:
            raise ViewUnreadable(f"{what}: {field} {numbers[FIELDS.index(field)]} is not within {low} .. {high}")
    return np.array(numbers, dtype=np.int32)


def _from_words(said: Mapping[str, Any], view: NDArray[np.int32], what: str) -> dict[str, Tensor]:
    unknown = sorted(set(said) - {*FIELDS, *WINDOW})
    if unknown:
        raise ViewUnreadable(f"{what}: unknown {', '.join(unknown)[:200]}; known: {', '.join((*FIELDS, *WINDOW))}")
    for field, value in said.items():
        whole = field in {"width", "height", *WINDOW}
        if not (type(value) is int or (type(value) is float and not whole)) or not abs(value) < 2**15:
            raise ViewUnreadable(f"{what}: {field} is {str(value)[:40]!r}, not a {'whole ' if whole else ''}number")
    numbers = view.tolist()
    for place, field in enumerate(FIELDS):
        if field in said:
            scale = 1 if field in {"width", "height"} else TURN if field == "distance" else TURN / 360
            numbers[place] = round(said[field] * scale)
    made = _checked_view(numbers, what)
    left, top = said.get("left", 0), said.get("top", 0)
    columns, rows = said.get("columns", numbers[WIDTH] - left), said.get("rows", numbers[HEIGHT] - top)
    if not (0 <= left < left + columns <= numbers[WIDTH] and 0 <= top < top + rows <= numbers[HEIGHT]):
        frame = f"{numbers[WIDTH]} x {numbers[HEIGHT]}"
        raise ViewUnreadable(f"{what}: {columns} x {rows} pixels from ({left}, {top}) are no part of {frame}")
    return window(made, left, top, columns, rows)


if __name__ == "__main__":
    _graphs = Path(__file__).resolve().parent.parent / "genesis" / "graphs"
    compile_scene(sys.argv[1], Path(sys.argv[2]), _graphs)
