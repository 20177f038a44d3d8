"""glTF (.glb, .gltf) -> `Scene`, through trimesh. Reads bytes that it is given; opens no file.

Before the loader sees a file, everything that could make it allocate or recurse without bound is refused by name:
counts, sizes, node trees, addresses of other files. Only core glTF is read: no extension but directional lights.
"""

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import asin, atan2, hypot, pi, tan
from typing import Any, Final

import numpy as np

from chain.errors import Malformed, NodeFault, OutOfRange
from chain.json_text import nests_deeper
from pouw.compiler.scene import PLACE_MAX, TEXELS_MAX, TRIANGLES_MAX, Material, Scene
from pouw.operators import scene

FILE_MAX: Final = 2**26
NODES_MAX: Final = 2**12
PARTS_MAX: Final = 2**14
NESTING_MAX: Final = 64
NUMBER_MAX: Final = 2**20  # coordinates and scales
_GLB_MAGIC, _JSON_CHUNK = 0x46546C67, 0x4E4F534A
DEFAULT_YFOV: Final = pi / 4
DEFAULT_ANGLES: Final = (0.09, 0.07)  # turns
DEFAULT_LIGHT: Final = (-0.09, 0.12)
SKY: Final = ((104, 152, 208), (222, 232, 240))
_LIGHTS = "KHR_lights_punctual"
_LOADER_ERRORS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    OSError,
    AssertionError,
)


class SceneMalformed(Malformed):
    """A file that is no glTF, or a damaged one."""


class SceneUnsupported(Malformed):
    """A part of glTF that does not compile; names it."""


class SceneFileTooLarge(OutOfRange):
    """A file, or what it announces, is beyond the bounds."""


class LoaderMissing(NodeFault):
    """The packages that read glTF are not installed."""


def read_scene(data: bytes, others: Mapping[str, bytes]) -> tuple[Scene, tuple[int, ...]]:
    """Return the scene of a .glb or .gltf file, and its own view: int32[7] with a frame of 512 x 512.

    `others`: the files beside it that a .gltf may name, by name.

    Raises:
        SceneMalformed, SceneUnsupported, SceneFileTooLarge, LoaderMissing.
    """
    document = _document(data)
    _check_document(document, others)
    kind = "glb" if data.startswith(struct.pack("<I", _GLB_MAGIC)) else "gltf"
    parts = _load(data, kind, others)
    return _assemble(document, parts)


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > FILE_MAX:
        raise SceneFileTooLarge("scene file", len(data), FILE_MAX)
    text = data
    if data[:4] == struct.pack("<I", _GLB_MAGIC):
        if len(data) < 20:
            raise SceneMalformed("glb", "cut short within its header")
        _, version, total, size, chunk = struct.unpack_from("<IIIII", data)
        if version != 2 or chunk != _JSON_CHUNK or total != len(data) or size > len(data) - 20:
            raise SceneMalformed("glb", f"version {version}, {total} bytes announced of {len(data)}")
        text = data[20 : 20 + size]
    _check_nesting(text)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SceneMalformed("scene", f"no glTF: {error}") from error
    if not isinstance(document, dict):
        raise SceneMalformed("scene", "no glTF: the document is no object")
    return document


def _check_nesting(text: bytes) -> None:
    """Refuse what would take the parser's stack: a recursion limit that someone else has raised is no protection."""
    if nests_deeper(text, NESTING_MAX):
        raise SceneMalformed("scene", f"objects nested deeper than {NESTING_MAX}")


