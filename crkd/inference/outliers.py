"""Images that fit none of the classes of a run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.novelty.energy import energy_scores
from crkd.clustering.novelty.mahalanobis import ClassDistance
from crkd.models.vector_network import NAME as VECTORS
from crkd.runs.load import OpenedRun
from crkd.runs.outliers import read_threshold
from crkd.stages.discover.feature_replay import FILE as REPLAY
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.vectors.start import opened_discovery

OutlierTest = Callable[[NDArray[np.float32]], NDArray[np.bool_]]
"""Returns which of N images fit no class, ``(N,)``, by their features ``(N, D)``."""


def outlier_test(opened: OpenedRun) -> OutlierTest | None:
    """Return the test of a run; None for a run without class statistics or threshold."""
    run = opened.run
    if opened.architecture.backbone == VECTORS:
        threshold = read_threshold(run)
        return None if threshold is None else _energy_test(opened, threshold)
    if not (run.path / REPLAY).is_file():
        return None
    return ClassDistance.of(load_replay(run.path, len(opened.info.classes))).fits_nowhere


def _energy_test(opened: OpenedRun, threshold: float) -> OutlierTest:
    gate = opened_discovery(opened.run).gate

    def beyond(features: NDArray[np.float32]) -> NDArray[np.bool_]:
        # The rows in the space of the gate are the first features.
        rows = features[:, : len(gate.weights)]
        return np.asarray(energy_scores(gate.scores(rows)) > threshold)

    return beyond
