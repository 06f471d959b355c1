"""The walk through a folder of images, which never takes an unreadable folder for an empty one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from crkd.core.errors import InputError


def visible_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder from ``folder`` on and the sorted names of its files, in a stable order.

    Hidden files and folders are skipped. Linked folders are not followed, because a link to a
    parent folder would never end.

    Raises:
        InputError: there is no such folder, or it or one below cannot be read.
    """

    def refuse(error: OSError) -> None:
        place = Path(error.filename or folder)
        # A folder below may be deleted during the walk.
        if not isinstance(error, FileNotFoundError) or place == folder:
            raise InputError(
                f"the folder of images {str(place)!r} cannot be read ({error.strerror}); allow "
                "reading it, or name another folder"
            ) from error

    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place), sorted(name for name in files if not name.startswith("."))
