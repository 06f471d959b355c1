"""Addresses of image files, for their enlargement on the review page."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from crkd.data.splits.partition import Subset


class ImagePlaces:
    """Files of images as addresses below one folder; no address is kept.

    Args:
        images: source of the images.
    """

    def __init__(self, images: Subset) -> None:
        self._images = images
        paths = map(self._path, range(len(images)))
        folders = {os.path.dirname(path) for path in paths if path is not None}
        self._root = os.path.commonpath(folders) if folders else None

    @property
    def root(self) -> str | None:
        """The ``file:`` URI of a folder that contains all images; None without files."""
        if self._root is None:
            return None
        uri = Path(self._root).as_uri()
        # That of the topmost folder ends in a slash by itself.
        return uri if uri.endswith("/") else f"{uri}/"

    def name(self, row: int) -> str | None:
        """Return the percent-encoded path of an image below the folder.

        It is "" without a file, and None where the path is the id of the image after its first
        part, or where no image has a file.
        """
        if self._root is None:
            return None
        path = self._path(row)
        name = "" if path is None else quote(os.fsencode(os.path.relpath(path, self._root)))
        return None if name == self._images.ids[row].partition("/")[2] else name

    def _path(self, row: int) -> str | None:
        path = self._images.source.file(int(self._images.indices[row]))
        return None if path is None else os.path.abspath(path)
