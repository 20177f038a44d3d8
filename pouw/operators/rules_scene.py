"""Operators of a scene: their rows of the table, with types and bounds."""

from pouw.operators import scene
from pouw.operators.rule import Attributes, OperatorRule, Types
from pouw.operators.types import TensorType, Term, check_attribute, check_number, check_tensor, product
from pouw.trace import INT16, INT32, INT64, UINT8

VERTICES_MAX = 2**24
CHANNELS_MAX = 64
MATERIALS_MAX = 2**16
TEXELS_MAX = 2**28
LEVEL_MAX = 2**10
LAYERS = 16  # boxes around triangles included, views of the scene that ships need 2 to 8
SUBPIXELS = 1 << scene.SUBPIXEL_BITS


def _orbit(tensors: Types, _: Attributes) -> TensorType:
    _check_view(tensors[0])
    check_tensor("sines", tensors[1], INT32, (scene.SINE_SIZE,))
    return TensorType(INT32, (4, 4))


def _light_direction(tensors: Types, _: Attributes) -> TensorType:
    _check_view(tensors[0])
    check_tensor("sines", tensors[1], INT32, (scene.SINE_SIZE,))
    return TensorType(INT32, (3,))


def _matrix_product(tensors: Types, _: Attributes) -> TensorType:
    check_tensor("a", tensors[0], INT32, (4, 4))
    check_tensor("b", tensors[1], INT32, (4, 4))
    return TensorType(INT32, (4, 4))


def _transform_vertices(tensors: Types, _: Attributes) -> TensorType:
    matrix, vertices = tensors
    check_tensor("matrix", matrix, INT32, (4, 4))
    check_tensor("vertices", vertices, INT32, (None, 3))
    check_number("vertices", vertices.shape[0], 1, VERTICES_MAX)
    return TensorType(INT32, (vertices.shape[0], 4))


def _transform_macs(tensors: Types, _: Attributes) -> Term:
    return product((16, tensors[1].shape[0]))


def _project(tensors: Types, _: Attributes) -> TensorType:
    check_tensor("clip", tensors[0], INT32, (None, 4))
    _check_view(tensors[1])
    return tensors[0]


def _rasterize(tensors: Types, attributes: Attributes) -> TensorType:
    screen, triangles, rows, columns = tensors
    _check_geometry(screen, triangles)
    check_tensor("rows", rows, INT16, (None,))
    check_tensor("columns", columns, INT16, (None,))
    _check_sample(attributes)
    check_attribute("cull", attributes[2], 0, 1)
    return TensorType(INT64, (rows.shape[0], columns.shape[0]))


def _rasterize_macs(tensors: Types, _: Attributes) -> Term:
    """Nine products (three edges, a depth) for each point of LAYERS triangles that fill the frame.

    What a view really needs depends on it; a scene that lays more over each other takes longer than this says.
    """
    return product((9 * LAYERS, tensors[2].shape[0], tensors[3].shape[0]))


def _surface_weights(tensors: Types, attributes: Attributes) -> TensorType:
    keys, screen, triangles, rows, columns = tensors
    _check_geometry(screen, triangles)
    check_tensor("rows", rows, INT16, (None,))
    check_tensor("columns", columns, INT16, (None,))
    check_tensor("keys", keys, INT64, (rows.shape[0], columns.shape[0]))
    _check_sample(attributes)
    return TensorType(INT32, (*keys.shape, 3))


def _weights_macs(tensors: Types, _: Attributes) -> Term:
    return product((12, *tensors[0].shape))


def _interpolate(tensors: Types, _: Attributes) -> TensorType:
    keys, weights, triangles, values = tensors
    check_tensor("keys", keys, INT64, (None, None))
    check_tensor("weights", weights, INT32, (*keys.shape, 3))
    check_tensor("values", values, INT32, (None, None))
    check_number("channels", values.shape[1], 1, CHANNELS_MAX)
    _check_triangles(triangles)
    return TensorType(INT32, (*keys.shape, values.shape[1]))