def _check_document(document: dict[str, Any], others: Mapping[str, bytes]) -> None:
    for what in ("accessors", "bufferViews", "buffers", "images", "textures", "materials", "meshes", "nodes", "scenes"):
        part = document.get(what, [])
        if not isinstance(part, list) or not all(isinstance(entry, dict) for entry in part):
            raise SceneMalformed(what, "not a list of objects")
        bound = NODES_MAX if what == "nodes" else PARTS_MAX
        if len(part) > bound:
            raise SceneFileTooLarge(what, len(part), bound)
    required = document.get("extensionsRequired", [])
    if required not in ([], [_LIGHTS]):
        raise SceneUnsupported("extensionsRequired", str(required)[:200])
    for accessor in document.get("accessors", []):
        count = accessor.get("count")
        if type(count) is not int or not 0 <= count <= 3 * TRIANGLES_MAX:
            raise SceneFileTooLarge("accessor count", count, 3 * TRIANGLES_MAX)
        if "bufferView" not in accessor or "sparse" in accessor:
            raise SceneUnsupported("accessor", "sparse, or without a buffer view")
    _check_addresses(document, others)
    _check_tree(document)


def _check_addresses(document: dict[str, Any], others: Mapping[str, bytes]) -> None:
    entries = [(what, entry) for what in ("buffers", "images") for entry in document.get(what, [])]
    for what, entry in entries:
        uri = entry.get("uri")
        if uri is not None and not (isinstance(uri, str) and (uri.startswith("data:") or uri in others)):
            raise SceneMalformed(what, f"names {str(uri)[:200]!r}, which is no file beside the scene")
    for entry in document.get("images", []):
        uri = str(entry.get("uri", ""))
        if entry.get("mimeType", "image/png") != "image/png" or uri.lower().endswith((".jpg", ".jpeg")):
            raise SceneUnsupported("image", "not PNG: only lossless textures decode to the same bytes everywhere")


def _check_tree(document: dict[str, Any]) -> None:
    nodes = document.get("nodes", [])
    parents = [-1] * len(nodes)
    for number, node in enumerate(nodes):
        for child in _list(node, "children"):
            if type(child) is not int or not 0 <= child < len(nodes):
                raise SceneMalformed(f"node {number}", f"has no child {str(child)[:20]}")
            if parents[child] != -1:
                raise SceneMalformed(f"node {child}", "has two parents")
            parents[child] = number
    depths = [0 if parent == -1 else -1 for parent in parents]
    for start in range(len(nodes)):
        path, node = [], start
        while depths[node] < 0:
            path.append(node)
            if len(path) > len(nodes):
                raise SceneMalformed(f"node {start}", "is its own ancestor")
            node = parents[node]
        for step, passed in enumerate(reversed(path), 1):
            depths[passed] = depths[node] + step


def _load(data: bytes, kind: str, others: Mapping[str, bytes]) -> list[tuple[Any, Any]]:
    """Return (mesh, its transform) for each placed mesh, in the order of the loader's nodes."""
    try:
        import trimesh  # noqa: PLC0415  # an optional dependency
        from PIL import Image  # noqa: PLC0415
        from trimesh.resolvers import Resolver  # noqa: PLC0415
    except ImportError as error:
        raise LoaderMissing(f"{error}; `pip install hyperdust[compile]` reads glTF") from error

    class Beside(Resolver):  # type: ignore[misc]  # trimesh has no stubs for it
        def __init__(self) -> None:
            pass

        def get(self, name: str) -> bytes:
            return others[name]

        def keys(self) -> list[str]:
            return sorted(others)

        def write(self, name: str, data: bytes) -> None:
            raise NotImplementedError

        def namespaced(self, namespace: str) -> Resolver:
            raise NotImplementedError

    try:
        with np.errstate(all="ignore"):  # what overflows is refused as not finite, or as too far
            loaded = trimesh.load_scene(io.BytesIO(data), file_type=kind, resolver=Beside(), process=False)
            parts = []
            for node in sorted(loaded.graph.nodes_geometry):
                transform, geometry = loaded.graph[node]
                parts.append((loaded.geometry[geometry], np.array(transform, dtype=np.float64)))
    except (*_LOADER_ERRORS, Image.DecompressionBombError) as error:
        raise SceneMalformed("scene", f"{type(error).__name__}: {str(error)[:200]}") from error
    total = sum(len(getattr(mesh, "faces", ())) for mesh, _ in parts)
    if not 1 <= total <= TRIANGLES_MAX:
        raise SceneFileTooLarge("triangles", total, f"1 .. {TRIANGLES_MAX}")
    return parts


