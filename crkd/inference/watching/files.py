"""Image files of a watched folder, which other processes may be writing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crkd.data.encoded.folder import read_regular
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.files import image_files
from crkd.inference.watching.state import Stamp

_ENDINGS: Final = {
    b"\xff\xd8": b"\xff\xd9",
    b"\x89PNG": b"IEND\xaeB`\x82",
    b"GIF8": b";",
}
"""First and last bytes of JPEG, PNG and GIF files."""


@dataclass(frozen=True)
class Content:
    """The content of a file that did not change while it was read.

    Attributes:
        data: the bytes; empty if the file cannot be read.
        digest: SHA-256 of the bytes.
        ends_well: whether the file ends as its format requires. An incomplete file may be
            decodable without its last bytes.
        reason: why the file cannot be read; None if it can.
    """

    data: bytes
    digest: str
    ends_well: bool = False
    reason: str | None = None


def watched_files(folder: Path) -> Iterator[tuple[str, Path, Stamp]]:
    """Yield path below the folder, path, and size and time of each image file.

    The suffix decides. Hidden files are skipped, and linked folders are not followed.
    """
    for path in image_files(folder):
        stamp = stamp_of(path)
        if stamp is not None:
            yield os.path.relpath(path, folder), path, stamp


def stamp_of(path: Path) -> Stamp | None:
    """Return size and time of the last change of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def read_settled(path: Path, stamp: Stamp) -> Content | None:
    """Return the content of a file; None if the file changed before all was read.

    Args:
        path: the file.
        stamp: its size and time before.
    """
    try:
        data = read_regular(path)
    except UnreadableImageError as error:
        return Content(b"", "", reason=error.reason) if stamp_of(path) == stamp else None
    if stamp_of(path) != stamp or len(data) != stamp[0]:
        return None
    # Formats without such an end, and unknown ones, are left to the decoder.
    endings = [end for start, end in _ENDINGS.items() if data.startswith(start)]
    ends_well = all(data.endswith(end) for end in endings)
    return Content(data, hashlib.sha256(data).hexdigest(), ends_well)
