"""Checks of the clusters of a head: unused clusters, and pairs that may be one class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError

UNUSED = 0.1
"""Part of the average number of images up to which a cluster counts as unused."""
LEAST_OVERLAP = 0.5
"""The least overlap of two clusters that may be one class."""


class Merge(NamedTuple):
    """Two clusters that may be one class.

    Attributes:
        first: the lower cluster id.
        second: the higher cluster id.
        overlap: cosine of the clusters' probabilities over the images, in [0, 1].
        agreement: fraction of the other heads that put most images of both in one cluster; NaN
            with a single head.
    """

    first: int
    second: int
    overlap: float
    agreement: float


def unused_clusters(assignment: NDArray[np.int64], num_clusters: int) -> NDArray[np.int64]:
    """Return the clusters with at most a tenth of the average number of images.

    Args:
        assignment: ``(N,)`` in [0, M).
        num_clusters: M.

    >>> unused_clusters(np.array([0, 0, 0, 2, 2, 2]), 4).tolist()
    [1, 3]
    """
    counts = np.bincount(assignment, minlength=num_clusters)
    return np.flatnonzero(counts <= UNUSED * len(assignment) / num_clusters)


def merge_suggestions(logits: NDArray[np.float32], head: int) -> list[Merge]:
    """Return pairs of clusters of one head that may be one class, the most likely first.

    A pair is suggested if its clusters have similar probabilities over the images (an overlap of
    at least 0.5), or if more than half of the other heads put most images of both clusters in one
    cluster. Clusters without an image are left out.

    Args:
        logits: ``(H, N, M)`` of the novel heads.
        head: index of the head.

    Raises:
        InputError: the head does not exist.
    """
    if not 0 <= head < len(logits):
        raise InputError(f"head is {head}; there are {len(logits)} heads")
    scaled = logits[head].astype(np.float64)
    chances = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    lengths = np.maximum(np.sqrt(np.square(chances).sum(axis=0)), 1e-30)
    overlaps = chances.T @ chances / np.outer(lengths, lengths)
    assignments = logits.argmax(axis=-1)
    homes = _homes(assignments, head, logits.shape[-1])
    used = np.unique(assignments[head])
    pairs = []
    for place, first in enumerate(used):
        for second in used[place + 1 :]:
            same = float((homes[:, first] == homes[:, second]).mean()) if len(homes) else np.nan
            one = Merge(int(first), int(second), float(overlaps[first, second]), same)
            if one.overlap >= LEAST_OVERLAP or one.agreement > 0.5:
                pairs.append(one)
    return sorted(pairs, key=lambda pair: -np.nansum([pair.overlap, pair.agreement]))


def _homes(assignments: NDArray[np.int64], head: int, num_clusters: int) -> NDArray[np.int64]:
    """Return where each other head puts most images of each cluster of ``head``, (H - 1, M)."""
    others = np.delete(assignments, head, axis=0)
    homes = np.zeros((len(others), num_clusters), np.int64)
    for number, assigned in enumerate(others):
        table = np.zeros((num_clusters, num_clusters), np.int64)
        np.add.at(table, (assignments[head], assigned), 1)
        homes[number] = table.argmax(axis=1)
    return homes
