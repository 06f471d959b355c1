"""Images that fit none of the classes of a run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.novelty.energy import energy_scores
from crkd.clustering.novelty.mahalanobis import ClassDistance
from crkd.runs.load import OpenedRun
from crkd.runs.outliers import OutlierEntry, read_outliers
from crkd.stages.discover.feature_replay import FILE as REPLAY
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.forward import Outputs
from crkd.stages.vectors.outliers import read_score
from crkd.stages.vectors.start import opened_discovery

OutlierTest = Callable[[Outputs], NDArray[np.bool_]]
"""Returns which of N images fit no class, ``(N,)``, by their outputs."""


def outlier_test(opened: OpenedRun) -> OutlierTest | None:
    """Return the test of a run; None for a run without class statistics or threshold.

    The test of a discovery on vectors needs the vectors among the outputs, unless the run is of an
    earlier version, which is tested by the energy alone.
    """
    run = opened.run
    if opened.architecture.on_vectors:
        entry = read_outliers(run)
        return None if entry is None else _vector_test(opened, entry)
    if not (run.path / REPLAY).is_file():
        return None
    classes = ClassDistance.of(load_replay(run.path, len(opened.info.classes)))
    return lambda outputs: classes.fits_nowhere(outputs.features)


def _vector_test(opened: OpenedRun, entry: OutlierEntry) -> OutlierTest:
    gate, score = opened_discovery(opened.run).gate, read_score(opened.run, entry)

    def beyond(outputs: Outputs) -> NDArray[np.bool_]:
        # The rows in the space of the gate are the first features.
        energies = energy_scores(gate.scores(outputs.features[:, : len(gate.weights)]))
        if score is None:
            return np.asarray(energies > entry.threshold)
        if outputs.vectors is None:
            raise ValueError("the outputs lack the vectors of the samples")
        return np.asarray(score.scores(energies, outputs.vectors) > score.threshold)

    return beyond
