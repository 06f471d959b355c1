"""Image files of a command, and the list of unreadable ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crkd.core.errors import InputError, listed
from crkd.core.paths import readable
from crkd.data.sources.base import Pixels, UnreadableImageError
from crkd.data.sources.decode import SUFFIXES
from crkd.data.sources.files import FileSource, image_files


def find_images(arguments: Sequence[str | Path]) -> list[Path]:
    """Return the image files that the arguments mean, each once, in their order.

    A file counts whatever its suffix; in folders the suffix decides, hidden files are skipped
    and links to folders are not followed.

    Raises:
        InputError: an argument does not exist, or there is no image at all.
    """
    found: dict[Path, None] = {}
    for argument in map(Path, arguments):
        if argument.is_dir():
            found |= dict.fromkeys(image_files(argument))
        elif argument.is_file():
            found[argument] = None
        else:
            raise InputError(
                f"IMAGES {readable(argument)!r} is neither a file nor a folder; check the path"
            )
    if not found:
        names = listed((repr(readable(argument)) for argument in arguments), 3)
        raise InputError(f"IMAGES {names} hold no image ({listed(sorted(SUFFIXES))}); add some")
    return list(found)


class TolerantSource(FileSource):
    """Image files of which some cannot be read: those are black, and noted.

    Attributes:
        unreadable: the reason for each index that could not be read so far.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(paths, np.full(len(paths), -1), (), [str(path) for path in paths])
        self.unreadable: dict[int, str] = {}

    def read(self, index: int) -> Pixels:
        """Return image ``index`` as ``(H, W, 3)`` uint8; one black pixel if it is unreadable."""
        try:
            return super().read(index)
        except UnreadableImageError as error:
            return self._black(index, error)

    def read_small(self, index: int, at_least: int) -> Pixels:
        """Return image ``index`` as :meth:`read`; a JPEG may be smaller."""
        try:
            return super().read_small(index, at_least)
        except UnreadableImageError as error:
            return self._black(index, error)

    def _black(self, index: int, error: UnreadableImageError) -> Pixels:
        self.unreadable[index] = error.reason
        return np.zeros((1, 1, 3), np.uint8)
