"""A mixture of a few Gaussians for each class, all with one tied covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, kmeans
from crkd.clustering.tied_gaussians import TiedGaussians, check_labels
from crkd.clustering.whitening import Doubles

PROTOTYPES = 32
"""Prototypes of a class, at most."""
ROWS_EACH = 4
"""Rows of a prototype, on average, at least."""


@dataclass(frozen=True, eq=False)
class TiedMixtures:
    """A mixture of Gaussians for each of C classes in k dimensions; the covariance is tied.

    The means of the Gaussians are called prototypes. They are the centroids of k-means within a
    class. No row is kept. It is the model of mixture discriminant analysis (Hastie and Tibshirani,
    1996).

    Attributes:
        parts: the P prototypes with their counts and the scatter around them.
        classes: ``(P,)`` int64, class of each prototype, ascending; every class has at least one.
            C is 0 where there is none.
    """

    parts: TiedGaussians
    classes: NDArray[np.int64]

    @classmethod
    def fit(
        cls, rows: Floats, labels: NDArray[np.int64], num_classes: int, *, seed: int = 0
    ) -> TiedMixtures:
        """Take the prototypes of rows ``(N, k)`` with labels ``(N,)`` in ``[0, num_classes)``.

        Raises:
            InputError: there is no row, or a label is out of its range.
        """
        check_labels(labels, num_classes)
        owners: list[int] = []
        part = np.empty(len(rows), np.int64)
        for label in range(num_classes):
            members = np.flatnonzero(labels == label)
            count = min(max(len(members) // ROWS_EACH, 1), PROTOTYPES)
            if len(members):
                found = kmeans(rows[members], count, seed=seed, num_restarts=1).assignment
                # A cluster that lost all its rows is not a prototype.
                used, found = np.unique(found, return_inverse=True)
                count = len(used)
                part[members] = len(owners) + found
            owners += [label] * count
        return cls(TiedGaussians.fit(rows, part, len(owners)), np.array(owners, np.int64))

    @classmethod
    def none(cls, width: int) -> TiedMixtures:
        """Return the mixtures of no class in ``width`` dimensions."""
        empty = np.zeros((0, width)), np.zeros(0, np.int64), np.zeros((width, width))
        return cls(TiedGaussians(*empty), np.zeros(0, np.int64))

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.classes.max(initial=-1)) + 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Return the number of rows of every class, ``(C,)``."""
        return np.bincount(self.classes, self.parts.counts).astype(np.int64)

    @property
    def means(self) -> Doubles:
        """Return the mean of every class, ``(C, k)``."""
        weights = np.maximum(self.parts.counts, 1)
        sums = np.zeros((self.num_classes, self.parts.means.shape[1]))
        np.add.at(sums, self.classes, weights[:, None] * self.parts.means)
        return np.asarray(sums / np.bincount(self.classes, weights)[:, None])

    def first(self, count: int) -> TiedMixtures:
        """Return the first ``count`` classes; the scatter is their share of the common one."""
        kept = int(np.searchsorted(self.classes, count))
        return TiedMixtures(self.parts.first(kept), self.classes[:kept])

    def followed_by(self, others: TiedMixtures) -> TiedMixtures:
        """Return these classes and then ``others``.

        Raises:
            InputError: the spaces differ.
        """
        return TiedMixtures(
            self.parts.followed_by(others.parts),
            np.concatenate([self.classes, self.num_classes + others.classes]),
        )

    def joined(self, rows: Floats, labels: NDArray[np.int64]) -> TiedMixtures:
        """Return the same classes with further prototypes, those of more rows of some of them.

        Args:
            rows: ``(N, k)``, N at least 1.
            labels: ``(N,)`` in ``[0, C)``.
        """
        present, compact = np.unique(labels, return_inverse=True)
        more = TiedMixtures.fit(rows, compact, len(present))
        classes = np.concatenate([self.classes, present[more.classes]])
        order = np.argsort(classes, kind="stable")
        parts = self.parts.followed_by(more.parts)
        ordered = TiedGaussians(parts.means[order], parts.counts[order], parts.scatter)
        return TiedMixtures(ordered, classes[order])

    def covariance(self) -> Doubles:
        """Return the covariance ``(k, k)`` of rows around the means of their classes."""
        parts = self.parts
        gaps = parts.means - self.means[self.classes]
        scatter = parts.scatter + (gaps * parts.counts[:, None]).T @ gaps
        return TiedGaussians(self.means, self.counts, scatter).covariance()

    def sample(self, each: int, *, seed: int) -> tuple[Floats, NDArray[np.int64]]:
        """Draw rows of every class: a prototype by the counts, and a Gaussian around it.

        Args:
            each: rows of a class.
            seed: of the draws.

        Returns:
            Rows ``(C each, k)`` float32 and their classes, ascending.
        """
        if self.num_classes == 0:
            return np.zeros(self.parts.means.shape, np.float32), self.classes
        draw = np.random.default_rng(seed)
        weights = np.maximum(self.parts.counts, 1).astype(np.float64)
        chosen = [
            draw.choice(members, each, p=weights[members] / weights[members].sum())
            for label in range(self.num_classes)
            for members in [np.flatnonzero(self.classes == label)]
        ]
        places = np.concatenate(chosen)
        return self.parts.around(places, draw), self.classes[places]
