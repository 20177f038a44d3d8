"""Write the scene that ships: an island, the sea and a torus knot, as glTF. CC0 by construction: all is computed here.

`python scripts/make_scene.py FILE.glb`
"""

import io
import json
import struct
import sys
from math import cos, sin, sqrt, tau
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Mesh = tuple[Array, Array, Array, NDArray[np.int64]]  # points, normals, places, triangles

GRID, REACH = 49, 6.0
SEA_GRID, SEA_REACH = 33, 24.0
KNOT_STEPS, KNOT_SIDES, KNOT_HEIGHT = 160, 12, 2.7
TEXTURE = 192
EYE, EYE_DISTANCE, EYE_TARGET = (0.55, 0.42), 17.5, 1.1  # yaw and pitch in radians
SUN = (-0.75, 0.72)


def noise(x: Array, y: Array, seed: int) -> Array:
    """Value noise in [0, 1], smooth, of period 64."""
    table = np.random.default_rng(seed).random((64, 64))
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - x0, y - y0
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    corner = [[table[(y0 + j) % 64, (x0 + i) % 64] for i in (0, 1)] for j in (0, 1)]
    upper = corner[0][0] * (1 - fx) + corner[0][1] * fx
    lower = corner[1][0] * (1 - fx) + corner[1][1] * fx
    return upper * (1 - fy) + lower * fy


def height(x: Array, z: Array) -> Array:
    """Height of the island above the sea at (x, z)."""
    hills = sum(noise(x * f + 7.3, z * f + 3.1, i) / 2**i for i, f in enumerate((0.45, 0.9, 1.8, 3.6)))
    distance = np.sqrt(x * x + z * z) / REACH
    ring = np.exp(-(((distance - 0.55) / 0.25) ** 2))
    return (hills - 0.45) * 1.9 * ring + 0.55 * np.exp(-((distance / 0.45) ** 2)) - 0.9 * np.clip(distance - 0.55, 0, 1)


def island() -> Mesh:
    axis = np.linspace(-REACH, REACH, GRID)
    x, z = np.meshgrid(axis, axis)
    step = 1e-3
    normals = np.stack(
        [
            (height(x - step, z) - height(x + step, z)) / (2 * step),
            np.ones_like(x),
            (height(x, z - step) - height(x, z + step)) / (2 * step),
        ],
        axis=-1,
    )
    places = np.stack([(x / REACH + 1) / 2, (z / REACH + 1) / 2], axis=-1)
    return _grid(np.stack([x, height(x, z), z], axis=-1), normals, places)


def sea() -> Mesh:
    axis = np.linspace(-SEA_REACH, SEA_REACH, SEA_GRID)
    x, z = np.meshgrid(axis, axis)
    x, z = x * np.sqrt(1 - (z / SEA_REACH) ** 2 / 2), z * np.sqrt(1 - (x / SEA_REACH) ** 2 / 2)  # a disc
    normals = np.stack([np.zeros_like(x), np.ones_like(x), np.zeros_like(x)], axis=-1)
    places = np.stack([(x / SEA_REACH + 1) / 2, (z / SEA_REACH + 1) / 2], axis=-1)
    return _grid(np.stack([x, np.zeros_like(x), z], axis=-1), normals, places)


def _grid(points: Array, normals: Array, places: Array) -> Mesh:
    rows, columns = points.shape[:2]
    triangles = []
    for i in range(rows - 1):
        for j in range(columns - 1):
            a, b, c, d = i * columns + j, i * columns + j + 1, (i + 1) * columns + j, (i + 1) * columns + j + 1
            triangles += [(a, c, b), (b, c, d)]
    return points.reshape(-1, 3), _unit(normals.reshape(-1, 3)), places.reshape(-1, 2), np.array(triangles)


def knot() -> Mesh:
    def centre(t: float) -> Array:
        r = 1.25 + 0.5 * cos(3 * t)
        return np.array([r * cos(2 * t), 0.75 * sin(3 * t), r * sin(2 * t)])

    points, normals, places = [], [], []
    for i in range(KNOT_STEPS + 1):
        t = tau * i / KNOT_STEPS
        along = centre(t + 1e-4) - centre(t - 1e-4)
        along /= sqrt(float(along @ along))
        side = np.cross(along, centre(t) / 1.2)
        side /= sqrt(float(side @ side))
        up = np.cross(side, along)
        for j in range(KNOT_SIDES + 1):
            a = tau * j / KNOT_SIDES
            normal = side * cos(a) + up * sin(a)
            points.append(centre(t) + 0.3 * normal + np.array([0, KNOT_HEIGHT, 0]))
            normals.append(normal)
            places.append((i / KNOT_STEPS * 24, j / KNOT_SIDES * 3))
    shape = (KNOT_STEPS + 1, KNOT_SIDES + 1, -1)
    return _grid(np.array(points).reshape(shape), np.array(normals).reshape(shape), np.array(places).reshape(shape))


