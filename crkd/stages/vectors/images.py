"""The images behind the vectors of ``crkd embed``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset
from crkd.data.datasets.features import FeatureSource
from crkd.data.sources.base import Pixels, UnreadableImageError
from crkd.data.sources.decode import decode_image
from crkd.data.vectors.table import FeatureTable
from crkd.stages.embed.listing import Listing, find_encoded


class EmbeddedSource(FeatureSource):
    """Feature vectors whose images can be read, as for thumbnails.

    Args:
        source: labels and ids of the vectors of all tables.
        tables: files of vectors, in the order of the rows.
    """

    def __init__(self, source: FeatureSource, tables: Sequence[FeatureTable]) -> None:
        super().__init__(source.labels, source.class_names, source.ids)
        self._tables = tuple(tables)
        self._starts = np.cumsum([0, *map(len, tables)])

    def file(self, index: int) -> Path | None:
        """Return the file of the image behind a vector; None if it has none of its own."""
        found, name = self._found(index)
        if found is None or name not in found[1]:
            return None
        return found[0].path(found[1][name])

    def read(self, index: int) -> Pixels:
        """Return the image behind a vector, ``(H, W, 3)`` uint8.

        Raises:
            InputError: the vector is of another origin, or the image is missing or unreadable.
        """
        found, name = self._found(index)
        if found is None:
            raise InputError(f"{name} is a vector without an image; use vectors of crkd embed")
        listing, rows = found
        if name not in rows:
            raise UnreadableImageError(name, "the file is missing")
        return decode_image(listing.read(rows[name]), name)

    def _found(self, index: int) -> tuple[tuple[Listing, dict[str, int]] | None, str]:
        """Return the images of the table of a vector, and the id of the vector."""
        table = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._images[table], self.ids[index]

    @cached_property
    def _images(self) -> list[tuple[Listing, dict[str, int]] | None]:
        """For each table, its images and the position of each id."""
        return [_images_of(table) for table in self._tables]


def with_images(dataset: Dataset, tables: Sequence[FeatureTable]) -> Dataset:
    """Return a data set of vectors whose source reads the images behind them."""
    assert isinstance(dataset.train, FeatureSource)
    return dataclasses.replace(dataset, train=EmbeddedSource(dataset.train, tables))


def _images_of(table: FeatureTable) -> tuple[Listing, dict[str, int]] | None:
    if table.embedding is None:
        return None
    roots = {root["path"]: root["name"] for root in table.embedding["roots"]}
    listing = find_encoded(list(roots), roots)
    return listing, {listing.image_id(row): row for row in range(len(listing))}
