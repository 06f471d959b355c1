"""Folder of thumbnails next to a review page."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.atomic_write import share
from crkd.core.errors import InputError
from crkd.data.splits.partition import Subset
from crkd.review.thumbnails import ACROSS, write_sheets

_SHEET: Final = re.compile(r"\d+\.jpg")


def written_sheets(
    images: Subset, rows: NDArray[np.int64], folder: Path
) -> tuple[dict[str, Any], NDArray[np.bool_], int]:
    """Write the thumbnails of a page to a folder, which is complete or absent.

    Args:
        images: source of the images.
        rows: ``(n,)`` positions in ``images`` in the order of the page.
        folder: the folder; one of an earlier page is replaced.

    Returns:
        The page's entry ``sheets``; ``(n,)`` whether each image is readable; and the size of the
        folder in bytes.

    Raises:
        InputError: the folder contains other files, or it cannot be written.
    """
    check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror})") from error
    try:
        side, readable = write_sheets(images, rows, temporary)
        share(temporary, 0o777)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); free space or choose another --out"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {"folder": folder.name, "across": ACROSS, "side": side}, readable, size


def check_folder(folder: Path) -> None:
    """Check that a folder is absent or contains only sheets of thumbnails, as it is replaced.

    Raises:
        InputError: it contains other files.
    """
    if not folder.exists():
        return
    foreign = (
        (f.name for f in folder.iterdir() if not _SHEET.fullmatch(f.name))
        if folder.is_dir()
        else iter([folder.name])
    )
    first = next(foreign, None)
    if first is not None:
        raise InputError(
            f"{folder} is needed for thumbnails, but it contains {first!r}; move it or choose "
            "another --out"
        )
