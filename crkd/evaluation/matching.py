"""Matching of clusters to classes: contingency table, Hungarian matching, clustering accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crkd.core.errors import InputError

Ids = NDArray[np.integer[Any]]


def contingency(
    predicted: ArrayLike, truth: ArrayLike, num_clusters: int, num_classes: int
) -> NDArray[np.int64]:
    """Count the images of every (cluster, class) pair.

    Args:
        predicted: ``(N,)`` cluster ids in ``[0, num_clusters)``.
        truth: ``(N,)`` class ids in ``[0, num_classes)``.
        num_clusters: number of rows of the result.
        num_classes: number of columns of the result.

    Returns:
        ``(num_clusters, num_classes)`` counts that sum to N.

    Raises:
        InputError: lengths differ, or an id is not an integer or out of its range.

    >>> contingency([0, 0, 1], [1, 1, 0], num_clusters=2, num_classes=3)
    array([[0, 2, 0],
           [1, 0, 0]])
    """
    rows = as_ids(predicted, "predicted")
    columns = as_ids(truth, "truth")
    if len(rows) != len(columns):
        raise InputError(
            f"predicted has {len(rows)} entries and truth has {len(columns)}; "
            "give one cluster and one class an image"
        )
    check_range(rows, num_clusters, "predicted")
    check_range(columns, num_classes, "truth")
    cells = np.bincount(rows * num_classes + columns, minlength=num_clusters * num_classes)
    return cells.astype(np.int64, copy=False).reshape(num_clusters, num_classes)


def match(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Match every cluster to at most one class so that the most images agree.

    Uses the Hungarian algorithm (Kuhn, 1955) on the counts. The numbers of clusters and classes
    may differ: surplus clusters get -1, surplus classes get no cluster.

    Args:
        counts: ``(num_clusters, num_classes)`` from :func:`contingency`.

    Returns:
        ``(num_clusters,)`` class of each cluster, no class twice, -1 for none.

    >>> match(contingency([0, 0, 1, 2], [1, 1, 0, 1], num_clusters=3, num_classes=2))
    array([ 1,  0, -1])
    """
    # Imported here, because the import takes a second and a training run does not need it.
    from scipy.optimize import linear_sum_assignment

    classes = np.full(counts.shape[0], -1, dtype=np.int64)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    classes[rows] = columns
    return classes


def clustering_accuracy(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return the fraction of images whose cluster is matched to their class, at the best matching.

    Args:
        predicted: ``(N,)`` cluster ids, 0 or above, with or without gaps.
        truth: ``(N,)`` class ids, likewise.

    Returns:
        A value in [0, 1]; it does not change when clusters or classes are renumbered.

    Raises:
        InputError: there is no image, lengths differ, or an id is negative or no integer.

    >>> clustering_accuracy([0, 0, 1, 1], [5, 5, 3, 5])
    0.75
    """
    rows = as_ids(predicted, "predicted")
    columns = as_ids(truth, "truth")
    if len(rows) == 0 or len(columns) == 0:
        raise InputError("predicted or truth holds no image; accuracy needs at least one")
    check_range(rows, int(rows.max()) + 1, "predicted")
    check_range(columns, int(columns.max()) + 1, "truth")
    # A table of all numbers up to the largest id could exceed the memory.
    clusters, rows = np.unique(rows, return_inverse=True)
    labels, columns = np.unique(columns, return_inverse=True)
    classes = match(contingency(rows, columns, len(clusters), len(labels)))
    return float(np.mean(classes[rows] == columns))


def as_ids(values: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return ``values`` as ``(N,)`` int64.

    Raises:
        InputError: it is not one-dimensional, or holds anything else than integers.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(
            f"{name} has shape {array.shape}; give a one-dimensional array of ids (the argmax of "
            "logits)"
        )
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name} has dtype {array.dtype}; give integer ids")
    return array.astype(np.int64)


def check_range(ids: Ids, limit: int, name: str) -> None:
    """Refuse ids that are not in ``[0, limit)``.

    Raises:
        InputError: an id is out of the range.
    """
    if ids.size and (ids.min() < 0 or ids.max() >= limit):
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise InputError(f"{name} holds the id {wrong}; ids must be in [0, {limit})")
