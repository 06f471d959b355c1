"""Relative Mahalanobis distance: tied Gaussians of the classes against one Gaussian of all rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.mahalanobis import nearest_square, whitening_of
from crkd.clustering.row_pieces import class_sums
from crkd.core.errors import InputError


@dataclass(frozen=True, eq=False)
class RelativeMahalanobis:
    """One Gaussian for each of K classes with a tied covariance, and one Gaussian of all rows.

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


def fit_relative_mahalanobis(features: Floats, labels: NDArray[np.int64]) -> RelativeMahalanobis:
    """Fit the Gaussians to labeled features.

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
    return RelativeMahalanobis(
        means, _whitening(rows - means[labels]), center, _whitening(rows - center)
    )


def _whitening(centered: NDArray[np.float64]) -> NDArray[np.float64]:
    return whitening_of(centered.T @ centered / len(centered))
