"""The scene that ships: every backend makes one trace root on new views; inputs as people and jobs write them."""

import base64
import json

import numpy as np
import pytest

from chain.errors import HyperdustError
from hyperdust import graph, graph_scene
from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.execution import encode_tensors, run, trace_root
from pouw.operators.scene import NOTHING

NAME = "render_island"


@pytest.fixture(scope="module")
def loaded():
    return graph.load_graph(NAME)


def execute(loaded, inputs, backend, **options):
    return run(loaded.graph, loaded.constants, inputs, graph.symbols_of(loaded.graph, inputs), backend, **options)


@pytest.mark.parametrize(
    "view",
    [
        {"yaw": 200, "width": 96, "height": 40},
        {"yaw": -31.5, "pitch": 80, "distance": 9, "width": 33, "height": 70},
        {"pitch": -10, "distance": 3, "light_yaw": 180, "light_pitch": 5, "width": 64, "height": 64},
        {"distance": 0, "width": 48, "height": 48},
        {"distance": 4000, "width": 1024, "height": 1024, "left": 500, "top": 490, "columns": 40, "rows": 30},
    ],
    ids=["side", "above", "below the sea", "within", "far"],
)
def test_one_trace_root_on_all_backends(loaded, view):
    inputs = graph_scene.parse_input(graph.GRAPHS_DIR, loaded.graph, json.dumps(view).encode(), "view")
    roots, images = set(), []
    for name in ("numpy", "native"):
        try:
            backend = load_backend(name)
        except BackendUnavailable:
            continue
        execution = execute(loaded, inputs, backend)
        roots.add(trace_root(execution))
        images.append(execution.outputs["image"])
    assert len(roots) == 1
    expected = (view.get("rows", view["height"]), view.get("columns", view["width"]), 3)
    assert {image.shape for image in images} == {expected}


def test_the_picture_shows_the_scene(loaded):
    inputs = graph_scene.parse_input(graph.GRAPHS_DIR, loaded.graph, b'{"width": 96, "height": 96}', "view")
    execution = execute(loaded, inputs, load_backend("numpy"), keep="all")
    keys = next(output for output in execution.operator_outputs if output.dtype == np.int64)
    shown = np.unique(keys[keys != NOTHING] & (2**24 - 1))
    assert len(shown) > 1000  # of 10,496 triangles, at 9,216 pixels
    image = execution.outputs["image"].astype(int)
    sky, sea, knot = image[2, 48], image[90, 5], image[20:48, 30:66].reshape(-1, 3)
    assert sky[2] > sky[0]
    assert sea[2] > 2 * sea[0]
    assert ((knot[:, 0] > 180) & (knot[:, 2] < 90)).any()  # orange tiles
    assert image.std() > 30


def test_integers_come_close_to_float64(monkeypatch, loaded):
    monkeypatch.setattr(graph_scene, "CHECKED_VIEWS", 2)
    monkeypatch.setattr(graph_scene, "CHECKED_SIDE", 128)
    view = loaded.example()["view"]
    found = graph_scene.check_render(loaded.graph, loaded.constants, view, load_backend("numpy"))
    assert found["psnr_db"] > 36
    assert found["pixels_within_2"] > 0.96
    assert found["pixel_error_mean"] < 0.7


def test_a_window_is_cut_from_the_frame(loaded):
    numpy_backend = load_backend("numpy")
    whole = b'{"width": 60, "height": 50, "yaw": 77}'
    part = b'{"width": 60, "height": 50, "yaw": 77, "left": 20, "top": 10, "columns": 17, "rows": 30}'
    images = [
        execute(loaded, graph_scene.parse_input(graph.GRAPHS_DIR, loaded.graph, raw, "view"), numpy_backend)
        for raw in (whole, part)
    ]
    first, second = (execution.outputs["image"] for execution in images)
    assert np.array_equal(first[10:40, 20:37], second)


def test_light_and_angles_change_the_picture(loaded):
    numpy_backend = load_backend("numpy")
    seen = set()
    for view in ({}, {"yaw": 10}, {"pitch": 50}, {"distance": 8}, {"light_yaw": 100}, {"light_pitch": 80}):
        raw = json.dumps(view | {"width": 40, "height": 30}).encode()
        inputs = graph_scene.parse_input(graph.GRAPHS_DIR, loaded.graph, raw, "view")
        seen.add(execute(loaded, inputs, numpy_backend).outputs["image"].tobytes())
    assert len(seen) == 6


