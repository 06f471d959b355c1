"""Addresses of image files, for their enlargement on the review page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from crkd.data.splits.partition import Subset


def image_places(images: Subset, rows: Sequence[int]) -> tuple[str | None, list[str | None]]:
    """Return the ``file:`` URI of a folder that contains all images, and their names below it.

    Args:
        images: source of the images.
        rows: positions in ``images``.

    Returns:
        The URI, None without files; for each row its percent-encoded path, "" without a file, None
        where the path is the id of the image after its first part.
    """
    paths = [images.source.file(int(images.indices[row])) for row in rows]
    folders = {str(Path(os.path.abspath(path)).parent) for path in paths if path is not None}
    if not folders:
        return None, [None] * len(rows)
    root = os.path.commonpath(folders)
    ids = (images.ids[row].partition("/")[2] for row in rows)
    names = [
        "" if path is None else quote(os.fsencode(os.path.relpath(os.path.abspath(path), root)))
        for path in paths
    ]
    below = [None if name == own else name for name, own in zip(names, ids, strict=True)]
    return f"{Path(root).as_uri()}/", below
