"""Scene operators against loops over pixels in Python integers; sides shared, order, extremes, bad tensors."""

from math import isqrt

import numpy as np
import pytest

from pouw.compiler.scene import circle_table
from pouw.operators import scene
from pouw.operators.errors import AttributeOutOfRange, TensorOutOfRange, WrongDtype, WrongShape
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT16, INT32, INT64, UINT8

NOTHING = 2**63 - 1
SINES = circle_table()
VIEW = np.array([0, 0, 5 << 16, 0, 0, 64, 48], dtype=np.int32)


def places(count, start=0):
    return np.arange(start, start + count, dtype=np.int16)


def flat(points, depth=0):
    """Screen vertices at whole pixels."""
    return np.array([[x * 16, y * 16, depth, 1 << 22] for x, y in points], dtype=np.int32)


def side(a, b, x, y):
    return int(b[0] - a[0]) * (y - int(a[1])) - int(b[1] - a[1]) * (x - int(a[0]))


def covers(corners, x, y):
    """Edges of a triangle with positive area at a point, or None outside; written out from the rule's words."""
    edges = []
    for i in range(3):
        a, b = corners[(i + 1) % 3], corners[(i + 2) % 3]
        value, dx, dy = side(a, b, x, y), int(b[0] - a[0]), int(b[1] - a[1])
        if value < 0 or (value == 0 and not (dy < 0 or (dy == 0 and dx > 0))):
            return None
        edges.append(value)
    return edges


