"""Detector of unlabeled images that look like a known class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.mahalanobis import nearest_square, whitening_of
from crkd.clustering.semi_kmeans import class_sums
from crkd.core.errors import InputError


@dataclass(frozen=True, eq=False)
class KnownClassDetector:
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
class KnownCheck:
    """Decisions on unlabeled images.

    Attributes:
        looks_known: ``(N,)`` bool.
        scores: ``(N,)``, see :meth:`KnownClassDetector.novelty_score`.
        threshold: an image looks known if its score is at most this.
        false_positive_rate: fraction of known images that the threshold calls novel.
        stranger: fraction of all pairs of an unlabeled and a known image in which the unlabeled
            one has the higher score, in [0, 1]; 0.5 if all unlabeled images are known.
        noise: standard deviation of ``stranger`` if all unlabeled images are known.
    """

    looks_known: NDArray[np.bool_]
    scores: NDArray[np.float64]
    threshold: float
    false_positive_rate: float
    stranger: float
    noise: float

    @property
    def count(self) -> int:
        """Number of images that look known."""
        return int(self.looks_known.sum())


def known_classes(features: Floats, labels: NDArray[np.int64]) -> KnownClassDetector:
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
    return KnownClassDetector(
        means, _whitening(rows - means[labels]), center, _whitening(rows - center)
    )


def known_check(
    unlabeled: Floats,
    classes: KnownClassDetector,
    calibration: Floats,
    *,
    false_positive_rate: float = 0.05,
) -> KnownCheck:
    """Decide for each unlabeled image whether it looks like a known class.

    The threshold is the score that a fraction ``false_positive_rate`` of ``calibration`` exceeds.
    That fraction of known images is mistaken for novel ones.

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
    return KnownCheck(
        scores <= threshold, scores, threshold, false_positive_rate, float(above), noise
    )


def _whitening(centered: NDArray[np.float64]) -> NDArray[np.float64]:
    return whitening_of(centered.T @ centered / len(centered))
