"""The threshold above which a vector fits no class of a discovery."""

from __future__ import annotations

from typing import Final

from crkd.clustering.kmeans import unit_rows
from crkd.clustering.novelty.energy import carried_threshold, energy_scores, energy_threshold
from crkd.runs.folder import RunFolder
from crkd.runs.outliers import read_threshold, write_threshold
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.gate import Gate

FALSE_ALARMS: Final = 0.05
"""Largest share of the vectors of a run's own classes that are called outliers."""
DRAWN: Final = 200
"""Rows drawn of every class whose vectors are not kept."""


def calibrate_outliers(
    run: RunFolder, gate: Gate, data: VectorData, parent: tuple[RunFolder, Gate] | None = None
) -> None:
    """Find the threshold of a discovery and write ``outliers.json``.

    It is found on the held-out known vectors, or else on the labeled ones, and on the unlabeled
    vectors. No label is used. Where no vectors of the earlier classes are left, the threshold of
    the parent is carried over by rows that are drawn from their Gaussians.

    Args:
        run: the folder.
        gate: of the discovery; its logits of all classes give the scores.
        data: vectors of the run.
        parent: the run from which this run was made, and its gate; None for a first discovery.
    """
    subsets = data.subsets
    known = subsets.known_val if len(subsets.known_val) else subsets.known_train
    groups = [
        energy_scores(gate.scores(gate.space.rows(data.of(subset).numpy())))
        for subset in (known, subsets.unlabeled)
        if len(subset)
    ]
    threshold = energy_threshold(groups, false_alarms=FALSE_ALARMS)
    before = None if parent is None or len(known) else read_threshold(parent[0])
    if parent is not None and before is not None:
        drawn = unit_rows(parent[1].memory.sample(DRAWN, seed=0)[0])
        scores = [energy_scores(each.scores(drawn)) for each in (parent[1], gate)]
        threshold = max(threshold, carried_threshold(before, *scores))
    write_threshold(run, threshold, false_alarms=FALSE_ALARMS)
