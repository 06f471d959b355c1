"""Summary of every discovered class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.evaluation.calibration import probabilities
from crkd.review.run_outputs import Evidence
from crkd.review.split_class import divide, find_seeds
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
        seeds: rows of the two images that start its halves; None without halves.
        later: ``(n,)`` True for members of the second half.
    """

    id: int
    members: NDArray[np.int64]
    resembles: list[tuple[int, float]]
    stability: float | None
    seeds: tuple[int, int] | None
    later: NDArray[np.bool_]


def found_classes(evidence: Evidence) -> list[FoundClass]:
    """Return every discovered class in the order of the ids, including empty ones."""
    confidence, answered = evidence.confidence, evidence.answered
    relation = probabilities(evidence.outputs.known_logits, 1.0)
    measured = read_stability(evidence.opened.run)
    found = []
    for class_id in range(evidence.num_known, len(evidence.names)):
        rows = np.flatnonzero(answered == class_id)
        members = rows[np.argsort(-confidence[rows], kind="stable")]
        resembles: list[tuple[int, float]] = []
        stability = measured.get(evidence.opened.info.classes[class_id].name)
        if len(members):
            mean = relation[members].mean(axis=0)
            nearest = np.argsort(-mean, kind="stable")[:RESEMBLED]
            resembles = [(int(known), float(mean[known])) for known in nearest]
        if stability is None and len(members) and evidence.agreement is not None:
            stability = float(evidence.agreement[members].mean())
        seeds, later = _halves(evidence.projected, members)
        found.append(FoundClass(class_id, members, resembles, stability, seeds, later))
    return found


def _halves(
    projected: NDArray[np.float32], members: NDArray[np.int64]
) -> tuple[tuple[int, int] | None, NDArray[np.bool_]]:
    nobody = np.zeros(len(members), bool)
    seeds = find_seeds(projected[members])
    if seeds is None:
        return None, nobody
    later, _ = divide(projected[members], *seeds)
    return (int(members[seeds[0]]), int(members[seeds[1]])), later
