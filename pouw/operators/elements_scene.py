"""One element of a scene's operators: a pixel reads its triangle, three vertices, four texels, each as a window.

A key depends on every triangle, which no leaf holds unless the scene is small; it is refuted by a witness, another
triangle: what is read are two triangles and three vertices of each.
"""

import numpy as np
from numpy.typing import NDArray

from pouw.operators import scene
from pouw.operators.arithmetic import Int32, Int64, check_values
from pouw.operators.element import Attributes, ElementRule, Read, Shapes, Window, WitnessRule, value_at
from pouw.operators.types import Tensor

TRIANGLE_MASK = (1 << scene.TRIANGLE_BITS) - 1
_SINE_READS = 8  # two entries each for the sine and the cosine of two angles


def _sines(view: Tensor, angles: tuple[int, int], read: Read) -> Int32:
    """Return the table of sines with the entries that these angles need; the others are not looked at."""
    table = np.zeros(scene.SINE_SIZE, np.int32)
    for angle in angles:
        for ahead in (0, scene.QUARTER_TURN):
            place = (int(view[angle]) + ahead) >> 4
            for entry in (place % scene.SINE_SIZE, (place + 1) % scene.SINE_SIZE):
                table[entry] = read(1, Window(entry))[0]
    return table


def _orbit(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    view = read(0, Window(0, scene.VIEW_SIZE))
    return value_at(scene.orbit(view, _sines(view, (scene.YAW, scene.PITCH), read)), *divmod(index, 4))


def _light_direction(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    view = read(0, Window(0, scene.VIEW_SIZE))
    sines = _sines(view, (scene.LIGHT_YAW, scene.LIGHT_PITCH), read)
    return value_at(scene.light_direction(view, sines), index)


def _matrix_product(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    row, column = divmod(index, 4)
    a, b = read(0, Window(4 * row, 4)), read(1, Window(column, 1, 4, 4))
    return value_at(scene.matrix_product(a[None], b[:, None]), 0, 0)


def _transform_vertices(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    vertex, row = divmod(index, 4)
    matrix, place = read(0, Window(4 * row, 4)), read(1, Window(3 * vertex, 3))
    return value_at(scene.transform_vertices(matrix[None], place[None]), 0, 0)


def _project(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    vertex, column = divmod(index, 4)
    clip, view = read(0, Window(4 * vertex, 4)), read(1, Window(0, scene.VIEW_SIZE))
    return value_at(scene.project(clip[None], view), 0, column)


def _rasterize(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    vertices, triangles = shapes[0][0], shapes[1][0]
    row, column = divmod(index, shapes[3][0])
    screen = read(0, Window(0, 4 * vertices)).reshape(vertices, 4)
    corners = read(1, Window(0, 3 * triangles)).reshape(triangles, 3)
    place = read(2, Window(row)), read(3, Window(column))
    return value_at(scene.rasterize(screen, corners, *place, *attributes), 0, 0)


def _triangle_of(key: Tensor, count: int) -> tuple[int, Int64]:
    """Return the triangle that a key names, 0 where it names none, and the key as that of the only triangle."""
    check_values("key", key, 0, scene.NOTHING)
    if int(key[0]) == scene.NOTHING:
        return 0, key[None]
    triangle = int(key[0]) & TRIANGLE_MASK
    check_values("triangle of a key", key & TRIANGLE_MASK, 0, count - 1)
    return triangle, key[None] - triangle


def _vertices_of(triangle: int, vertices: int, table: int, read: Read) -> list[int]:
    numbers = read(table, Window(3 * triangle, 3))
    check_values("vertex number", numbers, 0, vertices - 1)
    return [int(number) for number in numbers]


def _corners(triangle: int, vertices: int, read: Read) -> Int32:
    """Return int32[3, 4], the vertices of a triangle (tensor 1) on the screen (tensor 0)."""
    numbers = _vertices_of(triangle, vertices, 1, read)
    return np.stack([read(0, Window(4 * number, 4)) for number in numbers])


_ALONE = np.array([[0, 1, 2]], dtype=np.int32)


def _surface_weights(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    pixel, corner = divmod(index, 3)
    row, column = divmod(pixel, shapes[0][1])
    triangle, key = _triangle_of(read(0, Window(pixel)), shapes[2][0])
    numbers = _vertices_of(triangle, shapes[1][0], 2, read)
    screen = np.stack([read(1, Window(4 * number, 4)) for number in numbers])
    place = read(3, Window(row)), read(4, Window(column))
    return value_at(scene.surface_weights(key, screen, _ALONE, *place, *attributes), 0, 0, corner)


def _interpolate(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    channels = shapes[3][1]
    pixel, channel = divmod(index, channels)
    triangle, key = _triangle_of(read(0, Window(pixel)), shapes[2][0])
    weights = read(1, Window(3 * pixel, 3))
    numbers = _vertices_of(triangle, shapes[3][0], 2, read)
    values = np.stack([read(3, Window(channels * number + channel)) for number in numbers])
    return value_at(scene.interpolate(key, weights[None, None], _ALONE, values), 0, 0, 0)


def _sample_texture(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    pixel, channel = divmod(index, 3)
    triangle, key = _triangle_of(read(0, Window(pixel)), shapes[2][0])
    u, v = (int(entry) for entry in read(1, Window(2 * pixel, 2)))
    number = read(2, Window(triangle))
    check_values("material number", number, 0, shapes[3][0] - 1)
    material = read(3, Window(scene.MATERIAL_SIZE * int(number[0]), scene.MATERIAL_SIZE))
    first, width, height = (int(entry) for entry in material[:3])
    check_values("texture size", material[1:3], 1, scene.TEXTURE_MAX)
    check_values("first texel", material[:1], 0, shapes[4][0] - 1)
    check_values("end of texture", np.array([first + width * height]), 1, shapes[4][0])
    # the texels that count, as a texture of their own, and the same place within it
    if attributes[0]:
        left, top = (u * width >> 8) - 128, (v * height >> 8) - 128
        x, y, side = left >> 8, top >> 8, 2
        place = [(128 + (left & 255)) << 7, (128 + (top & 255)) << 7]
    else:
        x, y, side, place = u * width >> 16, v * height >> 16, 1, [0, 0]
    texels = np.zeros((side * side, 3), np.uint8)
    for corner in range(side * side):
        down, right = divmod(corner, side)
        texel = first + (y + down) % height * width + (x + right) % width
        texels[corner, channel] = read(4, Window(3 * texel + channel))[0]
    small = np.array([[0, side, side, *material[3:]]], dtype=np.int32)
    where, only = np.array([[place]], dtype=np.int32), np.zeros(1, np.int32)
    return value_at(scene.sample_texture(key, where, only, small, texels, *attributes), 0, 0, channel)


def _shade(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    pixel, channel = divmod(index, 3)
    key, colour, normal = read(0, Window(pixel)), read(1, Window(index)), read(2, Window(3 * pixel, 3))
    light, sky = read(3, Window(0, 3)), read(4, Window(channel, 1, 2, 3))
    row, view = read(5, Window(pixel // shapes[0][1])), read(6, Window(0, scene.VIEW_SIZE))
    image = scene.shade(
        key[None], _in_channel(colour, channel)[None], normal[None, None], light, _in_channel(sky, channel), row, view,
        *attributes,
    )  # fmt: skip
    return value_at(image, 0, 0, channel)


def _in_channel(values: Tensor, channel: int) -> NDArray[np.uint8]:
    """Return uint8[n, 3] with the values in one channel."""
    colours = np.zeros((values.size, 3), np.uint8)
    colours[:, channel] = values
    return colours


def triangle_key(corners: Int32, triangle: int, row: Tensor, column: Tensor, attributes: Attributes) -> int:
    """Return the key that one triangle gives one pixel, 2^63 - 1 where it does not cover it.

    corners: int32[3, 4], the triangle's vertices of `project`, in its order; row, column: int16[1] of the frame.

    Raises:
        TensorOutOfRange.
    """
    key = int(scene.rasterize(corners, _ALONE, row, column, *attributes)[0, 0])
    return key if key == scene.NOTHING else key | triangle


def refutes_rasterize(
    shapes: Shapes, attributes: Attributes, index: int, claimed: int, witness: int, read: Read
) -> bool:
    """Return whether triangle `witness` shows that a pixel's key is not `claimed`.

    Either the triangle that the claim names does not give that key, or the witness gives a lower one. A claim that
    is negative or names no triangle is a fault by itself; a witness that is no triangle shows nothing.

    Raises:
        TensorOutOfRange.
    """
    vertices, triangles = shapes[0][0], shapes[1][0]
    row, column = divmod(index, shapes[3][0])
    nothing = claimed == scene.NOTHING
    if not nothing and not (0 <= claimed < scene.NOTHING and claimed & TRIANGLE_MASK < triangles):
        return True
    place = read(2, Window(row)), read(3, Window(column))
    if not nothing:
        own = claimed & TRIANGLE_MASK
        if triangle_key(_corners(own, vertices, read), own, *place, attributes) != claimed:
            return True
    if not 0 <= witness < triangles:
        return False
    return triangle_key(_corners(witness, vertices, read), witness, *place, attributes) < claimed


def _nearest(right: int, _: int) -> int:
    # where nothing is right, the claimed triangle refutes itself
    return 0 if right == scene.NOTHING else right & TRIANGLE_MASK


RULES = (
    ElementRule("orbit", lambda _, __: (scene.VIEW_SIZE, _SINE_READS), _orbit),
    ElementRule("light_direction", lambda _, __: (scene.VIEW_SIZE, _SINE_READS), _light_direction),
    ElementRule("matrix_product", lambda _, __: (4, 4), _matrix_product),
    ElementRule("transform_vertices", lambda _, __: (4, 3), _transform_vertices),
    ElementRule("project", lambda _, __: (4, scene.VIEW_SIZE), _project),
    ElementRule("rasterize", lambda shapes, _: (4 * shapes[0][0], 3 * shapes[1][0], 1, 1), _rasterize),
    ElementRule("surface_weights", lambda _, __: (1, 12, 3, 1, 1), _surface_weights),
    ElementRule("interpolate", lambda _, __: (1, 3, 3, 3), _interpolate),
    ElementRule(
        "sample_texture",
        lambda _, attributes: (1, 2, 1, scene.MATERIAL_SIZE, 4 if attributes[0] else 1),
        _sample_texture,
    ),
    ElementRule("shade", lambda _, __: (1, 1, 3, 3, 2, 1, scene.VIEW_SIZE), _shade),
)
WITNESS_RULES = (WitnessRule("rasterize", lambda _, __: (24, 6, 1, 1), refutes_rasterize, _nearest),)