def _assemble(document: dict[str, Any], parts: list[tuple[Any, Any]]) -> tuple[Scene, tuple[int, ...]]:
    vertices, normals, places, triangles, of = [], [], [], [], []
    materials: list[Material] = []
    start = 0
    for mesh, transform in parts:
        if not hasattr(mesh, "faces"):
            raise SceneUnsupported("mesh", "lines or points")
        points = np.asarray(mesh.vertices, dtype=np.float64)
        for what, numbers in (("vertices", points), ("transform", transform)):
            if not (np.abs(numbers) < NUMBER_MAX).all():  # NaN is below nothing
                raise SceneFileTooLarge(what, float(np.abs(numbers).max()), NUMBER_MAX)
        rotation = transform[:3, :3]
        vertices.append(_times(points, rotation) + transform[:3, 3])
        normals.append(_unit(_times(np.asarray(mesh.vertex_normals, dtype=np.float64), _cofactors(rotation))))
        places.append(_places(mesh, len(points)))
        faces = np.asarray(mesh.faces, dtype=np.int32)
        triangles.append(faces + start)
        of.append(np.full(len(faces), len(materials), dtype=np.int32))
        materials.append(_material(mesh))
        start += len(points)
    points = np.concatenate(vertices)
    low, high = points.min(axis=0), points.max(axis=0)
    eye = _eye(document, (low + high) / 2, max(hypot(*(high - low)) / 2, 1 / 16))
    near = max(eye.distance / 64, 1 / 16)
    made = Scene(
        vertices=points,
        normals=np.concatenate(normals),
        places=np.concatenate(places),
        triangles=np.ascontiguousarray(np.concatenate(triangles)),
        materials_of=np.concatenate(of),
        materials=tuple(materials),
        target=eye.target,
        focal=eye.focal,
        near=near,
        far=min(max(eye.distance * 8, near * 4), 4095.0),
        sky=SKY,
    )
    return made, view_of(eye.yaw, eye.pitch, eye.distance, *_light(document), 512, 512)


@dataclass(frozen=True, slots=True)
class _Eye:
    """Where the scene's own view looks from, and at what."""

    target: tuple[float, float, float]
    yaw: float
    pitch: float
    distance: float
    focal: float


def _eye(document: dict[str, Any], middle: Any, radius: float) -> _Eye:
    """Return the first perspective camera's view; its target is the point on its axis nearest to the middle."""
    cameras = _list(document, "cameras")
    for node in document.get("nodes", []):
        number = node.get("camera")
        lens = _object(_pick(cameras, number), "perspective")
        if lens:
            yfov = lens.get("yfov")
            if not isinstance(yfov, int | float) or not 0.05 <= yfov <= 3:
                raise SceneMalformed("camera", f"vertical field of view {str(yfov)[:20]}")
            place, back = np.array(_numbers(node, "translation", (0, 0, 0))), np.array(_back(node))
            distance = float(((place - middle) * back).sum())
            if distance > 0:
                target = place - back * distance
                return _Eye(_triple(target), *_angles(back), distance, 1 / tan(yfov / 2))
    focal = 1 / tan(DEFAULT_YFOV / 2)
    return _Eye(_triple(middle), *DEFAULT_ANGLES, min(radius * hypot(focal, 1.0) * 0.8, 4000.0), focal)


def view_of(
    yaw: float, pitch: float, distance: float, light_yaw: float, light_pitch: float, width: int, height: int
) -> tuple[int, ...]:
    """Return int32[7] for angles in turns and a distance in the scene's units."""
    angles = [round(turn * 2**16) for turn in (yaw, pitch, light_yaw, light_pitch)]
    return (angles[0], angles[1], round(distance * 2**16), angles[2], angles[3], width, height)


