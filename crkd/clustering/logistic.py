"""Logistic regression on rows of vectors, to the minimum of its convex loss."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats

ITERATIONS: Final = 200
TOLERANCE: Final = 1e-6
"""Largest entry of the gradient at which the iteration ends."""
_NEVER: Final = np.float32(-1e4)
"""Bias of a class without rows."""


def logistic_regression(
    rows: Floats, labels: NDArray[np.int64], num_classes: int
) -> tuple[Floats, Floats]:
    """Return weights ``(k, C)`` and biases ``(C,)`` of a multinomial logistic regression.

    The loss is the mean cross-entropy, every class of equal weight, plus |W|^2 / (2 N): the
    strength of the penalty that scikit-learn calls C = 1. L-BFGS starts at zero, so that nothing
    is random. A class without rows is never predicted.

    Args:
        rows: ``(N, k)``, N at least 1.
        labels: ``(N,)`` in ``[0, num_classes)``.
        num_classes: C.
    """
    # Imported here, because the import takes long. An optimizer of PyTorch would take longer: it
    # imports a compiler.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = np.zeros((rows.shape[1], num_classes), np.float32)
    biases = np.full(num_classes, _NEVER)
    present = np.unique(labels)
    if len(present) == 1:
        biases[present] = 0.0
        return weights, biases
    # Of two classes, scikit-learn fits the difference of both weights. Its squared length is twice
    # the sum of their squares.
    strength = 2.0 if len(present) == 2 else 1.0
    model = LogisticRegression(
        C=strength, class_weight="balanced", tol=TOLERANCE, max_iter=ITERATIONS
    )
    with warnings.catch_warnings():
        # The limit of the iterations is generous, and a result at the limit is as good as any.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows, labels)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weights[:, present] = coefficients.T
    biases[present] = intercepts
    return weights, biases
