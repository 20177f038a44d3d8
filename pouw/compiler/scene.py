"""Triangles, materials, a lens and a sky -> hypergraph and constants.

The graph renders any view of the scene: `view: int32[7]`, `rows: int16[H]`, `columns: int16[W]` ->
`image: uint8[H, W, 3]`. Reading glTF is `pouw/compiler/gltf.py`'s.
"""

from dataclasses import dataclass, field
from math import isqrt
from typing import cast

import numpy as np
from numpy.typing import NDArray

from chain.errors import OutOfRange
from pouw.hypergraph import (
    Constant,
    Hypergraph,
    Operator,
    OperatorOutput,
    Port,
    Reference,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
    Symbol,
    check_graph,
)
from pouw.operators import scene
from pouw.operators.arithmetic import Int32
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor, TensorType
from pouw.trace import INT16, INT32, INT64, UINT8, dtype_by_name, tensor_root

Float64 = NDArray[np.float64]

SIDE_MAX = 1024  # rows or columns of one job
TRIANGLES_MAX = 2**20
TEXELS_MAX = 2**24
PLACE_MAX = 2**15  # repeats of a texture, so that places fit Q.16
LENGTH_BITS = 16
SINE_GUARD_BITS = 128
AMBIENT, DIFFUSE = 84, 208  # Q.8: a third in the shadow, a little above one in full light
VIEW = TensorType(INT32, (scene.VIEW_SIZE,))
ROWS, COLUMNS = TensorType(INT16, ("H",)), TensorType(INT16, ("W",))


class SceneTooLarge(OutOfRange):
    """A scene has more parts, or reaches further, than its bounds allow."""


@dataclass(frozen=True, slots=True)
class Material:
    """How a triangle's surface looks."""

    colour: tuple[int, int, int]
    """Factors of red, green, blue in Q.8, 0 .. 256."""
    texture: NDArray[np.uint8] | None
    """uint8[height, width, 3], or None for white."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Triangles in one space, with y up."""

    vertices: Float64
    """[v, 3]"""
    normals: Float64
    """[v, 3], of length 1 or 0."""
    places: Float64
    """[v, 2], texture coordinates."""
    triangles: Int32
    """int32[t, 3]"""
    materials_of: Int32
    """int32[t]"""
    materials: tuple[Material, ...]
    target: tuple[float, float, float]
    """Where every view looks."""
    focal: float
    """1 / tan(half of the vertical field of view)."""
    near: float
    far: float
    sky: tuple[tuple[int, int, int], tuple[int, int, int]]
    """Colour behind the scene at the top and at the bottom of the frame."""


@dataclass(slots=True)
class _Builder:
    """Operators of the subgraph in work, and all constants so far."""

    constants: dict[bytes, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)

    def constant(self, array: Tensor | NDArray[np.uint8]) -> Constant:
        root = tensor_root(array)
        self.constants[root] = cast("Tensor", array)
        return Constant(root, TensorType(dtype_by_name(array.dtype.name), array.shape))

    def add(self, name: str, label: str, *tensors: Reference, attributes: tuple[int, ...] = ()) -> OperatorOutput:
        self.operators.append(Operator(RULE_BY_NAME[name], label, tensors, attributes))
        return OperatorOutput(len(self.operators) - 1)

    def subgraph(
        self, name: str, inputs: tuple[str, ...], *outputs: tuple[str, TensorType, OperatorOutput]
    ) -> Subgraph:
        ports = tuple(SubgraphOutput(Port(port, tensor), made.index) for port, tensor, made in outputs)
        subgraph = Subgraph(name, inputs, ports, tuple(self.operators))
        self.operators = []
        return subgraph


