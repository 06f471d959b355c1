"""Novelty score that joins the free energy of a classifier and the distance to its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from crkd.clustering.kmeans import CHUNK_ROWS, Floats, unit_rows
from crkd.clustering.novelty.energy import Scores, energy_threshold
from crkd.core.errors import InputError

NEIGHBOR: Final = 5
"""The distance is that to the neighbor of this rank."""
SAME: Final = 1e-3
"""Distance below which a reference row is the sample itself, stored with half precision."""
NARROWEST: Final = 1e-6
"""Least spread of a score: samples of equal scores have none."""


class Scale(NamedTuple):
    """A linear scale of a score: 0 for a usual sample, 1 at the threshold of the score alone.

    Attributes:
        center: score of a usual sample.
        spread: distance from there to the threshold, above 0.
    """

    center: float
    spread: float

    @classmethod
    def of(cls, groups: Sequence[Scores], *, false_alarms: float) -> Scale:
        """Return the scale of scores ``(n,)`` of one or more groups of samples.

        The group with the larger value decides, for center and threshold alike.
        """
        center = max(float(np.median(scores)) for scores in groups)
        spread = energy_threshold(groups, false_alarms=false_alarms) - center
        return cls(center, max(spread, NARROWEST))

    def __call__(self, scores: Scores) -> Scores:
        """Return scores ``(N,)`` on this scale."""
        return (scores - self.center) / self.spread


class Neighbors:
    """Distances of vectors to the nearest of some reference rows, all at unit length.

    Args:
        reference: ``(n, D)``, n above :data:`NEIGHBOR`.

    Raises:
        InputError: there are too few reference rows.
    """

    def __init__(self, reference: Floats) -> None:
        if len(reference) <= NEIGHBOR:
            raise InputError(
                f"there are {len(reference)} reference rows; give more than {NEIGHBOR}, which is "
                "the rank of the neighbor"
            )
        # In float64, a distance does not depend on the rows that are computed with it.
        self._base = unit_rows(np.asarray(reference, np.float64)).T

    def distances(self, vectors: Floats) -> Scores:
        """Return the distance of each vector ``(N, D)`` to its fifth neighbor, ``(N,)`` in [0, 2].

        A reference row that is the vector itself does not count.
        """
        found: Scores = np.empty(len(vectors))
        for start in range(0, len(vectors), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            cosines = unit_rows(np.asarray(vectors[part], np.float64)) @ self._base
            nearest = -np.partition(-cosines, (0, NEIGHBOR - 1, NEIGHBOR), axis=1)
            distances = np.sqrt(np.maximum(2 - 2 * nearest, 0))
            itself = distances[:, 0] < SAME
            found[part] = np.where(itself, distances[:, NEIGHBOR], distances[:, NEIGHBOR - 1])
        return found


@dataclass(frozen=True, eq=False)
class OutlierScore:
    """Sum of the free energy and of the distance to the fifth neighbor, each on its scale.

    The energy finds samples of other classes like the known ones; the distance finds those of
    another kind (Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML
    2022). ``docs/predict.md`` compares the sum with each of them.

    Attributes:
        reference: ``(n, D)`` float32 samples of the classes, n above :data:`NEIGHBOR`.
        energy: scale of the free energy.
        distance: scale of the distance.
        threshold: a sample with a larger score fits no class.
    """

    reference: Floats
    energy: Scale
    distance: Scale
    threshold: float

    @classmethod
    def fit(
        cls, reference: Floats, groups: Sequence[tuple[Scores, Floats]], *, false_alarms: float
    ) -> OutlierScore:
        """Find the scales and the threshold; no label is used.

        Args:
            reference: ``(n, D)``.
            groups: energies ``(m,)`` and vectors ``(m, D)`` of samples of known and of novel
                classes, which may be reference rows; none is empty.
            false_alarms: largest share of each group above the threshold, in (0, 1).

        Raises:
            InputError: there are too few reference rows.
        """
        neighbors = Neighbors(reference)
        distances = [neighbors.distances(vectors) for _, vectors in groups]
        energy = Scale.of([energies for energies, _ in groups], false_alarms=false_alarms)
        distance = Scale.of(distances, false_alarms=false_alarms)
        sums = [
            energy(energies) + distance(far)
            for (energies, _), far in zip(groups, distances, strict=True)
        ]
        threshold = energy_threshold(sums, false_alarms=false_alarms)
        return cls(reference, energy, distance, threshold)

    def scores(self, energies: Scores, vectors: Floats) -> Scores:
        """Return the score of each sample, ``(N,)``; it is large for outliers.

        Args:
            energies: ``(N,)`` free energies.
            vectors: ``(N, D)``.
        """
        return self.energy(energies) + self.distance(self._neighbors.distances(vectors))

    @cached_property
    def _neighbors(self) -> Neighbors:
        return Neighbors(self.reference)
