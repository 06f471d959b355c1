"""Checks of the arguments of the estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data

from crkd.clustering.kmeans import Floats
from crkd.core.errors import InputError
from crkd.data.sources.arrays import ArraySource
from crkd.stages.arrays.images import as_numpy, image_source, is_images
from crkd.stages.arrays.labels import UNLABELED, with_marks

Samples = ArraySource | Floats


def training_samples(estimator: Any, X: Any, y: Any) -> tuple[Samples, NDArray[Any]]:
    """Return checked samples and their ``(n,)`` labels; the estimator gets ``n_features_in_``."""
    y = with_marks(y)
    samples: Samples
    if is_images(X):
        X, y = as_numpy(X), column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        samples = image_source(X)
        estimator.n_features_in_ = int(np.prod(X.shape[1:]))
    else:
        X, y = validate_data(estimator, as_numpy(X), y, dtype=np.float32, order="C")
        samples = X
    known = [label for label in y.tolist() if label != UNLABELED]
    if known:
        check_classification_targets(known)
    return samples, y


def further_vectors(estimator: Any, X: Any) -> Floats:
    """Return ``(n, D)`` vectors that fit those of the fit."""
    rows: Floats = validate_data(estimator, as_numpy(X), reset=False, dtype=np.float32, order="C")
    return rows


def further_images(estimator: Any, X: Any) -> ArraySource:
    """Return images of the size of those of the fit.

    Raises:
        InputError: the images have another size or type.
    """
    found = int(np.prod(np.shape(X)[1:]))
    if found != estimator.n_features_in_:
        raise InputError(
            f"X has images of {found} values, but {type(estimator).__name__} was fitted on "
            f"{estimator.n_features_in_}; give images of the same size"
        )
    return image_source(as_numpy(X))


def checked_num_novel(num_novel: Any, count: int) -> int:
    """Return the number of novel classes in ``count`` unlabeled samples.

    Raises:
        InputError: it is no whole number from 1 to ``count``.
    """
    if count == 0:
        return 0
    if not isinstance(num_novel, int | np.integer) or not 1 <= num_novel <= count:
        raise InputError(
            f"num_novel is {num_novel!r} and {count} samples are unlabeled; give a number of "
            f"novel classes from 1 to {count}"
        )
    return int(num_novel)
