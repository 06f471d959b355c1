"""Views that come again: what stored labels rest on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crkd.core.types import Batch
from crkd.data.augment.presets import large_view, small_view
from crkd.data.loader import BatchLoader
from crkd.data.storage.base import ImageStore
from crkd.data.views import Views

KNOWN, NOVEL, SIZE = 13, 20, 16


class Pictures(ImageStore):
    """Noise, the same in every process."""

    def __init__(self, count: int, seed: int) -> None:
        self.size, self.device = SIZE, torch.device("cpu")
        make = torch.Generator().manual_seed(seed)
        self._images = torch.randint(256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=make)

    def __len__(self) -> int:
        return len(self._images)

    def get(self, index: torch.Tensor) -> torch.Tensor:
        return self._images[index]

    def batches(self, order):  # type: ignore[no-untyped-def]
        for rows in order:
            yield self.get(torch.from_numpy(rows))


VIEWS = Views(
    (large_view(SIZE), large_view(SIZE), small_view(9)), 2, (0.5, 0.4, 0.3), (0.2, 0.3, 0.2)
)


def loader_of(batch_size: int, view_epochs: int = 2, seed: int = 0) -> BatchLoader:
    return BatchLoader(
        Pictures(KNOWN, 0),
        np.arange(KNOWN) % 3,
        Pictures(NOVEL, 1),
        batch_size=batch_size,
        views=VIEWS,
        seed=seed,
        device=torch.device("cpu"),
        view_epochs=view_epochs,
    )


def pixels(batches: list[Batch], num_views: int = 3) -> dict[tuple[int, int], torch.Tensor]:
    """Return what was shown of each image in each pass; seen again, it must be the same."""
    shown: dict[tuple[int, int], torch.Tensor] = {}
    for batch in batches:
        for row, key in enumerate(
            zip(batch.sample_id.tolist(), batch.view_epoch.tolist(), strict=True)
        ):
            flat = torch.cat([view[row].flatten() for view in batch.views[:num_views]])
            assert torch.equal(shown.setdefault(key, flat), flat)
    return shown


def test_views_come_again_bit_by_bit_in_a_new_order():
    loader = loader_of(8, view_epochs=2)
    steps = 4 * loader.steps_per_epoch + 4
    batches = list(loader.batches(0, steps))
    shown = pixels(batches)
    assert {epoch for _, epoch in shown} == {0, 1}
    assert len(shown) == 2 * (KNOWN + NOVEL)
    order = torch.cat([batch.sample_id[batch.num_labeled :] for batch in batches])
    first, third = order[:NOVEL], order[2 * NOVEL : 3 * NOVEL]
    assert sorted(first.tolist()) == sorted(third.tolist())
    assert not torch.equal(first, third), "the order of images keeps changing"


def test_without_stored_epochs_no_view_comes_again():
    loader = loader_of(8, view_epochs=0)
    shown = pixels(list(loader.batches(0, 4 * loader.steps_per_epoch)))
    assert {epoch for _, epoch in shown} >= {0, 1, 2, 3}
    per_image = [shown[0, epoch] for epoch in range(3)]
    assert not torch.equal(per_image[0], per_image[1])
    assert not torch.equal(per_image[0], per_image[2])


@pytest.mark.parametrize("batch_size", [5, 12, 33])
def test_two_feeds_of_other_batch_sizes_show_the_same(batch_size: int):
    one, other = loader_of(8), loader_of(batch_size)
    ours = pixels(list(one.batches(0, 5 * one.steps_per_epoch)))
    theirs = pixels(list(other.batches(0, 5 * other.steps_per_epoch)))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_sweep_shows_what_training_will_see():
    """The teacher's pass: large views alone, every image once, in order, without a label."""
    loader = loader_of(8)
    trained = pixels(list(loader.batches(0, 5 * loader.steps_per_epoch)), num_views=2)
    for epoch in range(2):
        swept = list(loader.sweep(epoch))
        assert torch.cat([b.sample_id for b in swept]).tolist() == list(range(KNOWN + NOVEL))
        assert all(len(b.views) == 2 and (b.labels == -1).all() for b in swept)
        for key, shown in pixels(swept, num_views=2).items():
            assert torch.equal(shown, trained[key])


@pytest.mark.parametrize("processes", [2, 3])
def test_slices_of_a_batch_show_the_same_in_every_process(processes: int):
    loader = loader_of(12)
    (batch,) = loader.batches(3, 4)
    images = torch.cat(
        [
            Pictures(KNOWN, 0).get(batch.sample_id[: batch.num_labeled]),
            Pictures(NOVEL, 1).get(batch.sample_id[batch.num_labeled :] - KNOWN),
        ]
    )
    for rows in torch.arange(len(images)).chunk(processes):
        part = VIEWS.render(
            images[rows],
            seed=0,
            epoch=batch.view_epoch[rows],
            image_id=batch.sample_id[rows],
        )
        assert all(torch.equal(a, b[rows]) for a, b in zip(part, batch.views, strict=True))


def test_another_seed_shows_something_else():
    ours = pixels(list(loader_of(8, seed=0).sweep(0)), num_views=2)
    theirs = pixels(list(loader_of(8, seed=1).sweep(0)), num_views=2)
    assert not any(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_resumed_feed_goes_on_with_the_same_passes():
    straight = list(loader_of(8).batches(0, 20))
    later = list(loader_of(8).batches(13, 20))
    for a, b in zip(straight[13:], later, strict=True):
        assert torch.equal(a.view_epoch, b.view_epoch)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))
