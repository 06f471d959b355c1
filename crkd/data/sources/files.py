"""Image source of single files, and readers of the text files that list them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from crkd.core.counted import counted
from crkd.core.errors import InputError
from crkd.core.paths import irregular, readable
from crkd.data.sources.base import ImageSource, Pixels
from crkd.data.sources.decode import SUFFIXES, decode_image
from crkd.data.sources.walk import visible_files

MAX_LIST_BYTES: Final = 256 * 1024 * 1024
SHOWN: Final = 5
"""Names of files in a message."""
_NAMED_ELSEWHERE: Final = {*SUFFIXES, ".tar", ".parquet"}

ENDS: Final = 1024
"""Bytes at the begin and at the end of an image that enter its fingerprint."""


def ends(file: BinaryIO, start: int, size: int) -> bytes:
    """Return the size of an image in an open file, and its first and last bytes."""
    file.seek(start)
    first = file.read(min(size, ENDS))
    file.seek(start + max(0, size - ENDS))
    return size.to_bytes(8, "little") + first + file.read(min(size, ENDS))


class FileSource(ImageSource):
    """Image files, decoded when read.

    Args:
        paths: the files.
        labels: ``(N,)`` integers, -1 for unlabeled images.
        class_names: the classes in label order.
        ids: N unique names, usually the paths below the data folder.

    Raises:
        InputError: the labels do not match, or two images have one name.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: npt.ArrayLike,
        class_names: Sequence[str],
        ids: Sequence[str],
    ) -> None:
        super().__init__(labels, class_names, ids)
        if len(set(ids)) != len(ids):
            twice = next(name for name, count in Counter(ids).items() if count > 1)
            raise InputError(f"two images are called {twice!r}; rename or remove one of them")
        self.paths = tuple(paths)

    def fingerprint(self, index: int) -> bytes:
        """Return size, begin and end of the file; a missing or irregular file has none."""
        if irregular(self.paths[index]) is not None:
            return b""
        try:
            with self.paths[index].open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                return ends(file, 0, size)
        except OSError:
            return b""

    def _content(self) -> Iterator[bytes | memoryview]:
        """Yield the sizes of all files, -1 for one that is missing, and some fingerprints."""
        sizes = np.array([_size(path) for path in self.paths], dtype="<i8")
        yield sizes.tobytes()
        yield from super()._content()

    def file(self, index: int) -> Path:
        """Return the file of image ``index``."""
        return self.paths[index]

    def read(self, index: int) -> Pixels:
        """Return image ``index`` as ``(H, W, 3)`` uint8, RGB."""
        return decode_image(self.paths[index], str(self.paths[index]))

    def read_small(self, index: int, at_least: int) -> Pixels:
        """Return image ``index`` as :meth:`read`; a JPEG may be smaller."""
        return decode_image(self.paths[index], str(self.paths[index]), at_least=at_least)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def image_files(folder: Path) -> Iterator[Path]:
    """Yield the files below ``folder`` with an image suffix, in a stable order.

    Hidden files and folders are skipped, and linked folders are not followed.

    Raises:
        InputError: there is no such folder, or it or one below cannot be read.
    """
    for place, names in visible_files(folder):
        for name in names:
            if os.path.splitext(name)[1].lower() in SUFFIXES:
                yield place / name


def left_out(folder: Path) -> str:
    """Return a sentence that names files below a folder that are not images; empty without any.

    The suffix decides. Hidden files do not count, and neither do tar files and Parquet tables,
    which may hold images.

    Args:
        folder: nothing is said of a path that is not a folder.

    Raises:
        InputError: the folder or one below cannot be read.
    """
    names, count = list[str](), 0
    for place, files in visible_files(folder) if folder.is_dir() else ():
        for name in files:
            if os.path.splitext(name)[1].lower() in _NAMED_ELSEWHERE:
                continue
            count += 1
            if len(names) < SHOWN:
                names.append(readable_id(place / name, folder))
    if not count:
        return ""
    left = counted(count, "file is not an image", "files are not images")
    more = ", ..." if count > SHOWN else ""
    return f"{left} by the suffix and left out of {str(folder)!r}: {', '.join(names)}{more}"


def readable_id(path: Path, folder: Path) -> str:
    """Return the path below ``folder`` as valid Unicode with forward slashes.

    Bytes of a file name that are not UTF-8 become backslash escapes, because ids are written to
    UTF-8 files.
    """
    return readable(path.relative_to(folder).as_posix())


def read_lines(file: Path) -> list[str]:
    """Return the lines of a list that comes with a data set, without line ends.

    Raises:
        InputError: the file is missing, not UTF-8 text, or larger than 256 MiB.
    """
    try:
        if file.stat().st_size > MAX_LIST_BYTES:
            raise InputError(f"the list {str(file)!r} is larger than 256 MiB; fetch the set again")
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot read {str(file)!r}, which belongs to the data set: {reason}; fetch it again"
        ) from error


def read_columns(file: Path, count: int, separator: str | None = None) -> list[list[str]]:
    """Return the lines of a list, split into ``count`` columns; empty lines are skipped.

    Args:
        file: the list.
        count: number of columns; the last one takes the rest of the line.
        separator: None splits at white space.

    Raises:
        InputError: as ``read_lines``, or a line has fewer columns.
    """
    rows = []
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        columns = line.strip().split(separator, count - 1)
        if len(columns) < count:
            raise InputError(
                f"line {number} of {str(file)!r} has {len(columns)} columns instead of {count}; "
                "fetch the set again"
            )
        rows.append(columns)
    return rows


def paths_below(folder: Path, names: Iterable[str], listed_in: Path) -> list[Path]:
    """Return the files that a list names, none of them outside ``folder``.

    Raises:
        InputError: a name is absolute or leads out of the folder.
    """
    paths = []
    for name in names:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or "\0" in name:
            raise InputError(
                f"{str(listed_in)!r} names {name!r}, which is outside {str(folder)!r}; fetch the "
                "set again"
            )
        paths.append(folder.joinpath(*relative.parts))
    return paths
