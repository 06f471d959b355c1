"""The drawn parameters: known values of the generator, statistics, independence of the batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from crkd.core.errors import InputError
from crkd.core.philox import philox
from crkd.data.augment import ViewParameters, ViewRecipe, draw, named_recipe, recipe_names

EVERYTHING = ViewRecipe(
    size=18,
    crop="either",
    rotation=20.0,
    shift=0.1,
    zoom=(0.8, 1.2),
    shear=10.0,
    jitter=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grayscale=0.2,
    blur=0.3,
    solarize=0.2,
    solarize_threshold=(0.0, 256.0),
    equalize=0.1,
)
MANY = torch.arange(20_000)


def drawn(
    recipe: ViewRecipe = EVERYTHING,
    ids: Tensor = MANY,
    seed: int = 3,
    epoch: Tensor | int = 7,
    view: Tensor | int = 1,
    stored: int = 32,
) -> ViewParameters:
    return draw(recipe, seed=seed, epoch=epoch, image_id=ids, view=view, stored_size=stored)


def equal(a: ViewParameters, b: ViewParameters) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            0xFFFFFFFFFFFFFFFF,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: int, expected: tuple[int, ...]
):
    words = philox(tuple(torch.tensor([c]) for c in counter), key)  # type: ignore[arg-type]
    assert tuple(words[:, 0].tolist()) == expected


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=12, unique=True),
    st.randoms(use_true_random=False),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(0, 2**31),
    st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_an_image_gets_its_draws_whatever_the_batch(ids, random, seed, epoch, view):
    whole = drawn(ids=torch.tensor(ids), seed=seed, epoch=epoch, view=view)
    shuffled = random.sample(range(len(ids)), len(ids))
    permuted = drawn(
        ids=torch.tensor([ids[i] for i in shuffled]),
        seed=seed,
        epoch=torch.tensor(epoch),
        view=torch.full((len(ids),), view),
    )
    assert equal(permuted, whole.rows(torch.tensor(shuffled)))
    alone = drawn(ids=torch.tensor(ids[:1]), seed=seed, epoch=epoch, view=view)
    assert equal(alone, whole.rows(slice(0, 1)))


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 8}, {"view": 2}, {"ids": MANY + 2**33}])
def test_every_part_of_the_key_matters(change: dict[str, object]):
    one, other = drawn(), drawn(**change)  # type: ignore[arg-type]
    for name in ("angle", "brightness", "hue", "threshold", "sigma"):
        pair = np.stack((getattr(one, name).numpy(), getattr(other, name).numpy()))
        assert (pair[0] == pair[1]).mean() < 0.001
        assert abs(np.corrcoef(pair)[0, 1]) < 4 / len(MANY) ** 0.5


def test_neighboring_ids_views_and_epochs_are_independent():
    angle = drawn().angle.numpy()
    assert abs(np.corrcoef(angle[:-1], angle[1:])[0, 1]) < 4 / len(MANY) ** 0.5
    one_id = torch.full((20_000,), 5)
    over_views = drawn(ids=one_id, view=MANY).angle.numpy()
    assert stats.kstest(over_views, stats.uniform(-20, 40).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(over_views[:-1], over_views[1:])[0, 1]) < 4 / len(MANY) ** 0.5


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("angle", -20, 20),
        ("shift_x", -1.8, 1.8),
        ("shift_y", -1.8, 1.8),
        ("zoom", 0.8, 1.2),
        ("shear", -10, 10),
        ("brightness", 0.6, 1.4),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.8, 1.2),
        ("hue", -0.1, 0.1),
        ("sigma", 0.1, 2.0),
        ("threshold", 0, 256),
    ],
)
def test_strengths_are_uniform_over_their_range(name: str, low: float, high: float):
    values = getattr(drawn(), name).double().numpy()
    assert values.min() >= low - 1e-6
    assert values.max() <= high + 1e-6
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-4


def test_all_strengths_are_independent_of_each_other():
    p = drawn(dataclasses.replace(EVERYTHING, crop="pad"))
    names = ("angle", "shift_x", "shift_y", "zoom", "shear", "brightness", "contrast", "hue")
    fields = [getattr(p, name).numpy() for name in (*names, "saturation", "sigma", "threshold")]
    fields += [p.flip, p.jitter, p.grayscale, p.blur, p.solarize, p.equalize, p.top, p.left]
    correlation = np.corrcoef(np.stack([np.asarray(f, dtype=float) for f in fields]))
    off = correlation[~np.eye(len(fields), dtype=bool)]
    assert np.abs(off).max() < 5 / len(MANY) ** 0.5


@pytest.mark.parametrize(
    ("name", "probability"),
    [
        ("flip", 0.5),
        ("jitter", 0.5),
        ("grayscale", 0.2),
        ("blur", 0.3),
        ("solarize", 0.2),
        ("equalize", 0.1),
    ],
)
def test_operations_happen_as_often_as_asked(name: str, probability: float):
    count = int(getattr(drawn(), name).sum())
    assert stats.binomtest(count, len(MANY), probability).pvalue > 1e-4


def test_all_24_orders_of_the_jitter_are_equally_frequent():
    orders = drawn().order
    assert torch.equal(orders.sort(dim=1).values, torch.arange(4).expand(len(MANY), 4))
    code = (orders * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    seen, counts = torch.unique(code, return_counts=True)
    assert len(seen) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_pad_and_crop_reaches_every_place_equally():
    recipe = ViewRecipe(size=32, crop="pad", padding=4)
    p = drawn(recipe)
    for field in (p.top, p.left):
        places, counts = torch.unique(field, return_counts=True)
        assert places.tolist() == list(range(-4, 5))
        assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    assert (p.height == 32).all()
    assert (p.width == 32).all()


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [((0.5, 1.0), (3 / 4, 4 / 3)), ((0.3, 0.8), (3 / 4, 4 / 3)), ((0.9, 1.0), (0.3, 3.0))],
)
def test_random_resized_crop_has_torchvisions_distribution(
    scale: tuple[float, float], ratio: tuple[float, float]
):
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, 32, 32)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(6000)]
    )
    p = drawn(ViewRecipe(size=18, crop="resized", scale=scale, ratio=ratio))
    ours = torch.stack((p.top, p.left, p.height, p.width), dim=1).numpy()
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= 32).all()
    for column in range(4):
        levels = np.arange(33)
        counts = np.stack([(rows[:, column, None] == levels).sum(0) for rows in (ours, theirs)])
        counts = counts[:, counts.sum(axis=0) > 40]
        assert stats.chi2_contingency(counts).pvalue > 1e-4


def test_without_a_fitting_attempt_the_center_is_taken():
    wide = drawn(ViewRecipe(size=8, crop="resized", scale=(1.0, 1.0), ratio=(2.0, 2.5)))
    assert (wide.width == 32).all()
    assert (wide.height == 16).all()
    assert (wide.top == 8).all()
    tall = drawn(ViewRecipe(size=8, crop="resized", scale=(1.0, 1.0), ratio=(0.4, 0.5)))
    assert (tall.width == 16).all()
    assert (tall.left == 8).all()


def test_either_crop_is_a_fair_choice():
    p = drawn(ViewRecipe(size=32, crop="either", padding=4, scale=(0.3, 0.5)))
    padded = (p.height == 32) & (p.width == 32)
    assert stats.binomtest(int(padded.sum()), len(MANY), 0.5).pvalue > 1e-4


def test_switching_one_operation_leaves_the_others_as_they_were():
    plain = drawn(dataclasses.replace(EVERYTHING, rotation=0.0, shear=0.0, blur=0.0, equalize=0.0))
    full = drawn()
    for name in ("top", "width", "flip", "zoom", "order", "hue", "threshold", "grayscale"):
        assert torch.equal(getattr(plain, name), getattr(full, name))


def test_the_evaluation_view_draws_nothing():
    recipe = named_recipe("evaluation", 32)
    assert equal(drawn(recipe, seed=1, epoch=0), drawn(recipe, seed=2, epoch=9))


@pytest.mark.parametrize("name", recipe_names())
def test_named_recipes_draw(name: str):
    p = drawn(named_recipe(name, 32), ids=torch.arange(64))
    assert all(len(field) == 64 for field in p)
    assert not any(field.isnan().any() for field in p if field.is_floating_point())


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"crop": "zoom"}, "crop"),
        ({"size": 0}, "size"),
        ({"flip": 1.5}, "flip"),
        ({"hue": 0.6}, "hue"),
        ({"scale": (0.9, 0.1)}, "scale"),
        ({"ratio": (0.0, 1.0)}, "ratio"),
        ({"zoom": (1.0,)}, "zoom"),
        ({"shear": 90.0}, "shear"),
        ({"brightness": -0.1}, "brightness"),
        ({"solarize": float("nan")}, "solarize"),
        ({"solarize_threshold": (0, 300)}, "solarize_threshold"),
    ],
)
def test_a_recipe_out_of_range_names_the_value(wrong: dict[str, object], word: str):
    with pytest.raises(InputError, match=word):
        ViewRecipe(**{"size": 32, **wrong})  # type: ignore[arg-type]


def test_a_window_larger_than_the_padded_image_is_refused():
    with pytest.raises(InputError, match="padding"):
        drawn(ViewRecipe(size=64, crop="pad", padding=4))


def test_an_unknown_recipe_is_refused_with_the_names():
    with pytest.raises(InputError, match="pretraining"):
        named_recipe("huge", 32)
