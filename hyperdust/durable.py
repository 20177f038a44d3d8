"""Files that a power cut leaves old or new, never in between: journals, outboxes, what protects a key."""

import os
from pathlib import Path


def replace_durably(path: Path, text: str) -> None:
    """Replace a file; returns once the new one is on disk, under its name.

    Raises:
        OSError: the disk does not take it; the old file is as it was.
    """
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name as well: a power cut must not bring the old file back
    finally:
        os.close(folder)
