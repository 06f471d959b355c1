"""Table, samples and edits of classes, on clouds whose classes are known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from crkd import NovelClassDiscovery
from crkd.core.errors import InputError
from tests.estimator.conftest import Clouds


def test_every_cloud_is_a_row_of_the_table(fitted: NovelClassDiscovery, clouds: Clouds) -> None:
    rows = fitted.get_class_info()
    assert [row.label for row in rows] == [0, 1, 2, 3, 4]
    assert [row.name for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row.kind for row in rows] == ["known"] * 3 + ["novel"] * 2
    assert [row.count for row in rows] == [60] * 5
    shares = fitted.predict_proba(clouds.X[clouds.first])
    for position, row in enumerate(rows):
        members = fitted.labels_ == row.label
        assert row.confidence == pytest.approx(shares[members, position].mean(), abs=1e-6)
        picked = fitted.get_representative_samples(row.label)
        assert row.representatives == tuple(picked.tolist())


def test_labels_are_those_given_and_the_clouds_found(
    fitted: NovelClassDiscovery, clouds: Clouds
) -> None:
    truth, labels = clouds.truth[clouds.first], fitted.labels_
    np.testing.assert_array_equal(labels[truth < 3], truth[truth < 3])
    assert {len(set(labels[truth == cloud])) for cloud in (3, 4)} == {1}
    assert set(labels[truth >= 3]) == {3, 4}


def test_representative_samples_are_nearest_to_the_mean_of_their_class(
    fitted: NovelClassDiscovery, clouds: Clouds
) -> None:
    rows = fitted.transform(clouds.X[clouds.first])
    np.testing.assert_allclose(fitted.embedding_, rows, atol=1e-6)
    for label in range(5):
        members = np.flatnonzero(fitted.labels_ == label)
        distances = np.linalg.norm(rows[members] - rows[members].mean(axis=0), axis=1)
        picked = fitted.get_representative_samples(label, 7)
        np.testing.assert_array_equal(picked, members[np.argsort(distances)[:7]])
        assert len(fitted.get_representative_samples(label, 1000)) == 60


def test_merged_classes_are_predicted_as_one(fitted: NovelClassDiscovery, clouds: Clouds) -> None:
    before, labels = fitted.predict(clouds.X), fitted.labels_
    assert fitted.merge_classes([[4, 3]]) is fitted
    np.testing.assert_array_equal(fitted.classes_, [0, 1, 2, 4])
    np.testing.assert_array_equal(fitted.predict(clouds.X), np.where(before == 3, 4, before))
    np.testing.assert_array_equal(fitted.labels_, np.where(labels == 3, 4, labels))
    shares = fitted.predict_proba(clouds.X)
    assert shares.shape == (420, 4)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    row = fitted.get_class_info()[3]
    assert (row.label, row.kind, row.count) == (4, "novel", 120)
    assert fitted.score(clouds.X[clouds.truth < 3], clouds.truth[clouds.truth < 3]) == 1.0


def test_a_novel_class_can_be_part_of_a_known_one(
    fitted: NovelClassDiscovery, clouds: Clouds
) -> None:
    before = fitted.predict(clouds.X)
    fitted.merge_classes([[3, 1]])
    np.testing.assert_array_equal(fitted.predict(clouds.X), np.where(before == 3, 1, before))
    row = fitted.get_class_info()[1]
    assert (row.label, row.kind, row.count) == (1, "known", 120)
    assert fitted.num_known_ == 3


def test_a_class_divided_in_parts_is_certain_after_merging(clouds: Clouds) -> None:
    """Four novel classes are asked for, and there are two clouds."""
    X = clouds.X[clouds.first]
    model = NovelClassDiscovery(4, method="whitened_kmeans", random_state=0)
    model.fit(X, clouds.labels())
    clusters = [np.unique(model.labels_[clouds.truth[clouds.first] == c]) for c in (3, 4)]
    parts = max(clusters, key=len).tolist()
    members = np.isin(model.labels_, parts)
    assert len(parts) == 3
    before = model.confidence_[members]
    model.merge_classes([parts])
    assert (model.confidence_[members] > before).all()
    assert model.confidence_[members].mean() > before.mean() + 0.05
    assert set(model.predict(X[members])) == {parts[0]}


def test_names_are_shown_and_labels_predicted(fitted: NovelClassDiscovery, clouds: Clouds) -> None:
    before = fitted.predict(clouds.X)
    assert fitted.set_class_names({3: "crane", 0: "door"}) is fitted
    assert fitted.class_names_ == ["door", "1", "2", "crane", "4"]
    assert [row.name for row in fitted.get_class_info()] == fitted.class_names_
    np.testing.assert_array_equal(fitted.predict(clouds.X), before)


def test_text_labels(clouds: Clouds) -> None:
    model = NovelClassDiscovery(2, method="whitened_kmeans", random_state=0)
    model.fit(clouds.X[clouds.first], clouds.text())
    assert model.labels_.dtype == object
    assert set(model.labels_) == {"ant", "bee", "cat", "novel-0", "novel-1"}
    model.merge_classes([["novel-0", "bee"]]).set_class_names({"novel-1": "dog"})
    assert model.classes_.tolist() == ["ant", "bee", "cat", "novel-1"]
    assert model.class_names_ == ["ant", "bee", "cat", "dog"]
    assert set(model.predict(clouds.X[clouds.first])) == {"ant", "bee", "cat", "novel-1"}


HIDDEN = 10
"""Samples of the known class 0 whose label is hidden."""


@pytest.mark.parametrize("text", [False, True])
def test_unlabeled_samples_of_a_known_class_are_outliers_until_they_are_assigned(
    clouds: Clouds, text: bool
) -> None:
    X, y = clouds.X[clouds.first], clouds.text() if text else clouds.labels()
    hidden = np.flatnonzero(clouds.labels() == 0)[:HIDDEN]
    zero = y[hidden[0]]
    y[hidden] = -1
    model = NovelClassDiscovery(2, method="whitened_kmeans", random_state=0).fit(X, y)
    apart = model.labels_ == -1
    np.testing.assert_array_equal(np.flatnonzero(apart), hidden)
    assert set(model.predict(X[apart])) == {zero}
    row = model.get_class_info()[-1]
    assert (row.label, row.name, row.kind, row.count) == (-1, "outliers", "outlier", HIDDEN)
    assert [row.count for row in model.get_class_info()] == [50, 60, 60, 60, 60, HIDDEN]
    # Their best novel class has this probability.
    shares = model.predict_proba(X)[apart][:, 3:]
    np.testing.assert_allclose(model.confidence_[apart], shares.max(axis=1), atol=1e-6)
    assert row.confidence == pytest.approx(shares.max(axis=1).mean(), abs=1e-6)

    labels, found = model.labels_, model.predict(X)
    threshold = float(np.sort(model.confidence_[apart])[3])
    assert model.reduce_outliers(0.5) is model
    np.testing.assert_array_equal(model.labels_, labels)
    model.reduce_outliers(threshold)
    assert (model.labels_ == -1).sum() == 3
    np.testing.assert_array_equal(model.labels_[~apart], labels[~apart])
    model.reduce_outliers()
    np.testing.assert_array_equal(model.labels_[apart], model.classes_[3:][shares.argmax(axis=1)])
    assert [row.kind for row in model.get_class_info()] == ["known"] * 3 + ["novel"] * 2
    np.testing.assert_array_equal(model.predict(X), found)


def test_outliers_have_the_known_class_into_which_their_novel_class_is_merged(
    clouds: Clouds,
) -> None:
    y = clouds.labels()
    y[np.flatnonzero(y == 0)[:HIDDEN]] = -1
    model = NovelClassDiscovery(2, method="whitened_kmeans", random_state=0)
    model.fit(clouds.X[clouds.first], y)
    apart = model.labels_ == -1
    best = model._samples.with_classes_for_outliers(model._space, 0.0).labels(model._space)[apart]
    model.merge_classes([[0, int(best[0])]])
    assert (model.labels_[apart] == np.where(best == best[0], 0, -1)).all()


def test_a_novel_class_without_samples_has_an_empty_row(fitted: NovelClassDiscovery) -> None:
    outputs = np.where(fitted._samples.outputs == 4, 3, fitted._samples.outputs)
    fitted._samples = dataclasses.replace(fitted._samples, outputs=outputs)
    fitted.reduce_outliers()
    row = fitted.get_class_info()[4]
    assert (row.count, row.representatives) == (0, ())
    assert math.isnan(row.confidence)
    assert fitted.get_representative_samples(4).tolist() == []


def test_edits_with_wrong_arguments_change_nothing(fitted: NovelClassDiscovery) -> None:
    table = fitted.get_class_info()
    calls: list[tuple[str, tuple[Any, ...], str]] = [
        ("merge_classes", ([[3, 4], [0, 1]],), "known classes 0, 1"),
        ("set_class_names", ({3: "crane", 4: ""},), "names gives '' to the class 4"),
        ("set_class_names", (["a", "b"],), "names is a list; give a mapping of labels to names"),
        ("reduce_outliers", (1.5,), "threshold is 1.5; give a probability from 0 to 1"),
        ("reduce_outliers", ("all",), "threshold is 'all'"),
        ("reduce_outliers", (float("nan"),), "threshold is nan"),
        ("get_representative_samples", (-1,), "-1 is not a class; choose one of: 0, 1, 2, 3, 4"),
        ("get_representative_samples", ([3],), r"\[3\] is not a class"),
        ("get_representative_samples", (3, 0), "n is 0; give the number of samples"),
        ("get_representative_samples", (3, 1.5), "n is 1.5"),
    ]
    for method, arguments, message in calls:
        with pytest.raises(InputError, match=message):
            getattr(fitted, method)(*arguments)
        assert fitted.get_class_info() == table


def test_an_estimator_without_fit_has_no_classes(tmp_path: Any) -> None:
    model = NovelClassDiscovery(2)
    for call in (
        model.get_class_info,
        model.visualize_classes,
        model.reduce_outliers,
        lambda: model.merge_classes([[3, 4]]),
        lambda: model.set_class_names({3: "crane"}),
        lambda: model.get_representative_samples(3),
        lambda: model.update(np.zeros((3, 12)), 1),
        lambda: model.save(tmp_path / "model"),
    ):
        with pytest.raises(NotFittedError):
            call()
    assert not hasattr(model, "classes_")
    assert list(tmp_path.iterdir()) == []


def test_a_second_fit_forgets_edits(fitted: NovelClassDiscovery, clouds: Clouds) -> None:
    fitted.merge_classes([[3, 4]]).set_class_names({0: "door"})
    again = clone(fitted)
    assert not hasattr(again, "classes_")
    fitted.fit(clouds.X[clouds.first], clouds.labels())
    assert fitted.class_names_ == ["0", "1", "2", "3", "4"]
