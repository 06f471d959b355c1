"""Checks of the arguments of a discovery on vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.kmeans import Floats
from crkd.config.schema import Config
from crkd.core.counted import counted
from crkd.core.errors import InputError, listed
from crkd.stages.vectors.candidates import METHODS


def checked_rows(name: str, vectors: Tensor) -> Floats:
    """Return vectors ``(N, D)`` as float32 on the CPU.

    Raises:
        InputError: the shape or the type is wrong, or a value is not finite.
    """
    if vectors.ndim != 2 or 0 in vectors.shape or not vectors.is_floating_point():
        raise InputError(
            f"{name} has shape {tuple(vectors.shape)} and type {vectors.dtype}; give a filled "
            "tensor (N, D) of real numbers"
        )
    rows = vectors.detach().cpu().float().numpy()
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise InputError(
            f"{name} row {int(bad.argmax())} holds a value that is not finite; remove the row"
        )
    return rows


def checked_labels(labels: Tensor, count: int) -> NDArray[np.int64]:
    """Return the labels of ``count`` vectors, in ``[0, K)`` without a gap.

    Raises:
        InputError: there is another number of them, or a class is missing.
    """
    if labels.shape != (count,):
        raise InputError(
            f"known_labels has shape {tuple(labels.shape)} for {count} vectors; give one a vector"
        )
    found = labels.detach().cpu().numpy().astype(np.int64)
    if found.min() < 0 or (np.bincount(found) == 0).any():
        raise InputError(
            f"known_labels holds {listed(np.unique(found).tolist())}; number the classes from 0 "
            "without a gap"
        )
    return found


def checked_known(known: Tensor, labels: Tensor) -> tuple[Floats, NDArray[np.int64]]:
    """Return vectors ``(n, D)`` and labels ``(n,)`` of the known classes; n is 0 if none is known.

    Raises:
        InputError: as :func:`checked_rows` and :func:`checked_labels`.
    """
    if not len(known) and not len(labels):
        return np.zeros(known.shape, np.float32), np.zeros(0, np.int64)
    rows = checked_rows("known", known)
    return rows, checked_labels(labels, len(rows))


def check_mixed(config: Config, *, no_known: bool) -> None:
    """Refuse the mixed setting if no class is known.

    Raises:
        InputError: unlabeled samples may be of known classes, and there are none.
    """
    if no_known and config.mixed:
        raise InputError(
            "--mixed is for unlabeled samples that may be of known classes, and no class is known; "
            "leave it out, or give labeled samples of known classes"
        )


def check_choice(method: str, num_novel: int, count: int) -> None:
    """Check the method and the number of novel classes of ``count`` vectors.

    Raises:
        InputError: one of them is out of its range.
    """
    if method != "auto" and method not in METHODS:
        raise InputError(f"method is {method!r}; choose one of: {listed(['auto', *METHODS])}")
    if not 1 <= num_novel <= count:
        vectors = counted(count, "novel vector")
        raise InputError(f"num_novel is {num_novel} for {vectors}; give a number from 1 to {count}")