def slow_keys(screen, triangles, rows, columns, sample_x=8, sample_y=8, cull=0):
    keys = [[NOTHING] * len(columns) for _ in rows]
    for number, (a, b, c) in enumerate(triangles):
        corners = [screen[a], screen[b], screen[c]]
        area = side(corners[0], corners[1], int(corners[2][0]), int(corners[2][1]))
        if area == 0 or (cull and area > 0) or any(corner[3] == 0 for corner in corners):
            continue
        if area < 0:
            corners[1], corners[2] = corners[2], corners[1]
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                edges = covers(corners, int(column) * 16 + sample_x, int(row) * 16 + sample_y)
                if edges is not None:
                    total = sum(edge * int(corner[2]) for edge, corner in zip(edges, corners, strict=True))
                    keys[i][j] = min(keys[i][j], (total // abs(area)) << 24 | number)
    return keys


def random_scene(seed, vertices=30, triangles=40, reach=400):
    random = np.random.default_rng(seed)
    screen = np.stack(
        [
            random.integers(-reach, reach + 320, vertices),
            random.integers(-reach, reach + 320, vertices),
            random.integers(0, 2**21, vertices),
            random.integers(0, 8, vertices) * (1 << 20),
        ],
        axis=1,
    ).astype(np.int32)
    screen[:4, :2] = [[0, 0], [8, 8], [2**19, 8], [-(2**19), -(2**19)]]
    return screen, random.integers(0, vertices, (triangles, 3)).astype(np.int32)


# --- rasterize


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cull", [0, 1])
def test_keys_are_those_of_a_loop_over_pixels(seed, cull):
    screen, triangles = random_scene(seed)
    rows, columns = places(14, seed), np.array([0, 1, 2, 5, 9, 10, 19, 40], dtype=np.int16)
    expected = slow_keys(screen, triangles, rows, columns, 8, 3, cull)
    assert scene.rasterize(screen, triangles, rows, columns, 8, 3, cull).tolist() == expected


@pytest.mark.parametrize("sample", [(0, 0), (8, 8), (15, 1)])
def test_triangles_that_share_sides_cover_each_pixel_exactly_once(sample):
    """A fan around a corner that is itself a sample point, and sides that pass through sample points."""
    ring = [(0, 0), (4, 0), (8, 0), (8, 4), (8, 8), (3, 8), (0, 8), (0, 5)]
    screen = flat([(4, 4), *ring])
    screen[:, 0] += sample[0]
    screen[:, 1] += sample[1]
    counts = np.zeros((8, 8), dtype=int)
    for i in range(len(ring)):
        one = np.array([[0, 1 + i, 1 + (i + 1) % len(ring)]], dtype=np.int32)
        counts += scene.rasterize(screen, one, places(8), places(8), *sample, 0) != NOTHING
    assert counts.tolist() == [[1] * 8] * 8


@pytest.mark.parametrize("seed", range(8))
def test_any_split_square_is_watertight(seed):
    random = np.random.default_rng(seed)
    low, high = random.integers(-80, 0, 2), random.integers(200, 400, 2)
    middle = random.integers(0, 200, 2)
    corners = [low, (high[0], low[1]), high, (low[0], high[1])]
    screen = np.array([[*point, 5, 1 << 20] for point in [middle, *corners]], dtype=np.int32)
    counts = np.zeros((12, 12), dtype=int)
    for i in range(4):
        one = np.array([[0, 1 + i, 1 + (i + 1) % 4]], dtype=np.int32)
        counts += scene.rasterize(screen, one, places(12), places(12), 8, 8, 0) != NOTHING
    assert counts.tolist() == [[1] * 12] * 12


def test_the_order_of_triangles_changes_nothing_but_their_numbers():
    screen, triangles = random_scene(11)
    keys = scene.rasterize(screen, triangles, places(20), places(20), 8, 8, 0)
    turned = scene.rasterize(screen, triangles[::-1].copy(), places(20), places(20), 8, 8, 0)
    assert ((keys == NOTHING) == (turned == NOTHING)).all()
    assert (keys >> 24 == turned >> 24).all()


def test_of_equal_depths_the_lower_number_shows():
    screen = flat([(0, 0), (9, 0), (0, 9)], depth=77)
    twice = np.array([[0, 2, 1], [0, 1, 2]], dtype=np.int32)
    assert scene.rasterize(screen, twice, places(1), places(1), 8, 8, 0).tolist() == [[77 << 24]]


def test_back_faces_are_culled_on_demand():
    screen = flat([(0, 0), (9, 0), (0, 9)])
    back, front = (np.array([order], dtype=np.int32) for order in ([0, 1, 2], [0, 2, 1]))
    assert scene.rasterize(screen, back, places(1), places(1), 8, 8, 1).tolist() == [[NOTHING]]
    assert scene.rasterize(screen, front, places(1), places(1), 8, 8, 1).tolist() == [[0]]


def test_degenerate_undrawable_and_distant_triangles_draw_nothing():
    screen = np.vstack([flat([(0, 0), (4, 4), (8, 8), (-90, -90), (-80, -90), (-90, -80)]), [[0, 0, 0, 0]]])
    screen = screen.astype(np.int32)
    for triangle in ([0, 1, 2], [0, 0, 1], [2, 2, 2], [3, 4, 5], [0, 2, 6], [6, 6, 6]):
        keys = scene.rasterize(screen, np.array([triangle], dtype=np.int32), places(9), places(9), 8, 8, 0)
        assert (keys == NOTHING).all(), triangle


def test_the_largest_triangle_has_exact_depth():
    guard, deepest = 2**19, 2**21 - 1
    screen = np.array([[-guard, -guard, deepest, 1], [guard, -guard, deepest, 1], [0, guard, deepest, 1]], np.int32)
    one = np.array([[0, 1, 2]], dtype=np.int32)
    rows = np.array([0, 4095], dtype=np.int16)
    assert (scene.rasterize(screen, one, rows, rows, 15, 15, 0) >> 24 == deepest).all()


# --- interpolation


def slow_weights(key, screen, triangles, x, y):
    if key == NOTHING:
        return [0, 0, 0]
    corners = [screen[vertex] for vertex in triangles[key & (2**24 - 1)]]
    area = max(1, abs(side(corners[0], corners[1], int(corners[2][0]), int(corners[2][1]))))
    shares = []
    for i in range(3):
        value = abs(side(corners[(i + 1) % 3], corners[(i + 2) % 3], x, y))
        shares.append(min((value << 18) // area, 2**18) * int(corners[i][3]))
    first, second = ((share << 18) // max(1, sum(shares)) for share in shares[:2])
    return [first, second, 2**18 - first - second]


@pytest.mark.parametrize("seed", range(4))
def test_weights_and_values_are_those_of_a_loop_over_pixels(seed):
    screen, triangles = random_scene(seed, reach=200)
    rows, columns = places(9, 2), places(11, 1)
    keys = scene.rasterize(screen, triangles, rows, columns, 8, 8, 0)
    weights = scene.surface_weights(keys, screen, triangles, rows, columns, 8, 8)
    values = np.random.default_rng(seed).integers(-(2**31), 2**31, (len(screen), 2)).astype(np.int32)
    found = scene.interpolate(keys, weights, triangles, values)
    assert (keys != NOTHING).any()
    for i, j in np.ndindex(9, 11):
        key = int(keys[i, j])
        expected = slow_weights(key, screen, triangles, int(columns[j]) * 16 + 8, int(rows[i]) * 16 + 8)
        assert weights[i, j].tolist() == expected
        vertices = triangles[key & (2**24 - 1)] if key != NOTHING else [0, 0, 0]
        sums = [sum(w * int(values[v, c]) for w, v in zip(expected, vertices, strict=True)) for c in (0, 1)]
        assert found[i, j].tolist() == [max(-(2**31 - 1), min(2**31 - 1, (total + 2**17) >> 18)) for total in sums]


def test_weights_are_true_to_perspective():
    """Half way on the screen between w = 1 and w = 3 lies a quarter of the way in space."""
    screen = np.array([[0, 8, 0, 3 << 20], [1600, 8, 0, 1 << 20], [0, 1600, 0, 3 << 20]], dtype=np.int32)
    one = np.array([[0, 1, 2]], dtype=np.int32)
    rows, columns = places(1), places(1, 49)  # the sample is at 792 of 1600 on the side from vertex 0 to 1
    keys = scene.rasterize(screen, one, rows, columns, 8, 8, 0)
    first, second, third = scene.surface_weights(keys, screen, one, rows, columns, 8, 8)[0, 0].tolist()
    part = 792 / 1600
    assert third <= 1  # what the two floors leave
    assert second / 2**18 == pytest.approx(part / (part + 3 * (1 - part)), abs=1e-4)
    assert first + second + third == 2**18


def test_a_key_of_a_triangle_that_is_elsewhere_still_has_a_value():
    """Keys may come from a stranger's graph: every one of them gives weights that sum up."""
    screen, triangles = random_scene(3)
    screen[0, 3] = 0
    keys = np.arange(40, dtype=np.int64).reshape(5, 8)
    weights = scene.surface_weights(keys, screen, triangles, places(5, 4000), places(8), 8, 8)
    assert (weights.sum(axis=2) == 2**18).all()
    assert weights.min() >= 0


# --- vertices


@pytest.mark.parametrize("seed", range(3))
def test_vertices_are_transformed_and_projected_as_written(seed):
    random = np.random.default_rng(seed)
    matrix = random.integers(-(2**18), 2**18, (4, 4)).astype(np.int32)
    vertices = random.integers(-(2**20), 2**20, (50, 3)).astype(np.int32)
    clip = scene.transform_vertices(matrix, vertices)
    screen = scene.project(clip, VIEW)
    drawn = 0
    for vertex, found, placed in zip(vertices, clip.tolist(), screen.tolist(), strict=True):
        expected = [sum(int(row[i]) * int(vertex[i]) for i in range(3)) + (int(row[3]) << 16) >> 16 for row in matrix]
        assert found == expected
        x, y, z, w = expected
        on_screen = [0, 0, 0, 0]
        if w >= 4096 and z >= 0:
            across, down = x * 384 // w + 512, -y * 384 // w + 384
            if max(abs(across), abs(down)) <= 2**19:
                on_screen = [across, down, min(z * 2**21 // w, 2**21 - 1), 2**38 // w]
        drawn += on_screen[3] > 0
        assert placed == on_screen
    assert 0 < drawn < 50


def test_extreme_clip_coordinates_are_defined():
    most = 2**31 - 1
    clip = np.array(
        [
            [0, 0, 0, 0],
            [0, 0, 0, 4095],
            [0, 0, -1, 4096],
            [most, 0, 5, 4096],
            [0, -most, 5, 4096],
            [1, 1, 1, -most],
            [0, 0, most, 4096],
            [most, most, most, most],
            [-(2**31)] * 4,
        ],
        dtype=np.int32,
    )
    screen = scene.project(clip, VIEW)
    assert screen[:6].tolist() == [[0, 0, 0, 0]] * 6
    assert screen[6].tolist() == [512, 384, 2**21 - 1, 2**26]
    assert screen[7].tolist() == [512 + 384, 0, 2**21 - 1, 2**38 // most]
    assert screen[8].tolist() == [0, 0, 0, 0]


def test_a_transform_of_extremes_is_clamped():
    matrix = np.full((4, 4), 2**29, dtype=np.int32)
    vertices = np.array([[2**28] * 3, [-(2**28)] * 3], dtype=np.int32)
    assert scene.transform_vertices(matrix, vertices).tolist() == [[2**31 - 1] * 4, [-(2**31 - 1)] * 4]
    assert scene.matrix_product(matrix, matrix).tolist() == [[2**29] * 4] * 4


def test_the_circle_is_closed_and_symmetric():
    assert SINES[[0, 1024, 2048, 3072]].tolist() == [0, 65536, 0, -65536]
    assert SINES[512] == 46341  # 2^16 * 0.70710678 = 46340.95
    assert (SINES[1:2048] == SINES[2047:0:-1]).all()
    assert (SINES[:2048] == -SINES[2048:]).all()
    squares = SINES.astype(np.int64) ** 2
    assert np.abs(squares + np.roll(squares, 1024) - 2**32).max() <= 2**17


def test_angles_between_the_entries_are_interpolated():
    view = np.array([5, 0, 0, 0, 0, 1, 1], dtype=np.int32)
    step = int(SINES[1])
    assert scene.orbit(view, SINES)[0, 2] == -((5 * step + 8) >> 4)
    view[0] = -5
    assert scene.orbit(view, SINES)[0, 2] == -(-step + ((11 * step + 8) >> 4))


def test_an_orbit_keeps_lengths_and_looks_at_the_origin():
    for yaw, pitch in ((0, 0), (9000, 3000), (-70000, -20000), (2**31 - 1, -(2**31))):
        view = np.array([yaw, pitch, 7 << 16, yaw, pitch, 4, 4], dtype=np.int32)
        matrix = scene.orbit(view, SINES).astype(np.int64)
        turned = matrix[:3, :3] @ matrix[:3, :3].T
        assert np.abs(turned - (np.identity(3, dtype=np.int64) << 32)).max() < 2**19
        assert matrix[:, 3].tolist() == [0, 0, -(7 << 16), 1 << 16]
        light = scene.light_direction(view, SINES).astype(np.int64)
        assert np.abs(light * 4 - matrix[2, :3]).max() <= 4  # the light's angles are the eye's here


# --- colours


def slow_texture(place, material, texels, bilinear):
    first, width, height, *factors = (int(part) for part in material)
    u, v = int(place[0]) * width, int(place[1]) * height

    def texel(x, y, c):
        return int(texels[first + (y % height) * width + x % width, c])

    colour = []
    for c in range(3):
        if bilinear:
            left, top = (u >> 8) - 128, (v >> 8) - 128
            parts = [
                texel((left >> 8) + i, (top >> 8) + j, c)
                * abs((left & 255) - 256 * (1 - i))
                * abs((top & 255) - 256 * (1 - j))
                for i in (0, 1)
                for j in (0, 1)
            ]
            found = (sum(parts) + 2**15) >> 16
        else:
            found = texel(u >> 16, v >> 16, c)
        colour.append(min(255, (found * factors[c] + 128) >> 8))
    return colour


@pytest.mark.parametrize("bilinear", [0, 1])
def test_textures_repeat_blend_and_tint(bilinear):
    random = np.random.default_rng(2)
    texels = random.integers(0, 256, (50, 3)).astype(np.uint8)
    materials = np.array([[0, 5, 4, 256, 128, 0], [20, 1, 1, 256, 256, 256], [21, 7, 4, 200, 256, 77]], dtype=np.int32)
    of = np.array([0, 1, 2], dtype=np.int32)
    keys = random.integers(0, 3, (6, 7)).astype(np.int64)
    keys[0, 0] = NOTHING
    around = random.integers(-(2**31), 2**31, (6, 7, 2)).astype(np.int32)
    found = scene.sample_texture(keys, around, of, materials, texels, bilinear)
    assert found[0, 0].tolist() == [0, 0, 0]
    for i, j in list(np.ndindex(6, 7))[1:]:
        assert found[i, j].tolist() == slow_texture(around[i, j], materials[keys[i, j]], texels, bilinear)


def test_shading_is_lamberts_and_the_sky_fades():
    random = np.random.default_rng(4)
    keys = random.integers(0, 9, (5, 6)).astype(np.int64)
    keys[:, 0] = NOTHING
    colours = random.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    normals = random.integers(-(2**15), 2**15, (5, 6, 3)).astype(np.int32)
    normals[0, 1] = 0
    light = np.array([9000, 12000, -5000], dtype=np.int32)
    sky = np.array([[10, 200, 0], [250, 100, 255]], dtype=np.uint8)
    rows = places(5, 40)
    found = scene.shade(keys, colours, normals, light, sky, rows, VIEW, 70, 230)
    for i, j in np.ndindex(5, 6):
        normal = [int(part) for part in normals[i, j]]
        along = max(0, sum(n * int(l) for n, l in zip(normal, light, strict=True)))
        cosine = min(2**14, along // max(1, isqrt(sum(n * n for n in normal))))
        level = 70 + ((230 * cosine + 2**13) >> 14)
        expected = [min(255, (int(colour) * level + 128) >> 8) for colour in colours[i, j]]
        if j == 0:
            expected = [
                min(255, max(0, int(top) + (int(bottom) - int(top)) * (40 + i) // 48))
                for top, bottom in zip(*sky, strict=True)
            ]
        assert found[i, j].tolist() == expected


# --- refusals

SCREEN, ONE = flat([(0, 0), (9, 0), (0, 9)]), np.array([[0, 1, 2]], dtype=np.int32)


@pytest.mark.parametrize(
    ("what", "screen", "triangles", "rows"),
    [
        ("vertex number", SCREEN, np.array([[0, 1, 3]], dtype=np.int32), places(2)),
        ("vertex number", SCREEN, np.array([[0, 1, -1]], dtype=np.int32), places(2)),
        ("screen position", SCREEN + np.array([2**19, 0, 0, 0], np.int32), ONE, places(2)),
        ("depth", SCREEN + np.array([0, 0, 2**21, 0], np.int32), ONE, places(2)),
        ("1/w", SCREEN - np.array([0, 0, 0, 2**23], np.int32), ONE, places(2)),
        ("rows", SCREEN, ONE, np.array([3, 3], dtype=np.int16)),
        ("rows", SCREEN, ONE, np.array([4, 3], dtype=np.int16)),
        ("rows", SCREEN, ONE, np.array([4096], dtype=np.int16)),
        ("rows", SCREEN, ONE, np.array([-1], dtype=np.int16)),
    ],
)
def test_a_tensor_out_of_range_is_named(what, screen, triangles, rows):
    with pytest.raises(TensorOutOfRange, match=what):
        scene.rasterize(screen, triangles, rows, places(2), 8, 8, 0)
    with pytest.raises(TensorOutOfRange, match=what):
        scene.surface_weights(np.zeros((len(rows), 2), np.int64), screen, triangles, rows, places(2), 8, 8)


@pytest.mark.parametrize("key", [-1, 1, 2**24 - 1, 5 << 24 | 1, NOTHING - 1])
def test_a_key_of_no_triangle_is_named(key):
    keys, none = np.array([[key]], dtype=np.int64), np.zeros((1, 1, 3), np.int32)
    with pytest.raises(TensorOutOfRange, match="key"):
        scene.interpolate(keys, none, ONE, SCREEN)


@pytest.mark.parametrize(
    ("what", "material"),
    [
        ("texture size", [0, 0, 1, 1, 1, 1]),
        ("texture size", [0, 1, 4097, 1, 1, 1]),
        ("material colour", [0, 1, 1, 257, 1, 1]),
        ("first texel", [-1, 1, 1, 1, 1, 1]),
        ("end of texture", [2, 2, 2, 1, 1, 1]),
    ],
)
def test_a_material_out_of_range_is_named(what, material):
    keys, place = np.zeros((1, 1), np.int64), np.zeros((1, 1, 2), np.int32)
    of, texels = np.zeros(1, np.int32), np.zeros((5, 3), np.uint8)
    with pytest.raises(TensorOutOfRange, match=what):
        scene.sample_texture(keys, place, of, np.array([material], np.int32), texels, 0)


@pytest.mark.parametrize(("place", "value"), [(2, -1), (2, 2**28 + 1), (5, 0), (5, 4097), (6, -3)])
def test_a_view_out_of_range_is_named(place, value):
    view = VIEW.copy()
    view[place] = value
    with pytest.raises(TensorOutOfRange):
        scene.orbit(view, SINES)
    with pytest.raises(TensorOutOfRange):
        scene.project(np.zeros((1, 4), np.int32), view)


I32 = INT32


@pytest.mark.parametrize(
    ("name", "types", "attributes", "error"),
    [
        ("orbit", [TensorType(I32, (6,)), TensorType(I32, (4096,))], (), WrongShape),
        ("orbit", [TensorType(I32, (7,)), TensorType(I32, (4095,))], (), WrongShape),
        ("matrix_product", [TensorType(I32, (4, 4)), TensorType(I32, (3, 4))], (), WrongShape),
        ("transform_vertices", [TensorType(I32, (4, 4)), TensorType(I32, (2**24 + 1, 3))], (), WrongShape),
        ("project", [TensorType(I32, (5, 3)), TensorType(I32, (7,))], (), WrongShape),
        (
            "rasterize",
            [TensorType(I32, (9, 4)), TensorType(I32, (2**24 + 1, 3)), *[TensorType(INT16, ("H",))] * 2],
            (8, 8, 0),
            WrongShape,
        ),
        (
            "rasterize",
            [TensorType(I32, (9, 4)), TensorType(I32, (9, 3)), *[TensorType(I32, ("H",))] * 2],
            (8, 8, 0),
            WrongDtype,
        ),
        (
            "rasterize",
            [TensorType(I32, (9, 4)), TensorType(I32, (9, 3)), *[TensorType(INT16, ("H",))] * 2],
            (16, 8, 0),
            AttributeOutOfRange,
        ),
        (
            "interpolate",
            [TensorType(INT64, ("H", "W")), *[TensorType(I32, ("W", "H", 3))] * 2, TensorType(I32, (9, 3))],
            (),
            WrongShape,
        ),
        (
            "sample_texture",
            [
                TensorType(INT64, ("H", "W")),
                TensorType(I32, ("H", "W", 2)),
                TensorType(I32, (9,)),
                TensorType(I32, (2, 6)),
                TensorType(UINT8, (2**28 + 1, 3)),
            ],
            (0,),
            WrongShape,
        ),
    ],
)
def test_types_that_do_not_fit_are_named(name, types, attributes, error):
    with pytest.raises(error):
        RULE_BY_NAME[name].output_type(types, attributes)
