"""Checks of the vectors of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.data.vectors.row_file import PIECE_ROWS, Floats, RowFile


def checked_vectors(features: npt.NDArray[Any] | RowFile, file: Path) -> Floats | RowFile:
    """Return vectors ``(N, D)`` as float32; those of a file stay there.

    Raises:
        InputError: the shape or the type is wrong, or a value is not finite.
    """
    if isinstance(features, RowFile):
        for start in range(0, len(features), PIECE_ROWS):
            _check_finite(features[start : start + PIECE_ROWS], file, start)
        return features
    if features.ndim != 2 or 0 in features.shape:
        raise InputError(
            f"the vectors of the feature file {str(file)!r} have the shape {features.shape}; give "
            "(rows, dimensions), at least one of each"
        )
    vectors = as_float32(features, file)
    _check_finite(vectors, file, 0)
    return vectors


def as_float32(features: npt.NDArray[Any], file: Path) -> Floats:
    """Return numbers as float32.

    Raises:
        InputError: they are not real numbers.
    """
    if not np.issubdtype(features.dtype, np.floating) and not np.issubdtype(
        features.dtype, np.integer
    ):
        raise InputError(
            f"the vectors of the feature file {str(file)!r} are of type {features.dtype}; give "
            "real numbers"
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(features, dtype=np.float32)


def _check_finite(vectors: Floats, file: Path, first: int) -> None:
    """Refuse rows that are not finite; ``first`` is the number of the first row."""
    # The sum of a row is finite only if its values are, except for an overflow, checked below.
    doubtful = np.flatnonzero(~np.isfinite(vectors.sum(axis=1)))
    bad = doubtful[~np.isfinite(vectors[doubtful]).all(axis=1)]
    if len(bad):
        raise InputError(
            f"row {first + bad[0]} of the feature file {str(file)!r} holds a value that is not a "
            "finite float32; remove or correct the row"
        )
