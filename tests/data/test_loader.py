from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.data.augment.presets import evaluation_view, plain_view
from crkd.data.loader import BatchLoader, Stream, shares
from crkd.data.storage.base import ImageStore
from crkd.data.views import Views


class Numbered(ImageStore):
    """Images whose every pixel is their own number."""

    def __init__(self, count: int, first: int = 0) -> None:
        self.size, self.device, self.first, self.count = 4, torch.device("cpu"), first, count

    def __len__(self) -> int:
        return self.count

    def get(self, index: torch.Tensor) -> torch.Tensor:
        values = (index + self.first).to(torch.uint8)
        return values[:, None, None, None].expand(-1, 3, 4, 4).contiguous()

    def batches(self, order):  # type: ignore[no-untyped-def]
        for rows in order:
            yield self.get(torch.from_numpy(rows))


PLAIN = Views((evaluation_view(4), evaluation_view(4)), 2, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def loader_of(known: int, novel: int, batch_size: int, **options: object) -> BatchLoader:
    settings = {"batch_size": batch_size, "views": PLAIN, "seed": 0, "device": torch.device("cpu")}
    return BatchLoader(
        Numbered(known) if known else None,
        np.arange(known) % 3,
        Numbered(novel, first=100) if novel else None,
        **{**settings, **options},  # type: ignore[arg-type]
    )


@given(st.integers(1, 40), st.integers(0, 100), st.integers(1, 60), st.integers(0, 2**31))
def test_every_pass_of_a_stream_is_a_permutation(
    size: int, start: int, count: int, seed: int
) -> None:
    stream = Stream(size, seed=seed, key=0)
    index, passes = stream.take(0, start + count)
    for number in range((start + count) // size):
        assert sorted(index[passes == number]) == list(range(size))
    again, again_passes = Stream(size, seed=seed, key=0).take(start, count)
    assert (again == index[start:]).all()
    assert (again_passes == passes[start:]).all()


@given(st.integers(0, 1000), st.lists(st.integers(0, 50), min_size=1, max_size=4))
def test_shares_add_up_and_stay_close(total: int, weights: list[int]) -> None:
    if not any(weights):
        return
    parts = shares(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) < 1


def test_labeled_samples_come_first_with_their_labels() -> None:
    loader = loader_of(6, 12, 6)
    for batch in loader.batches(0, 5):
        assert batch.num_labeled == 2
        pixels = (batch.views[0][:, 0, 0, 0] * 255).round().long()
        assert batch.labels[:2].tolist() == [int(p) % 3 for p in pixels[:2]]
        assert batch.labels[2:].tolist() == [-1] * 4
        assert (pixels[2:] >= 100).all()
        assert batch.sample_id.tolist() == [*pixels[:2].tolist(), *(pixels[2:] - 94).tolist()]


def test_every_image_comes_equally_often_over_epoch_boundaries() -> None:
    loader = loader_of(5, 7, 4)
    seen = torch.cat([batch.sample_id for batch in loader.batches(0, 35 * 3)])
    counts = torch.bincount(seen, minlength=12)
    assert counts[:5].max() - counts[:5].min() <= 1
    assert counts[5:].max() - counts[5:].min() <= 1


def test_batches_depend_on_the_step_alone() -> None:
    moving = Views((plain_view(4),) * 2, 2, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    straight = list(loader_of(5, 7, 4, views=moving).batches(0, 9))
    later = list(loader_of(5, 7, 4, views=moving).batches(6, 9))
    for a, b in zip(straight[6:], later, strict=True):
        assert torch.equal(a.sample_id, b.sample_id)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


def test_one_kind_of_images_is_enough() -> None:
    (batch,) = loader_of(6, 0, 4).batches(0, 1)
    assert batch.num_labeled == 4
    (batch,) = loader_of(0, 6, 4).batches(0, 1)
    assert (batch.num_labeled, batch.labels.tolist()) == (0, [-1] * 4)


def test_no_image_is_an_error() -> None:
    with pytest.raises(InputError, match="no training image"):
        loader_of(0, 0, 4)


def test_a_batch_without_room_for_a_kind_is_an_error() -> None:
    with pytest.raises(InputError, match="leaves no room for labeled images"):
        loader_of(1, 200, 4)


def test_a_share_without_such_images_is_an_error() -> None:
    with pytest.raises(InputError, match="needs labeled images"):
        loader_of(0, 6, 4, labeled_share=0.5)
