"""Check of an incremental step on vectors: whether all of them may be of classes of the run."""

from __future__ import annotations

from typing import Final

import numpy as np

from crkd.clustering.novelty.energy import energy_scores
from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.runs.outliers import read_outliers
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.gate import Gate

ONLY_KNOWN: Final = 0.93
"""Least share of vectors that fit a class of the run, at which they may hold no new class. 95 % of
the run's own vectors fit; of vectors of three other classes of CIFAR-100 at most 92 % did."""


def check_new(parent: RunFolder, gate: Gate, data: VectorData) -> None:
    """Refuse unlabeled vectors of which nearly all fit a class of the parent.

    A discovery would only divide these classes. Runs without a threshold of outliers are not
    checked.

    Args:
        parent: the run that is extended.
        gate: of the parent.
        data: the new vectors.

    Raises:
        InputError: nearly all vectors fit, and ``discover.precheck`` is on.
    """
    entry = read_outliers(parent)
    if entry is None or not data.config.discover.precheck:
        return
    rows = gate.space.rows(data.of(data.fitted_novel).numpy())
    fitting = int(np.sum(energy_scores(gate.scores(rows)) <= entry.threshold))
    if fitting >= ONLY_KNOWN * len(rows):
        raise InputError(
            f"{fitting:,} of {len(rows):,} unlabeled samples fit a class that {parent.path} knows, "
            "so that no class is added; sort them with predict, or continue with "
            "--set discover.precheck=false"
        )
