"""The images behind the vectors of ``crkd embed``."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from crkd.core.errors import InputError, listed
from crkd.data.datasets.base import Dataset
from crkd.data.datasets.features import FeatureSource
from crkd.data.encoded.listing import Listing, find_encoded, shown_path
from crkd.data.sources.base import Pixels, UnreadableImageError
from crkd.data.sources.decode import decode_image
from crkd.data.storage.workers import parallel
from crkd.data.vectors.embedding_file import Digests, EmbeddingFile, EmbeddingInfo
from crkd.data.vectors.table import FeatureTable

MISSING, CHANGED = "missing", "changed"
_BLOCK: Final = 256


class EmbeddedSource(FeatureSource):
    """Feature vectors whose images can be read.

    Args:
        source: labels and ids of the vectors of all tables.
        tables: files of vectors, in the order of the rows.
    """

    def __init__(self, source: FeatureSource, tables: Sequence[FeatureTable]) -> None:
        super().__init__(source.labels, source.class_names, source.ids)
        self._files = [
            None if table.embedding is None else _EmbeddedFile(table.path) for table in tables
        ]
        self._starts = np.cumsum([0, *map(len, tables)])

    def read(self, index: int) -> Pixels:
        """Return the image behind a vector, ``(H, W, 3)`` uint8.

        Raises:
            InputError: the vector is of another origin, or the image is missing or unreadable.
        """
        return decode_image(self.encoded(index), self.ids[index])

    def read_small(self, index: int, at_least: int) -> Pixels:
        """Return the image behind a vector as :meth:`read`; a JPEG may be smaller."""
        return decode_image(self.encoded(index), self.ids[index], at_least=at_least)

    def file(self, index: int) -> Path | None:
        """Return the file of the image behind a vector; None if it has none of its own."""
        embedded = self._files[self._table(index)]
        if embedded is None or self.ids[index] not in embedded.rows:
            return None
        return embedded.listing.path(embedded.rows[self.ids[index]])

    def encoded(self, index: int) -> bytes:
        """Return the file content of the image behind a vector. Raises as :meth:`read`."""
        file, _ = self._at(index)
        name = self.ids[index]
        if name not in file.rows:
            raise UnreadableImageError(name, "the file is missing")
        return file.listing.read(file.rows[name])

    def fingerprint(self, index: int) -> bytes:
        """Return the digest of the image that was embedded."""
        file, row = self._at(index)
        digest: bytes = file.digests[row].tobytes()
        return digest

    def check(self) -> None:
        """Compare all images with the digests of the embedding.

        Raises:
            InputError: images are missing or have changed.
        """
        for file in self._files:
            if file is not None:
                file.open()
        found: dict[str, list[str]] = {MISSING: [], CHANGED: []}
        starts = range(0, len(self), _BLOCK)
        blocks = [range(start, min(start + _BLOCK, len(self))) for start in starts]
        for block in parallel(self._problems, blocks):
            for kind, name in block:
                found[kind].append(name)
        counts = [f"{len(n):,} {kind} ({listed(n, 3)})" for kind, n in found.items() if n]
        if counts:
            raise InputError(
                f"of {len(self):,} embedded images {' and '.join(counts)}; restore them, or run "
                "discover again"
            )

    def _problems(self, rows: range) -> list[tuple[str, str]]:
        """Return kind and id of the images that are not those that were embedded."""
        found = []
        for row in rows:
            try:
                content = self.encoded(row)
            except UnreadableImageError:
                found.append((MISSING, self.ids[row]))
                continue
            if hashlib.sha256(content).digest() != self.fingerprint(row):
                found.append((CHANGED, self.ids[row]))
        return found

    def _table(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def _at(self, index: int) -> tuple[_EmbeddedFile, int]:
        """Return the file of a vector and its row there."""
        table = self._table(index)
        file = self._files[table]
        if file is None:
            raise InputError(
                f"{self.ids[index]} is a vector without an image; use vectors of crkd embed"
            )
        return file, index - int(self._starts[table])


class _EmbeddedFile:
    """The images of one file of vectors, listed when the first one is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def info(self) -> EmbeddingInfo:
        with EmbeddingFile(self._path) as file:
            return file.info

    @cached_property
    def digests(self) -> Digests:
        with EmbeddingFile(self._path) as file:
            return file.digests()

    @cached_property
    def listing(self) -> Listing:
        roots = {root.path: root.name for root in self.info.roots}
        places = [shown_path(path) for path in roots]
        lost = [path for path, place in zip(roots, places, strict=True) if not place.exists()]
        if lost:
            raise InputError(
                f"the images of {str(self._path)!r} are not in {lost[0]!r} any more; restore them, "
                "or run discover again"
            )
        return find_encoded(places, roots)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Position of each id in the listing."""
        return {self.listing.image_id(row): row for row in range(len(self.listing))}

    def open(self) -> None:
        """List images and digests before threads read: each of them would list the images."""
        _ = self.rows, self.digests


def with_images(dataset: Dataset, tables: Sequence[FeatureTable]) -> Dataset:
    """Return a data set of vectors whose source reads the images behind them."""
    assert isinstance(dataset.train, FeatureSource)
    return dataclasses.replace(dataset, train=EmbeddedSource(dataset.train, tables))
