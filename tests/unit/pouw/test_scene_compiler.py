"""glTF in, graph out: what is read, what is refused by name, what the picture shows."""

import base64
import io
import json
import struct

import numpy as np
import pytest

from chain.errors import HyperdustError
from pouw.backends.reference import NumpyBackend
from pouw.compiler import gltf
from pouw.compiler.scene import Material, Scene, SceneTooLarge, build
from pouw.execution import run
from pouw.graph_encoding import decode, encode
from pouw.hypergraph import Hypergraph

RED, GREEN = (255, 0, 0), (0, 128, 255)


def png(pixels):
    image = pytest.importorskip("PIL.Image", reason="Pillow reads textures: pip install hyperdust[compile]")
    out = io.BytesIO()
    image.fromarray(np.array(pixels, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def square_document(texture=None, **parts):
    """A square in the plane z = 0, two triangles, seen from +z."""
    points = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype="<f4")
    normals = np.tile(np.array([0, 0, 1], dtype="<f4"), (4, 1))
    places = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], dtype="<f4")  # v points down in glTF
    indices = np.array([0, 1, 2, 0, 2, 3], dtype="<u2")
    binary, views = bytearray(), []
    for data in (points.tobytes(), normals.tobytes(), places.tobytes(), indices.tobytes(), texture or b"\0"):
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        binary.extend(data + b"\0" * (-len(data) % 4))
    material = {"pbrMetallicRoughness": {"baseColorFactor": [1, 0.5, 0, 1]}}
    if texture:
        material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}, "indices": 3, "material": 0}]}
        ],
        "materials": [material],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [-1, -1, 0], "max": [1, 1, 0]},
            {"bufferView": 1, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 2, "componentType": 5126, "count": 4, "type": "VEC2"},
            {"bufferView": 3, "componentType": 5123, "count": 6, "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    if texture:
        document |= {"textures": [{"source": 0}], "images": [{"bufferView": 4, "mimeType": "image/png"}]}
    return document | parts, bytes(binary)


def pack(document, binary):
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def render(scene, view, size=32):
    graph, constants = build("render_test", scene)
    assert decode(encode(graph)) == graph
    numbers = np.array([*view[:5], size, size], dtype=np.int32)
    places = np.arange(size, dtype=np.int16)
    inputs = {"view": numbers, "rows": places, "columns": places}
    return run(graph, constants, inputs, {"H": size, "W": size}, NumpyBackend()).outputs["image"]


@pytest.fixture
def loader():
    pytest.importorskip("trimesh", reason="trimesh reads glTF: pip install hyperdust[compile]")


@pytest.mark.usefixtures("loader")
def test_a_texture_stands_upright():
    document, binary = square_document(png([[RED, RED], [GREEN, GREEN]]))
    scene, _ = gltf.read_scene(pack(document, binary), {})
    view = gltf.view_of(0, 0, 4, 0, 0, 32, 32)
    image = render(scene, view).astype(int)
    upper, lower = image[12, 16], image[20, 16]
    assert upper[0] - upper[2] > 150
    assert lower[2] - lower[0] > 150
    assert image[0, 0].tolist() == list(gltf.SKY[0])


@pytest.mark.usefixtures("loader")
def test_colour_transform_camera_and_light_are_read():
    turned = {"rotation": [0, 0.7071067811865476, 0, 0.7071067811865476]}  # +z becomes +x
    document, binary = square_document(
        nodes=[
            {"mesh": 0, "scale": [2, 2, 2], **turned},
            {"camera": 0, "translation": [9, 0, 0], **turned},
            {"extensions": {"KHR_lights_punctual": {"light": 0}}, **turned},
        ],
        scenes=[{"nodes": [0, 1, 2]}],
        cameras=[{"type": "perspective", "perspective": {"yfov": 1.0, "znear": 0.1}}],
        extensionsUsed=["KHR_lights_punctual"],
        extensions={"KHR_lights_punctual": {"lights": [{"type": "directional"}]}},
    )
    scene, view = gltf.read_scene(pack(document, binary), {})
    assert view == (2**14, 0, 9 << 16, 2**14, 0, 512, 512)
    assert np.abs(scene.vertices).max(axis=0).round(9).tolist() == [0, 2, 2]
    assert scene.normals.round(9).tolist() == [[1, 0, 0]] * 4
    assert scene.materials[0].colour[0] == 256
    assert scene.materials[0].colour[2] == 0
    image = render(scene, view)
    assert image[16, 16, 0] == 255
    assert image[16, 16, 2] == 0


@pytest.mark.usefixtures("loader")
def test_a_gltf_may_name_the_files_beside_it_and_no_others():
    document, binary = square_document(png([[RED]]))
    document["buffers"][0]["uri"] = "square.bin"
    text = json.dumps(document).encode()
    scene, _ = gltf.read_scene(text, {"square.bin": binary})
    assert len(scene.triangles) == 2
    inline = json.loads(text)
    inline["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    assert (gltf.read_scene(json.dumps(inline).encode(), {})[0].triangles == scene.triangles).all()


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (gltf.SceneMalformed, {"buffers": [{"byteLength": 4, "uri": "../secret.bin"}]}),
        (gltf.SceneMalformed, {"buffers": [{"byteLength": 4, "uri": "https://example.com/a.bin"}]}),
        (gltf.SceneMalformed, {"images": [{"uri": "/etc/hostname"}]}),
        (gltf.SceneUnsupported, {"images": [{"bufferView": 0, "mimeType": "image/jpeg"}]}),
        (gltf.SceneUnsupported, {"extensionsRequired": ["KHR_draco_mesh_compression"]}),
        (
            gltf.SceneFileTooLarge,
            {"accessors": [{"bufferView": 0, "componentType": 5126, "count": 2**40, "type": "VEC3"}]},
        ),
        (
            gltf.SceneFileTooLarge,
            {"accessors": [{"bufferView": 0, "componentType": 5126, "count": "x", "type": "VEC3"}]},
        ),
        (gltf.SceneUnsupported, {"accessors": [{"componentType": 5126, "count": 4, "type": "VEC3"}]}),
        (gltf.SceneFileTooLarge, {"nodes": [{}] * 5000}),
        (gltf.SceneMalformed, {"nodes": [{"children": [1]}, {"children": [0]}]}),
        (gltf.SceneMalformed, {"nodes": [{"children": [0]}]}),
        (gltf.SceneMalformed, {"nodes": [{"children": [1, 1]}, {}]}),
        (gltf.SceneMalformed, {"nodes": [{"children": [7]}]}),
        (gltf.SceneMalformed, {"nodes": [{"children": 7}]}),
        (gltf.SceneMalformed, {"meshes": 5}),
        (gltf.SceneMalformed, {"meshes": [5]}),
    ],
)
def test_a_hostile_document_is_refused_before_the_loader_sees_it(error, changes, monkeypatch):
    monkeypatch.setattr(gltf, "_load", lambda *_: pytest.fail("the loader was called"))
    document, binary = square_document(**changes)
    with pytest.raises(error):
        gltf.read_scene(pack(document, binary), {})


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    "changes",
    [
        {"bufferViews": []},
        {"bufferViews": [{"buffer": 0, "byteOffset": 10**9, "byteLength": 10**9}] * 5},
        {"meshes": [{"primitives": [{"attributes": {}}]}]},
        {"meshes": [{"primitives": [{"attributes": {"POSITION": 99}}]}]},
        {"meshes": [{"primitives": "x"}]},
        {"nodes": [{"mesh": 77}]},
        {"nodes": [{"mesh": 0, "matrix": [1, 2]}]},
        {"nodes": []},
        {"scenes": [{"nodes": [9]}]},
        {
            "nodes": [{"mesh": 0}, {"camera": 0, "translation": "x"}],
            "cameras": [{"type": "perspective", "perspective": {"yfov": 1}}],
        },
        {"nodes": [{"mesh": 0, "scale": [1e300, 1, 1]}]},
        {"cameras": 7, "nodes": [{"mesh": 0, "camera": 0}]},
        {"extensions": 7},
        {
            "extensions": {"KHR_lights_punctual": {"lights": [5]}},
            "nodes": [{"mesh": 0, "extensions": {"KHR_lights_punctual": {"light": 0}}}],
        },
        {"nodes": [{"mesh": 0, "extensions": 3}]},
        {"materials": [{"pbrMetallicRoughness": {"baseColorFactor": "red"}}]},
        {"materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 50}}}]},
    ],
)
def test_a_broken_document_is_refused_by_name(changes):
    document, binary = square_document(**changes)
    try:
        scene, _ = gltf.read_scene(pack(document, binary), {})
        build("render_test", scene)
    except HyperdustError:
        return
    # what the loader mends (a material that is not there) still makes a whole scene
    assert len(scene.triangles) == 2


