"""Small subset of a data set, for smoke tests.

Hidden labels take part in the choice, as the images of all steps of a plan have to be the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.core.shuffle import stable_shuffle
from crkd.data.sources.base import Labels
from crkd.data.splits.members import members_of

SEED: Final = 0
"""Of the choice of images; it is not the seed of a run, so that all runs use the same images."""
STREAM: Final = 1 << 21
"""Random stream that differs from those of held-out images and of long tails."""


def class_fraction_mask(labels: Labels, fraction: float) -> npt.NDArray[np.bool_]:
    """Return which images a smaller data set keeps: a fraction of each class, at least one image.

    Args:
        labels: ``(N,)`` class of every image; images without a class (-1) count as one class.
        fraction: of the images of each class, in (0, 1].

    Returns:
        ``(N,)`` bool.

    Raises:
        InputError: the fraction is out of range.

    >>> class_fraction_mask(np.array([0, 0, 0, 0, 1, -1]), 0.5).sum()
    np.int64(4)
    """
    if not 0.0 < fraction <= 1.0:
        raise InputError(f"data.subset {fraction} is not in (0, 1]; 0.05 is usual for a smoke test")
    if fraction == 1.0:
        return np.ones(len(labels), np.bool_)
    kept, classes = np.zeros(len(labels), np.bool_), np.unique(labels)
    for label, members in zip(classes.tolist(), members_of(labels, classes), strict=True):
        order = stable_shuffle(len(members), SEED, stream=STREAM + label + 1)
        kept[members[order[: max(1, round(fraction * len(members)))]]] = True
    return kept
