"""Known images that are repeated among the unlabeled images in another file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.near_duplicates import near_duplicates
from crkd.data.splits.partition import joined
from crkd.stages.run_data import RunData


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


def repeated_images(data: RunData, *, cosine: float) -> list[Pair]:
    """Return pairs of a known and an unlabeled training image with nearly the same pixels.

    Pixels are compared at 32 px or less, whatever the brightness and contrast: a picture that was
    saved again, scaled or compressed is found; one that was cropped or turned is not.

    Args:
        data: the images.
        cosine: the least similarity of a pair, in [-1, 1].

    Raises:
        InputError: the similarity is out of range.
    """
    known = joined([data.subsets.known_train, data.subsets.known_val])
    novel = data.subsets.unlabeled
    if not len(known) or not len(novel):
        return []
    left, right = (_contrast(data.pixels(part)) for part in (known, novel))
    found = near_duplicates(left, right, cosine=cosine)
    return [
        Pair(known.ids[a], novel.ids[b], float(c))
        for a, b, c in zip(found.known, found.novel, found.cosines, strict=True)
    ]


def _contrast(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    centered: NDArray[np.float32] = pixels - pixels.mean(axis=1, keepdims=True)
    return centered
