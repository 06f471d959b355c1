import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset, load_dataset
from crkd.data.sources.arrays import ArraySource
from crkd.data.splits.class_split import ClassSplit, load_split
from crkd.data.splits.partition import joined, partition

NAMES = ("a", "b", "c", "d", "e")


def dataset_of(train: list[int], test: list[int] | None) -> Dataset:
    def source(labels: list[int], part: str) -> ArraySource:
        images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
        return ArraySource(np.tile(images, (1, 4, 4, 3)), labels, NAMES, part=part)

    tested = None if test is None else source(test, "test")
    return Dataset("set", source(train, "train"), tested, NAMES, 4, (0, 0, 0), (1, 1, 1))


SPLIT = ClassSplit("set", "x", NAMES, known=(3, 0), novel=(1, 4))


def test_hand_made_case() -> None:
    train = [0, 1, 2, 3, 4, 0, -1, 3, 1]
    parts = partition(dataset_of(train, [4, 2, 3, -1]), SPLIT, validation_fraction=0.0, seed=0)
    assert parts.known_train.indices.tolist() == [0, 3, 5, 7]
    assert parts.known_train.labels.tolist() == [1, 0, 1, 0]
    assert parts.known_train.ids == ["train/00000", "train/00003", "train/00005", "train/00007"]
    assert len(parts.known_val) == 0
    assert parts.unlabeled.indices.tolist() == [1, 4, 6, 8]
    assert parts.unlabeled.labels.tolist() == [-1, -1, -1, -1]
    assert parts.hidden.unlabeled().tolist() == [2, 3, -1, 2]
    assert parts.test.indices.tolist() == [0, 2, 3]
    assert parts.test.labels.tolist() == [-1, -1, -1]
    assert parts.hidden.test().tolist() == [3, 0, -1]


def test_no_visible_part_leads_to_a_novel_label() -> None:
    parts = partition(load_dataset("digits"), load_split("digits"), validation_fraction=0.1, seed=0)
    assert set(np.unique(parts.known_train.labels)) == set(range(5))
    assert set(np.unique(parts.known_val.labels)) == set(range(5))
    for part in (parts.unlabeled, parts.test):
        assert set(np.unique(part.labels)) == {-1}
        with pytest.raises(ValueError, match="read-only"):
            part.labels[0] = 3
    parts.hidden.test()[:] = 0  # a copy: spoiling it changes nothing
    assert len(np.unique(parts.hidden.test())) == 10


@settings(max_examples=60)
@given(
    labels=st.lists(st.integers(-1, 4), min_size=2, max_size=80),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 2**32),
)
def test_every_training_image_is_in_exactly_one_part(
    labels: list[int], fraction: float, seed: int
) -> None:
    labels = [3, 0, *labels]
    parts = partition(dataset_of(labels, None), SPLIT, validation_fraction=fraction, seed=seed)
    pieces = (parts.known_train, parts.known_val, parts.unlabeled)
    taken = np.concatenate([part.indices for part in pieces])
    assert sorted(taken) == [row for row, label in enumerate(labels) if label != 2]
    for part in pieces:
        assert (np.diff(part.indices) > 0).all()
    for joint in (0, 1):
        total = labels.count(SPLIT.order[joint])
        held = int((parts.known_val.labels == joint).sum())
        assert held < total
        assert held <= max(1, round(fraction * total))
        assert held > 0 or fraction == 0 or total == 1


def test_held_out_images_depend_on_the_seed_and_on_nothing_novel() -> None:
    first = [0, 3] * 20 + [1, 4] * 20
    scrambled = [0, 3] * 20 + [4, 1] * 20  # other hidden labels
    one, same, other = (
        partition(dataset_of(labels, None), SPLIT, validation_fraction=0.25, seed=seed)
        for labels, seed in ((first, 0), (scrambled, 0), (first, 1))
    )
    assert one.known_val.indices.tolist() == same.known_val.indices.tolist()
    assert one.unlabeled.indices.tolist() == same.unlabeled.indices.tolist()
    assert one.known_val.indices.tolist() != other.known_val.indices.tolist()
    assert np.bincount(one.known_val.labels).tolist() == [5, 5]


def test_known_class_without_images() -> None:
    with pytest.raises(InputError, match="known class 'd'"):
        partition(dataset_of([0, 1, 4], None), SPLIT, validation_fraction=0.0, seed=0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(InputError, match=r"not in \[0, 1\)"):
        partition(dataset_of([0, 3], None), SPLIT, validation_fraction=fraction, seed=0)


@settings(max_examples=60)
@given(
    labels=st.lists(st.integers(-1, 4), min_size=2, max_size=80),
    fraction=st.floats(0.01, 1),
)
def test_the_other_images_of_known_classes_are_unlabeled(
    labels: list[int], fraction: float
) -> None:
    labels = [3, 0, *labels]
    parts = partition(
        dataset_of(labels, None),
        SPLIT,
        validation_fraction=0.0,
        seed=0,
        labeled_fraction=fraction,
    )
    both = np.concatenate([parts.known_train.indices, parts.unlabeled.indices])
    assert sorted(both) == [row for row, label in enumerate(labels) if label != 2]
    assert set(parts.unlabeled.labels) <= {-1}
    joint = SPLIT.joint_ids(np.array(labels))
    assert parts.hidden.unlabeled().tolist() == joint[parts.unlabeled.indices].tolist()
    for known in (0, 1):
        count = int((parts.known_train.labels == known).sum())
        assert count == max(1, round(fraction * int((joint == known).sum())))


def test_the_choice_of_labeled_images_depends_on_known_labels_alone() -> None:
    """A stage 1 of another seed has seen the same labels."""
    labels = [0, 3] * 20 + [1, 4] * 20
    scrambled = [0, 3] * 20 + [4, 1] * 20
    found = [
        partition(
            dataset_of(train, None), SPLIT, validation_fraction=0.1, seed=seed, labeled_fraction=0.5
        )
        for train, seed in ((labels, 0), (scrambled, 0), (labels, 7))
    ]
    rows = [part.unlabeled.indices.tolist() for part in found]
    assert rows[0] == rows[1] == rows[2]
    assert len(rows[0]) == 60


def test_labels_of_unlabeled_images_stay_hidden_even_if_they_are_of_known_classes() -> None:
    labels = [3, 0, 3, 0, 1]
    found = partition(
        dataclasses.replace(
            dataset_of(labels, None), hidden=np.array([False, False, True, True, True])
        ),
        SPLIT,
        validation_fraction=0.0,
        seed=0,
    )
    assert found.known_train.indices.tolist() == [0, 1]
    assert found.unlabeled.indices.tolist() == [2, 3, 4]
    assert found.unlabeled.labels.tolist() == [-1, -1, -1]
    assert found.hidden.unlabeled().tolist() == [0, 1, 2]


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_labeled_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(InputError, match=r"not in \(0, 1\]"):
        partition(
            dataset_of([0, 3], None),
            SPLIT,
            validation_fraction=0.0,
            seed=0,
            labeled_fraction=fraction,
        )


def test_joined_parts() -> None:
    parts = partition(dataset_of([0, 1, 3, 4], [0]), SPLIT, validation_fraction=0.0, seed=0)
    both = joined([parts.known_train, parts.unlabeled])
    assert both.indices.tolist() == [0, 2, 1, 3]
    assert both.labels.tolist() == [1, 0, -1, -1]
    assert both.ids == ["train/00000", "train/00002", "train/00001", "train/00003"]
    with pytest.raises(ValueError, match="different sources"):
        joined([parts.known_train, parts.test])
