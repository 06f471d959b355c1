"""Summary of every discovered class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError
from crkd.evaluation.calibration import probabilities
from crkd.review.run_outputs import Evidence
from crkd.runs.atomic_files import read_json
from crkd.stages.vectors.run import STABILITY

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
            it, mean over its images, in [0, 1]. In a discovery on vectors, that of a second seed
            from ``stability.json``. None without either.
    """

    id: int
    members: NDArray[np.int64]
    resembles: list[tuple[int, float]]
    stability: float | None


def found_classes(evidence: Evidence) -> list[FoundClass]:
    """Return every discovered class in the order of the ids, including empty ones.

    Raises:
        InputError: ``stability.json`` of the run is damaged.
    """
    confidence = evidence.outputs.confidence(evidence.head)
    answered = evidence.answered
    relation = probabilities(evidence.outputs.known_logits, 1.0)
    repeated = _repeated(evidence)
    found = []
    for class_id in range(evidence.num_known, len(evidence.names)):
        rows = np.flatnonzero(answered == class_id)
        members = rows[np.argsort(-confidence[rows], kind="stable")]
        resembles: list[tuple[int, float]] = []
        stability = repeated.get(evidence.names[class_id])
        if len(members):
            mean = relation[members].mean(axis=0)
            nearest = np.argsort(-mean, kind="stable")[:RESEMBLED]
            resembles = [(int(known), float(mean[known])) for known in nearest]
        if len(members) and evidence.agreement is not None:
            stability = float(evidence.agreement[members].mean())
        found.append(FoundClass(class_id, members, resembles, stability))
    return found


def _repeated(evidence: Evidence) -> dict[str, float]:
    """Return the stability of each class over seeds, by name; empty where it was not measured."""
    path = evidence.opened.run.path / STABILITY
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict) or not all(
        type(value) is float and 0 <= value <= 1 for value in content.values()
    ):
        raise InputError(f"{path} is damaged; remove it, or restore it")
    return content
