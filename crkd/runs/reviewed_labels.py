"""Classes that a review gives to the unlabeled images of a run."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.runs.atomic_files import MAX_JSON_OF_IMAGES, read_json
from crkd.runs.folder import RunFolder

FILE: Final = "reviewed-labels.json"


@dataclass(frozen=True)
class ReviewedLabel:
    """Class of one image after a review.

    Attributes:
        class_id: class of the run; None for no class.
        by_person: whether a person chose it for this image.
    """

    class_id: int | None
    by_person: bool

    @property
    def taken_out(self) -> bool:
        """Whether a person decided that the image is of no class."""
        return self.by_person and self.class_id is None


def write_labels(
    run: RunFolder, ids: Sequence[str], labels: NDArray[np.int64], by_person: Collection[str]
) -> None:
    """Write the classes of images.

    Args:
        run: the reviewed run.
        ids: N image ids.
        labels: ``(N,)`` class of each, -1 for none.
        by_person: ids of the images whose class a person chose.
    """
    rows = zip(ids, labels.tolist(), strict=True)
    lines = ",\n".join(json.dumps([image, label, image in by_person]) for image, label in rows)
    write_bytes(run.path / FILE, f"[\n{lines}\n]\n".encode())


def read_labels(run: RunFolder) -> dict[str, ReviewedLabel]:
    """Return the classes of images by image id; empty for a run without a review.

    Raises:
        InputError: the file is damaged.
    """
    path = run.path / FILE
    if not path.is_file():
        return {}
    count = len(run.read_info().classes)
    content = read_json(path, MAX_JSON_OF_IMAGES)
    sound = isinstance(content, list) and all(
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and type(row[1]) is int
        and row[1] in range(-1, count)
        and isinstance(row[2], bool)
        for row in content
    )
    if not sound:
        raise InputError(f"{path} is damaged; apply the review again")
    return {
        image: ReviewedLabel(None if label < 0 else label, person)
        for image, label, person in content
    }
