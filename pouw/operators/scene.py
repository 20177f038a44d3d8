"""From a view and a scene to an image: matrices, vertices, visibility, interpolation, texture, light.

Lengths and matrices are Q.16, angles 2^-16 of a turn, screen positions have 4 subpixel bits, y points down. Every pixel
is a sample point of its own: a job may ask for any rows and columns of a frame.
"""

import numpy as np
from numpy.typing import NDArray

from pouw.operators.arithmetic import INT32_MAX, Int16, Int32, Int64, check_values, floor_root, round_shift
from pouw.operators.errors import TensorOutOfRange

UInt8 = NDArray[np.uint8]

YAW, PITCH, DISTANCE, LIGHT_YAW, LIGHT_PITCH, WIDTH, HEIGHT = range(7)
VIEW_SIZE = 7
FRAME_MAX = 4096
LENGTH_MAX = 2**28  # 4,096 units in Q.16
MATRIX_MAX = 2**29
SINE_SIZE = 4096  # a turn in steps of 16
QUARTER_TURN = 2**14
SUBPIXEL_BITS = 4
GUARD_MAX = 2**19  # 32,768 pixels around the frame, in subpixels
NEAR_W = 2**12  # 1/16
DEPTH_BITS = 21  # edges below 2^41 * depth stay below 2^62
RECIPROCAL_BITS = 38  # 1/w: at most 2^26
WEIGHT_BITS = 18  # 2^18 * 2^26 * 2^18 = 2^62
TRIANGLE_BITS = 24
NOTHING = 2**63 - 1  # key of a pixel that no triangle covers
NORMAL_MAX = 2**15
UNIT_BITS = 14
TEXTURE_MAX = 4096
MATERIAL_SIZE = 6  # first texel, width, height, red, green, blue (Q.8)
FACTOR_MAX = 256


def orbit(view: Int32, sines: Int32) -> Int32:
    """Return the matrix that takes the scene to the eye, which circles around the origin and looks at it.

    view: int32[7] = yaw, pitch (2^-16 turns), distance (Q.16, 0 .. 2^28), two angles of the light, width and height of
    the frame (1 .. 4096); sines: int32[4096] = sine of a turn in Q.16, |.| <= 2^16 -> int32[4, 4] Q.16.
    Rows: right, up, towards the eye (less the distance), and 0 0 0 1. The sine of an angle is
    `s + rsh((t - s) * (angle & 15), 4)` for the entries s, t at angle >> 4 and one further, a cosine that of a quarter
    turn more; products of sines are rounded by `rsh 16` and below 2^33. One element: the view, at most eight entries.

    Raises:
        TensorOutOfRange.
    """
    _check_view(view)
    yaw_sine, yaw_cosine = _sine(sines, view[YAW]), _sine(sines, view[YAW], QUARTER_TURN)
    pitch_sine, pitch_cosine = _sine(sines, view[PITCH]), _sine(sines, view[PITCH], QUARTER_TURN)
    products = np.array([yaw_sine, yaw_cosine], dtype=np.int64)
    flat, tilted = round_shift(products * pitch_cosine, 16), round_shift(products * -pitch_sine, 16)
    rows = [
        [yaw_cosine, 0, -yaw_sine, 0],
        [tilted[0], pitch_cosine, tilted[1], 0],
        [flat[0], pitch_sine, flat[1], -int(view[DISTANCE])],
        [0, 0, 0, 1 << 16],
    ]
    return np.array(rows, dtype=np.int32)


def light_direction(view: Int32, sines: Int32) -> Int32:
    """Return the unit vector towards the light. view, sines: as for `orbit` -> int32[3] Q.14.

    Yaw 0 is towards +z, pitch upwards: (sin yaw cos pitch, sin pitch, cos yaw cos pitch), rounded by `rsh` from Q.32
    and Q.16. One element: the view and at most four entries.

    Raises:
        TensorOutOfRange.
    """
    _check_view(view)
    yaw_sine, yaw_cosine = _sine(sines, view[LIGHT_YAW]), _sine(sines, view[LIGHT_YAW], QUARTER_TURN)
    pitch_sine, pitch_cosine = _sine(sines, view[LIGHT_PITCH]), _sine(sines, view[LIGHT_PITCH], QUARTER_TURN)
    wide = np.array([yaw_sine * pitch_cosine, pitch_sine << 16, yaw_cosine * pitch_cosine], dtype=np.int64)
    direction: Int32 = round_shift(wide, 32 - UNIT_BITS).astype(np.int32)
    return direction


