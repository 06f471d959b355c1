"""Encoded images that are files below one folder."""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path

from crkd.core.paths import irregular, readable
from crkd.data.encoded.base import MAX_IMAGE_BYTES, EncodedImages, Names
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.decode import SUFFIXES
from crkd.data.sources.walk import visible_files


class EncodedFolder(EncodedImages):
    """The image files below a folder, in a stable order.

    The class of an image is the outermost folder that holds it. Hidden files and folders are
    skipped, and links to folders are not followed.

    Args:
        place: the folder.

    Attributes:
        passed_over: number of files that are not images by their suffix, by suffix.

    Raises:
        InputError: the folder or one below cannot be read.
    """

    def __init__(self, place: Path) -> None:
        names, classes = Names(), []
        # Names with bytes that are not UTF-8 cannot be opened by what is shown of them.
        self._odd: dict[int, Path] = {}
        self.passed_over: Counter[str] = Counter()
        for here, files in visible_files(place):
            parts = here.relative_to(place).parts
            class_name = readable(parts[0]) if parts else None
            # Texts, because a path object for each of a million files takes most of the time.
            folders = "".join(f"{part}/" for part in parts)
            for file in files:
                suffix = os.path.splitext(file)[1].lower()
                if suffix not in SUFFIXES:
                    self.passed_over["no suffix" if suffix in ("", ".") else suffix] += 1
                    continue
                name = folders + file
                shown = readable(name)
                if shown != name:
                    self._odd[len(names)] = here / file
                names.append(shown)
                classes.append(class_name)
        super().__init__(place, names, classes)

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return self._odd.get(index) or self.place / self.name(index)

    def read(self, index: int) -> bytes:
        """Return the content of a file; a named pipe or a device is refused without waiting."""
        return read_regular(self.path(index))


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file of up to ``MAX_IMAGE_BYTES``.

    Raises:
        UnreadableImageError: there is none, it is of another kind, or it is too large.
    """
    kind = irregular(path)
    if kind is not None:
        raise UnreadableImageError(str(path), f"{kind}, not a regular file")
    try:
        # A file that was replaced by a named pipe just now would otherwise wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise UnreadableImageError(str(path), error.strerror or str(error)) from None
    try:
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImageError(str(path), "not a regular file")
            if status.st_size > MAX_IMAGE_BYTES:
                raise UnreadableImageError(
                    str(path), f"{status.st_size:,} bytes are more than {MAX_IMAGE_BYTES:,}"
                )
            return file.read()
    except OSError as error:
        raise UnreadableImageError(str(path), error.strerror or str(error)) from None
