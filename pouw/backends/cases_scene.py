"""Operands on which every backend proves the scene's operators: a frame full of triangles of every kind."""

import numpy as np

from pouw.backends.cases_encoder import Case, full_range
from pouw.operators import scene
from pouw.operators.types import Tensor

WIDTH, HEIGHT = 40, 24
VERTICES, TRIANGLES = 30, 50


def cases() -> tuple[Case, ...]:
    """Return overlapping, thin, flat and reversed triangles that reach beyond the frame, and whole ranges elsewhere."""
    view = np.array([-12_345, 60_001, 1 << 20, 777, -9_999, WIDTH, HEIGHT], dtype=np.int32)
    sines = np.clip(full_range(np.int32, (scene.SINE_SIZE,), 41) >> 14, -(2**16), 2**16).astype(np.int32)
    matrix, other = (np.clip(full_range(np.int32, (4, 4), seed) >> 13, -(2**29), 2**29) for seed in (42, 43))
    vertices = np.clip(full_range(np.int32, (VERTICES, 3), 44) >> 3, -(2**28), 2**28).astype(np.int32)
    clip = full_range(np.int32, (VERTICES, 4), 45)
    clip[::2] >>= 12
    rows, columns = np.arange(1, HEIGHT, dtype=np.int16), np.arange(0, WIDTH, 2, dtype=np.int16)
    screen, triangles = _geometry()
    keys = scene.rasterize(screen, triangles, rows, columns, 8, 8, 0)
    places = full_range(np.int32, (*keys.shape, 2), 46)
    weights = scene.surface_weights(keys, screen, triangles, rows, columns, 8, 8)
    materials = np.array([[0, 4, 3, 256, 0, 77], [12, 1, 1, 1, 255, 256], [5, 5, 5, 128, 9, 200]], dtype=np.int32)
    texels = full_range(np.int16, (30, 3), 47).astype("uint8")
    materials_of = (np.arange(TRIANGLES, dtype=np.int32) * 7) % 3
    normals = np.clip(full_range(np.int32, (*keys.shape, 3), 48) >> 15, -(2**15), 2**15).astype(np.int32)
    normals[0, 0] = 0
    light = np.array([2**15, -(2**15), 12_345], dtype=np.int32)
    colours = full_range(np.int16, (*keys.shape, 3), 49).astype("uint8")
    sky = np.array([[255, 0, 17], [0, 255, 200]], dtype="uint8")
    return (
        ("orbit", (view, sines), ()),
        ("light_direction", (view, sines), ()),
        ("matrix_product", (matrix, other), ()),
        ("transform_vertices", (matrix, vertices), ()),
        ("project", (clip, view), ()),
        ("rasterize", (screen, triangles, rows, columns), (8, 8, 0)),
        ("rasterize", (screen, triangles, rows, columns), (0, 15, 1)),
        ("surface_weights", (keys, screen, triangles, rows, columns), (8, 8)),
        ("interpolate", (keys, weights, triangles, full_range(np.int32, (VERTICES, 5), 50)), ()),
        ("sample_texture", (keys, places, materials_of, materials, texels), (0,)),
        ("sample_texture", (keys, places, materials_of, materials, texels), (1,)),
        ("shade", (keys, colours, normals, light, sky, rows, view), (1024, 1024)),
        ("shade", (keys, colours, normals, light, sky, rows, view), (64, 200)),
    )


def _geometry() -> tuple[Tensor, Tensor]:
    spread = full_range(np.int32, (VERTICES, 4), 51).astype(np.int64)
    bounds = np.array([20 * WIDTH, 20 * HEIGHT, 1 << scene.DEPTH_BITS, 1 << 26])
    screen = spread % bounds - np.array([2 * WIDTH, 2 * HEIGHT, 0, 0])
    screen[3, 3] = 0  # a vertex that cannot be drawn
    screen[4, :2] = screen[5, :2]
    numbers = np.arange(3 * TRIANGLES, dtype=np.int32).reshape(TRIANGLES, 3)
    return screen.astype(np.int32), (numbers * numbers * 5 + numbers) % VERTICES
