"""Labels in arrays: marks of unlabeled samples, and labels of novel classes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError

UNLABELED: Final = -1


def with_marks(y: Any) -> Any:
    """Return labels with -1 in the place of None; what cannot hold a None is returned as it is.

    In a list and in an array of objects NaN counts as None, as in a column of text that pandas has
    read. So do the missing values of a pandas column of another type, or of its array.

    Raises:
        InputError: an array of floats holds NaN.

    >>> with_marks(["cat", None, float("nan")]).tolist()
    ['cat', -1, -1]
    """
    if y is None:
        return y
    # A list of text and numbers would otherwise become text alone.
    labels: Any = y if hasattr(y, "dtype") else np.array(y, dtype=object)
    if not isinstance(labels.dtype, np.dtype):
        labels = _as_objects(labels)
    if labels.dtype.kind == "f" and (missing := np.isnan(labels).sum()):
        raise InputError(
            f"y contains NaN in {missing} of {labels.size} numbers; give -1 for unlabeled samples"
        )
    if labels.dtype.kind != "O":
        return labels
    marked = np.array(labels, dtype=object)
    missing = np.array([_is_missing(value) for value in marked.ravel()], bool)
    marked[missing.reshape(marked.shape)] = UNLABELED
    return marked


def _is_missing(label: Any) -> bool:
    if label is None:
        return True
    # True for NaN and NaT; NA of pandas gives NA itself, which has no truth value.
    differs = label != label
    return bool(differs) if isinstance(differs, bool | np.bool_) else differs is label


def _as_objects(column: Any) -> NDArray[Any]:
    """Return a column whose type is not one of NumPy as objects, with None for missing values."""
    # Series of pandas have both methods, their arrays isna alone, other libraries neither.
    missing = ~column.notna() if hasattr(column, "notna") else getattr(column, "isna", list)()
    found: NDArray[Any] = np.array(column, dtype=object)
    found[np.flatnonzero(missing)] = None
    return found


def hidden_rows(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of ``(n,)`` labels are marked as unlabeled.

    Raises:
        InputError: the marks have become text, or a label is an empty text.
    """
    empty = sum(isinstance(label, str) and not label for label in labels.tolist())
    if empty:
        raise InputError(
            f"y holds {empty} empty texts, which are no labels; mark unlabeled samples with None "
            "or -1, in a list or an array of dtype object"
        )
    if labels.dtype.kind in "US":
        if (labels == str(UNLABELED)).any():
            raise InputError(
                f"y is text and holds {str(UNLABELED)!r}; to mark unlabeled samples among text "
                "labels, give y the dtype object, and -1 or None there"
            )
        return np.zeros(len(labels), bool)
    return np.array([label == UNLABELED for label in labels.tolist()], bool)


def novel_labels(known: NDArray[Any], count: int, taken: Collection[str] = ()) -> NDArray[Any]:
    """Return labels for novel classes that no known class bears.

    They are the next whole numbers from 0 on, or "novel-0", "novel-1", ... where known labels are
    text.

    Args:
        known: ``(K,)`` different labels, numbers or text.
        count: number of novel classes.
        taken: names of known classes, which no label is as text.

    >>> novel_labels(np.array([3, 7]), 2), novel_labels(np.array(["cat", "novel-0"]), 1)
    (array([8, 9]), array(['novel-1'], dtype='<U7'))
    """
    if known.dtype.kind == "U":
        names = [f"novel-{number}" for number in range(count + len(known) + len(taken))]
        used = {*known.tolist(), *taken}
        return np.array([name for name in names if name not in used][:count], dtype=str)
    # The label -1 marks outliers.
    first = 2 if known.dtype.kind == "b" else max(known.max(initial=-1) + 1, 0)
    labels: NDArray[Any] = first + np.arange(count + len(taken))
    free = np.array([str(label) not in taken for label in labels.tolist()], bool)
    found: NDArray[Any] = labels[free][:count]
    return found
