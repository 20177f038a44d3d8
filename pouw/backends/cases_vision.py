"""Operands on which every backend proves the image operators."""

import numpy as np

from pouw.backends.cases_encoder import Case, full_range


def cases() -> tuple[Case, ...]:
    """Return whole ranges on images whose sides leave a remainder, and single pixels."""
    pixels = full_range(np.int16, (9, 7, 3), 61).astype("uint8")
    image, single = full_range(np.int16, (9, 7, 3), 62), full_range(np.int16, (1, 1, 2), 63)
    bytes8 = full_range(np.int8, (9, 7, 3), 64)
    x, y = full_range(np.int16, (5, 12), 65), full_range(np.int16, (2, 12), 66)
    channels = full_range(np.int32, (3,), 67)
    return (
        ("normalize_pixels", (pixels, channels, channels[::-1].copy()), (12,)),
        ("normalize_pixels", (pixels, channels >> 20, channels >> 16), (1,)),
        ("patches", (pixels,), (3, 2, 1)),
        ("patches", (bytes8,), (4, 4, 0)),
        ("patches", (image,), (2, 1, 64)),
        ("max_pool", (image,), (3, 2)),
        ("max_pool", (single,), (1, 1)),
        ("average_pool", (image,), (2, 2)),
        ("average_pool", (-np.abs(image >> 1),), (7, 1)),
        ("rectify", (x,), ()),
        ("rectify", (image,), ()),
        ("concat_rows", (x, y), ()),
        ("slice_rows", (x,), (1, 3)),
        ("reshape", (x,), (4, 15, 0)),
        ("reshape", (bytes8,), (7, 3, 9)),
    )
