"""Images that fit none of the classes of a run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.novelty.mahalanobis import ClassDistance
from crkd.runs.load import OpenedRun
from crkd.stages.discover.feature_replay import FILE as REPLAY
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.forward import Outputs
from crkd.stages.vectors.outliers import vector_test
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
        gate = opened_discovery(run).gate
        beyond = vector_test(run, gate)
        if beyond is None:
            return None
        # The rows in the space of the gate are the first features.
        width = len(gate.weights)
        return lambda outputs: beyond(outputs.features[:, :width], outputs.vectors)
    if not (run.path / REPLAY).is_file():
        return None
    classes = ClassDistance.of(load_replay(run.path, len(opened.info.classes)))
    return lambda outputs: classes.fits_nowhere(outputs.features)
