"""Checks of the arguments of the estimator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data

from crkd.clustering.kmeans import Floats
from crkd.core.counted import counted
from crkd.core.errors import InputError
from crkd.data.sources.arrays import ArraySource
from crkd.estimator.images import as_numpy, image_source, is_images, pixels_of, size_of
from crkd.estimator.labels import UNLABELED, with_marks

Samples = ArraySource | Floats

_FORM: Final = {"dtype": np.float32, "order": "C", "force_writeable": True}
"""Form of vectors; PyTorch warns of arrays that cannot be written, such as mapped files."""


@contextmanager
def kept_on_error(estimator: Any) -> Iterator[None]:
    """Restore the attributes of an estimator if the work inside raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def training_samples(estimator: Any, X: Any, y: Any) -> tuple[Samples, NDArray[Any]]:
    """Return checked samples and their ``(n,)`` labels.

    The estimator gets ``n_features_in_``, and ``feature_names_in_`` where ``X`` has names.
    """
    y = with_marks(as_numpy(y))
    samples: Samples
    if is_images(X):
        X, y = as_numpy(X), column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        samples = image_source(X)
        estimator.n_features_in_ = int(np.prod(X.shape[1:]))
        vars(estimator).pop("feature_names_in_", None)
    else:
        X, y = validate_data(estimator, _rows_of(X), y, **_FORM)
        samples = X
    known = [label for label in y.tolist() if label != UNLABELED]
    if known:
        check_classification_targets(known)
    return samples, y


def separate_samples(
    estimator: Any, X_known: Any, y_known: Any, X_novel: Any
) -> tuple[Samples, NDArray[Any]]:
    """Return samples with labels, followed by others without, as :func:`training_samples`."""
    known, labels = training_samples(estimator, X_known, y_known)
    samples: Samples
    if isinstance(known, ArraySource):
        novel = further_images(estimator, X_novel, size_of(known))
        count = len(novel)
        samples = image_source(np.concatenate([pixels_of(known), pixels_of(novel)]))
    else:
        rows = further_vectors(estimator, X_novel)
        count = len(rows)
        samples = np.concatenate([known, rows])
    return samples, np.array([*labels.tolist(), *[UNLABELED] * count], dtype=object)


def further_vectors(estimator: Any, X: Any) -> Floats:
    """Return ``(n, D)`` vectors that fit those of the fit."""
    rows: Floats = validate_data(estimator, _rows_of(X), reset=False, **_FORM)
    return rows


def _rows_of(X: Any) -> Any:
    """Return vectors as :func:`as_numpy` does.

    Raises:
        InputError: they have three dimensions, as gray images without channels have.
    """
    rows = as_numpy(X)
    if getattr(rows, "ndim", 2) == 3:
        raise InputError(
            f"X has shape {rows.shape}, which is neither that of vectors (n, D) nor that of images "
            "(n, H, W, 3); repeat gray images along a new last axis, or flatten them to vectors"
        )
    return rows


def further_images(estimator: Any, X: Any, size: tuple[int, int]) -> ArraySource:
    """Return images of the height and width of those of the fit.

    Raises:
        InputError: the images have another size or type, or there are none.
    """
    source = image_source(np.asarray(as_numpy(X)))
    height, width = size_of(source)
    if (height, width) != size:
        raise InputError(
            f"X has images of {height} x {width} pixels, but {type(estimator).__name__} was fitted "
            f"on {size[0]} x {size[1]}; give images of the same size"
        )
    return source


def checked_num_novel(num_novel: Any, count: int) -> int:
    """Return the number of novel classes in ``count`` unlabeled samples.

    Raises:
        InputError: it is not a whole number from 1 to ``count``.
    """
    if count == 0:
        return 0
    is_number = isinstance(num_novel, int | np.integer)
    if not is_number or not 1 <= num_novel <= count:
        samples = counted(count, "sample is", "samples are")
        estimate = "crkd discover --features KNOWN NOVEL --num-novel auto"
        hint = "" if is_number else f" (of vectors, {estimate!r} estimates it)"
        raise InputError(
            f"num_novel is {num_novel!r} and {samples} unlabeled; give a number of novel classes "
            f"from 1 to {count}{hint}"
        )
    return int(num_novel)
