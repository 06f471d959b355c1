"""The threshold above which a vector fits no class of a discovery."""

from __future__ import annotations

from typing import Final

from crkd.clustering.novelty.energy import energy_scores, energy_threshold
from crkd.runs.folder import RunFolder
from crkd.runs.outliers import read_threshold, write_threshold
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.gate import Gate

FALSE_ALARMS: Final = 0.05
"""Largest share of the vectors of a run's own classes that are called outliers."""


def calibrate_outliers(
    run: RunFolder, gate: Gate, data: VectorData, parent: RunFolder | None = None
) -> None:
    """Find the threshold of a discovery and write ``outliers.json``.

    It is found on the held-out known vectors, or else on the labeled ones, and on the unlabeled
    vectors. No label is used.

    Args:
        run: the folder.
        gate: of the discovery; its logits of all classes give the scores.
        data: vectors of the run.
        parent: the run that this run extends, or None.
    """
    subsets = data.subsets
    known = subsets.known_val if len(subsets.known_val) else subsets.known_train
    groups = [
        energy_scores(gate.scores(gate.space.rows(data.of(subset).numpy())))
        for subset in (known, subsets.novel_train)
        if len(subset)
    ]
    before = None if parent is None else read_threshold(parent)
    threshold = energy_threshold(groups, before, false_alarms=FALSE_ALARMS)
    write_threshold(run, threshold, false_alarms=FALSE_ALARMS)
