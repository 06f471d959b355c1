from __future__ import annotations

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import Batch
from crkd.data.augment.parameters import draw
from crkd.data.augment.presets import large_view
from crkd.data.augment.self_mix import draw_mixes, mix, self_mix

SIZE = 12


def some_draws(count: int, probability: float = 1.0, *, seed: int = 0, epoch: int = 3):
    ids = torch.arange(count)
    return draw_mixes(
        probability, seed=seed, epoch=torch.full_like(ids, epoch), image_id=ids, size=SIZE
    )


def batch_of(rows: int, num_large: int = 2, num_small: int = 1, *, first: int = 0) -> Batch:
    make = torch.Generator().manual_seed(0)
    large = torch.randn(num_large, 20, 3, SIZE, SIZE, generator=make)[:, first : first + rows]
    small = torch.randn(num_small, 20, 3, 5, 5, generator=make)[:, first : first + rows]
    ids = torch.arange(first, first + rows)
    views = (*large.unbind(), *small.unbind())
    return Batch(views, torch.full_like(ids, -1), ids, ids % 3, 0, num_large)


def by_hand(views: np.ndarray, drawn, image: int) -> np.ndarray:
    """Pixel after pixel, one image ``(V, 3, size, size)``."""
    if not drawn.mixed[image]:
        return views
    top, left, side = (int(d[image]) for d in (drawn.top, drawn.left, drawn.side))
    mixed = views.copy()
    for v in range(len(views)):
        other = views[(v + 1) % len(views)]
        if drawn.cut[image]:
            for y in range(top, top + side):
                for x in range(left, left + side):
                    mixed[v, :, y, x] = other[:, y, x]
        else:
            share = float(drawn.share[image])
            mixed[v] = share * views[v] + (1 - share) * other
    return mixed


@pytest.mark.parametrize("num_views", [2, 3])
def test_pixels_by_hand(num_views: int):
    drawn = some_draws(20, 0.7)
    assert drawn.mixed.any()
    assert (~drawn.mixed).any()
    assert drawn.cut[drawn.mixed].unique().tolist() == [False, True]
    views = torch.randn(num_views, 20, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    found = mix(views, drawn)
    for image in range(20):
        expected = by_hand(views[:, image].numpy(), drawn, image)
        np.testing.assert_allclose(found[:, image].numpy(), expected, atol=1e-6)


def test_the_share_is_that_of_the_pixels():
    """If one view is all ones and the other all zeros, the mean of the mixture is the share."""
    drawn = some_draws(200)
    views = torch.stack([torch.ones(200, 3, SIZE, SIZE), torch.zeros(200, 3, SIZE, SIZE)])
    found = mix(views, drawn)
    torch.testing.assert_close(found[0].mean(dim=(1, 2, 3)), drawn.share)
    torch.testing.assert_close(found[1].mean(dim=(1, 2, 3)), 1 - drawn.share)


def test_mixtures_depend_on_seed_pass_and_image_alone():
    batch = batch_of(20)
    whole, shares = self_mix(batch, 0.8, seed=5)
    for first, rows in ((0, 7), (7, 13)):  # as two processes would divide the batch
        part, part_shares = self_mix(batch_of(rows, first=first), 0.8, seed=5)
        rows = slice(first, first + rows)
        assert torch.equal(part_shares, shares[rows])
        assert all(torch.equal(a, b[rows]) for a, b in zip(part.views, whole.views, strict=True))
    assert not torch.equal(self_mix(batch, 0.8, seed=6)[1], shares)
    later = batch._replace(view_epoch=batch.view_epoch + 1)
    assert not torch.equal(self_mix(later, 0.8, seed=5)[1], shares)


def test_draws_are_apart_from_those_of_the_views():
    """Mixing shares no words with any view of the same image."""
    ids = torch.arange(500)
    share = some_draws(500, seed=0, epoch=0).share.double()
    for view in range(4):
        drawn = draw(large_view(32), seed=0, epoch=0, image_id=ids, view=view, stored_size=32)
        for field in (drawn.brightness, drawn.threshold, drawn.top):
            both = torch.stack([share, field.double()])
            assert torch.corrcoef(both)[0, 1].abs() < 0.15


def test_statistics_of_the_draws():
    drawn = some_draws(20000, 0.3)
    assert drawn.mixed.float().mean().item() == pytest.approx(0.3, abs=0.015)
    assert drawn.cut.float().mean().item() == pytest.approx(0.5, abs=0.015)
    blended = drawn.share[drawn.mixed & ~drawn.cut]
    assert blended.mean().item() == pytest.approx(0.5, abs=0.02)
    assert blended.std().item() == pytest.approx(12**-0.5, abs=0.01)
    assert (drawn.share[~drawn.mixed] == 1).all()
    for start in (drawn.top, drawn.left):
        assert start.min() >= 0
        assert (start + drawn.side).max() <= SIZE
        small = start[drawn.side == 4].float()
        assert small.mean().item() == pytest.approx((SIZE - 4) / 2, abs=0.3)


def test_small_views_ids_and_labels_stay():
    batch = batch_of(6)
    mixed, _ = self_mix(batch, 1.0, seed=0)
    assert torch.equal(mixed.views[2], batch.views[2])
    assert mixed._replace(views=()) == batch._replace(views=())
    assert not torch.equal(mixed.views[0], batch.views[0])


def test_probability_zero_changes_nothing():
    batch = batch_of(6)
    same, shares = self_mix(batch, 0.0, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(same.views, batch.views, strict=True))
    assert (shares == 1).all()


def test_one_large_view_is_refused():
    with pytest.raises(InputError, match=r"self_mix 0.5 mixes large views.*there is 1; set"):
        self_mix(batch_of(4, num_large=1), 0.5, seed=0)