def matrix_product(a: Int32, b: Int32) -> Int32:
    """Return a @ b in Q.16: floor(sum / 2^16), clamped to [-2^29, 2^29].

    a, b: int32[4, 4] within [-2^29, 2^29]: sums are at most 2^60. One element: a row of a, a column of b.

    Raises:
        TensorOutOfRange.
    """
    check_values("matrix a", a, -MATRIX_MAX, MATRIX_MAX)
    check_values("matrix b", b, -MATRIX_MAX, MATRIX_MAX)
    wide = a.astype(np.int64) @ b.astype(np.int64) >> 16  # (4, 4) @ (4, 4) -> (4, 4)
    found: Int32 = np.clip(wide, -MATRIX_MAX, MATRIX_MAX).astype(np.int32)
    return found


def transform_vertices(matrix: Int32, vertices: Int32) -> Int32:
    """Return matrix @ (x, y, z, 1) for each vertex: floor(sum / 2^16), clamped to [-(2^31 - 1), 2^31 - 1].

    matrix: int32[4, 4] within [-2^29, 2^29], vertices: int32[v, 3] within [-2^28, 2^28] -> int32[v, 4], all Q.16.
    Sums are below 2^59. One element: one vertex, one row of the matrix.

    Raises:
        TensorOutOfRange.
    """
    check_values("matrix", matrix, -MATRIX_MAX, MATRIX_MAX)
    check_values("vertices", vertices, -LENGTH_MAX, LENGTH_MAX)
    wide = vertices.astype(np.int64) @ matrix[:, :3].astype(np.int64).T  # (v, 3) @ (3, 4) -> (v, 4)
    wide = (wide + (matrix[:, 3].astype(np.int64) << 16)) >> 16
    clip: Int32 = np.clip(wide, -INT32_MAX, INT32_MAX).astype(np.int32)
    return clip