@pytest.mark.usefixtures("loader")
def test_a_file_cut_short_anywhere_is_refused_by_name():
    document, binary = square_document(png([[RED]]))
    whole = pack(document, binary)
    for size in [*range(64), *range(64, len(whole) - 1, 37)]:
        with pytest.raises(HyperdustError):
            gltf.read_scene(whole[:size], {})


def test_junk_is_refused_by_name():
    for junk in (b"", b"glTF", b"\xff" * 100, b"[" * 100_000, b"7", b'{"nodes": {}}', pack(7, b"")):
        with pytest.raises(gltf.SceneMalformed):
            gltf.read_scene(junk, {})


def small_scene(**changes):
    parts = {
        "vertices": np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=float),
        "normals": np.array([[0, 0, 1]] * 3, dtype=float),
        "places": np.zeros((3, 2)),
        "triangles": np.array([[0, 1, 2]], dtype=np.int32),
        "materials_of": np.zeros(1, dtype=np.int32),
        "materials": (Material((256, 256, 256), None),),
        "target": (0.0, 0.0, 0.0),
        "focal": 2.0,
        "near": 0.125,
        "far": 100.0,
        "sky": gltf.SKY,
    }
    return Scene(**(parts | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"vertices": np.array([[0, 0, 0], [5000, 0, 0], [0, 1, 0]], dtype=float)},
        {"vertices": np.array([[0, 0, 0], [np.nan, 0, 0], [0, 1, 0]], dtype=float)},
        {"places": np.full((3, 2), 40_000.0)},
        {"triangles": np.zeros((0, 3), dtype=np.int32)},
        {"materials": ()},
        {"materials": (Material((256, 256, 256), np.zeros((1, 5000, 3), dtype=np.uint8)),)},
        {"near": 0.01},
        {"far": 5000.0},
        {"focal": float("inf")},
    ],
)
def test_a_scene_beyond_its_bounds_is_named(changes):
    with pytest.raises(SceneTooLarge):
        build("render_test", small_scene(**changes))


def test_a_scene_compiles_to_the_same_graph_twice():
    first, second = build("render_test", small_scene()), build("render_test", small_scene())
    assert isinstance(first[0], Hypergraph)
    assert first[0] == second[0]
    assert sorted(first[1]) == sorted(second[1])
