"""Known images that are repeated among the unlabeled images in another file."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.near_duplicates import near_duplicates
from crkd.data.sources.base import ImageSource, Pixels
from crkd.data.splits.partition import Subset, Subsets, joined
from crkd.data.storage.resize import fit_square

SIDE: Final = 32
"""Side in pixels at which images are compared; smaller images keep theirs."""


class SmallSquares(ImageSource):
    """The images of a source; of each one that is read, a small square is kept in memory.

    Args:
        source: the images.
        image_size: side in pixels at which they are used.

    Attributes:
        squares: ``(N, 3, S, S)`` uint8 with S at most ``SIDE``; zeros of images that are not read.
    """

    def __init__(self, source: ImageSource, image_size: int) -> None:
        super().__init__(source.labels, source.class_names, source.ids)
        side = min(image_size, SIDE)
        self.squares: Pixels = np.zeros((len(source), 3, side, side), np.uint8)
        self._source = source

    def read(self, index: int) -> Pixels:
        """Return image ``index`` of the source."""
        image = self._source.read(index)
        self.squares[index] = fit_square(image, self.squares.shape[-1])
        return image


class Pair(NamedTuple):
    """Two images that show the same.

    Attributes:
        known: name of the known image.
        novel: name of the unlabeled image.
        cosine: of their pixels, each less its mean, in [-1, 1].
    """

    known: str
    novel: str
    cosine: float


def repeated_images(subsets: Subsets, images: SmallSquares, *, cosine: float) -> list[Pair]:
    """Return pairs of a known and an unlabeled training image with nearly the same pixels.

    They are compared whatever the brightness and contrast: a picture that was saved again, scaled
    or compressed is found; one that was cropped or turned is not.

    Args:
        subsets: known and unlabeled images.
        images: their source, of which they were read; its squares are dropped.
        cosine: the least similarity of a pair, in [-1, 1].

    Raises:
        InputError: the similarity is out of range.
    """
    known = joined([subsets.known_train, subsets.known_val])
    novel = subsets.unlabeled
    if not len(known) or not len(novel):
        return []
    left, right = (_contrast(images.squares, part) for part in (known, novel))
    # A copy without rows, because the search takes as much memory.
    images.squares = images.squares[:0].copy()
    found = near_duplicates(left, right, cosine=cosine)
    return [
        Pair(known.ids[a], novel.ids[b], float(c))
        for a, b, c in zip(found.known, found.novel, found.cosines, strict=True)
    ]


def _contrast(squares: Pixels, part: Subset) -> NDArray[np.float32]:
    """Return the pixels of a subset less their means, ``(n, 3 S S)``."""
    pixels = squares[part.indices].reshape(len(part), -1).astype(np.float32) / np.float32(255.0)
    pixels -= pixels.mean(axis=1, keepdims=True)
    return pixels
