"""Kernels of core/src/pouw/decoder.rs and sampling.rs by operator; what only moves rows needs none."""

NATIVE_KERNELS = (
    "widen",
    "rescale_wide",
    "accumulate",
    "rms_norm",
    "rope",
    "causal_scores",
    "causal_softmax",
    "grouped_mix",
    "gated_product",
    "argmax",
    "sample",
    "candidates",
    "draw",
)
