"""A plan of views: parameters as drawn one by one, the plain path against the naive reference."""

from __future__ import annotations

import hashlib
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import tests.reference.augment as naive
from crkd.core.errors import InputError
from crkd.data.augment import (
    ViewParameters,
    ViewPlan,
    ViewRecipe,
    draw,
    make_views,
    named_recipe,
    recipe_names,
    windows,
)
from crkd.data.augment.render import render_levels
from tests.support.view_recipes import EVERYTHING, NO_HUE, NORMALIZED, RAW, blobs

LARGE, SMALL = named_recipe("large", 32), named_recipe("small", 18)
PUBLISHED = (LARGE, LARGE, SMALL, SMALL)
RECIPES = {
    "everything": EVERYTHING,
    "no hue": NO_HUE,
    "hue alone": ViewRecipe(size=18, jitter=0.5, hue=0.5),
    "wide padding": ViewRecipe(size=24, crop="either", padding=40, scale=(0.01, 0.1)),
    "larger than stored": ViewRecipe(size=70, crop="pad", padding=30),
}


def picture(count: int, side: int) -> Tensor:
    """Smooth colored blobs over noise with black, white and equal patches."""
    images = blobs(count, side, seed=side)
    images[:2] = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    images[2:6, :, : side // 2] = images[2:6, :1, :1, :1]
    return images


def numbers(count: int, start: int = 0) -> dict[str, Tensor]:
    ids = start + torch.arange(count) * 977
    return {"epoch": ids % 7, "image_id": ids}


def plan_of(*recipes: ViewRecipe, stored: int = 32, **statistics: object) -> ViewPlan:
    return ViewPlan(recipes, stored_size=stored, **(statistics or NORMALIZED))  # type: ignore[arg-type]


def assert_same(one: ViewParameters, other: ViewParameters) -> None:
    for name, a, b in zip(one._fields, one, other, strict=True):
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name


class Counter(TorchDispatchMode):
    """Counts every dispatched operation, views of tensors among them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_published_step_takes_at_most_350_operations():
    plan = plan_of(*PUBLISHED)
    images, drawing, rendering = picture(512, 32), Counter(), Counter()
    with drawing:
        drawn = plan.draw(seed=0, **numbers(32 * 512))
    plan.prepare(images.device)
    with rendering:
        plan.render_plain(images, drawn[:512], dtype=torch.bfloat16, channels_last=True)
    assert drawing.count / 32 + rendering.count <= 350


def test_the_number_of_operations_depends_on_no_data():
    plan, counts = plan_of(*PUBLISHED), []
    plan.prepare(torch.device("cpu"))
    for seed, batch in ((0, 3), (1, 40)):
        drawn = plan.draw(seed=seed, **numbers(batch))
        with Counter() as counter:
            plan.render_plain(picture(40, 32)[:batch], drawn)
        counts.append(counter.count)
    assert counts[0] == counts[1]


@given(
    st.lists(st.sampled_from(recipe_names()), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**31)), min_size=1, max_size=9),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([32, 33, 64]),
)
@settings(max_examples=40, deadline=None)
def test_parameters_are_those_that_draw_gives(names, images, seed, stored):
    recipes = [named_recipe(name, 18 if "small" in name else 32) for name in names]
    plan = plan_of(*recipes, stored=stored)
    ids, epochs = torch.tensor(images).unbind(1)
    drawn = plan.draw(seed=seed, epoch=epochs, image_id=ids)
    assert drawn.dtype == torch.float32
    assert drawn.is_contiguous()
    for view, recipe in enumerate(recipes):
        alone = draw(recipe, seed=seed, epoch=epochs, image_id=ids, view=view, stored_size=stored)
        assert_same(plan.parameters(drawn, view), alone)


@pytest.mark.parametrize("name", [*recipe_names(), *RECIPES])
def test_float32_holds_every_parameter(name: str):
    recipe = RECIPES.get(name) or named_recipe(name, 32)
    plan = plan_of(recipe, recipe)
    where = numbers(2000, start=2**33)
    drawn = plan.draw(seed=5, **where)
    for view in range(2):
        alone = draw(recipe, seed=5, view=view, stored_size=32, **where)
        assert_same(plan.parameters(drawn, view), alone)


def test_draws_are_those_of_earlier_versions():
    """Views of a resumed or reproduced run must be the ones that it had."""
    digest = hashlib.sha256()
    for name in recipe_names():
        recipe = named_recipe(name, 18 if name == "small" else 32)
        p = draw(recipe, seed=3, view=1, stored_size=40, **numbers(300))
        for field in p:
            digest.update(field.contiguous().numpy().tobytes())
    assert digest.hexdigest() == "689ba17b2906ad231614d28347df579d27022c5d3dcb6f41785b6a05ca4831e1"


@pytest.mark.parametrize(("stored", "size"), [(32, 18), (33, 32), (64, 24), (64, 32), (32, 32)])
@pytest.mark.parametrize("name", recipe_names())
def test_plain_levels_of_named_recipes_are_the_naive_ones(name: str, stored: int, size: int):
    compare_levels(named_recipe(name, size), stored)


@pytest.mark.parametrize("name", RECIPES)
def test_plain_levels_are_the_naive_ones(name: str):
    for stored in (32, 33):
        compare_levels(RECIPES[name], stored)


@pytest.mark.parametrize("name", ["large", "small", "plain", "evaluation"])
def test_computed_weights_are_those_of_the_table(name: str, monkeypatch: pytest.MonkeyPatch):
    recipe = named_recipe(name, 18)
    assert windows.Windows.of(recipe, 33).tabulated
    monkeypatch.setattr(windows, "_TABLE_BYTES", 0)
    compare_levels(recipe, 33)


def test_large_views_sum_their_levels_in_float64():
    compare_levels(named_recipe("large-photo", 80), 96, count=6)


def compare_levels(recipe: ViewRecipe, stored: int, count: int = 40) -> None:
    """Two views by the plan's plain path, and one by given parameters, against the reference."""
    images, where = picture(count, stored), numbers(count)
    plan = plan_of(recipe, recipe, stored=stored, **RAW)
    drawn = plan.draw(seed=2, **where)
    for view, ours in enumerate(plan.render_plain(images, drawn)):
        parameters = draw(recipe, seed=2, view=view, stored_size=stored, **where)
        theirs = naive.render_levels(images, parameters, recipe)
        assert torch.equal(ours, theirs)
        assert torch.equal(render_levels(images, parameters, recipe), theirs)


@pytest.mark.parametrize("plain", [False, True])
def test_rendered_views_are_those_of_make_views(plain: bool):
    recipes = (*PUBLISHED, EVERYTHING, LARGE, named_recipe("evaluation", 32))
    images, where = picture(64, 32), numbers(64)
    plan = plan_of(*recipes)
    drawn = plan.draw(seed=4, **where)
    views = (plan.render_plain if plain else plan.render)(images, drawn)
    theirs = make_views(images, recipes, seed=4, **where, **NORMALIZED)
    assert [view.shape[-1] for view in views] == [recipe.size for recipe in recipes]
    for one, other in zip(views, theirs, strict=True):
        assert one.is_contiguous()
        assert torch.equal(one, other)


def test_a_stretch_drawn_at_once_serves_many_steps():
    plan, images, where = plan_of(*PUBLISHED), picture(30, 32), numbers(30)
    drawn = plan.draw(seed=4, **where)
    whole = plan.render(images, drawn)
    for rows in (slice(0, 10), torch.tensor([25, 3, 11])):
        step = plan.draw(seed=4, **{key: values[rows] for key, values in where.items()})
        assert torch.equal(step, drawn[rows])
        for some, every in zip(plan.render(images[rows], drawn[rows]), whole, strict=True):
            assert torch.equal(some, every[rows])


@pytest.mark.parametrize("channels_last", [False, True])
def test_plain_views_have_the_asked_dtype_and_layout(channels_last: bool):
    plan, images = plan_of(*PUBLISHED, named_recipe("plain", 32)), picture(8, 32)
    drawn = plan.draw(seed=4, **numbers(8))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    full = plan.render_plain(images, drawn)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = plan.render_plain(images, drawn, dtype=torch.bfloat16, channels_last=channels_last)
    for one, other in zip(half, full, strict=True):
        assert one.is_contiguous(memory_format=layout)
        assert torch.equal(one, other.to(torch.bfloat16))


COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.mark.parametrize(
    ("backend", "recipes"),
    [
        ("aot_eager", (LARGE, LARGE, SMALL)),
        # Compiling takes most of a minute for three views.
        pytest.param("inductor", (SMALL,), marks=[pytest.mark.slow, COMPILER]),
    ],
)
def test_compiled_views_agree(backend: str, recipes: tuple[ViewRecipe, ...]):
    torch._dynamo.reset()
    plan, images = plan_of(*recipes), picture(32, 32)
    plan.prepare(images.device)
    compiled = torch.compile(plan.render, dynamic=False, fullgraph=True, backend=backend)
    for seed in (1, 2):
        drawn = plan.draw(seed=seed, **numbers(32))
        for one, other in zip(compiled(images, drawn), plan.render(images, drawn), strict=True):
            # A compiler may fuse the product and the sum of a blend, which rounds once less.
            assert (one != other).float().mean() <= 0.01


def test_constants_of_inference_serve_outside():
    plan, images = plan_of(LARGE), picture(8, 32)
    with torch.inference_mode():
        plan.prepare(images.device)
    drawn = plan.draw(seed=4, **numbers(8))
    (view,) = plan.render_plain(images, drawn)
    assert not view.is_inference()
    assert torch.equal(view, plan.render(images, drawn)[0])


def test_nothing_to_draw_and_nothing_to_render():
    plan, images = plan_of(), picture(8, 32)
    drawn = plan.draw(seed=4, **numbers(8))
    assert drawn.shape == (8, 0)
    assert plan.render(images, drawn) == plan.render_plain(images, drawn) == ()
    published = plan_of(*PUBLISHED)
    none = published.draw(seed=4, **numbers(0))
    for render in (published.render, published.render_plain):
        views = render(images[:0], none)
        assert [len(view) for view in views] == [0] * 4


def test_what_does_not_belong_to_the_plan_is_refused():
    with pytest.raises(InputError, match="padding"):
        plan_of(ViewRecipe(size=64, crop="pad", padding=4))
    with pytest.raises(InputError, match="std"):
        plan_of(LARGE, mean=(0.5,) * 3, std=(0.2, 0.0, 0.2))
    plan, images = plan_of(LARGE), picture(8, 32)
    drawn = plan.draw(seed=4, **numbers(8))
    with pytest.raises(InputError, match="33 px"):
        plan.render(picture(8, 33), drawn)
    with pytest.raises(InputError, match="uint8"):
        plan.render(images.float(), drawn)
    with pytest.raises(InputError, match="same plan"):
        plan.render(images, plan_of(LARGE, LARGE).draw(seed=4, **numbers(8)))
    with pytest.raises(InputError, match="same plan"):
        plan.render(images[:5], drawn)
    with pytest.raises(IndexError, match="view 1"):
        plan.parameters(drawn, 1)
