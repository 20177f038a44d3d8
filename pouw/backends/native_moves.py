"""Kernels of core/src/pouw/moves.rs by operator: rows and columns of tensors that no cache holds."""

NATIVE_KERNELS = (
    "embedding",
    "transpose_columns",
)
