"""Frames per second of the scene that ships, 512 x 512: native kernels against the definitions in numpy.

Views are new in each round, so that nothing is remembered; each frame is rendered whole, from the view to the image.
"""

import time

import numpy as np

from hyperdust.graph import load_graph, symbols_of
from hyperdust.graph_scene import whole_frame
from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import load_backend
from pouw.execution import Backend, run, trace_root
from pouw.operators.scene import YAW

GRAPH = "render_island"
ROUNDS = 5


def raster_native_vs_numpy() -> dict[str, object]:
    loaded = load_graph(GRAPH)
    backends: list[Backend] = [load_backend("native"), NumpyBackend()]
    seconds = [float("inf")] * len(backends)
    for step in range(ROUNDS):
        view = loaded.example()["view"].copy()
        view[YAW] += step * 7919
        inputs = whole_frame(view)
        roots = []
        for place, backend in enumerate(backends):
            start = time.perf_counter()
            execution = run(loaded.graph, loaded.constants, inputs, symbols_of(loaded.graph, inputs), backend)
            seconds[place] = min(seconds[place], time.perf_counter() - start)
            roots.append(trace_root(execution))
        if len(np.unique(roots)) != 1:
            raise AssertionError(f"backends differ at view {view.tolist()}")
    ours, peer = (1 / best for best in seconds)
    triangles = f"{GRAPH}, 10,496 triangles, 512 x 512"
    return {
        "name": "raster_native_vs_numpy",
        "ours": ours,
        "peer": peer,
        "ratio": ours / peer,
        "unit": "frames/s",
        "peer_name": f"the definitions in numpy, {triangles}",
    }


BENCHMARKS = {"raster_native_vs_numpy": raster_native_vs_numpy}
