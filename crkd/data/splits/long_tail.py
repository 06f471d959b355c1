"""Long-tailed class sizes of unlabeled images, for research."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.core.shuffle import stable_shuffle
from crkd.data.sources.base import Labels

STREAM = 1 << 20
"""Random stream that differs from the streams of held-out images."""


def long_tailed(classes: Labels, ratio: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return which images are kept for exponentially decreasing class sizes.

    Class m of M keeps ``n ratio^(-m / (M - 1))`` images, where n is the size of the smallest class
    (Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", 2019).
    The sizes depend only on the order of the classes, and the kept images on the seed.

    Args:
        classes: ``(N,)`` class of every image, -1 for none.
        ratio: images of the largest class for each image of the smallest, at least 1.
        seed: seed of the choice of images.

    Returns:
        ``(N,)`` bool; every class keeps at least one image.

    Raises:
        InputError: an image has no class.

    >>> kept = long_tailed(np.arange(30) % 3, 4.0, seed=0)
    >>> np.bincount((np.arange(30) % 3)[kept]).tolist()
    [10, 5, 2]
    """
    if (classes < 0).any():
        raise InputError(
            f"data.imbalance is {ratio}, but {int((classes < 0).sum())} unlabeled images have no "
            "known class; leave it at 1"
        )
    names, sizes = np.unique(classes, return_counts=True)
    kept = np.zeros(len(classes), dtype=bool)
    for place, name in enumerate(names.tolist()):
        share = ratio ** (-place / max(1, len(names) - 1))
        members = np.flatnonzero(classes == name)
        count = max(1, int(sizes.min() * share))
        kept[members[stable_shuffle(len(members), seed, stream=STREAM + name)[:count]]] = True
    return kept
