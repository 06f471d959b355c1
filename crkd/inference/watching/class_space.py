"""The space of a run's features in which outliers are compared with its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.mahalanobis import ClassDistance, whitening_of
from crkd.clustering.novelty.similar_outliers import distance_within
from crkd.runs.load import OpenedRun
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.vectors.start import opened_discovery

DRAWN: Final = 20
"""Features drawn of each class to find how similar the images of one class are."""


@dataclass(frozen=True, eq=False)
class ClassSpace:
    """A space where the covariance within the classes is the identity.

    Attributes:
        whitening: ``(k, k)`` float64; maps the first k features of an image into the space.
        centers: ``(C, k)`` float64, means of the classes.
        farthest: relative distance of two images of one class
            (:func:`~crkd.clustering.novelty.similar_outliers.distance_within`).
    """

    whitening: NDArray[np.float64]
    centers: NDArray[np.float64]
    farthest: float

    def rows(self, features: Floats) -> Floats:
        """Return ``(N, D)`` features of the run's network in this space, ``(N, k)`` float32."""
        rows: Floats = (features[:, : len(self.whitening)] @ self.whitening).astype(np.float32)
        return rows


def class_space(opened: OpenedRun) -> ClassSpace:
    """Return the space of a run that has statistics of its classes.

    Raises:
        InputError: the statistics are missing or damaged.
    """
    if opened.architecture.on_vectors:
        # The rows in the space of the gate are the first features.
        memory = opened_discovery(opened.run).gate.memory
        whitening = whitening_of(memory.covariance())
        drawn, labels = memory.sample(DRAWN, seed=0)
        means = memory.means
    else:
        statistics = load_replay(opened.run.path, len(opened.info.classes))
        whitening = ClassDistance.of(statistics).whitening
        labels = np.repeat(np.arange(statistics.num_classes), DRAWN)
        generator = torch.Generator().manual_seed(0)
        normals = torch.randn(len(labels), statistics.num_draws, generator=generator)
        drawn = statistics.sample(torch.from_numpy(labels), normals).numpy()
        means = statistics.means.double().numpy()
    centers = means @ whitening
    return ClassSpace(whitening, centers, distance_within(drawn @ whitening, labels, centers))