def _interpolate_macs(tensors: Types, _: Attributes) -> Term:
    return product((3, *tensors[0].shape, tensors[3].shape[1]))


def _sample_texture(tensors: Types, attributes: Attributes) -> TensorType:
    keys, places, materials_of, materials, texels = tensors
    check_tensor("keys", keys, INT64, (None, None))
    check_tensor("places", places, INT32, (*keys.shape, 2))
    check_tensor("materials of triangles", materials_of, INT32, (None,))
    check_number("triangles", materials_of.shape[0], 1, 1 << scene.TRIANGLE_BITS)
    check_tensor("materials", materials, INT32, (None, scene.MATERIAL_SIZE))
    check_number("materials", materials.shape[0], 1, MATERIALS_MAX)
    check_tensor("texels", texels, UINT8, (None, 3))
    check_number("texels", texels.shape[0], 1, TEXELS_MAX)
    check_attribute("bilinear", attributes[0], 0, 1)
    return TensorType(UINT8, (*keys.shape, 3))


def _texture_macs(tensors: Types, _: Attributes) -> Term:
    return product((21, *tensors[0].shape))


def _shade(tensors: Types, attributes: Attributes) -> TensorType:
    keys, colours, normals, light, sky, rows, view = tensors
    check_tensor("keys", keys, INT64, (None, None))
    check_tensor("colours", colours, UINT8, (*keys.shape, 3))
    check_tensor("normals", normals, INT32, (*keys.shape, 3))
    check_tensor("light", light, INT32, (3,))
    check_tensor("sky", sky, UINT8, (2, 3))
    check_tensor("rows", rows, INT16, (keys.shape[0],))
    _check_view(view)
    check_attribute("ambient", attributes[0], 0, LEVEL_MAX)
    check_attribute("diffuse", attributes[1], 0, LEVEL_MAX)
    return colours


def _shade_macs(tensors: Types, _: Attributes) -> Term:
    return product((10, *tensors[0].shape))


def _check_view(view: TensorType) -> None:
    check_tensor("view", view, INT32, (scene.VIEW_SIZE,))


def _check_triangles(triangles: TensorType) -> None:
    check_tensor("triangles", triangles, INT32, (None, 3))
    check_number("triangles", triangles.shape[0], 1, 1 << scene.TRIANGLE_BITS)


def _check_geometry(screen: TensorType, triangles: TensorType) -> None:
    check_tensor("screen", screen, INT32, (None, 4))
    check_number("vertices", screen.shape[0], 1, VERTICES_MAX)
    _check_triangles(triangles)


def _check_sample(attributes: Attributes) -> None:
    check_attribute("sample_x", attributes[0], 0, SUBPIXELS - 1)
    check_attribute("sample_y", attributes[1], 0, SUBPIXELS - 1)


_SAMPLE = ("sample_x", "sample_y")
_CULL = (*_SAMPLE, "cull")
_LEVELS = ("ambient", "diffuse")

RULES = (
    OperatorRule(40, "orbit", 2, (), _orbit, scene.orbit),
    OperatorRule(41, "light_direction", 2, (), _light_direction, scene.light_direction),
    OperatorRule(42, "matrix_product", 2, (), _matrix_product, scene.matrix_product),
    OperatorRule(43, "transform_vertices", 2, (), _transform_vertices, scene.transform_vertices, _transform_macs),
    OperatorRule(44, "project", 2, (), _project, scene.project),
    OperatorRule(45, "rasterize", 4, _CULL, _rasterize, scene.rasterize, _rasterize_macs),
    OperatorRule(46, "surface_weights", 5, _SAMPLE, _surface_weights, scene.surface_weights, _weights_macs),
    OperatorRule(47, "interpolate", 4, (), _interpolate, scene.interpolate, _interpolate_macs),
    OperatorRule(48, "sample_texture", 5, ("bilinear",), _sample_texture, scene.sample_texture, _texture_macs),
    OperatorRule(49, "shade", 7, _LEVELS, _shade, scene.shade, _shade_macs),
)