def island_texture() -> Pixels:
    axis = np.linspace(-REACH, REACH, TEXTURE)
    x, z = np.meshgrid(axis, axis)
    h = height(x, z)
    slope = np.hypot(height(x + 0.02, z) - height(x - 0.02, z), height(x, z + 0.02) - height(x, z - 0.02)) / 0.04
    grain = noise(x * 6, z * 6, 9)[..., None] * 0.5 + noise(x * 14, z * 14, 10)[..., None] * 0.5
    sand, grass, rock, snow = (
        np.array(c, float) for c in ((224, 203, 150), (92, 142, 62), (124, 112, 100), (246, 248, 252))
    )

    def blend(edge: float, width: float, value: Array) -> Array:
        return np.clip((value - edge) / width, 0, 1)[..., None]

    colour = sand + (grass - sand) * blend(0.14, 0.10, h)
    colour = colour + (rock - colour) * blend(0.75, 0.5, slope + 0.15 * h)
    colour = colour + (snow - colour) * blend(1.12, 0.2, h + grain[..., 0] * 0.2 - 0.1)
    return np.clip(colour * (0.82 + 0.36 * grain), 0, 255).astype(np.uint8)


def sea_texture() -> Pixels:
    axis = np.linspace(-SEA_REACH, SEA_REACH, TEXTURE)
    x, z = np.meshgrid(axis, axis)
    depth = np.clip((-height(x, z)) / 0.9, 0, 1)[..., None]
    shallow, deep = np.array([96, 196, 190.0]), np.array([26, 84, 138.0])
    waves = noise(x * 5 + 20, z * 5 + 40, 21)[..., None] - 0.5
    return np.clip(shallow + (deep - shallow) * depth**0.6 + waves * 16, 0, 255).astype(np.uint8)


def checker_texture() -> Pixels:
    tiles = np.indices((64, 64)) // 32
    light, dark = np.array([250, 166, 40], np.uint8), np.array([120, 36, 28], np.uint8)
    return np.where(((tiles[0] + tiles[1]) % 2)[..., None] == 1, dark, light)


def _unit(vectors: Array) -> Array:
    return vectors / np.sqrt((vectors * vectors).sum(axis=1))[:, None]


def _turn(yaw: float, pitch: float) -> list[float]:
    """Quaternion that turns +z towards (yaw, pitch): around y, then around the new x."""
    a, b = yaw / 2, -pitch / 2
    return [cos(a) * sin(b), sin(a) * cos(b), -sin(a) * sin(b), cos(a) * cos(b)]


def _towards(yaw: float, pitch: float, distance: float) -> list[float]:
    flat = distance * cos(pitch)
    return [flat * sin(yaw), EYE_TARGET + distance * sin(pitch), flat * cos(yaw)]


def _png(pixels: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return out.getvalue()


def write(path: Path) -> None:
    binary, views, accessors = bytearray(), [], []

    def view(data: bytes) -> int:
        binary.extend(b"\0" * (-len(binary) % 4))
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        binary.extend(data)
        return len(views) - 1

    def accessor(array: np.ndarray, kind: str, component: int) -> int:
        made = {"bufferView": view(array.tobytes()), "componentType": component, "count": len(array), "type": kind}
        if kind == "VEC3":
            made |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        accessors.append(made if kind != "SCALAR" else made | {"count": array.size})
        return len(accessors) - 1

    meshes, materials, images = [], [], []
    for name, (points, normals, places, triangles), texture in (
        ("island", island(), island_texture()),
        ("sea", sea(), sea_texture()),
        ("knot", knot(), checker_texture()),
    ):
        images.append({"bufferView": view(_png(texture)), "mimeType": "image/png", "name": name})
        number = len(materials)
        materials.append({"name": name, "pbrMetallicRoughness": {"baseColorTexture": {"index": number}}})
        attributes = {
            "POSITION": accessor(points.astype("<f4"), "VEC3", 5126),
            "NORMAL": accessor(normals.astype("<f4"), "VEC3", 5126),
            "TEXCOORD_0": accessor(places.astype("<f4"), "VEC2", 5126),
        }
        indices = accessor(triangles.astype("<u2"), "SCALAR", 5123)
        meshes.append(
            {"name": name, "primitives": [{"attributes": attributes, "indices": indices, "material": number}]}
        )
        print(f"{name}: {len(triangles)} triangles, {len(points)} vertices")
    document = {
        "asset": {"version": "2.0", "generator": "hyperdust scripts/make_scene.py", "copyright": "CC0-1.0"},
        "scene": 0,
        "extensionsUsed": ["KHR_lights_punctual"],
        "extensions": {"KHR_lights_punctual": {"lights": [{"type": "directional"}]}},
        "scenes": [{"nodes": [0, 1, 2, 3, 4]}],
        "nodes": [
            *({"mesh": i, "name": mesh["name"]} for i, mesh in enumerate(meshes)),
            {"camera": 0, "translation": _towards(*EYE, EYE_DISTANCE), "rotation": _turn(*EYE), "name": "eye"},
            {"extensions": {"KHR_lights_punctual": {"light": 0}}, "rotation": _turn(*SUN), "name": "sun"},
        ],
        "cameras": [{"type": "perspective", "perspective": {"yfov": 0.7, "znear": 0.1}}],
        "meshes": meshes,
        "materials": materials,
        "textures": [{"source": i, "sampler": 0} for i in range(len(images))],
        "samplers": [{"magFilter": 9729, "minFilter": 9729, "wrapS": 10497, "wrapT": 10497}],
        "images": images,
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary.extend(b"\0" * (-len(binary) % 4))
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
