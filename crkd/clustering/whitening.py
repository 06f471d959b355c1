"""A space in which the classes that are known are round: vectors whitened by their labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import CHUNK_ROWS, Floats, unit_rows
from crkd.clustering.row_pieces import class_sums
from crkd.core.errors import InputError

Doubles = NDArray[np.float64]

SHRINKAGE = 0.3
NOTHING = 1e-9
"""Directions with a smaller share of the variance of the first one are rounding."""
WHOLE = 2**26
"""Numbers (512 MiB of float64) up to which all rows are converted at once; more in pieces."""
PIECE_ROWS = 1024
"""Rows that are converted at once."""


@dataclass(frozen=True, eq=False)
class WhitenedSpace:
    """A map from vectors to unit-length rows.

    Attributes:
        root: whether vectors are replaced by the signed square roots of their entries first.
        mean: ``(D,)`` float64, subtracted after that.
        projection: ``(D, k)`` float64.
    """

    root: bool
    mean: Doubles
    projection: Doubles

    def rows(self, vectors: Floats) -> Floats:
        """Return ``(N, D)`` vectors in this space, ``(N, k)`` float32 of unit length.

        Raises:
            InputError: the vectors have another length than those of the fit.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise InputError(
                f"vectors have shape {vectors.shape} but the space was fitted to vectors of "
                f"length {len(self.mean)}; give vectors of the same network"
            )
        found = np.empty((len(vectors), self.projection.shape[1]), np.float32)
        for start in range(0, len(vectors), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            rows = _rooted(vectors[part], self.root)
            rows -= self.mean
            found[part] = rows @ self.projection
        return unit_rows(found)


def principal_space(vectors: Floats, *, width: int = 64, root: bool = False) -> WhitenedSpace:
    """Return the space of the leading principal components, which no label shapes.

    Args:
        vectors: ``(N, D)`` finite values.
        width: components, at most; no more than there are directions of variance.
        root: see :class:`WhitenedSpace`.
    """
    mean, axes, _ = _principal([vectors], root, width)
    return WhitenedSpace(root, mean, axes)


def whitened_spaces(
    known: Floats,
    labels: NDArray[np.int64],
    novel: Floats,
    widths: Sequence[int],
    *,
    shrinkage: float = SHRINKAGE,
    root: bool = True,
) -> list[WhitenedSpace]:
    """Return spaces whitened by the scatter within the known classes, one for each width.

    With x the rows of both sets, centered and projected onto their first k components::

        S = mean over known rows of (x - mu_y)(x - mu_y)^T
        z = ((1 - a) S + a tr(S)/k I)^(-1/2) x, then unit length

    The smaller the classes, the less is known of S: with n known rows the share a is raised to
    k / (k + n - K) where that is more. A class of one row adds nothing to S; where no class adds
    anything, S is the covariance of all rows.

    Args:
        known: ``(n, D)`` finite values.
        labels: ``(n,)`` classes in ``[0, K)``.
        novel: ``(m, D)`` finite values without labels.
        widths: k, at most; fewer where fewer directions have variance.
        shrinkage: a, in [0, 1].
        root: see :class:`WhitenedSpace`; pooled rectified features are closer to Gaussians so
            (Yang, Liu and Xu, "Free Lunch for Few-shot Learning", ICLR 2021, equation 3).

    Raises:
        InputError: the share is out of its range, or the sets do not fit.
    """
    if not 0 <= shrinkage <= 1:
        raise InputError(f"shrinkage is {shrinkage}; give a number from 0 to 1")
    if known.ndim != 2 or novel.ndim != 2 or known.shape[1] != novel.shape[1]:
        raise InputError(
            f"known vectors have shape {known.shape} and novel ones {novel.shape}; both need rows "
            "of one length"
        )
    mean, axes, rows = _principal([known, novel], root, max(widths))
    residuals, freedom = residuals_within(rows[: len(known)], labels)
    if freedom == 0 or not residuals.any():
        residuals, freedom = rows, len(rows) - 1
    freedom = max(freedom, 1)
    scatter = residuals.T @ residuals / freedom
    spaces = []
    for width in widths:
        k = min(width, len(scatter))
        matrix = shrunk(scatter[:k, :k], max(shrinkage, k / (k + freedom)))
        spaces.append(WhitenedSpace(root, mean, axes[:, :k] @ inverse_root(matrix)))
    return spaces


def residuals_within(rows: Doubles, labels: NDArray[np.int64]) -> tuple[Doubles, int]:
    """Return rows without the means of their classes, and the degrees of freedom that are left.

    Args:
        rows: ``(N, k)``.
        labels: ``(N,)`` classes from 0.
    """
    counts = np.bincount(labels)
    means = class_sums(rows, labels, len(counts)) / np.maximum(counts, 1)[:, None]
    return rows - means[labels], len(rows) - int((counts > 0).sum())


def shrunk(scatter: Doubles, share: float) -> Doubles:
    """Return ``(k, k)`` moved by a share towards the multiple of the identity of equal trace."""
    width = len(scatter)
    # Rows without any scatter have no scale either.
    level = float(np.trace(scatter)) / width or 1.0
    return np.asarray((1 - share) * scatter + share * level * np.eye(width))


def inverse_root(matrix: Doubles) -> Doubles:
    """Return the symmetric inverse square root of a positive definite ``(k, k)`` matrix."""
    values, vectors = np.linalg.eigh(matrix)
    # The smallest value of a matrix that was shrunk is above rounding; others are kept away.
    values = np.maximum(values, NOTHING * values[-1])
    return np.asarray(vectors / np.sqrt(values) @ vectors.T)


def _rooted(vectors: Floats, root: bool, out: Doubles | None = None) -> Doubles:
    """Return vectors as float64, by their signed square roots if wanted; never the same array."""
    found = np.empty(vectors.shape, np.float64) if out is None else out
    for start in range(0, len(vectors), PIECE_ROWS):
        part = np.asarray(vectors[start : start + PIECE_ROWS], np.float64)
        rooted = np.sign(part) * np.sqrt(np.abs(part)) if root else part
        found[start : start + PIECE_ROWS] = rooted
    return found


def _principal(parts: Sequence[Floats], root: bool, width: int) -> tuple[Doubles, Doubles, Doubles]:
    """Return mean ``(D,)``, leading directions ``(D, k)`` and coordinates ``(N, k)`` of all rows.

    Many rows are converted in pieces, once for each of the three.
    """
    count, length = sum(map(len, parts)), parts[0].shape[1]
    if count * length <= WHOLE or count < length:
        rows, filled = np.empty((count, length)), 0
        for part in parts:
            _rooted(part, root, rows[filled : filled + len(part)])
            filled += len(part)
        mean = rows.mean(axis=0)
        rows -= mean
        axes = _principal_axes([rows], count, width)
        return mean, axes, rows @ axes
    starts = [(part, start) for part in parts for start in range(0, len(part), PIECE_ROWS)]
    mean = sum(_rooted(p[s : s + PIECE_ROWS], root).sum(axis=0) for p, s in starts) / count

    def gaps() -> Iterator[Doubles]:
        for part, start in starts:
            yield _rooted(part[start : start + PIECE_ROWS], root) - mean

    axes = _principal_axes(gaps(), count, width)
    return mean, axes, np.concatenate([piece @ axes for piece in gaps()])


def _principal_axes(gaps: Iterable[Doubles], count: int, width: int) -> Doubles:
    """Return the leading directions ``(D, k)`` of ``count`` centered rows, at least one.

    Args:
        gaps: the rows, in one piece if they are fewer than D.
        count: N.
        width: k, at most.
    """
    pieces = iter(gaps)
    first = next(pieces)
    length = first.shape[1]
    if count < length:
        # As many directions as rows at most: the smaller of the two products finds them.
        values, vectors = np.linalg.eigh(first @ first.T)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = _leading(values, width)
        axes = first.T @ vectors[:, :kept] / np.sqrt(np.maximum(values[:kept], 1e-300))
    else:
        from scipy.linalg import eigh

        scatter = first.T @ first
        for piece in pieces:
            scatter += piece.T @ piece
        values, vectors = eigh(scatter, subset_by_index=(max(length - width, 0), length - 1))
        axes = vectors[:, ::-1][:, : _leading(values[::-1], width)]
    # The sign of a direction is arbitrary: its largest entry is made positive.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.ascontiguousarray(axes * np.where(largest < 0, -1.0, 1.0))


def _leading(values: Doubles, width: int) -> int:
    """Return how many of the descending variances count: at least one, at most ``width``."""
    return max(1, min(width, int((values > NOTHING * max(values[0], 0.0)).sum())))
