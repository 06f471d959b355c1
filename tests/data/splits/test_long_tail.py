from __future__ import annotations

import numpy as np
import pytest

from crkd.core.errors import InputError
from crkd.data.datasets.base import load_dataset
from crkd.data.splits.class_split import load_split
from crkd.data.splits.long_tail import long_tailed
from crkd.data.splits.partition import partition

CLASSES = np.repeat([3, 1, 2, 7], [100, 120, 110, 130])


def test_sizes_fall_along_an_exponential():
    kept = long_tailed(CLASSES, 10.0, seed=0)
    sizes = np.unique(CLASSES[kept], return_counts=True)[1]
    assert sizes.tolist() == [int(100 * 10 ** (-m / 3)) for m in range(4)]


def test_the_seed_chooses_the_images_alone():
    kept = [long_tailed(CLASSES, 10.0, seed=s) for s in (0, 0, 1)]
    assert np.array_equal(kept[0], kept[1])
    assert not np.array_equal(kept[0], kept[2])
    assert kept[0].sum() == kept[2].sum()
    assert long_tailed(np.full(5, 2), 10.0, seed=0).all()
    assert len(np.unique(CLASSES[long_tailed(CLASSES, 1e9, seed=0)])) == 4


def test_an_image_without_a_class_is_refused():
    with pytest.raises(InputError, match=r"data\.imbalance is 10.* 1 unlabeled"):
        long_tailed(np.array([0, -1]), 10.0, seed=0)


def test_a_partition_thins_the_novel_training_images_alone():
    dataset, split = load_dataset("digits"), load_split("digits")
    even = partition(dataset, split, validation_fraction=0.1, seed=0)
    tail = partition(dataset, split, validation_fraction=0.1, seed=0, imbalance=10.0)
    assert set(tail.unlabeled.ids) < set(even.unlabeled.ids)
    for name in ("known_train", "known_val", "test"):
        assert getattr(tail, name).ids == getattr(even, name).ids
    sizes = np.bincount(tail.hidden.unlabeled())[5:]
    assert sizes[0] // sizes[4] in (9, 10, 11)
