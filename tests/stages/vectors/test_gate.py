"""The gate between old and new classes, and the regression behind it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from crkd.clustering.logistic import logistic_regression
from crkd.clustering.tied_mixtures import TiedMixtures
from crkd.clustering.whitening import WhitenedSpace
from crkd.stages.vectors.gate import Gate, balanced_offset


def overlapping(num=3, each=50, width=4):
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(num), each)
    rows = 2 * np.eye(num, width)[labels] + draw.standard_normal((len(labels), width))
    return rows.astype(np.float32), labels


def test_regression_is_that_of_scikit_learn():
    rows, labels = overlapping()
    weights, biases = logistic_regression(rows, labels, 3)
    reference = LogisticRegression(C=1.0, max_iter=500, tol=1e-8).fit(rows, labels)
    np.testing.assert_allclose(
        log_softmax((rows @ weights + biases).astype(np.float64), axis=1),
        reference.predict_log_proba(rows),
        atol=2e-2,
    )


def test_rare_classes_weigh_as_much_as_others():
    rows, labels = overlapping(num=2, each=200)
    kept = (labels == 0) | (np.arange(400) < 210)
    weights, biases = logistic_regression(rows[kept], labels[kept], 2)
    predicted = (rows @ weights + biases).argmax(axis=1)
    assert (predicted[labels == 1] == 1).mean() > 0.6


def test_a_class_without_rows_is_never_predicted():
    rows, labels = overlapping()
    weights, biases = logistic_regression(rows, labels, 5)
    assert (rows @ weights + biases).argmax(axis=1).max() < 3


@pytest.mark.parametrize("seed", range(5))
def test_no_other_offset_loses_less(seed):
    draw = np.random.default_rng(seed)
    old, new = draw.normal(2, 1.5, 80), draw.normal(-1, 2, 50)

    def cost(offset):
        return max((old < offset).mean() / 1.5, (new >= offset).mean() / 5)

    assert cost(balanced_offset(old, new)) <= min(cost(x) for x in np.linspace(-8, 8, 2001))


def test_what_is_separated_anyway_needs_no_offset():
    assert balanced_offset(np.array([1.0, 2.0]), np.array([-1.0, -3.0])) == 0


def test_a_group_keeps_the_order_of_its_own_head():
    draw = np.random.default_rng(0)
    space = WhitenedSpace(False, np.zeros(4), np.eye(4))
    memory = TiedMixtures.fit(draw.standard_normal((10, 4)), np.arange(10) % 5, 5)
    weights = draw.standard_normal((4, 5)).astype(np.float32)
    gate = Gate(space, weights, np.zeros(5, np.float32), (3, 2), memory)
    vectors = draw.standard_normal((30, 4)).astype(np.float32)
    heads = [draw.standard_normal((30, 3)), draw.standard_normal((30, 2))]
    joint = gate.joint(vectors, heads)
    np.testing.assert_allclose(np.exp(joint).sum(axis=1), 1)
    for group, head in zip((joint[:, :3], joint[:, 3:]), heads, strict=True):
        expected = log_softmax(head, axis=1)
        np.testing.assert_allclose(log_softmax(group, axis=1), expected, atol=1e-9)
    group = (space.rows(vectors) @ weights).argmax(axis=1) >= 3
    np.testing.assert_array_equal(joint.argmax(axis=1) >= 3, group)
