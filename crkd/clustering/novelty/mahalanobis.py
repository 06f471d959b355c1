"""Mahalanobis distances of features from the classes of a run, by their stored statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.low_rank_gaussians import ClassStatistics
from crkd.clustering.novelty.outliers import OUTER, tukey_fence

SHRINKAGE = 0.1
DRAWN = 2_000
"""Total number of features drawn to find the threshold, equally many for every class."""


@dataclass(frozen=True, eq=False)
class ClassDistance:
    """The distance to the nearest class, and a threshold for members of a class.

    Attributes:
        centers: ``(C, D)`` float64, whitened means of the classes.
        whitening: ``(D, D)`` float64; makes the covariance within the classes the identity.
        threshold: above this distance, an image fits no class.
    """

    centers: NDArray[np.float64]
    whitening: NDArray[np.float64]
    threshold: float

    @classmethod
    def of(cls, statistics: ClassStatistics, *, seed: int = 0) -> ClassDistance:
        """Compute classes, their common covariance and the threshold from statistics.

        The threshold is the outer fence (:func:`.outliers.tukey_fence`) of the distances of
        features drawn from the statistics. No image is needed.

        Args:
            statistics: statistics of C classes.
            seed: seed of the draws.
        """
        spread = statistics.factors.double().transpose(0, 1).flatten(1)
        within = spread @ spread.T / statistics.num_classes
        within += torch.diag(statistics.residual.double().mean(dim=0))
        whitening = whitening_of(within.numpy())
        centers = statistics.means.double().numpy() @ whitening
        classes = torch.arange(DRAWN) % statistics.num_classes
        generator = torch.Generator().manual_seed(seed)
        normals = torch.randn(DRAWN, statistics.num_draws, generator=generator)
        drawn = cls(centers, whitening, 0.0).scores(statistics.sample(classes, normals).numpy())
        return cls(centers, whitening, tukey_fence(drawn, OUTER))

    def scores(self, features: Floats) -> NDArray[np.float64]:
        """Return the distance of each row to its nearest class.

        It is the Mahalanobis distance with one covariance (Lee et al., NeurIPS 2018).

        Args:
            features: ``(N, D)``.

        Returns:
            ``(N,)``, 0 or above; about the square root of D for members of a class.
        """
        rows = np.asarray(features, np.float64) @ self.whitening
        return np.sqrt(np.maximum(nearest_square(rows, self.centers), 0.0))

    def fits_nowhere(self, features: Floats) -> NDArray[np.bool_]:
        """Return which rows of ``features`` ``(N, D)`` are above the threshold, ``(N,)``."""
        beyond: NDArray[np.bool_] = self.scores(features) > self.threshold
        return beyond


def nearest_square(rows: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared distance of each ``(N, D)`` row to the nearest of ``(C, D)`` centers."""
    squares = np.square(rows).sum(1)[:, None] - 2 * rows @ centers.T
    nearest: NDArray[np.float64] = (squares + np.square(centers).sum(1)).min(axis=1)
    return nearest


def whitening_of(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return W such that W W^T is the inverse of the covariance, shrunk towards the identity."""
    values, vectors = np.linalg.eigh(covariance)
    values = (1 - SHRINKAGE) * values + SHRINKAGE * max(values.mean(), np.finfo(np.float64).tiny)
    whitening: NDArray[np.float64] = vectors / np.sqrt(values)
    return whitening
