"""Kernels of core/src/pouw/raster.rs by operator; orbit, light and matrix products are too small to need one."""

NATIVE_KERNELS = (
    "transform_vertices",
    "project",
    "rasterize",
    "surface_weights",
    "interpolate",
    "sample_texture",
    "shade",
)
