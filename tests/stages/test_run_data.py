"""The images of a run: one store for each subset, whatever the memory that it is at."""

from __future__ import annotations

import dataclasses

import torch

from crkd.config.load import load_config
from crkd.stages.run_data import prepare


def test_every_subset_has_images_of_its_own() -> None:
    """A temporary subset may be freed, and the next one made at its address."""
    data = prepare(load_config("digits"), torch.device("cpu"))
    whole = data.subsets.known_train
    images = data.store(whole)
    assert images is not None
    for row in range(20):
        single = dataclasses.replace(
            whole,
            indices=whole.indices[row : row + 1],
            labels=whole.labels[row : row + 1],
            ids=whole.ids[row : row + 1],
        )
        store = data.store(single)
        assert store is not None
        expected = images.get(torch.tensor([row]))
        assert torch.equal(store.get(torch.tensor([0])), expected)
        del single, store


def test_a_subset_is_read_once() -> None:
    data = prepare(load_config("digits"), torch.device("cpu"))
    assert data.store(data.subsets.test) is data.store(data.subsets.test)
