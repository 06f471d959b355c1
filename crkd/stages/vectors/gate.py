"""Classifier of the group of a row: the known classes, or the classes of one discovery step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.logistic import logistic_regression
from crkd.clustering.tied_mixtures import TiedMixtures
from crkd.clustering.whitening import WhitenedSpace

Doubles = NDArray[np.float64]

OLD_LOSS, NEW_LOSS = 1.5, 5.0
"""Points that old and new classes may lose to each other in the joint prediction.

The old ones get less than the 2 points that they may lose on unseen vectors: the space is whitened
by their training vectors, which are therefore a little nearer to each other than unseen ones.
"""


@dataclass(frozen=True, eq=False)
class Gate:
    """A linear classifier of all classes, which are divided into groups.

    Attributes:
        space: of the vectors, whitened by the known classes.
        weights: ``(k, C)`` float32.
        biases: ``(C,)`` float32.
        sizes: classes of each of G groups; they sum to C. That of the known classes, the first, is
            0 if no class is known.
        memory: prototypes of the C classes in the space: all that is kept of their vectors.
    """

    space: WhitenedSpace
    weights: Floats
    biases: Floats
    sizes: tuple[int, ...]
    memory: TiedMixtures

    def scores(self, rows: Floats) -> Floats:
        """Return the logits ``(N, C)`` of all classes for rows ``(N, k)`` in the space."""
        return rows @ self.weights + self.biases

    def joint(self, vectors: Floats, heads: Sequence[Floats]) -> Doubles:
        """Return the log-probabilities of all classes, ``(N, C)``.

        The best class of a group by the gate says how far a vector belongs to the group. Within a
        group the group's own head decides: its best class has the score of the group, and its
        classes keep the relations that they had before others came.

        Args:
            vectors: ``(N, D)``.
            heads: logits ``(N, C_g)`` of each group.
        """
        from scipy.special import log_softmax

        scores = self.scores(self.space.rows(vectors)).astype(np.float64)
        groups = np.split(scores, np.cumsum(self.sizes)[:-1], axis=1)
        parts = [
            group.max(axis=1, keepdims=True) + head - head.max(axis=1, keepdims=True)
            for group, head in zip(groups, heads, strict=True)
            if group.shape[1]
        ]
        return np.asarray(log_softmax(np.concatenate(parts, axis=1), axis=1))


def fit_gate(
    space: WhitenedSpace,
    rows: Floats,
    labels: NDArray[np.int64],
    sizes: tuple[int, ...],
    memory: TiedMixtures,
    *,
    balanced: bool = True,
) -> Gate:
    """Return the gate of rows of all classes, its last group balanced against those before.

    Args:
        space: of the rows.
        rows: ``(N, k)``, in an order that has nothing to do with halves.
        labels: ``(N,)`` in ``[0, C)``; clusters of the last group.
        sizes: classes of each group, two groups or more.
        memory: of the C classes.
        balanced: whether to move the last group by the offset of :func:`balanced_offset`. It
            needs rows of the last group that are surely not of an old class. Without old classes
            there is none.
    """
    count = sum(sizes)
    weights, biases = logistic_regression(rows, labels, count)
    if balanced and count > sizes[-1]:
        biases[-sizes[-1] :] += _offset(rows, labels, sizes)
    return Gate(space, weights, biases, sizes, memory)


def _offset(rows: Floats, labels: NDArray[np.int64], sizes: tuple[int, ...]) -> float:
    """Return the balanced offset by cross-fitting: either half predicts the other half."""
    count = sum(sizes)
    margins = np.empty(len(rows))
    # Every second row of every class.
    rank = np.empty(len(rows), np.int64)
    rank[np.argsort(labels, kind="stable")] = np.arange(len(rows))
    for half in (0, 1):
        left = rank % 2 == half
        weights, biases = logistic_regression(rows[~left], labels[~left], count)
        margins[left] = _margins(rows[left] @ weights + biases, sizes[-1])
    new = labels >= count - sizes[-1]
    return balanced_offset(margins[~new], margins[new])


def balanced_offset(old: Doubles, new: Doubles) -> float:
    """Return the offset of the last group by which old and new classes lose least to each other.

    Old rows that are predicted as new and new rows that are predicted as old are both known without
    a hidden label. The offset minimizes the larger of the two losses, measured in the points that
    each may lose. Of equally good ones it is the one nearest to 0.

    Args:
        old: ``(n,)`` margins of rows of the old groups, by a gate that was fitted without them.
        new: ``(m,)`` margins of rows of the last group, likewise.

    >>> balanced_offset(np.array([3.0, 4.0]), np.array([-2.0, 1.0]))
    2.0
    """
    # Between two neighboring margins nothing changes: the middles are all there is to try.
    values = np.unique(np.concatenate([old, new]))
    middles = (values[1:] + values[:-1]) / 2
    tries = np.concatenate([[0.0, values[0] - 1], middles, [values[-1] + 1]])
    lost_old = np.searchsorted(np.sort(old), tries) / len(old)
    lost_new = 1 - np.searchsorted(np.sort(new), tries) / len(new)
    cost = np.maximum(lost_old / OLD_LOSS, lost_new / NEW_LOSS)
    best = tries[cost == cost.min()]
    return float(best[np.abs(best).argmin()])


def _margins(scores: Floats, last: int) -> Doubles:
    """Return by how much the best old class exceeds the best of the ``last`` ones, ``(N,)``."""
    return np.asarray(scores[:, :-last].max(axis=1) - scores[:, -last:].max(axis=1), np.float64)
