"""GPU checks of augmentation: same draws and views as on the CPU, no host synchronization."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from crkd.data.augment.plan import ViewPlan
from crkd.data.augment.presets import named_recipe, recipe_names
from crkd.data.augment.recipe import ViewRecipe

_STORED, _BATCH, _STEPS = 32, 512, 32
_RECIPES = (
    named_recipe("large", 32),
    named_recipe("large", 32),
    named_recipe("small", 18),
    named_recipe("small", 18),
)
_MEAN, _STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)
# Inductor fuses multiply-adds, so a level at an exact tie may round differently.
_COMPILED_SHARE = 0.01


def checks() -> list[tuple[str, Callable[[], str]]]:
    """Return named checks; each returns a result line and raises AssertionError if it fails."""
    return [
        ("augmentation: draws are equal on CPU and GPU", _draws_are_equal),
        ("augmentation: views are equal on CPU and GPU", _views_are_equal),
        ("augmentation: no host synchronization", _nothing_synchronizes),
        ("augmentation: captured views follow what is drawn", _capture_replays),
        ("augmentation: compiled views agree with eager ones", _compiled_agrees),
    ]


def _images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 300 - 20
    smooth = torch.nn.functional.interpolate(coarse, size=(_STORED,) * 2, mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8)


def _plan(*recipes: ViewRecipe) -> ViewPlan:
    return ViewPlan(recipes, stored_size=_STORED, mean=_MEAN, std=_STD)


def _draws_are_equal() -> str:
    recipes = [
        named_recipe(name, 18 if name.startswith("small") else _STORED) for name in recipe_names()
    ]
    plan = _plan(*recipes)
    ids = torch.arange(20_000) * 977
    for epoch in (0, 499):
        epochs = torch.full_like(ids, epoch)
        host = plan.draw(seed=7, epoch=epochs, image_id=ids)
        device = plan.draw(seed=7, epoch=epochs.cuda(), image_id=ids.cuda())
        for view, name in enumerate(recipe_names()):
            one, other = plan.parameters(host, view), plan.parameters(device, view)
            for field, a, b in zip(one._fields, one, other, strict=True):
                wrong = int((a != b.cpu()).sum())
                assert wrong == 0, f"{name}, {field}: {wrong} of {a.numel()} draws differ"
    return f"{len(recipes)} recipes, 2 epochs, {len(ids)} images: every field equal"


def _views_are_equal() -> str:
    images = _images(2048)
    worst = 0.0
    for name in recipe_names():
        recipe = named_recipe(name, 18 if name.startswith("small") else _STORED)
        share = _share_of_different_values(images, recipe)
        # Sines, exponentials and sums of the affine map and the blur differ in the last digit.
        allowed = 1e-3 if recipe.has_affine or recipe.blur else 0.0
        assert share <= allowed, f"{name}: {share:.2e} of the values differ"
        worst = max(worst, share)
    return f"{len(recipe_names())} recipes, {len(images)} images: at most {worst:.1e} of values"


def _share_of_different_values(images: Tensor, recipe: ViewRecipe) -> float:
    plan, ids = _plan(recipe), torch.arange(len(images))
    drawn = plan.draw(seed=1, epoch=ids % 5, image_id=ids)
    (host,) = plan.render(images, drawn)
    (device,) = plan.render(images.cuda(), drawn.cuda())
    return float((host != device.cpu()).float().mean())


def _render(plan: ViewPlan, images: Tensor, drawn: Tensor) -> tuple[Tensor, ...]:
    return plan.render(images, drawn, dtype=torch.bfloat16, channels_last=True)


def _published() -> tuple[ViewPlan, Tensor, dict[str, Tensor]]:
    """Return the published plan, one batch of images and the inputs of many steps."""
    ids = torch.arange(_BATCH, device="cuda").repeat(_STEPS)
    epochs = torch.arange(_STEPS, device="cuda").repeat_interleave(_BATCH)
    return _plan(*_RECIPES), _images(_BATCH).cuda(), {"epoch": epochs, "image_id": ids}


def _nothing_synchronizes() -> str:
    plan, images, numbers = _published()
    drawn = plan.draw(seed=1, **numbers)
    _render(plan, images, drawn[:_BATCH])
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn = plan.draw(seed=1, **numbers)
        _render(plan, images, drawn[:_BATCH])
    finally:
        torch.cuda.set_sync_debug_mode(before)
    drawing = _milliseconds(lambda: plan.draw(seed=1, **numbers)) / _STEPS
    rendering = _milliseconds(lambda: _render(plan, images, drawn[:_BATCH]))
    return (
        f"{_BATCH} images x 4 views, eager: {rendering:.2f} ms a batch to render, {drawing:.2f} ms "
        f"to draw, {_STEPS} batches at once"
    )


def _capture_replays() -> str:
    plan, images, numbers = _published()
    drawn = torch.split(plan.draw(seed=1, **numbers), _BATCH)
    static = drawn[0].clone()
    _render(plan, images, static)  # cuBLAS initializes itself outside of the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = _render(plan, images, static)
    for step in (0, 5):
        static.copy_(drawn[step])
        graph.replay()
        for one, other in zip(captured, _render(plan, images, drawn[step]), strict=True):
            assert torch.equal(one, other), f"step {step}: replay differs from eager views"
    return f"{_BATCH} images x 4 views, one graph: {_milliseconds(graph.replay):.2f} ms a batch"


def _compiled_agrees() -> str:
    plan, images, numbers = _published()
    drawn = plan.draw(seed=1, **numbers)[:_BATCH]
    rendered = torch.compile(plan.render, dynamic=False, fullgraph=True)

    def compiled() -> tuple[Tensor, ...]:
        return rendered(images, drawn, dtype=torch.bfloat16, channels_last=True)

    worst = 0.0
    for one, other in zip(compiled(), _render(plan, images, drawn), strict=True):
        worst = max(worst, float((one != other).float().mean()))
    assert worst <= _COMPILED_SHARE, f"{worst:.2e} of the values differ from eager views"
    spent = _milliseconds(compiled)
    return f"at most {worst:.1e} of the values differ; 4 views of {_BATCH}: {spent:.2f} ms a batch"


def _milliseconds(work: Callable[[], object], repeats: int = 50) -> float:
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats * 1e3
