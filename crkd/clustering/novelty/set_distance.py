"""Check whether a set of samples is as near to the known classes as their own samples are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.relative_mahalanobis import RelativeMahalanobis
from crkd.core.counted import counted
from crkd.core.errors import InputError


@dataclass(frozen=True, eq=False)
class DistanceCheck:
    """Distances of unlabeled images from the known classes.

    Images of unseen classes can be within the threshold too. So the check tells whether a whole set
    may be known, not which image is: for that, see :mod:`.known_or_novel`.

    Attributes:
        within: ``(N,)`` bool, whether an image is within the threshold.
        scores: ``(N,)``, see :meth:`RelativeMahalanobis.novelty_score`.
        threshold: the largest score within.
        false_positive_rate: fraction of known images that are beyond the threshold.
        auroc: area under the ROC curve of the scores, unlabeled against known images, in [0, 1];
            about 0.5 if all unlabeled images are known.
        auroc_std: standard deviation of ``auroc`` if all unlabeled images are known.
    """

    within: NDArray[np.bool_]
    scores: NDArray[np.float64]
    threshold: float
    false_positive_rate: float
    auroc: float
    auroc_std: float

    @property
    def count(self) -> int:
        """Number of images within the threshold."""
        return int(self.within.sum())


def distance_check(
    unlabeled: Floats,
    classes: RelativeMahalanobis,
    calibration: Floats,
    *,
    false_positive_rate: float = 0.05,
) -> DistanceCheck:
    """Compare distances of unlabeled images with those of known images.

    The threshold is the score that a fraction ``false_positive_rate`` of ``calibration`` exceeds.

    Args:
        unlabeled: ``(N, D)``.
        classes: result of :func:`.relative_mahalanobis.fit_relative_mahalanobis`.
        calibration: ``(n, D)`` of known images to which ``classes`` was not fitted, or samples
            from statistics of known classes.
        false_positive_rate: in (0, 1).

    Raises:
        InputError: the rate is out of range, or there are too few calibration images for it.
    """
    if not 0 < false_positive_rate < 1:
        raise InputError(f"false_positive_rate is {false_positive_rate}; it must be in (0, 1)")
    if len(calibration) * false_positive_rate < 1:
        images = counted(len(calibration), "known image is", "known images are")
        raise InputError(
            f"{images} too few for a false_positive_rate of {false_positive_rate}; hold out more "
            "with data.validation_fraction, or add images"
        )
    reference = classes.novelty_score(calibration)
    threshold = float(np.quantile(reference, 1 - false_positive_rate, method="higher"))
    scores = classes.novelty_score(unlabeled)
    known, new = len(reference), len(scores)
    above = np.searchsorted(np.sort(reference), scores).sum() / max(1, known * new)
    auroc_std = ((known + new + 1) / (12 * known * max(1, new))) ** 0.5
    return DistanceCheck(
        scores <= threshold, scores, threshold, false_positive_rate, float(above), auroc_std
    )