def test_raw_views_and_job_bytes_are_read_alike(loaded):
    example = graph_scene.parse_input(graph.GRAPHS_DIR, loaded.graph, b'{"width": 48, "height": 48}', "view")
    whole = encode_tensors([example[port.name] for port in loaded.graph.inputs])
    numbers = json.dumps(example["view"].tolist()).encode()
    for raw in (whole, whole[:28], numbers):
        found = graph_scene.parse_input(graph.GRAPHS_DIR, loaded.graph, raw, "view")
        assert all(np.array_equal(found[name], example[name]) for name in example)
        assert [array.dtype.name for array in found.values()] == ["int32", "int16", "int16"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 27,
        b"\0" * 28,
        b"\0" * 29,
        b"{",
        b"[1, 2]",
        b'["a", 0, 0, 0, 0, 1, 1]',
        b"[0, 0, 0, 0, 0, 1, 4097]",
        b"[0, 0, -1, 0, 0, 1, 1]",
        b"[0, 0, 4294967296, 0, 0, 1, 1]",
        b"[true, 0, 0, 0, 0, 1, 1]",
        b'{"roll": 3}',
        b'{"yaw": "north"}',
        b'{"yaw": 1e99}',
        b'{"yaw": NaN}',
        b'{"width": 10.5}',
        b'{"width": true}',
        b'{"width": 0}',
        b'{"width": 5000}',
        b'{"distance": -2}',
        b'{"left": 500, "columns": 100}',
        b'{"left": -1}',
        b'{"rows": 0}',
    ],
)
def test_an_input_that_is_no_view_is_named(loaded, raw):
    with pytest.raises(graph_scene.ViewUnreadable, match="some file"):
        graph_scene.parse_input(graph.GRAPHS_DIR, loaded.graph, raw, "some file")


def test_a_window_beyond_the_graphs_bounds_is_named(loaded, tmp_path):
    (tmp_path / "large.json").write_text('{"width": 2000, "height": 20}')
    with pytest.raises(HyperdustError, match="W"):
        graph.run(NAME, input_file=tmp_path / "large.json", backend="numpy")
    del loaded


def test_graph_run_writes_the_picture_that_it_prints(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "view.json").write_text('{"width": 48, "height": 32}')
    found = graph.run(NAME, input_file=tmp_path / "view.json", backend="numpy", out=tmp_path / "view.png")
    assert found["output"]["shape"] == [32, 48, 3]
    assert found["output"]["dtype"] == "uint8"
    pixels = np.frombuffer(base64.b64decode(found["output"]["data"]), dtype=np.uint8).reshape(32, 48, 3)
    assert np.array_equal(np.asarray(image.open(tmp_path / "view.png")), pixels)
    graph_scene.write_described(found["output"], tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "view.png").read_bytes()
    with pytest.raises(graph_scene.ImageUnwritable):
        graph_scene.write_described([1, 2], tmp_path / "again.png")
    job = graph.input_bytes(NAME, None, tmp_path / "view.json")
    assert job.symbols == (32, 48)
    assert len(job.data) == 28 + 2 * (32 + 48)
    assert graph.decode_outputs(NAME, job.symbols, pixels.tobytes()) == found["output"]


def test_a_job_asks_for_no_more_than_can_be_answered(tmp_path):
    own = graph.input_bytes(NAME, None, None)
    assert own.symbols == (48, 48)
    for view, fits in (({"width": 52, "height": 52}, True), ({"width": 53, "height": 52}, False), ({}, False)):
        (tmp_path / "view.json").write_text(json.dumps(view))
        if fits:
            assert graph.input_bytes(NAME, None, tmp_path / "view.json").symbols == (52, 52)
        else:
            with pytest.raises(graph_scene.AnswerTooLarge, match="8,192"):
                graph.input_bytes(NAME, None, tmp_path / "view.json")
    part = {"width": 512, "height": 512, "left": 100, "top": 200, "columns": 64, "rows": 40}
    (tmp_path / "view.json").write_text(json.dumps(part))
    assert graph.input_bytes(NAME, None, tmp_path / "view.json").symbols == (40, 64)


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    with pytest.raises(graph_scene.ImageUnwritable, match="no-such-folder"):
        graph_scene.write_image(pixels, tmp_path / "no-such-folder" / "a.png")
    with pytest.raises(graph_scene.ImageUnwritable, match="no image"):
        graph_scene.write_image(pixels.astype(np.int16), tmp_path / "a.png")


def test_words_are_refused_where_a_view_is_asked_for():
    with pytest.raises(graph.InputUnreadable, match="--input"):
        graph.run(NAME, text="an island", backend="numpy")


def test_damaged_constants_are_named(tmp_path, loaded):
    path = graph_scene.constants_path(graph.GRAPHS_DIR, NAME)
    whole = path.read_bytes()
    for raw in (b"", b"junk", whole[:1000], whole[:-9]):
        graph_scene.constants_path(tmp_path, NAME).write_bytes(raw)
        with pytest.raises(graph_scene.ConstantsMissing):
            graph_scene.load_constants(tmp_path, loaded.graph)
    graph_scene.constants_path(tmp_path, NAME).unlink()
    with pytest.raises(graph_scene.ConstantsMissing):
        graph_scene.load_constants(tmp_path, loaded.graph)
