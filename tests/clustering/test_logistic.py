"""Logistic regression against a minimum that SciPy finds in float64."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from crkd.clustering.logistic import logistic_regression


def rows_of(sizes: list[int], width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of classes that overlap; a size of 0 leaves a class without rows."""
    draw = np.random.default_rng(len(sizes))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    means = 1.5 * draw.standard_normal((len(sizes), width))
    return (means[labels] + draw.standard_normal((len(labels), width))).astype(np.float32), labels


def minimum(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and biases of the classes 0 to C - 1, all of which have rows."""
    count, width = int(labels.max()) + 1, rows.shape[1]
    shares = 1 / (np.bincount(labels)[labels] * count)

    def loss(flat: np.ndarray) -> float:
        weights = flat[: width * count].reshape(width, count)
        logits = rows @ weights + flat[width * count :]
        fit = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
        return float(shares @ fit + (weights**2).sum() / (2 * len(rows)))

    flat = minimize(loss, np.zeros((width + 1) * count), method="BFGS", options={"gtol": 1e-7}).x
    return flat[: width * count].reshape(width, count), flat[width * count :]


@pytest.mark.parametrize("sizes", [[40, 15, 25], [60, 20], [5, 9, 30, 12]])
def test_the_minimum_is_that_of_scipy(sizes):
    rows, labels = rows_of(sizes)
    weights, biases = logistic_regression(rows, labels, len(sizes))
    expected, offsets = minimum(rows.astype(np.float64), labels)
    # float32 ends where the loss changes no more; no penalty holds the biases.
    np.testing.assert_allclose(weights, expected, atol=2e-3)
    # A constant of all biases does not matter.
    np.testing.assert_allclose(biases - biases.mean(), offsets - offsets.mean(), atol=1e-2)


def test_a_class_without_rows_is_never_predicted_and_changes_nothing():
    rows, labels = rows_of([30, 20, 25])
    spread = np.array([0, 2, 4])[labels]
    weights, biases = logistic_regression(rows, spread, 5)
    alone, offsets = logistic_regression(rows, labels, 3)
    np.testing.assert_array_equal(weights[:, [0, 2, 4]], alone)
    np.testing.assert_array_equal(biases[[0, 2, 4]], offsets)
    far = 100 * np.random.default_rng(0).standard_normal((200, 4))
    assert set((far @ weights + biases).argmax(axis=1)) <= {0, 2, 4}


def test_one_class_is_always_predicted():
    rows, _ = rows_of([10])
    weights, biases = logistic_regression(rows, np.full(10, 2), 4)
    assert set((rows @ weights + biases).argmax(axis=1)) == {2}
    assert weights.dtype == biases.dtype == np.float32


def test_a_rare_class_is_not_lost():
    rows, labels = rows_of([1000, 1000, 4])
    weights, biases = logistic_regression(rows, labels, 3)
    found = (rows @ weights + biases).argmax(axis=1)
    assert (found[labels == 2] == 2).mean() >= 0.75
