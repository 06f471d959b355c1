"""Table of the classes of an estimator, and the representative samples of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.estimator.class_space import ClassSpace
from crkd.estimator.samples import OUTLIER, LearnedSamples

REPRESENTATIVES: Final = 3
"""Representative samples of a class in the table."""


@dataclass(frozen=True)
class ClassRow:
    """One class of a fitted estimator; a list of rows makes a pandas or polars table.

    Attributes:
        label: as ``predict`` returns it; -1 in the row of the outliers.
        name: given by ``set_class_names``, otherwise the label as text.
        kind: "known", "novel" or "outlier".
        count: number of learned samples of the class.
        confidence: mean probability of the class over these samples, in [0, 1], not calibrated;
            NaN for a class without samples.
        representatives: indices of the most representative samples.
    """

    label: Any
    name: str
    kind: Literal["known", "novel", "outlier"]
    count: int
    confidence: float
    representatives: tuple[int, ...]


def class_table(space: ClassSpace, samples: LearnedSamples) -> list[ClassRow]:
    """Return a row for each class, and a last row for the outliers, if there are any."""
    classes, confidence = samples.classes(space), samples.confidence(space)
    apart = samples.outliers(space)
    rows = []
    for position, (label, name) in enumerate(zip(space.labels.tolist(), space.names, strict=True)):
        members = np.flatnonzero((classes == position) & ~apart)
        rows.append(
            ClassRow(
                label,
                name,
                "known" if position < space.num_known else "novel",
                len(members),
                _mean(confidence[members]),
                tuple(nearest_to_mean(samples.embedding, members, REPRESENTATIVES).tolist()),
            )
        )
    if apart.any():
        mean = _mean(confidence[apart])
        rows.append(ClassRow(OUTLIER, "outliers", "outlier", int(apart.sum()), mean, ()))
    return rows


def nearest_to_mean(embedding: Floats, members: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the members of a class that are nearest to their mean, the nearest first.

    Args:
        embedding: ``(N, P)`` of all samples.
        members: ``(n,)`` indices of the samples of the class.
        count: largest number of members to return.
    """
    if not len(members):
        return members
    rows = embedding[members].astype(np.float64)
    distances = np.square(rows - rows.mean(axis=0)).sum(axis=1)
    return members[np.argsort(distances, kind="stable")[:count]]


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
