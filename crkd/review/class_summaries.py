"""Summary of every discovered class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.row_pieces import mean_of, pieces
from crkd.evaluation.calibration import probabilities
from crkd.review.run_outputs import Evidence
from crkd.runs.stability import read_stability

RESEMBLED: Final = 6


@dataclass(frozen=True, eq=False)
class FoundClass:
    """A discovered class.

    Attributes:
        id: its class id.
        members: ``(n,)`` rows of its images, the most certain first.
        resembles: up to six known class ids and their mean probability by the known head on these
            images, largest first.
        stability: fraction of the other heads that, after matching, keep an image of the class in
            it, mean over its images, in [0, 1]. In a run with ``stability.json``, the value in that
            file: how well a discovery with another seed repeats the class. None without either.
    """

    id: int
    members: NDArray[np.int64]
    resembles: list[tuple[int, float]]
    stability: float | None


def found_classes(evidence: Evidence) -> list[FoundClass]:
    """Return every discovered class in the order of the ids, including empty ones."""
    confidence, assigned = evidence.confidence, evidence.assigned
    measured = read_stability(evidence.opened.run)
    found = []
    for class_id in range(evidence.num_known, len(evidence.names)):
        rows = np.flatnonzero(assigned == class_id)
        members = rows[np.argsort(-confidence[rows], kind="stable")]
        resembles: list[tuple[int, float]] = []
        stability = measured.get(evidence.opened.info.classes[class_id].name)
        if len(members):
            known_logits = evidence.outputs.known_logits
            mean = mean_of(probabilities(known_logits[members[n]]) for n in pieces(len(members)))
            nearest = np.argsort(-mean, kind="stable")[:RESEMBLED]
            resembles = [(int(known), float(mean[known])) for known in nearest]
        if stability is None and len(members) and evidence.agreement is not None:
            stability = float(evidence.agreement[members].mean())
        found.append(FoundClass(class_id, members, resembles, stability))
    return found