def build(name: str, source: Scene) -> tuple[Hypergraph, dict[bytes, Tensor]]:
    """Return the graph that renders the scene, and its constants by root.

    Raises:
        SceneTooLarge: names the part.
    """
    _check_size(source)
    builder = _Builder()
    triangles = builder.constant(source.triangles)
    subgraphs = (
        _view(builder, source),
        _geometry(builder, source),
        _visibility(builder, triangles),
        _surface(builder, source, triangles),
        _image(builder, source),
    )
    graph = Hypergraph(
        name=name,
        symbols=(Symbol("H", 1, SIDE_MAX), Symbol("W", 1, SIDE_MAX)),
        inputs=(Port("view", VIEW), Port("rows", ROWS), Port("columns", COLUMNS)),
        outputs=("image",),
        subgraphs=subgraphs,
    )
    check_graph(graph)
    return graph, builder.constants


def circle_table() -> Int32:
    """Return round(2^16 * sin(2 pi i / 4096)): int32[4096]. Integers alone, so that every machine makes the same."""
    one = 1 << SINE_GUARD_BITS
    cosine, sine = 0, one  # of a quarter turn; ten halvings lead to a step
    for _ in range(10):
        cosine, sine = isqrt((one + cosine) * one // 2), isqrt((one - cosine) * one // 2)
    quarter = scene.SINE_SIZE // 4
    values = [0] * scene.SINE_SIZE
    x, y = one, 0
    for i in range(quarter + 1):
        rounded = (y + (1 << (SINE_GUARD_BITS - 17))) >> (SINE_GUARD_BITS - 16)
        values[i] = values[2 * quarter - i] = rounded
        values[(2 * quarter + i) % scene.SINE_SIZE] = values[(4 * quarter - i) % scene.SINE_SIZE] = -rounded
        x, y = (x * cosine - y * sine) >> SINE_GUARD_BITS, (x * sine + y * cosine) >> SINE_GUARD_BITS
    return np.array(values, dtype=np.int32)


def _view(builder: _Builder, source: Scene) -> Subgraph:
    sines = builder.constant(circle_table())
    depth = source.near - source.far
    lens = np.zeros((4, 4))
    lens[0, 0] = lens[1, 1] = source.focal
    lens[2, 2], lens[2, 3], lens[3, 2] = source.far / depth, source.near * source.far / depth, -1.0
    move = np.identity(4)
    move[:3, 3] = [-value for value in source.target]
    orbit = builder.add("orbit", "orbit", SubgraphInput(0), sines)
    seen = builder.add("matrix_product", "lens", builder.constant(_fixed(lens)), orbit)
    matrix = builder.add("matrix_product", "target", seen, builder.constant(_fixed(move)))
    light = builder.add("light_direction", "light", SubgraphInput(0), sines)
    outputs = (("matrix", TensorType(INT32, (4, 4)), matrix), ("light", TensorType(INT32, (3,)), light))
    return builder.subgraph("view", ("view",), *outputs)


def _geometry(builder: _Builder, source: Scene) -> Subgraph:
    matrix, view = SubgraphInput(0), SubgraphInput(1)
    clip = builder.add("transform_vertices", "transform", matrix, builder.constant(_fixed(source.vertices)))
    screen = builder.add("project", "project", clip, view)
    made = TensorType(INT32, (len(source.vertices), 4))
    return builder.subgraph("geometry", ("matrix", "view"), ("screen", made, screen))


def _visibility(builder: _Builder, triangles: Constant) -> Subgraph:
    screen, rows, columns = (SubgraphInput(i) for i in range(3))
    middle = 1 << (scene.SUBPIXEL_BITS - 1)
    keys = builder.add("rasterize", "rasterize", screen, triangles, rows, columns, attributes=(middle, middle, 0))
    made = TensorType(INT64, ("H", "W"))
    return builder.subgraph("visibility", ("screen", "rows", "columns"), ("keys", made, keys))


def _surface(builder: _Builder, source: Scene, triangles: Constant) -> Subgraph:
    keys, screen, rows, columns = (SubgraphInput(i) for i in range(4))
    middle = 1 << (scene.SUBPIXEL_BITS - 1)
    weights = builder.add(
        "surface_weights", "weights", keys, screen, triangles, rows, columns, attributes=(middle, middle)
    )
    places = builder.add(
        "interpolate", "places", keys, weights, triangles, builder.constant(_fixed(source.places, LENGTH_BITS))
    )
    table, texels = _materials(source.materials)
    of = builder.constant(source.materials_of)
    colours = builder.add(
        "sample_texture",
        "texture",
        keys,
        places,
        of,
        builder.constant(table),
        builder.constant(texels),
        attributes=(1,),
    )
    normals = builder.add(
        "interpolate", "normals", keys, weights, triangles, builder.constant(_fixed(source.normals, scene.UNIT_BITS))
    )
    outputs = (
        ("colours", TensorType(UINT8, ("H", "W", 3)), colours),
        ("normals", TensorType(INT32, ("H", "W", 3)), normals),
    )
    return builder.subgraph("surface", ("keys", "screen", "rows", "columns"), *outputs)


def _image(builder: _Builder, source: Scene) -> Subgraph:
    keys, colours, normals, light, rows, view = (SubgraphInput(i) for i in range(6))
    sky = builder.constant(np.array(source.sky, dtype=np.uint8))
    image = builder.add("shade", "shade", keys, colours, normals, light, sky, rows, view, attributes=(AMBIENT, DIFFUSE))
    inputs = ("keys", "colours", "normals", "light", "rows", "view")
    return builder.subgraph("image", inputs, ("image", TensorType(UINT8, ("H", "W", 3)), image))


def _materials(materials: tuple[Material, ...]) -> tuple[Int32, NDArray[np.uint8]]:
    """Return the table of materials and all textures' texels; equal textures are kept once."""
    rows, parts, starts, end = [], [], dict[bytes, int](), 0
    for material in materials:
        texture = np.full((1, 1, 3), 255, dtype=np.uint8) if material.texture is None else material.texture
        height, width = texture.shape[:2]
        key = height.to_bytes(4, "little") + texture.tobytes()
        if key not in starts:
            starts[key] = end
            parts.append(texture.reshape(-1, 3))
            end += height * width
        rows.append((starts[key], width, height, *material.colour))
    return np.array(rows, dtype=np.int32), np.ascontiguousarray(np.concatenate(parts))


def _check_size(source: Scene) -> None:
    texels = sum(1 if part.texture is None else part.texture.size // 3 for part in source.materials)
    sides = [1, *(side for part in source.materials if part.texture is not None for side in part.texture.shape[:2])]
    reach = float(np.abs(source.vertices).max(initial=0.0))
    places = float(np.abs(source.places).max(initial=0.0))
    for what, got, low, high in (
        ("triangles", len(source.triangles), 1, TRIANGLES_MAX),
        ("vertices", len(source.vertices), 3, 3 * TRIANGLES_MAX),
        ("materials", len(source.materials), 1, 2**12),
        ("texels", texels, 1, TEXELS_MAX),
        ("side of a texture", max(sides), 1, scene.TEXTURE_MAX),
        ("furthest coordinate", reach, 0, scene.LENGTH_MAX >> LENGTH_BITS),
        ("texture coordinate", places, 0, PLACE_MAX - 1),
        ("near plane", source.near, 1 / 16, source.far / 2),
        ("far plane", source.far, 2 * source.near, scene.LENGTH_MAX >> LENGTH_BITS),
        ("focal length", source.focal, 1 / 16, 64),
    ):
        if not low <= got <= high:  # NaN is out of every range
            raise SceneTooLarge(what, got, f"{low} .. {high}")


def _fixed(values: Float64, bits: int = LENGTH_BITS) -> Int32:
    """Return values in fixed point. Scaling by a power of two is exact, rounding is IEEE's."""
    fixed: Int32 = np.rint(values * 2**bits).astype(np.int32)
    return fixed
