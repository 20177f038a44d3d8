"""The explorer's files: all of them read at the start, so that no path of a request ever reaches the disk."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One file as it is served."""

    content: bytes
    media_type: str
    etag: str


def load_pages(folder: Path = _FOLDER) -> Mapping[str, Page]:
    """Every file by its path in the URL; `/` is index.html."""
    pages = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            pages["/" + path.relative_to(folder).as_posix()] = Page(content, _TYPES[path.suffix], etag)
    pages["/"] = pages["/index.html"]
    return pages
