"""Files that a power cut leaves old or new, never in between: notes, keys and what protects them. Locks beside them."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO, TypeVar

PRIVATE: Final = 0o600
"""A file that its owner alone may read."""
_USUAL: Final = 0o666  # less the umask, as `open` does

_Content = TypeVar("_Content")


def replace_durably(path: Path, text: str, mode: int = _USUAL) -> None:
    """Replace a file; returns once the new one is on disk, under its name. Processes that do so at once end with one.

    Raises:
        OSError: the disk does not take it; the old file is as it was.
    """
    fresh = path.with_suffix(f".{os.getpid()}.new")
    fresh.unlink(missing_ok=True)  # of a process that had this number and was killed, perhaps with another mode
    try:
        _write(fresh, text, mode)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(path)


def create_durably(path: Path, text: str, mode: int = _USUAL) -> None:
    """Write a file that is not there yet; returns once it is on disk, under its name.

    A power cut before that may leave a part of it.

    Raises:
        FileExistsError: it is there; nothing is changed.
        OSError: the disk does not take it; nothing is left.
    """
    _write(path, text, mode)
    _sync_folder(path)


def hold(path: Path) -> TextIO:
    """Keep other processes out until what this returns is closed, or this process ends; the file stays, empty.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be made.
    """
    file = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def hold_and_load(path: Path, load: Callable[[Path], _Content]) -> tuple[TextIO, _Content]:
    """Keep other processes from a file by a lock beside it, and read it; what `load` raises lets go of the lock.

    Raises:
        OSError: as `hold` does.
    """
    lock = hold(path.with_suffix(".lock"))
    try:
        return lock, load(path)
    except BaseException:
        lock.close()
        raise


def _write(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)  # only what was made here: a failed open has made nothing
        raise


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name as well: a power cut must not bring the old file back
    finally:
        os.close(folder)
