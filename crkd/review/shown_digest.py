"""Digest of what a review page shows, so that decisions are not applied to anything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from crkd.runs.reviewed_labels import ReviewedLabel


def shown_digest(
    names: Sequence[str], images: Sequence[str], reviewed: Mapping[str, ReviewedLabel]
) -> str:
    """Return the SHA-256 of the classes, the images, and what earlier reviews decided for them.

    Predictions are left out: they follow from the model, and their last bits differ among devices.

    Args:
        names: names of all classes by id.
        images: ids of the unlabeled images; their order does not count.
        reviewed: class of each image after an earlier review.

    >>> shown_digest(["cat"], ["x", "y"], {}) == shown_digest(["cat"], ["y", "x"], {})
    True
    """
    digest = hashlib.sha256(json.dumps(list(names)).encode())
    for image in sorted(images):
        label = reviewed.get(image)
        known = None if label is None else [label.class_id, label.by_person]
        digest.update(json.dumps([image, known]).encode())
    return digest.hexdigest()
