"""Near-duplicates across two sets of images, found with an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import CHUNK_ROWS, Floats, has_faiss, unit_rows
from crkd.core.errors import InputError

EXACT_UP_TO = 20_000
"""Number of known images up to which all pairs are compared; above it, an index is used."""
NEIGHBORS = 10
"""The largest number of near-duplicates that are reported for one image."""
TRAINING_ROWS_PER_CELL = 64


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Pairs of rows, the most similar first.

    Attributes:
        known: ``(P,)`` rows of the known set.
        novel: ``(P,)`` rows of the novel set.
        cosines: ``(P,)``.
        method: "exact" or "ivf".
    """

    known: NDArray[np.int64]
    novel: NDArray[np.int64]
    cosines: NDArray[np.float32]
    method: str


def near_duplicates(
    known: Floats,
    novel: Floats,
    *,
    cosine: float = 0.99,
    exact_up_to: int = EXACT_UP_TO,
) -> Duplicates:
    """Return pairs of a known and a novel image with similar features.

    Above ``exact_up_to`` known rows, and if faiss is installed, an inverted file index sorts the
    known rows into about sqrt(n) cells. Each novel row is compared with the rows of the nearest
    eighth of the cells. This finds more than 99 % of the pairs above a cosine of 0.99
    (``tests/clustering/test_near_duplicates.py`` measures it).

    Args:
        known: ``(n, D)``.
        novel: ``(N, D)``, N may be 0; at most ten near-duplicates of each row are reported.
        cosine: the least cosine of a pair, in [-1, 1].
        exact_up_to: number of rows of ``known`` up to which every pair is compared.

    Raises:
        InputError: the shapes of the two sets do not match, or the cosine is out of range.
    """
    if not -1 <= cosine <= 1:
        raise InputError(f"cosine is {cosine}; it must be between -1 and 1")
    base, rows = (unit_rows(np.asarray(x, np.float32)) for x in (known, novel))
    if base.shape[1:] != rows.shape[1:] or not len(base):
        raise InputError(
            f"known has shape {base.shape} and novel {rows.shape}; both need features of the "
            "same network"
        )
    count = min(NEIGHBORS, len(base))
    use_index = has_faiss() and len(base) > exact_up_to
    index = _inverted_file(base) if use_index else None
    parts = []
    # One piece at least, so that no rows give arrays without pairs.
    for start in range(0, max(1, len(rows)), CHUNK_ROWS):
        part = rows[start : start + CHUNK_ROWS]
        similar, places = index.search(part, count) if index else _brute_force(part, base, count)
        near, rank = np.nonzero((places >= 0) & (similar >= cosine))
        parts.append((places[near, rank], near + start, similar[near, rank]))
    left, right, cosines = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-cosines, kind="stable")
    method = "ivf" if use_index else "exact"
    return Duplicates(left[order].astype(np.int64), right[order], cosines[order], method)


def _inverted_file(base: Floats) -> Any:
    import faiss

    cells = max(1, round(len(base) ** 0.5))
    quantizer: Any = faiss.IndexFlatIP(base.shape[1])
    index: Any = faiss.IndexIVFFlat(quantizer, base.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    size = min(len(base), TRAINING_ROWS_PER_CELL * cells)
    index.train(base[np.random.default_rng(0).choice(len(base), size, replace=False)])
    index.add(base)
    index.nprobe = max(1, cells // 8)
    return index


def _brute_force(rows: Floats, base: Floats, count: int) -> tuple[Floats, NDArray[np.int64]]:
    similar = np.empty((len(rows), count), np.float32)
    places = np.empty((len(rows), count), np.int64)
    # The number of rows at once whose similarities take 64 MiB.
    step = max(1, 2**24 // len(base))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        cosines = rows[part] @ base.T
        places[part] = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        similar[part] = np.take_along_axis(cosines, places[part], axis=1)
    return similar, places
