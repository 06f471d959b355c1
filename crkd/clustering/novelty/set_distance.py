"""Check whether a set of samples is as near to the known classes as their own samples are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.mahalanobis import nearest_square, whitening_of
from crkd.clustering.semi_kmeans import class_sums
from crkd.core.errors import InputError


@dataclass(frozen=True, eq=False)
class ClassGaussians:
    """Gaussians of the known classes with one covariance, and one Gaussian of all classes.

    Attributes:
        means: ``(K, D)`` float64.
        whitening: ``(D, D)`` float64; makes the covariance within the classes the identity.
        center: ``(D,)`` float64, the mean of all features.
        background: ``(D, D)`` float64; makes the covariance of all features the identity.
    """

    means: NDArray[np.float64]
    whitening: NDArray[np.float64]
    center: NDArray[np.float64]
    background: NDArray[np.float64]

    def novelty_score(self, features: Floats) -> NDArray[np.float64]:
        """Return the relative Mahalanobis distance of each row (Ren et al., 2021).

        It is the squared distance to the nearest class minus the squared distance to the common
        Gaussian.

        Args:
            features: ``(N, D)``.

        Returns:
            ``(N,)``; large for images that belong to no known class.
        """
        rows = np.asarray(features, np.float64)
        nearest = nearest_square(rows @ self.whitening, self.means @ self.whitening)
        away = np.square((rows - self.center) @ self.background).sum(axis=1)
        scores: NDArray[np.float64] = nearest - away
        return scores


@dataclass(frozen=True, eq=False)
class DistanceCheck:
    """Distances of unlabeled images from the known classes.

    Images of unseen classes can be within the threshold too. So the check tells whether a whole set
    may be known, not which image is: for that, see :mod:`.known_or_novel`.

    Attributes:
        within: ``(N,)`` bool, whether an image is within the threshold.
        scores: ``(N,)``, see :meth:`ClassGaussians.novelty_score`.
        threshold: the largest score within.
        false_positive_rate: fraction of known images that are beyond the threshold.
        stranger: fraction of all pairs of an unlabeled and a known image in which the unlabeled
            one has the higher score, in [0, 1]; 0.5 if all unlabeled images are known.
        noise: standard deviation of ``stranger`` if all unlabeled images are known.
    """

    within: NDArray[np.bool_]
    scores: NDArray[np.float64]
    threshold: float
    false_positive_rate: float
    stranger: float
    noise: float

    @property
    def count(self) -> int:
        """Number of images within the threshold."""
        return int(self.within.sum())


def known_classes(features: Floats, labels: NDArray[np.int64]) -> ClassGaussians:
    """Fit the Gaussians of the known classes.

    Args:
        features: ``(n, D)`` of labeled images.
        labels: ``(n,)`` in [0, K), every class present.

    Raises:
        InputError: the shapes do not fit, or a class has no image.
    """
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise InputError(f"labels have shape {labels.shape} for features of shape {rows.shape}")
    counts = np.bincount(labels)
    if len(counts) == 0 or not counts.all():
        raise InputError("a known class has no image; number the classes without a gap")
    means = class_sums(rows, labels, len(counts)) / counts[:, None]
    center = rows.mean(axis=0)
    return ClassGaussians(
        means, _whitening(rows - means[labels]), center, _whitening(rows - center)
    )


def distance_check(
    unlabeled: Floats,
    classes: ClassGaussians,
    calibration: Floats,
    *,
    false_positive_rate: float = 0.05,
) -> DistanceCheck:
    """Compare distances of unlabeled images with those of known images.

    The threshold is the score that a fraction ``false_positive_rate`` of ``calibration`` exceeds.

    Args:
        unlabeled: ``(N, D)``.
        classes: result of :func:`known_classes`.
        calibration: ``(n, D)`` of known images to which ``classes`` was not fitted, or samples
            from statistics of known classes.
        false_positive_rate: in (0, 1).

    Raises:
        InputError: the rate is out of range, or there are too few calibration images for it.
    """
    if not 0 < false_positive_rate < 1:
        raise InputError(f"false_positive_rate is {false_positive_rate}; it must be in (0, 1)")
    if len(calibration) * false_positive_rate < 1:
        raise InputError(
            f"{len(calibration)} known images are too few for a false_positive_rate of "
            f"{false_positive_rate}; hold out more with data.validation_fraction, or add images"
        )
    reference = classes.novelty_score(calibration)
    threshold = float(np.quantile(reference, 1 - false_positive_rate, method="higher"))
    scores = classes.novelty_score(unlabeled)
    known, new = len(reference), len(scores)
    above = np.searchsorted(np.sort(reference), scores).sum() / max(1, known * new)
    noise = ((known + new + 1) / (12 * known * max(1, new))) ** 0.5
    return DistanceCheck(
        scores <= threshold, scores, threshold, false_positive_rate, float(above), noise
    )


def _whitening(centered: NDArray[np.float64]) -> NDArray[np.float64]:
    return whitening_of(centered.T @ centered / len(centered))
