"""Images of equal content in files of ``crkd embed``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crkd.data.vectors.embedding_file import EmbeddingFile


@dataclass(frozen=True)
class RepeatedImages:
    """Images whose encoded content equals that of an earlier image.

    Attributes:
        count: number of such images.
        pairs: id of the image and id of the earlier one, of some of them.
    """

    count: int
    pairs: list[tuple[str, str]]


def repeated_images(files: Sequence[Path], limit: int) -> RepeatedImages:
    """Return the repeated images of several files, which count as one sequence of images.

    Args:
        files: files of vectors.
        limit: number of pairs to name.

    Raises:
        InputError: a file is damaged or not of ``crkd embed``.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(EmbeddingFile(file)) for file in files]
        digests = np.concatenate([each.digests() for each in opened])
        keys = np.ascontiguousarray(digests).view("V32").ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        earlier = first[inverse]
        rows = np.flatnonzero(earlier < np.arange(len(keys)))
        starts = np.cumsum([0, *map(len, opened)])

        def image_id(row: int) -> str:
            number = int(np.searchsorted(starts, row, side="right")) - 1
            return opened[number].row(row - int(starts[number])).image_id

        pairs = [(image_id(int(row)), image_id(int(earlier[row]))) for row in rows[:limit]]
    return RepeatedImages(len(rows), pairs)
