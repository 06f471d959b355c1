"""Share of known classes in an unlabeled set, from scores of known and unlabeled samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

QUANTILES = np.linspace(0.0, 0.98, 99)
SLACK = 0.01
LOG = math.log(4 / 0.1)


def known_share(known: Doubles, unlabeled: Doubles) -> float:
    """Return the share of the unlabeled samples that belong to known classes, in [0, 1].

    If the unlabeled set is a mixture, then above every threshold it holds at least its known share
    of the known ones: the ratio of both tails is an upper bound of the share. A high threshold has
    the sharper bound and fewer samples. Best bin estimation (Garg et al., "Mixture Proportion
    Estimation and PU Learning: A Modern Approach", NeurIPS 2021, algorithm 1) takes the ratio at
    the threshold c that minimizes it together with its deviation::

        q_u(c) / q_k(c) + (1 + 0.01) / q_k(c) (sqrt(ln(4/d) / 2m) + sqrt(ln(4/d) / 2n)),  d = 0.1

    Args:
        known: ``(n,)`` scores of known samples, higher for known ones, from a model that did not
            see them; n at least 1.
        unlabeled: ``(m,)`` scores of unlabeled samples by such a model; m at least 1.
    """
    thresholds = np.quantile(known, QUANTILES)
    tail, other = _tail(known, thresholds), _tail(unlabeled, thresholds)
    deviation = sum(math.sqrt(LOG / (2 * len(scores))) for scores in (known, unlabeled))
    best = int(np.argmin((other + (1 + SLACK) * deviation) / tail))
    return float(min(other[best] / tail[best], 1.0))


def _tail(scores: Doubles, thresholds: Doubles) -> Doubles:
    """Return the share of scores at or above each threshold."""
    below = np.searchsorted(np.sort(scores), thresholds, side="left")
    return np.asarray(1 - below / len(scores))
