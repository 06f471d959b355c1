"""Estimator of vectors without a labeled sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from crkd import NovelClassDiscovery
from crkd.evaluation.matching import clustering_accuracy

pytestmark = pytest.mark.usefixtures("few_steps")


def test_all_classes_are_discovered(tmp_path: Path) -> None:
    X, y = make_blobs(250, 12, centers=5, random_state=0)
    first = y < 3
    model = NovelClassDiscovery(num_novel=3, random_state=0).fit(
        X[first], [None] * int(first.sum())
    )
    np.testing.assert_array_equal(model.classes_, [0, 1, 2])
    assert model.num_known_ == 0
    assert clustering_accuracy(model.labels_, y[first]) == 1.0
    # No earlier class can fit better, so there are no outliers.
    np.testing.assert_array_equal(model.labels_, model.predict(X[first]))
    model.save(tmp_path / "model.crkd")
    model = NovelClassDiscovery.load(tmp_path / "model.crkd")
    model.update(X[~first], 2)
    assert (model.num_known_, model.classes_.tolist()) == (0, [0, 1, 2, 3, 4])
    assert clustering_accuracy(model.predict(X), y) == 1.0
    texts = [text.get_text() for text in model.visualize_classes().legends[0].get_texts()]
    assert len(texts) == 5
    assert not any("known" in text for text in texts)
    model.merge_classes([[0, 1]])
    assert set(model.predict(X).tolist()) == {0, 2, 3, 4}


def test_marks_of_every_kind_are_no_label() -> None:
    X, _ = make_blobs(60, 6, centers=2, random_state=1)
    for marks in ([-1] * 60, np.full(60, -1), np.full(60, None)):
        model = NovelClassDiscovery(num_novel=2, random_state=0).fit(X, marks)
        np.testing.assert_array_equal(model.classes_, [0, 1])
