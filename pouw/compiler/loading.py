"""Weights and settings from a stranger: safetensors and JSON, every size checked before memory is taken. No pickle.

A safetensors file is a length (u64), a JSON header and raw bytes; the header is believed only where it agrees with
the file. Source: huggingface/safetensors, README, "Format".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final, TypeGuard, cast

import numpy as np

from chain.errors import Malformed, OutOfRange
from chain.json_text import nests_deeper
from pouw.compiler.program import Array

HEADER_MAX: Final = 8 * 2**20
JSON_MAX: Final = 2**20
TENSORS_MAX: Final = 16_384
RANK_MAX: Final = 8
DIMENSION_MAX: Final = 2**31 - 1
FILES_MAX: Final = 64
DEPTH_MAX: Final = 32
PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
DTYPES: Final[Mapping[str, str]] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
}


class FileMissing(Malformed):
    """A file that the folder needs is not there."""


class FileTooLarge(OutOfRange):
    """A file is larger than its bound."""


class FileTruncated(Malformed):
    """A file ends before what its header announces."""


class HeaderMalformed(Malformed):
    """A weights file's header is no header, or does not agree with the file."""


class SettingsMalformed(Malformed):
    """A JSON file does not decode to an object."""


class PickleRefused(Malformed):
    """The weights are a pickle, which runs code when it is read."""


class TensorMissing(Malformed):
    """A tensor that the model needs is not in the weights."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies in its file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    """From the start of the file."""
    size_bytes: int

    def read(self) -> Array:
        """Return the tensor; only its own bytes are read. bfloat16 becomes float32, exactly."""
        raw = np.fromfile(self.path, dtype=DTYPES[self.dtype], count=prod(self.shape), offset=self.start)
        if raw.nbytes != self.size_bytes:
            raise FileTruncated(str(self.path.name), f"{raw.nbytes} of {self.size_bytes} bytes of a tensor")
        if self.dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(raw.reshape(self.shape))


def read_bounded(path: Path, most: int) -> bytes:
    """Return a file's bytes.

    Raises:
        FileMissing, FileTooLarge.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise FileMissing(str(path), "no such file") from error
    if len(data) > most:
        raise FileTooLarge(path.name, f"more than {most} bytes", f"at most {most}")
    return data


def parse_json(data: bytes) -> object:
    """Return a stranger's JSON; its depth is counted, libraries may raise Python's recursion limit beyond the stack.

    Raises:
        ValueError: not JSON, or nested more than 32 deep.
    """
    if nests_deeper(data, DEPTH_MAX):
        raise ValueError(f"nested more than {DEPTH_MAX} deep")
    return json.loads(data)


def read_settings(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        FileMissing, FileTooLarge, SettingsMalformed.
    """
    try:
        content = parse_json(read_bounded(path, JSON_MAX))
    except ValueError as error:
        raise SettingsMalformed(path.name, f"not JSON: {str(error)[:100]}") from error
    if not isinstance(content, dict):
        raise SettingsMalformed(path.name, "not a JSON object")
    return content


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors that a safetensors file holds, without reading them.

    Raises:
        FileMissing, FileTruncated, FileTooLarge, HeaderMalformed.
    """
    header, base, size = _read_json_header(path)
    if not isinstance(header, dict) or len(header) > TENSORS_MAX:
        raise HeaderMalformed(path.name, f"header is no object of at most {TENSORS_MAX} tensors")
    header.pop("__metadata__", None)
    entries = {name: _entry(path, name, value, base) for name, value in header.items()}
    end = base
    for entry in sorted(entries.values(), key=lambda one: (one.start, one.size_bytes)):
        if entry.start != end:
            raise HeaderMalformed(path.name, f"tensors overlap or leave a gap at byte {entry.start}")
        end += entry.size_bytes
    if end > size:
        raise FileTruncated(path.name, f"{size} bytes, tensors end at {end}")
    if end < size:
        raise HeaderMalformed(path.name, f"{size - end} bytes behind the tensors")
    return entries


def _read_json_header(path: Path) -> tuple[object, int, int]:
    """Return the header, where the tensors begin, and the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8:
                raise FileTruncated(path.name, f"{size} bytes, no header")
            if length > HEADER_MAX:
                raise FileTooLarge(f"{path.name}: header", length, f"at most {HEADER_MAX}")
            raw = file.read(length)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise FileMissing(str(path), "no such file") from error
    if len(raw) != length:
        raise FileTruncated(path.name, f"header of {length} bytes, {len(raw)} there")
    try:
        return parse_json(raw), 8 + length, size
    except ValueError as error:
        raise HeaderMalformed(path.name, f"header is not JSON: {str(error)[:100]}") from error


def _entry(path: Path, name: str, value: object, base: int) -> TensorEntry:
    what = f"{path.name}: tensor {name[:80]!r}"
    if not isinstance(value, dict):
        raise HeaderMalformed(what, "no object")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise HeaderMalformed(what, f"dtype {str(dtype)[:20]}, not one of {', '.join(DTYPES)}")
    if not _counts(shape):
        raise HeaderMalformed(what, f"shape is no list of at most {RANK_MAX} sizes up to {DIMENSION_MAX}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(at) is int and at >= 0 for at in offsets):
        raise HeaderMalformed(what, "data_offsets are no pair of numbers")
    wanted = prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if offsets[1] - offsets[0] != wanted:
        raise HeaderMalformed(what, f"{offsets[1] - offsets[0]} bytes, its shape needs {wanted}")
    return TensorEntry(path, dtype, tuple(shape), base + offsets[0], wanted)


def _counts(shape: object) -> TypeGuard[list[int]]:
    fits = isinstance(shape, list) and len(shape) <= RANK_MAX
    return fits and all(type(size) is int and 0 <= size <= DIMENSION_MAX for size in cast("list[object]", shape))


def read_folder(folder: Path) -> dict[str, TensorEntry]:
    """Return the tensors of all safetensors files of a folder.

    Raises:
        PickleRefused, FileMissing, FileTooLarge, HeaderMalformed: also a tensor that stands in two files.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES) if folder.is_dir() else []
        if pickles:
            raise PickleRefused(pickles[0], "a pickle runs code when read; convert the weights to safetensors")
        raise FileMissing(str(folder), "no *.safetensors in this folder")
    if len(files) > FILES_MAX:
        raise FileTooLarge(f"{folder}: weight files", len(files), f"at most {FILES_MAX}")
    found: dict[str, TensorEntry] = {}
    for path in files:
        for name, entry in read_header(path).items():
            if name in found:
                raise HeaderMalformed(path.name, f"tensor {name[:80]!r} stands in {found[name].path.name} too")
            found[name] = entry
    return found
