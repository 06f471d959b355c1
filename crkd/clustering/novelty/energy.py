"""Free energy of the logits of a classifier as a novelty score, and its threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats

Scores = NDArray[np.float64]


def energy_scores(logits: Floats | Scores) -> Scores:
    """Return the free energy of each row; it is large where no class has a large logit.

    It is minus the logarithm of the sum of the exponentials of the logits (Liu et al.,
    "Energy-based Out-of-distribution Detection", NeurIPS 2020, equation 4 with temperature 1).

    Args:
        logits: ``(N, C)``.

    Returns:
        ``(N,)``.

    >>> energy_scores(np.log([[1.0, 3.0]])).round(4).tolist()
    [-1.3863]
    """
    rows = np.asarray(logits, np.float64)
    largest = rows.max(axis=1)
    scores: Scores = -largest - np.log(np.exp(rows - largest[:, None]).sum(axis=1))
    return scores


def energy_threshold(groups: Sequence[Scores], *, false_alarms: float) -> float:
    """Return the score above which a sample fits no class.

    At most the share ``false_alarms`` of each group is above it.

    Args:
        groups: scores ``(n,)`` of samples of known and of novel classes; none is empty.
        false_alarms: in (0, 1).
    """
    return max(float(np.quantile(scores, 1 - false_alarms, method="higher")) for scores in groups)


def carried_threshold(threshold: float, before: Scores, after: Scores) -> float:
    """Return the threshold for another classifier, so that as many samples are above it.

    Args:
        threshold: for the scores of the first classifier.
        before: ``(n,)`` scores of n samples by the first classifier.
        after: ``(n,)`` scores of the same samples by the other classifier.
    """
    below = int((before <= threshold).sum())
    return float(np.sort(after)[max(below, 1) - 1])
