"""How far features lie from every class of a run, by the statistics that the run keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.class_gaussians import ClassStatistics
from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.outliers import outer_fence

SHRINKAGE = 0.1
DRAWN = 2_000
"""Features drawn in all, of every class equally many, to see how far members lie."""


@dataclass(frozen=True, eq=False)
class ClassDistance:
    """The distance to the nearest class, and how far a member of a class may lie.

    Attributes:
        centers: ``(C, D)`` float64, whitened means of the classes.
        whitening: ``(D, D)`` float64; makes the covariance within the classes the identity.
        threshold: an image fits nowhere above this distance.
    """

    centers: NDArray[np.float64]
    whitening: NDArray[np.float64]
    threshold: float

    @classmethod
    def of(cls, statistics: ClassStatistics, *, seed: int = 0) -> ClassDistance:
        """Take classes, their common covariance and the threshold from statistics.

        The threshold is the outer fence (:func:`.outliers.outer_fence`) of the
        distances of features drawn from the statistics: no image is needed.

        Args:
            statistics: of C classes.
            seed: of the draws.
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
        return cls(centers, whitening, outer_fence(drawn))

    def scores(self, features: Floats) -> NDArray[np.float64]:
        """Return the distance of each row to its nearest class.

        The Mahalanobis distance under one covariance (Lee et al., NeurIPS 2018).

        Args:
            features: ``(N, D)``.

        Returns:
            ``(N,)``, 0 or above; about the square root of D for members of a class.
        """
        rows = np.asarray(features, np.float64) @ self.whitening
        return np.sqrt(np.maximum(nearest_square(rows, self.centers), 0.0))

    def fits_nowhere(self, features: Floats) -> NDArray[np.bool_]:
        """Return which rows of ``features`` ``(N, D)`` lie beyond the threshold, ``(N,)``."""
        beyond: NDArray[np.bool_] = self.scores(features) > self.threshold
        return beyond


def nearest_square(rows: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared distance of each of ``(N, D)`` rows to the nearest of ``(C, D)``."""
    squares = np.square(rows).sum(1)[:, None] - 2 * rows @ centers.T
    nearest: NDArray[np.float64] = (squares + np.square(centers).sum(1)).min(axis=1)
    return nearest


def whitening_of(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return W with W W^T the inverse of a covariance, shrunk towards a multiple of identity."""
    values, vectors = np.linalg.eigh(covariance)
    values = (1 - SHRINKAGE) * values + SHRINKAGE * max(values.mean(), np.finfo(np.float64).tiny)
    whitening: NDArray[np.float64] = vectors / np.sqrt(values)
    return whitening
