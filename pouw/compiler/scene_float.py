"""The same scene rendered in float64, without subpixels, tables or fixed point: what `graph check` compares with."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.scene import AMBIENT, DIFFUSE
from pouw.hypergraph import Constant, Hypergraph
from pouw.operators.scene import DISTANCE, HEIGHT, LIGHT_PITCH, LIGHT_YAW, PITCH, WIDTH, YAW
from pouw.operators.types import Tensor

Float64 = NDArray[np.float64]


def render(graph: Hypergraph, constants: Mapping[bytes, Tensor], view: NDArray[np.int32]) -> Float64:
    """Return the whole frame of a view, float64[height, width, 3] in 0 .. 255. The graph is one of `scene.build`."""
    of = _by_label(graph, constants)
    width, height = int(view[WIDTH]), int(view[HEIGHT])
    (lens,), (move,) = of["lens"], of["target"]
    matrix = (lens / 2**16) @ _orbit(view) @ (move / 2**16)
    points = np.concatenate([of["transform"][0] / 2**16, np.ones((len(of["transform"][0]), 1))], axis=1)
    clip = points @ matrix.T  # (v, 4)
    w = clip[:, 3]
    drawn = (w >= 1 / 16) & (clip[:, 2] >= 0)
    divisor = np.where(drawn, w, 1.0)
    x = clip[:, 0] / divisor * height / 2 + width / 2
    y = -clip[:, 1] / divisor * height / 2 + height / 2
    screen = np.stack([x, y, clip[:, 2] / divisor, 1 / divisor], axis=1)
    triangles = of["rasterize"][0]
    owner, shares = _visible(screen, triangles[drawn[triangles].all(axis=1)], width, height)
    numbers = np.flatnonzero(drawn[triangles].all(axis=1))
    return _colours(of, view, np.where(owner >= 0, numbers[owner], -1), shares)


def _visible(screen: Float64, triangles: Tensor, width: int, height: int) -> tuple[NDArray[np.int64], Float64]:
    """Return for each pixel its triangle (-1: none) and its three shares, true to perspective."""
    owner = np.full((height, width), -1, dtype=np.int64)
    nearest = np.full((height, width), np.inf)
    shares = np.zeros((height, width, 3))
    for number, corners in enumerate(screen[triangles]):
        low, high = corners[:, :2].min(axis=0), corners[:, :2].max(axis=0)
        left, top = (max(0, int(np.floor(edge - 0.5))) for edge in low)
        right, bottom = min(width, int(np.ceil(high[0] + 0.5))), min(height, int(np.ceil(high[1] + 0.5)))
        if left >= right or top >= bottom:
            continue
        y, x = np.mgrid[top:bottom, left:right] + 0.5
        a, b, c = corners
        parts = [_area(b, c, x, y), _area(c, a, x, y), _area(a, b, x, y)]
        area = _area(a, b, c[0], c[1])
        if area == 0:
            continue
        flat = np.stack(parts, axis=-1) / area  # (rows, columns, 3)
        depth = flat @ corners[:, 2]
        box = (slice(top, bottom), slice(left, right))
        hit = (flat >= 0).all(axis=-1) & (depth < nearest[box])
        weighted = flat * corners[:, 3]
        total = weighted.sum(axis=-1, keepdims=True)
        owner[box] = np.where(hit, number, owner[box])
        nearest[box] = np.where(hit, depth, nearest[box])
        shares[box] = np.where(hit[..., None], weighted / np.where(total > 0, total, 1), shares[box])
    return owner, shares


def _colours(of: Mapping[str, list[Tensor]], view: NDArray[np.int32], owner: Any, shares: Float64) -> Float64:
    vertices = of["rasterize"][0][np.maximum(owner, 0)]  # (h, w, 3)
    places = (shares[..., None] * (of["places"][1] / 2**16)[vertices]).sum(axis=2)
    normals = (shares[..., None] * (of["normals"][1] / 2**14)[vertices]).sum(axis=2)
    materials_of, materials, texels = of["texture"]
    material = materials[materials_of[np.maximum(owner, 0)]].astype(np.int64)
    sizes = material[..., 1:3]
    at = places * sizes - 0.5
    start = np.floor(at).astype(np.int64)
    part = at - start
    texture = np.zeros((*owner.shape, 3))
    for i in (0, 1):
        for j in (0, 1):
            across, down = (start[..., 0] + i) % sizes[..., 0], (start[..., 1] + j) % sizes[..., 1]
            weight = np.abs(part[..., 0] - 1 + i) * np.abs(part[..., 1] - 1 + j)
            texture += texels[material[..., 0] + down * sizes[..., 0] + across] * weight[..., None]
    yaw, pitch = view[LIGHT_YAW] * np.pi / 2**15, view[LIGHT_PITCH] * np.pi / 2**15
    light = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    length = np.sqrt((normals**2).sum(axis=2))
    cosine = np.maximum(0, normals @ light) / np.where(length > 0, length, 1)
    lit = np.minimum(texture * material[..., 3:] / 256, 255) * (AMBIENT + DIFFUSE * cosine)[..., None] / 256
    top, bottom = of["shade"][0].astype(np.float64)
    rows = np.arange(owner.shape[0])[:, None, None]
    sky = np.broadcast_to(top + (bottom - top) * rows / owner.shape[0], lit.shape)
    made: Float64 = np.where((owner >= 0)[..., None], np.minimum(lit, 255), sky)
    return made


def _orbit(view: NDArray[np.int32]) -> Float64:
    yaw, pitch = view[YAW] * np.pi / 2**15, view[PITCH] * np.pi / 2**15
    rows = [
        [np.cos(yaw), 0, -np.sin(yaw), 0],
        [-np.sin(pitch) * np.sin(yaw), np.cos(pitch), -np.sin(pitch) * np.cos(yaw), 0],
        [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch), -view[DISTANCE] / 2**16],
        [0, 0, 0, 1],
    ]
    return np.array(rows, dtype=np.float64)


def _area(start: Float64, end: Float64, x: Any, y: Any) -> Any:
    return (end[0] - start[0]) * (y - start[1]) - (end[1] - start[1]) * (x - start[0])


def _by_label(graph: Hypergraph, constants: Mapping[bytes, Tensor]) -> dict[str, list[Tensor]]:
    return {
        operator.label: [constants[part.root] for part in operator.tensors if isinstance(part, Constant)]
        for _, _, operator in graph.operators()
    }