def _places(mesh: Any, count: int) -> Any:
    found = getattr(mesh.visual, "uv", None)
    if found is None or len(found) != count:
        return np.zeros((count, 2))
    made = np.array(found, dtype=np.float64)
    made[:, 1] = 1 - made[:, 1]  # trimesh turns v upside down
    if not np.isfinite(made).all() or np.abs(made).max(initial=0) >= PLACE_MAX:
        raise SceneFileTooLarge("texture coordinate", "beyond", PLACE_MAX)
    return made


def _material(mesh: Any) -> Material:
    found = getattr(mesh.visual, "material", None)
    factor = getattr(found, "baseColorFactor", None)
    colour = (1.0, 1.0, 1.0) if factor is None else tuple(float(part) / 255 for part in np.asarray(factor)[:3])
    image = getattr(found, "baseColorTexture", None)
    texture = None
    if image is not None:
        if max(image.size) > scene.TEXTURE_MAX or image.size[0] * image.size[1] > TEXELS_MAX:
            raise SceneFileTooLarge("texture", image.size, scene.TEXTURE_MAX)
        texture = np.array(image.convert("RGB"), dtype=np.uint8)
    red, green, blue = (round(part * 256) for part in colour)
    return Material((red, green, blue), texture)


def _light(document: dict[str, Any]) -> tuple[float, float]:
    """Return yaw and pitch, in turns, towards the first directional light: it shines along its node's -z."""
    lights = _list(_object(_object(document, "extensions"), _LIGHTS), "lights")
    for node in document.get("nodes", []):
        number = _object(_object(node, "extensions"), _LIGHTS).get("light")
        if _pick(lights, number).get("type") == "directional":
            return _angles(_back(node))
    return DEFAULT_LIGHT


def _object(parent: dict[str, Any], what: str) -> dict[str, Any]:
    found = parent.get(what, {})
    if not isinstance(found, dict):
        raise SceneMalformed(what, f"not an object: {str(found)[:80]}")
    return found


def _list(parent: dict[str, Any], what: str) -> list[Any]:
    found = parent.get(what, [])
    if not isinstance(found, list):
        raise SceneMalformed(what, f"not a list: {str(found)[:80]}")
    return found


def _pick(entries: list[Any], number: Any) -> dict[str, Any]:
    """Return an object by its index, or an empty one where there is none."""
    if type(number) is not int or not 0 <= number < len(entries) or not isinstance(entries[number], dict):
        return {}
    found: dict[str, Any] = entries[number]
    return found


def _back(node: dict[str, Any]) -> tuple[float, float, float]:
    """Return the +z of a node. Cameras and lights stand at the root: a parent's rotation is not followed."""
    x, y, z, w = _numbers(node, "rotation", (0, 0, 0, 1))
    return 2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)


def _numbers(node: dict[str, Any], what: str, default: tuple[float, ...]) -> tuple[float, ...]:
    found = node.get(what, default)
    fits = isinstance(found, list | tuple) and len(found) == len(default)
    if not fits or not all(isinstance(part, int | float) and abs(part) < NUMBER_MAX for part in found):
        raise SceneMalformed(what, f"not {len(default)} numbers: {str(found)[:80]}")
    return tuple(float(part) for part in found)


def _angles(towards: Any) -> tuple[float, float]:
    x, y, z = (float(part) for part in towards)
    return atan2(x, z) / (2 * pi), asin(max(-1.0, min(1.0, y))) / (2 * pi)


def _triple(values: Any) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _times(vectors: Any, matrix: Any) -> Any:
    """Return matrix @ each vector, in single operations that IEEE fixes to the bit."""
    return (
        vectors[:, 0, None] * matrix[None, :, 0]
        + vectors[:, 1, None] * matrix[None, :, 1]
        + vectors[:, 2, None] * matrix[None, :, 2]
    )


def _cofactors(rotation: Any) -> Any:
    """Return the matrix that keeps normals perpendicular: the inverse's transpose, times the determinant."""
    a, b, c = rotation
    return np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)])


def _unit(vectors: Any) -> Any:
    length = np.sqrt((vectors * vectors).sum(axis=1))
    return np.where(length[:, None] > 0, vectors / np.where(length > 0, length, 1)[:, None], 0)
