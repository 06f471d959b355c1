from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.data.vectors.views import FeatureStore, FeatureViews, VectorRecipe

STILL = VectorRecipe(mix=0.0, noise=0.0, dropout=0.0)
IDS = torch.arange(4000)


def made(recipe: VectorRecipe) -> tuple[Tensor, FeatureViews]:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 10.0, 0.1])
    vectors = torch.randn(4000, 3, generator=generator) * scale + 5.0
    neighbors = torch.stack([(IDS + 1) % 4000, (IDS + 2) % 4000], dim=1)
    return vectors, FeatureViews(vectors, neighbors, recipe, 2)


def render(views: FeatureViews, vectors: Tensor, seed: int = 0, epoch: int = 0) -> list[Tensor]:
    passes = torch.full_like(IDS, epoch)
    return list(views.render(vectors, seed=seed, epoch=passes, image_id=IDS))


def test_a_still_recipe_shows_the_vectors_themselves():
    vectors, views = made(STILL)
    assert all(torch.equal(view, vectors) for view in render(views, vectors))


def test_noise_has_the_size_of_each_dimension():
    vectors, views = made(dataclasses.replace(STILL, noise=0.5))
    moved = render(views, vectors)[0] - vectors
    torch.testing.assert_close(moved.std(dim=0), 0.5 * vectors.std(dim=0), rtol=0.05, atol=0.0)
    assert moved.mean(dim=0).abs().max() < 0.5


def test_dropped_dimensions_are_set_to_their_mean():
    vectors, views = made(dataclasses.replace(STILL, dropout=0.25))
    view = render(views, vectors)[0]
    dropped = view != vectors
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(view[dropped], vectors.mean(dim=0).expand_as(view)[dropped])


def test_mixing_goes_towards_either_neighbor_by_a_uniform_share():
    vectors, views = made(dataclasses.replace(STILL, mix=0.8))
    view = render(views, vectors)[0]
    shares = []
    for step in (1, 2):
        partner = vectors.roll(-step, dims=0)
        share = ((view - vectors) / (partner - vectors)).median(dim=1).values
        on_line = torch.isclose(vectors.lerp(partner, share[:, None]), view, atol=1e-3).all(dim=1)
        shares.append(share[on_line])
        assert 0.4 < on_line.float().mean() < 0.6
    drawn = torch.cat(shares)
    # Where two neighbors lie close together, the share is read off with less precision.
    assert -0.05 < drawn.min() < 0.05
    assert 0.75 < drawn.max() < 0.85
    assert drawn.mean().item() == pytest.approx(0.4, abs=0.02)


def test_views_follow_from_seed_pass_and_batch_alone():
    vectors, views = made(VectorRecipe())
    first = render(views, vectors)
    torch.manual_seed(99)
    again = render(views, vectors)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], render(views, vectors, epoch=1)[0])
    assert not torch.equal(first[0], render(views, vectors, seed=1)[0])


@pytest.mark.parametrize(
    ("name", "value"), [("mix", 1.1), ("mix", -0.1), ("noise", -1.0), ("dropout", 1.0)]
)
def test_a_recipe_out_of_range_is_refused(name: str, value: float):
    with pytest.raises(InputError, match=f"features.{name} is {value}"):
        VectorRecipe(**{name: value})


def test_the_store_hands_out_rows_in_order():
    store = FeatureStore(torch.arange(12.0).view(6, 2))
    batches = list(store.batches(iter([np.array([4, 0]), np.array([5])])))
    assert [b.tolist() for b in batches] == [[[8.0, 9.0], [0.0, 1.0]], [[10.0, 11.0]]]
    assert len(store) == 6
