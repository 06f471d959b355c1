"""Free energy of the logits of a classifier as a novelty score, and its threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats


def energy_scores(logits: Floats | NDArray[np.float64]) -> NDArray[np.float64]:
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
    scores: NDArray[np.float64] = -largest - np.log(np.exp(rows - largest[:, None]).sum(axis=1))
    return scores


def energy_threshold(
    groups: Sequence[NDArray[np.float64]], before: float | None = None, *, false_alarms: float
) -> float:
    """Return the score above which a sample fits no class.

    At most the share ``false_alarms`` of each group is above it. The threshold of an earlier step
    is kept if it is larger: its classes have no samples, and further classes lower their scores.

    Args:
        groups: scores ``(n,)`` of samples of known and of novel classes; none is empty.
        before: threshold of the run that is extended, or None.
        false_alarms: in (0, 1).
    """
    found = [float(np.quantile(scores, 1 - false_alarms, method="higher")) for scores in groups]
    return max(found if before is None else [*found, before])
