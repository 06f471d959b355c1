"""Table of the classes of an estimator, and the representative samples of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

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
    rows = []
    for position, (label, name) in enumerate(zip(space.labels.tolist(), space.names, strict=True)):
        members = (classes == position) & ~samples.outliers
        rows.append(
            ClassRow(
                label,
                name,
                "known" if position < space.num_known else "novel",
                int(members.sum()),
                _mean(confidence[members]),
                tuple(representatives(space, samples, position, REPRESENTATIVES).tolist()),
            )
        )
    if samples.outliers.any():
        count, mean = int(samples.outliers.sum()), _mean(confidence[samples.outliers])
        rows.append(ClassRow(OUTLIER, "outliers", "outlier", count, mean, ()))
    return rows


def representatives(
    space: ClassSpace, samples: LearnedSamples, position: int, count: int
) -> NDArray[np.int64]:
    """Return the samples of a class nearest to the mean of its embedding, the nearest first.

    Args:
        space: the classes.
        samples: the learned samples.
        position: of the class, in ``[0, C)``.
        count: largest number of samples to return.

    Returns:
        ``(n,)`` int64 indices of samples; n is below ``count`` only for a smaller class.
    """
    members = np.flatnonzero((samples.classes(space) == position) & ~samples.outliers)
    if not len(members):
        return members
    rows = samples.embedding[members].astype(np.float64)
    distances = np.square(rows - rows.mean(axis=0)).sum(axis=1)
    return members[np.argsort(distances, kind="stable")[:count]]


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
