from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.data.splits.partition import partition
from crkd.data.splits.smaller import class_fraction_mask
from tests.data.splits.test_partition import SPLIT, dataset_of


@settings(max_examples=60)
@given(labels=st.lists(st.integers(-1, 4), max_size=80), fraction=st.floats(0.001, 1))
def test_a_fraction_of_each_class_and_at_least_one_image(
    labels: list[int], fraction: float
) -> None:
    given_labels = np.array(labels, np.int64)
    kept = class_fraction_mask(given_labels, fraction)
    for label in set(labels):
        members = int((given_labels == label).sum())
        assert kept[given_labels == label].sum() == max(1, round(fraction * members))


def test_the_images_are_not_the_first_ones_and_always_the_same() -> None:
    kept = class_fraction_mask(np.zeros(40, np.int64), 0.25)
    assert kept.tolist() == class_fraction_mask(np.zeros(40, np.int64), 0.25).tolist()
    assert not kept[:10].all()


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.1, float("nan")])
def test_a_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(InputError, match=r"data\.subset .* not in \(0, 1\]"):
        class_fraction_mask(np.zeros(3, np.int64), fraction)


def test_all_parts_of_a_data_set_become_smaller() -> None:
    train = [0, 1, 2, 3, 4, -1] * 20
    parts = [
        partition(
            dataset_of(train, [0, 1, 2] * 10),
            SPLIT,
            validation_fraction=0.5,
            labeled_fraction=0.5,
            seed=seed,
            subset=0.2,
        )
        for seed in (0, 5)
    ]
    for part in parts:
        # 4 of 20 images of each known class: 2 with labels, one of them held out.
        assert (len(part.known_train), len(part.known_val)) == (2, 2)
        # 4 of each novel class, 4 without any label, and 2 known ones of each class.
        assert len(part.unlabeled) == 16
        assert len(part.test) == 4
        assert len(part.hidden.test()) == 4
        assert sorted(part.hidden.unlabeled()) == [-1] * 4 + [0] * 2 + [1] * 2 + [2] * 4 + [3] * 4
    assert parts[0].unlabeled.ids == parts[1].unlabeled.ids
    assert parts[0].test.ids == parts[1].test.ids
    assert parts[0].known_train.ids != parts[1].known_train.ids
