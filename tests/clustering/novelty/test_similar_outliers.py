from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.novelty.similar_outliers import MOST_ROWS, distance_within, outlier_groups
from crkd.core.errors import InputError

WIDTH = 32


def classes_and_outliers(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Samples, labels and centers of 6 classes, and outliers: 2 classes and 60 single images."""
    draw = np.random.default_rng(seed)
    centers = 4 * draw.standard_normal((6, WIDTH))
    labels = np.repeat(np.arange(6), 20)
    samples = centers[labels] + draw.standard_normal((120, WIDTH))
    new = 6 * draw.standard_normal((2, WIDTH))
    members = np.repeat(new, (40, 30), axis=0) + draw.standard_normal((70, WIDTH))
    single = 6 * draw.standard_normal((60, WIDTH))
    return samples, labels, centers, np.concatenate([members, single])


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_groups_and_single_images_are_not(seed: int) -> None:
    samples, labels, centers, rows = classes_and_outliers(seed)
    farthest = distance_within(samples, labels, centers)
    order = np.random.default_rng(seed).permutation(len(rows))
    groups = outlier_groups(rows[order], centers, farthest=farthest, least=20)
    truth = np.repeat([0, 1, -1], (40, 30, 60))[order]
    assert len(groups) == 2
    for label, group in enumerate(groups):
        assert (truth[group] == label).mean() > 0.95
        assert (truth[group] == label).sum() >= 25


def test_single_images_alone_are_no_group() -> None:
    samples, labels, centers, rows = classes_and_outliers(0)
    farthest = distance_within(samples, labels, centers)
    assert outlier_groups(rows[70:], centers, farthest=farthest, least=3) == []


def test_the_distance_does_not_depend_on_the_scale() -> None:
    draw = np.random.default_rng(0)
    centers, labels = 0.5 * draw.standard_normal((6, WIDTH)), np.repeat(np.arange(6), 200)
    samples = centers[labels] + draw.standard_normal((1200, WIDTH))
    first = distance_within(samples, labels, centers)
    assert first == pytest.approx(distance_within(10 * samples, labels, 10 * centers))
    # Two samples of a class differ by sqrt(2 k); a sample and another center by sqrt(k + k / 2),
    # and the nearest of the five other centers is a little nearer.
    assert np.sqrt(2 / 1.5) < first < 1.5


def test_samples_nearer_to_each_other_than_to_a_class_are_always_similar() -> None:
    samples, labels, centers, _ = classes_and_outliers(0)
    assert distance_within(0.1 * samples + 0.9 * centers[labels], labels, centers) == 1.0


def test_a_single_class_has_nothing_to_compare_with() -> None:
    assert distance_within(np.ones((3, 2)), np.zeros(3, np.int64), np.zeros((1, 2))) == 1.0


def test_the_most_typical_image_is_first() -> None:
    rows = np.array([[9.0, 2.0], [9.0, 0.1], [9.0, -1.0], [9.0, -1.0]])
    (group,) = outlier_groups(rows, np.zeros((1, 2)), farthest=1.0, least=4)
    assert group[0] == 1


def test_only_the_last_rows_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crkd.clustering.novelty.similar_outliers.MOST_ROWS", 3)
    rows = np.full((5, 2), 9.0)
    (group,) = outlier_groups(rows, np.zeros((1, 2)), farthest=1.0, least=2)
    assert sorted(group.tolist()) == [2, 3, 4]
    assert MOST_ROWS > 3


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_are_no_group(count: int) -> None:
    assert outlier_groups(np.ones((count, 2)), np.zeros((1, 2)), farthest=1.0, least=2) == []


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(InputError, match="least is 1"):
        outlier_groups(np.ones((3, 2)), np.zeros((1, 2)), farthest=1.0, least=1)