def project(clip: Int32, view: Int32) -> Int32:
    """Divide by w and place on the frame: (x, y, depth, 1/w) for each vertex, or zeros for one that cannot be drawn.

    clip: int32[v, 4] Q.16, view: int32[7] -> int32[v, 4]. With s = 8 * height (half a frame in subpixels):
    `x = floor(x * s / w) + 8 * width`, `y = floor(-y * s / w) + s`, `depth = min(floor(z * 2^21 / w), 2^21 - 1)`,
    `1/w = floor(2^38 / w)` in 1 .. 2^26. A vertex with w < 2^12 (1/16), z < 0 (before the near plane), or |x| or |y|
    beyond 2^19 subpixels cannot be drawn: it is all zeros, and every triangle that has it is dropped whole. Beyond the
    far plane depths are equal. |x * s| < 2^31 * 2^15 = 2^46, z * 2^21 < 2^52. One element: one vertex and the view.

    Raises:
        TensorOutOfRange.
    """
    _check_view(view)
    x, y, z, w = clip.astype(np.int64).T  # (v,) each
    half = int(view[HEIGHT]) << (SUBPIXEL_BITS - 1)
    divisor = np.maximum(w, NEAR_W)
    screen_x = x * half // divisor + (int(view[WIDTH]) << (SUBPIXEL_BITS - 1))
    screen_y = -y * half // divisor + half
    depth = np.minimum((z << DEPTH_BITS) // divisor, (1 << DEPTH_BITS) - 1)
    drawn = (w >= NEAR_W) & (z >= 0) & (np.abs(screen_x) <= GUARD_MAX) & (np.abs(screen_y) <= GUARD_MAX)
    placed = np.stack([screen_x, screen_y, depth, (1 << RECIPROCAL_BITS) // divisor], axis=1)  # (v, 4)
    return np.where(drawn[:, None], placed, 0).astype(np.int32)


def rasterize(
    screen: Int32, triangles: Int32, rows: Int16, columns: Int16, sample_x: int, sample_y: int, cull: int
) -> Int64:
    """Return for each pixel the nearest triangle's key, `depth << 24 | triangle`, or 2^63 - 1 where there is none.

    screen: int32[v, 4] of `project`, triangles: int32[t, 3], t <= 2^24, rows: int16[H], columns: int16[W], both
    ascending in 0 .. 4095 -> int64[H, W]. A pixel's sample point is (16 * column + sample_x, 16 * row + sample_y).
    A triangle whose area (twice, signed) is 0 or which has a vertex that cannot be drawn is dropped; one with a
    positive area shows its back: dropped with `cull` = 1, else drawn. With the corners so ordered that the area is
    positive, `edge_i(p)` of the side opposite corner i is >= 0 inside; where it is 0 the point belongs to the
    triangle if that side is a top one (dy = 0, dx > 0) or a left one (dy < 0): two triangles that share a side never
    share a point and leave none out. `depth = floor(sum(edge_i * depth_i) / area)`; the least key wins, so the order
    does not matter, and of equal depths the lower triangle number shows. Coordinates differ by at most 2^20: edges
    and area are at most 2^41, the sum below 2^62. One element: the claimed triangle's three vertices give the key;
    in a dispute a witness (another triangle that covers the point with a lower key, or that the claimed one does not)
    refutes it.

    Raises:
        TensorOutOfRange: a vertex number, row, column or screen coordinate out of bounds, rows that do not ascend.
    """
    _check_screen(screen, triangles)
    check_ascending("rows", rows)
    check_ascending("columns", columns)
    points_x = (columns.astype(np.int64) << SUBPIXEL_BITS) + sample_x  # (W,)
    points_y = (rows.astype(np.int64) << SUBPIXEL_BITS) + sample_y  # (H,)
    keys: Int64 = np.full((len(rows), len(columns)), NOTHING, dtype=np.int64)
    corners = screen.astype(np.int64)[triangles]  # (t, 3, 4)
    areas = edge(corners[:, 0], corners[:, 1], corners[:, 2, 0], corners[:, 2, 1])
    drawn = (corners[:, :, 3] > 0).all(axis=1) & (areas != 0)
    if cull:
        drawn &= areas < 0
    left = np.searchsorted(points_x, corners[:, :, 0].min(axis=1))
    right = np.searchsorted(points_x, corners[:, :, 0].max(axis=1), "right")
    top = np.searchsorted(points_y, corners[:, :, 1].min(axis=1))
    bottom = np.searchsorted(points_y, corners[:, :, 1].max(axis=1), "right")
    for triangle in np.flatnonzero(drawn & (left < right) & (top < bottom)).tolist():
        box = (slice(top[triangle], bottom[triangle]), slice(left[triangle], right[triangle]))
        order = (0, 1, 2) if areas[triangle] > 0 else (0, 2, 1)
        a, b, c = corners[triangle, order]
        x, y = points_x[None, box[1]], points_y[box[0], None]
        covered = np.ones((1, 1), dtype=np.bool_)
        depth_sum = np.zeros((1, 1), dtype=np.int64)
        for start, end, opposite in ((b, c, a), (c, a, b), (a, b, c)):
            value = edge(start, end, x, y)  # (rows, columns) of the box
            dx, dy = end[0] - start[0], end[1] - start[1]
            owns_border = bool(dy < 0 or (dy == 0 and dx > 0))
            covered = covered & (value >= (0 if owns_border else 1))
            depth_sum = depth_sum + value * opposite[2]
        key = ((depth_sum // abs(areas[triangle])) << TRIANGLE_BITS) | triangle
        keys[box] = np.where(covered, np.minimum(keys[box], key), keys[box])
    return keys


def surface_weights(
    keys: Int64, screen: Int32, triangles: Int32, rows: Int16, columns: Int16, sample_x: int, sample_y: int
) -> Int32:
    """Return for each pixel the shares of its triangle's three vertices, true to perspective, in Q.18; the sum is 2^18.

    keys: int64[H, W] of `rasterize`, the others as there -> int32[H, W, 3]; zeros where there is no triangle.
    `share_i = min(floor(|edge_i| * 2^18 / max(1, |area|)), 2^18) * (1/w)_i`, then
    `weight_i = floor(share_i * 2^18 / max(1, sum of shares))` for i = 0, 1, and weight_2 is what is left of 2^18.
    |edge| < 2^42, * 2^18 < 2^60; share <= 2^18 * 2^26 = 2^44, * 2^18 = 2^62. One element: the key, three vertices.

    Raises:
        TensorOutOfRange: a key's triangle, a vertex number or a coordinate out of bounds.
    """
    _check_screen(screen, triangles)
    check_ascending("rows", rows)
    check_ascending("columns", columns)
    covered, chosen = _chosen(keys, triangles)
    corners = screen.astype(np.int64)[chosen]  # (H, W, 3, 4)
    x = (columns.astype(np.int64)[None, :] << SUBPIXEL_BITS) + sample_x
    y = (rows.astype(np.int64)[:, None] << SUBPIXEL_BITS) + sample_y
    a, b, c = (corners[:, :, i] for i in range(3))
    area = np.maximum(np.abs(edge(a, b, c[..., 0], c[..., 1])), 1)  # (H, W)
    shares = []
    for start, end, opposite in ((b, c, a), (c, a, b), (a, b, c)):
        flat = (np.abs(edge(start, end, x, y)) << WEIGHT_BITS) // area
        shares.append(np.minimum(flat, 1 << WEIGHT_BITS) * opposite[..., 3])
    total = np.maximum(shares[0] + shares[1] + shares[2], 1)
    first, second = ((share << WEIGHT_BITS) // total for share in shares[:2])
    weights = np.stack([first, second, (1 << WEIGHT_BITS) - first - second], axis=2)
    return np.where(covered[:, :, None], weights, 0).astype(np.int32)


def interpolate(keys: Int64, weights: Int32, triangles: Int32, values: Int32) -> Int32:
    """Return for each pixel the values of its triangle's vertices, weighted: `rsh(sum(weight_i * value_i), 18)`.

    keys: int64[H, W], weights: int32[H, W, 3] in 0 .. 2^18, triangles: int32[t, 3], values: int32[v, c]
    -> int32[H, W, c] (clamped to +-(2^31 - 1)); zeros where there is no triangle. Sums are below 3 * 2^49.
    One element: the key, three weights, three vertex numbers, three values.

    Raises:
        TensorOutOfRange.
    """
    check_values("weights", weights, 0, 1 << WEIGHT_BITS)
    check_values("vertex number", triangles, 0, len(values) - 1)
    covered, chosen = _chosen(keys, triangles)
    wide = values.astype(np.int64)
    total = sum(weights[:, :, i, None].astype(np.int64) * wide[chosen[:, :, i]] for i in range(3))
    found = np.clip(round_shift(np.asarray(total), WEIGHT_BITS), -INT32_MAX, INT32_MAX)
    return np.where(covered[:, :, None], found, 0).astype(np.int32)


def sample_texture(
    keys: Int64, places: Int32, materials_of: Int32, materials: Int32, texels: UInt8, bilinear: int
) -> UInt8:
    """Return for each pixel its material's texture at its place, times the material's colour.

    keys: int64[H, W], places: int32[H, W, 2] (u, v; Q.16, one texture wide and high, repeating),
    materials_of: int32[t], materials: int32[k, 6] (first texel, width, height in 1 .. 4096, red, green, blue in
    0 .. 256 = Q.8), texels: uint8[n, 3], row by row -> uint8[H, W, 3]; zeros where there is no triangle.
    Nearest: texel (floor(u * width / 2^16) mod width, likewise v). Bilinear: with `p = floor(u * width / 2^8) - 128`,
    texels p >> 8 and one further, mod width, in parts 256 - (p & 255) and p & 255, likewise v:
    `rsh(sum of four, 16)`. Then `min(255, rsh(texel * colour, 8))`. |u * width| <= 2^43.
    One element: key, place, material and at most four texels.

    Raises:
        TensorOutOfRange.
    """
    check_values("material number", materials_of, 0, len(materials) - 1)
    check_values("texture size", materials[:, 1:3], 1, TEXTURE_MAX)
    check_values("material colour", materials[:, 3:], 0, FACTOR_MAX)
    check_values("first texel", materials[:, 0], 0, len(texels) - 1)
    ends = materials[:, 0].astype(np.int64) + materials[:, 1].astype(np.int64) * materials[:, 2]
    check_values("end of texture", ends, 1, len(texels))
    covered, chosen = _chosen(keys, materials_of)
    material = materials.astype(np.int64)[chosen]  # (H, W, 6)
    first, width, height = (material[..., i] for i in range(3))
    u, v = places[..., 0].astype(np.int64) * width, places[..., 1].astype(np.int64) * height

    def texel(x: Int64, y: Int64) -> Int64:
        found: Int64 = texels[first + (y % height) * width + x % width].astype(np.int64)  # (H, W, 3)
        return found

    if bilinear:
        left, top = (u >> 8) - 128, (v >> 8) - 128
        x, y, right, down = left >> 8, top >> 8, (left & 255)[..., None], (top & 255)[..., None]
        upper = texel(x, y) * (256 - right) + texel(x + 1, y) * right
        lower = texel(x, y + 1) * (256 - right) + texel(x + 1, y + 1) * right
        found = round_shift(upper * (256 - down) + lower * down, 16)
    else:
        found = texel(u >> 16, v >> 16)
    coloured = np.minimum(round_shift(found * material[..., 3:], 8), 255)
    return np.where(covered[..., None], coloured, 0).astype(np.uint8)


def shade(
    keys: Int64,
    colours: UInt8,
    normals: Int32,
    light: Int32,
    sky: UInt8,
    rows: Int16,
    view: Int32,
    ambient: int,
    diffuse: int,
) -> UInt8:
    """Return the image: each pixel's colour in Lambert's light, or the sky where there is no triangle.

    keys: int64[H, W], colours: uint8[H, W, 3], normals: int32[H, W, 3] (any length) and light: int32[3] (Q.14), both
    within [-2^15, 2^15], sky: uint8[2, 3] (colour at the top and the bottom of the frame), rows: int16[H],
    view: int32[7] -> uint8[H, W, 3]. `cosine = min(2^14, floor(max(0, n . l) / max(1, isqrt(n . n))))`,
    `level = ambient + rsh(diffuse * cosine, 14)` in Q.8, `min(255, rsh(colour * level, 8))`; the sky is
    `top + floor((bottom - top) * row / height)`, clamped to 0 .. 255. Products are below 2^32. One element: one entry
    of each.

    Raises:
        TensorOutOfRange.
    """
    _check_view(view)
    check_values("normals", normals, -NORMAL_MAX, NORMAL_MAX)
    check_values("light", light, -NORMAL_MAX, NORMAL_MAX)
    check_ascending("rows", rows)
    wide = normals.astype(np.int64)
    along = np.maximum((wide * light).sum(axis=2), 0)  # (H, W)
    length = np.maximum(floor_root((wide * wide).sum(axis=2)), 1)
    cosine = np.minimum(along // length, 1 << UNIT_BITS)
    level = ambient + round_shift(diffuse * cosine, UNIT_BITS)
    lit = np.minimum(round_shift(colours.astype(np.int64) * level[..., None], 8), 255)
    top, bottom = sky.astype(np.int64)
    behind = np.clip(top + (bottom - top) * rows.astype(np.int64)[:, None] // int(view[HEIGHT]), 0, 255)  # (H, 3)
    return np.where((keys == NOTHING)[..., None], behind[:, None, :], lit).astype(np.uint8)


def edge(start: Int64, end: Int64, x: Int64, y: Int64) -> Int64:
    """Return twice the signed area of (start, end, point): positive where the point is on the inner side."""
    dx, dy = end[..., 0] - start[..., 0], end[..., 1] - start[..., 1]
    area: Int64 = dx * (y - start[..., 1]) - dy * (x - start[..., 0])
    return area


def check_ascending(what: str, places: Int16) -> None:
    """Refuse pixel numbers outside of a frame, or that do not ascend.

    Raises:
        TensorOutOfRange.
    """
    check_values(what, places, 0, FRAME_MAX - 1)
    if (np.diff(places) <= 0).any():
        raise TensorOutOfRange(what, "not ascending", "each above the one before")


def _check_view(view: Int32) -> None:
    check_values("distance", view[DISTANCE : DISTANCE + 1], 0, LENGTH_MAX)
    check_values("frame", view[WIDTH:], 1, FRAME_MAX)


def _check_screen(screen: Int32, triangles: Int32) -> None:
    check_values("vertex number", triangles, 0, len(screen) - 1)
    check_values("screen position", screen[:, :2], -GUARD_MAX, GUARD_MAX)
    check_values("depth", screen[:, 2], 0, (1 << DEPTH_BITS) - 1)
    check_values("1/w", screen[:, 3], 0, 1 << (RECIPROCAL_BITS - 12))


def _chosen(keys: Int64, table: Int32) -> tuple[NDArray[np.bool_], Int64]:
    """Return (which pixels have a triangle, the table's entry of each pixel's triangle: 0's where it has none)."""
    covered = keys != NOTHING
    numbers = np.where(covered, keys & ((1 << TRIANGLE_BITS) - 1), 0)
    check_values("key", keys, 0, NOTHING)
    check_values("triangle of a key", numbers, 0, len(table) - 1)
    return covered, table.astype(np.int64)[numbers]


def _sine(sines: Int32, angle: np.int32, ahead: int = 0) -> int:
    check_values("sines", sines, -(1 << 16), 1 << 16)
    turned = int(angle) + ahead
    place, part = (turned >> 4) % SINE_SIZE, turned & 15
    first, second = int(sines[place]), int(sines[(place + 1) % SINE_SIZE])
    return first + (((second - first) * part + 8) >> 4)
