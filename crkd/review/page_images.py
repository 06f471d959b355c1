"""Entries of the images of the review page, made when they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.projection_2d import project_2d
from crkd.embedding.progress import ImageProgress
from crkd.evaluation.calibration import probabilities
from crkd.review.image_places import ImagePlaces
from crkd.review.run_outputs import BLOCK, Evidence

NEAREST: Final = 3
"""Number of other classes named for each image, the most probable ones."""


def image_entries(evidence: Evidence, places: ImagePlaces) -> Iterator[dict[str, Any]]:
    """Yield the entry of every image in the order of the page.

    Args:
        evidence: outputs of the run.
        places: of its images.
    """
    count = len(evidence.order)
    plane = project_2d(evidence.outputs.features, evidence.assigned)
    progress = ImageProgress("review: page", count)
    for start in range(0, count, BLOCK):
        rows = evidence.order[start : start + BLOCK]
        columns = (evidence.assigned, evidence.confidence, plane)
        values = (column[rows].tolist() for column in columns)
        for row, class_id, confidence, at, near in zip(
            rows.tolist(), *values, _nearest(evidence, rows), strict=True
        ):
            entry: dict[str, Any] = {
                "id": evidence.images.ids[row],
                "class": class_id,
                "confidence": round(confidence, 4),
                "at": [round(value, 3) for value in at],
                "near": near,
            }
            name = places.name(row)
            if name is not None:
                entry["file"] = name
            yield entry | _decision(evidence, row)
        progress.show(start + len(rows))
    progress.close()


def _decision(evidence: Evidence, row: int) -> dict[str, Any]:
    """Return what a person decided for an image, or which known class disputes it."""
    label = evidence.reviewed.get(evidence.images.ids[row])
    if label is not None and label.by_person:
        return {"decided": True, **({"out": True} if label.taken_out else {})}
    if evidence.disputed[row] >= 0:
        return {"disputed": int(evidence.disputed[row])}
    return {}


def _nearest(evidence: Evidence, rows: NDArray[np.int64]) -> Iterator[list[list[float]]]:
    """Yield the most probable other classes of some images, each with its probability."""
    shares = probabilities(evidence.outputs.joint_logits(evidence.head, rows), 1.0)
    every = np.arange(len(rows))[:, None]
    shares[every[:, 0], evidence.assigned[rows]] = -1.0
    count = min(NEAREST, shares.shape[1] - 1)
    best = np.argpartition(-shares, count - 1, axis=1)[:, :count]
    best = best[every, np.argsort(-shares[every, best], axis=1, kind="stable")]
    for others, found in zip(best.tolist(), shares[every, best].tolist(), strict=True):
        yield [
            [other, round(share, 3)]
            for other, share in zip(others, found, strict=True)
            if share >= 0.0005
        ]
