"""One Gaussian for each class, all with one tied covariance: linear discriminant analysis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.row_pieces import class_sums
from crkd.clustering.whitening import Doubles, inverse_root, residuals_within, shrunk
from crkd.core.errors import InputError

SHRINKAGE = 0.05


@dataclass(frozen=True, eq=False)
class TiedGaussians:
    """One Gaussian for each of C classes in k dimensions; the covariance is the same for all.

    A class is stored as its mean and its count, so no row is needed when further classes join.

    Attributes:
        means: ``(C, k)`` float64.
        counts: ``(C,)`` int64; a class without rows has the mean of all.
        scatter: ``(k, k)`` float64, sum of (x - mu_y)(x - mu_y)^T over all rows.
    """

    means: Doubles
    counts: NDArray[np.int64]
    scatter: Doubles

    @classmethod
    def fit(cls, rows: Floats, labels: NDArray[np.int64], num_classes: int) -> TiedGaussians:
        """Take the statistics of rows ``(N, k)`` with labels ``(N,)`` in ``[0, num_classes)``.

        Raises:
            InputError: there is no row, or a label is out of its range.
        """
        check_labels(labels, num_classes)
        values = np.asarray(rows, np.float64)
        residuals, _ = residuals_within(values, labels)
        counts = np.bincount(labels, minlength=num_classes)
        sums = class_sums(values, labels, num_classes)
        means = np.where(
            counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], values.mean(axis=0)
        )
        return cls(means, counts.astype(np.int64), residuals.T @ residuals)

    def first(self, count: int) -> TiedGaussians:
        """Return the first ``count`` classes; the scatter is their share of the common one."""
        counts = self.counts[:count]
        shares = [max(int(c.sum()) - int((c > 0).sum()), 1) for c in (counts, self.counts)]
        return TiedGaussians(self.means[:count], counts, self.scatter * (shares[0] / shares[1]))

    def followed_by(self, others: TiedGaussians) -> TiedGaussians:
        """Return these classes and then ``others``; the statistics are those of one fit to both.

        Raises:
            InputError: the spaces differ.
        """
        if self.means.shape[1] != others.means.shape[1]:
            raise InputError(
                f"the classes have {self.means.shape[1]} and {others.means.shape[1]} dimensions; "
                "both must be statistics of one space"
            )
        return TiedGaussians(
            np.concatenate([self.means, others.means]),
            np.concatenate([self.counts, others.counts]),
            self.scatter + others.scatter,
        )

    def covariance(self, shrinkage: float = SHRINKAGE) -> Doubles:
        """Return the common covariance ``(k, k)``, shrunk by this share or by what few rows need.

        The share is at least k / (k + N - C), so that it is invertible however few rows there are.
        """
        freedom = max(int(self.counts.sum()) - int((self.counts > 0).sum()), 1)
        width = len(self.scatter)
        return shrunk(self.scatter / freedom, max(shrinkage, width / (width + freedom)))

    def classifier(self, shrinkage: float = SHRINKAGE) -> tuple[Doubles, Doubles]:
        """Return weights ``(k, C)`` and biases ``(C,)``: log-densities up to one constant a row.

        Every class is taken to be equally frequent: linear discriminant analysis (Hastie,
        Tibshirani and Friedman, "The Elements of Statistical Learning", equation 4.10). A class
        without rows is never predicted.
        """
        weights: Doubles = np.asarray(
            np.linalg.solve(self.covariance(shrinkage), self.means.T), np.float64
        )
        biases: Doubles = -0.5 * np.einsum("ck,kc->c", self.means, weights)
        return weights, np.asarray(np.where(self.counts > 0, biases, -1e9))

    def around(self, classes: NDArray[np.int64], draw: np.random.Generator) -> Floats:
        """Draw a row of the Gaussian of each given class.

        Args:
            classes: ``(N,)`` in ``[0, C)``.
            draw: the source of chance.

        Returns:
            ``(N, k)`` float32.
        """
        root = np.asarray(np.linalg.inv(inverse_root(self.covariance(0.0))), np.float64)
        normals = draw.standard_normal((len(classes), len(root)))
        return np.asarray(self.means[classes] + normals @ root, np.float32)


def check_labels(labels: NDArray[np.int64], num_classes: int) -> None:
    """Refuse labels ``(N,)`` that are not in ``[0, num_classes)``, or none at all.

    Raises:
        InputError: there is no label, or one is out of its range.
    """
    if not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"{len(labels)} rows with labels outside of 0 to {num_classes - 1}; give every row "
            "one of the classes"
        )
