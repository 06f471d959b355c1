"""Gaussians of one covariance against scikit-learn, and classes that join."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from crkd.clustering.tied_gaussians import TiedGaussians
from crkd.core.errors import InputError


def classes(num=5, each=60, width=4, seed=0):
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.repeat(np.arange(num), each))
    mixing = draw.standard_normal((width, width))
    means = 2 * draw.standard_normal((num, width))
    rows = means[labels] + draw.standard_normal((len(labels), width)) @ mixing
    return rows.astype(np.float32), labels


def test_it_predicts_as_discriminant_analysis_does():
    rows, labels = classes()
    weights, biases = TiedGaussians.fit(rows, labels, 5).classifier(shrinkage=0.2)
    # scikit-learn shrinks by the same formula, the scatter divided by N, not by N - C.
    share = max(0.2, 4 / (4 + 295))
    reference = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=share, priors=np.full(5, 0.2)
    ).fit(rows.astype(np.float64), labels)
    ours = rows @ weights + biases
    assert (ours.argmax(axis=1) == reference.predict(rows)).mean() > 0.995
    theirs = reference.decision_function(rows) * 295 / 300
    np.testing.assert_allclose(ours - ours[:, :1], theirs - theirs[:, :1], rtol=1e-3, atol=1e-3)


def test_classes_that_join_are_as_if_they_had_always_been_there():
    rows, labels = classes()
    old = labels < 3
    joined = TiedGaussians.fit(rows[old], labels[old], 3).followed_by(
        TiedGaussians.fit(rows[~old], labels[~old] - 3, 2)
    )
    whole = TiedGaussians.fit(rows, labels, 5)
    np.testing.assert_allclose(joined.means, whole.means)
    np.testing.assert_allclose(joined.scatter, whole.scatter)


def test_a_class_without_rows_is_never_predicted():
    rows, labels = classes()
    weights, biases = TiedGaussians.fit(rows, labels, 7).classifier()
    assert (rows @ weights + biases).argmax(axis=1).max() < 5


def test_drawn_rows_have_the_means_and_the_covariance():
    rows, labels = classes(num=2)
    found = TiedGaussians.fit(rows, labels, 2)
    which = np.arange(40_000) % 2
    again = TiedGaussians.fit(found.around(which, np.random.default_rng(0)), which, 2)
    np.testing.assert_allclose(again.means, found.means, atol=0.1)
    np.testing.assert_allclose(again.covariance(0.0), found.covariance(0.0), rtol=0.1, atol=0.1)


def test_one_row_is_enough():
    weights, biases = TiedGaussians.fit(np.ones((1, 3)), np.zeros(1, np.int64), 1).classifier()
    assert np.isfinite(weights).all()
    assert np.isfinite(biases).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="outside of 0 to 1"):
        TiedGaussians.fit(np.ones((2, 3)), np.array([0, 2]), 2)
    one = TiedGaussians.fit(np.ones((2, 3)), np.array([0, 1]), 2)
    other = TiedGaussians.fit(np.ones((2, 4)), np.array([0, 1]), 2)
    with pytest.raises(InputError, match="3 and 4 dimensions"):
        one.followed_by(other)
