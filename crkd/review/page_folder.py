"""Folder of thumbnails next to a review page."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from crkd.core.errors import InputError
from crkd.data.splits.partition import Subset
from crkd.review.thumbnails import ACROSS, write_sheets

_SHEET: Final = re.compile(r"\d+\.jpg")


def written_sheets(
    images: Subset, rows: list[int], folder: Path, entries: list[dict[str, Any]]
) -> tuple[dict[str, Any], int]:
    """Write the thumbnails of a page to a folder, which is complete or absent.

    Args:
        images: source of the images.
        rows: positions in ``images`` in the order of the page.
        folder: the folder; one of an earlier page is replaced.
        entries: entries of the images in the page; unreadable ones are marked.

    Returns:
        The page's entry ``sheets``, and the size of the folder in bytes.

    Raises:
        InputError: the folder contains other files, or it cannot be written.
    """
    if folder.exists():
        _check_ours(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror})") from error
    try:
        side, readable = write_sheets(images, rows, temporary)
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); free space or choose another --out"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for entry, good in zip(entries, readable, strict=True):
        if not good:
            entry["unreadable"] = True
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {"folder": folder.name, "across": ACROSS, "side": side}, size


def _check_ours(folder: Path) -> None:
    """Check that a folder contains only sheets of thumbnails, since it will be replaced."""
    foreign = (
        [f.name for f in folder.iterdir() if not _SHEET.fullmatch(f.name)]
        if folder.is_dir()
        else [folder.name]
    )
    if foreign:
        raise InputError(
            f"{folder} is needed for thumbnails, but it contains {foreign[0]!r}; move it or choose "
            "another --out"
        )
