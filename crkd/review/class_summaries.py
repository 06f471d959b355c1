"""Summary of every discovered class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.evaluation.calibration import probabilities
from crkd.review.run_outputs import Evidence

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
            it, mean over its images, in [0, 1]; None without other heads or images.
    """

    id: int
    members: NDArray[np.int64]
    resembles: list[tuple[int, float]]
    stability: float | None


def found_classes(evidence: Evidence) -> list[FoundClass]:
    """Return every discovered class in the order of the ids, including empty ones."""
    confidence = evidence.outputs.confidence(evidence.head)
    answered = evidence.answered
    relation = probabilities(evidence.outputs.known_logits, 1.0)
    found = []
    for class_id in range(evidence.num_known, len(evidence.names)):
        rows = np.flatnonzero(answered == class_id)
        members = rows[np.argsort(-confidence[rows], kind="stable")]
        resembles: list[tuple[int, float]] = []
        stability = None
        if len(members):
            mean = relation[members].mean(axis=0)
            nearest = np.argsort(-mean, kind="stable")[:RESEMBLED]
            resembles = [(int(known), float(mean[known])) for known in nearest]
        if len(members) and evidence.agreement is not None:
            stability = float(evidence.agreement[members].mean())
        found.append(FoundClass(class_id, members, resembles, stability))
    return found
