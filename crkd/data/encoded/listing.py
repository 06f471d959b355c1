"""Image sources of the arguments of a command: folders, tar files and tables."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crkd.core.errors import InputError, listed
from crkd.core.paths import readable
from crkd.data.encoded.base import EncodedImages
from crkd.data.encoded.folder import EncodedFolder
from crkd.data.encoded.table import EncodedTable, has_images
from crkd.data.encoded.tar import EncodedTar
from crkd.data.sources.decode import SUFFIXES

TAR, TABLE = ".tar", ".parquet"


@dataclass(frozen=True, eq=False)
class Root:
    """The images of one argument.

    Attributes:
        name: with what the ids of its images begin.
        path: the argument as an absolute path.
        parts: the images, in order; prefix of their names within the root, and the images.
    """

    name: str
    path: Path
    parts: tuple[tuple[str, EncodedImages], ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return sum(len(images) for _, images in self.parts)


class Listing:
    """All images that are meant, in a fixed order.

    Args:
        roots: the images of each argument.
        passed_over: number of files that are not images, by suffix.
    """

    def __init__(self, roots: Sequence[Root], passed_over: Counter[str]) -> None:
        self.roots, self.passed_over = tuple(roots), passed_over
        self._parts = [
            (f"{root.name}/{prefix}", images) for root in roots for prefix, images in root.parts
        ]
        self._starts = np.cumsum([0, *(len(images) for _, images in self._parts)])

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self._starts[-1])

    def image_id(self, index: int) -> str:
        """Return the id of an image: "photos/cat/1.jpg"."""
        prefix, images, row = self._at(index)
        return prefix + images.name(row)

    def class_of(self, index: int) -> str | None:
        """Return the class of an image; None where nothing gives one."""
        _, images, row = self._at(index)
        return images.class_of(row)

    def path(self, index: int) -> Path | None:
        """Return the file of an image; None within a tar file or a table."""
        _, images, row = self._at(index)
        return images.path(row)

    def read(self, index: int) -> bytes:
        """Return an encoded image. Safe to call from many threads.

        Raises:
            UnreadableImageError: there is none, or it cannot be read.
        """
        _, images, row = self._at(index)
        return images.read(row)

    def _at(self, index: int) -> tuple[str, EncodedImages, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        prefix, images = self._parts[number]
        return prefix, images, index - int(self._starts[number])

    def named(self, taken: Mapping[str, str]) -> Listing:
        """Return the listing with other names of roots, which no file is read for.

        Args:
            taken: names that an earlier call gave, by the absolute path.

        Raises:
            InputError: an argument and a root of the earlier call are within each other.
        """
        _check_nesting([root.path for root in self.roots], [shown_path(path) for path in taken])
        names = dict(taken)
        roots = [replace(root, name=_root_name(root.path, names)) for root in self.roots]
        return Listing(roots, self.passed_over)


def find_encoded(
    arguments: Sequence[str | Path], taken: Mapping[str, str] | None = None
) -> Listing:
    """Return the images that the arguments mean.

    A folder means the image files below it, and the tar files and tables of images directly in
    it. Its name is the beginning of the ids, with a number where another folder has that name.

    Args:
        arguments: folders, tar files and Parquet files.
        taken: names of roots that an earlier call gave, by their absolute path.

    Raises:
        InputError: an argument is missing or of another kind, two arguments are within each other,
            or an argument and a root of an earlier call, a file is damaged, or there is no
            image.
    """
    # A link keeps its own name: it is the name that the person knows.
    paths = list(dict.fromkeys(Path(os.path.abspath(argument)) for argument in arguments))
    if not paths:
        raise InputError("DIR is missing; name folders, tar files or Parquet files of images")
    names = dict(taken or {})
    _check_nesting(paths, [shown_path(path) for path in names])
    passed_over: Counter[str] = Counter()
    roots = [Root(_root_name(path, names), path, _parts(path, passed_over)) for path in paths]
    listing = Listing(roots, passed_over)
    if not len(listing):
        shown = listed((repr(str(argument)) for argument in arguments), 3)
        raise InputError(f"DIR {shown} holds no image ({listed(sorted(SUFFIXES))}); add some")
    return listing


def _root_name(path: Path, names: dict[str, str]) -> str:
    """Return the name of a root, and enter it into ``names``."""
    key = readable(path)
    if key not in names:
        base, number = readable(path.name or "root"), 1
        name = base
        while name in names.values():
            number += 1
            name = f"{base}-{number}"
        names[key] = name
    return names[key]


def _check_nesting(paths: Sequence[Path], taken: Sequence[Path]) -> None:
    """Refuse images that would be there twice; roots of an earlier call may be as they are."""
    pairs = [(one, other) for one in paths for other in paths]
    pairs += [pair for one in paths for other in taken for pair in ((one, other), (other, one))]
    for one, other in pairs:
        if one != other and one.resolve().is_relative_to(other.resolve()):
            both = one in paths and other in paths
            remedy = "leave one of them out" if both else "only one may be in --out: name another"
            raise InputError(
                f"DIR {str(one)!r} is within {str(other)!r}, and its images would count twice; "
                f"{remedy}"
            )


def check_place(path: Path) -> None:
    """Refuse a path that is no folder, tar file or table.

    Raises:
        InputError: the path does not exist, or is another kind of file.
    """
    if path.is_dir():
        return
    if not path.is_file():
        kind = "is neither a folder nor a regular file" if path.exists() else "does not exist"
        raise InputError(f"DIR {str(path)!r} {kind}; name a folder of images")
    suffix = path.suffix.lower()
    if suffix not in (TAR, TABLE):
        raise InputError(
            f"DIR {str(path)!r} is a file with the suffix {suffix!r}; name a folder of images, a "
            "tar file (.tar) or a table of images (.parquet)"
        )


def _parts(path: Path, passed_over: Counter[str]) -> tuple[tuple[str, EncodedImages], ...]:
    check_place(path)
    if path.is_dir():
        return _folder_parts(path, passed_over)
    return (("", EncodedTar(path) if path.suffix.lower() == TAR else EncodedTable(path)),)


def _folder_parts(path: Path, passed_over: Counter[str]) -> tuple[tuple[str, EncodedImages], ...]:
    images = EncodedFolder(path)
    passed_over += images.passed_over
    parts: list[tuple[str, EncodedImages]] = [("", images)] if len(images) else []
    # The suffix comes first: each file that is asked for its kind costs a call of the system.
    files = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in (TAR, TABLE) and not file.name.startswith(".") and file.is_file()
    )
    for file in files:
        found: EncodedImages | None = None
        if file.suffix.lower() == TAR:
            found = EncodedTar(file)
        elif file.suffix.lower() == TABLE and has_images(file):
            found = EncodedTable(file)
        if found is not None:
            parts.append((f"{readable(file.name)}/", found))
            passed_over[file.suffix.lower()] -= 1
    return tuple(parts)


def shown_path(text: str) -> Path:
    """Return the path that :func:`~crkd.core.paths.readable` shows as ``text``."""
    path = Path(text)
    if path.exists():
        return path
    # Bytes that are no UTF-8 are above 0x7f.
    raw = re.sub(
        rb"\\x([89a-f][0-9a-f])", lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(text)
    )
    return Path(os.fsdecode(raw))
