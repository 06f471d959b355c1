"""What only a GPU can show: the same draws and views as on the CPU, and no host synchronisation."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from crkd.data.augment.draws import ViewParameters, draw
from crkd.data.augment.recipe import ViewRecipe
from crkd.data.augment.recipes import named_recipe, recipe_names
from crkd.data.augment.render import make_views, render_levels

_STORED = 32
_RECIPES = (
    named_recipe("large", 32),
    named_recipe("large", 32),
    named_recipe("small", 18),
    named_recipe("small", 18),
)
_MEAN, _STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)
# Inductor divides with two units in the last place of error and fuses multiply-adds: a level or
# a hue at an exact tie may fall the other way there.
_COMPILED_SHARE = 0.01


def checks() -> list[tuple[str, Callable[[], str]]]:
    """Return named checks; each returns what it found and raises AssertionError if it failed."""
    return [
        ("augmentation: draws are equal on CPU and GPU", _draws_are_equal),
        ("augmentation: views are equal on CPU and GPU", _views_are_equal),
        ("augmentation: no host synchronisation", _nothing_synchronises),
        ("augmentation: captured views follow the epoch", _capture_replays),
        ("augmentation: compiled views agree with eager ones", _compiled_agrees),
    ]


def _images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 300 - 20
    smooth = torch.nn.functional.interpolate(coarse, size=(_STORED,) * 2, mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8)


def _draws_are_equal() -> str:
    ids = torch.arange(20_000) * 977
    for name in recipe_names():
        recipe = named_recipe(name, _STORED)
        for epoch in (0, 499):
            host = draw(recipe, seed=7, epoch=epoch, image_id=ids, view=3, stored_size=_STORED)
            device = draw(
                recipe,
                seed=7,
                epoch=torch.full((), epoch, device="cuda"),
                image_id=ids.cuda(),
                view=3,
                stored_size=_STORED,
            )
            for field, one, other in zip(host._fields, host, device, strict=True):
                wrong = int((one != other.cpu()).sum())
                assert wrong == 0, f"{name}, {field}: {wrong} of {one.numel()} draws differ"
    return f"{len(recipe_names())} recipes, 2 epochs, {len(ids)} images: every field equal"


def _views_are_equal() -> str:
    images = _images(2048)
    worst = 0.0
    for name in recipe_names():
        recipe = named_recipe(name, 18 if name.startswith("small") else _STORED)
        share = _share_of_different_levels(images, recipe)
        # Sines, exponentials and sums of the affine map and the blur differ in the last place.
        allowed = 1e-3 if recipe.has_affine or recipe.blur else 0.0
        assert share <= allowed, f"{name}: {share:.2e} of the levels differ"
        worst = max(worst, share)
    return f"{len(recipe_names())} recipes, {len(images)} images: at most {worst:.1e} of levels"


def _share_of_different_levels(images: Tensor, recipe: ViewRecipe) -> float:
    ids = torch.arange(len(images))
    drawn = draw(recipe, seed=1, epoch=2, image_id=ids, view=0, stored_size=_STORED)
    host = render_levels(images, drawn, recipe)
    moved = ViewParameters(*(field.cuda() for field in drawn))
    device = render_levels(images.cuda(), moved, recipe).cpu()
    return float((host != device).float().mean())


def _views(images: Tensor, epoch: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    return make_views(
        images,
        _RECIPES,
        seed=1,
        epoch=epoch,
        image_id=ids,
        mean=_MEAN,
        std=_STD,
        dtype=torch.bfloat16,
        channels_last=True,
    )


def _device_batch() -> tuple[Tensor, Tensor, Tensor]:
    epoch = torch.zeros((), dtype=torch.int64, device="cuda")
    return _images(512).cuda(), epoch, torch.arange(512, device="cuda")


def _nothing_synchronises() -> str:
    batch = _device_batch()
    _views(*batch)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        _views(*batch)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return f"512 images x 4 views, eager: {_milliseconds(lambda: _views(*batch)):.2f} ms a batch"


def _capture_replays() -> str:
    images, epoch, ids = _device_batch()
    _views(images, epoch, ids)  # cuBLAS sets itself up outside of the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = _views(images, epoch, ids)
    for number in (0, 5):
        epoch.fill_(number)
        graph.replay()
        for one, other in zip(captured, _views(images, epoch, ids), strict=True):
            assert torch.equal(one, other), f"epoch {number}: replay differs from eager views"
    return f"512 images x 4 views, one graph: {_milliseconds(graph.replay):.2f} ms a batch"


def _compiled_agrees() -> str:
    batch = _device_batch()
    compiled = torch.compile(_views, fullgraph=True)
    worst = 0.0
    for one, other in zip(compiled(*batch), _views(*batch), strict=True):
        worst = max(worst, float((one != other).float().mean()))
    assert worst <= _COMPILED_SHARE, f"{worst:.2e} of the values differ from eager views"
    spent = _milliseconds(lambda: compiled(*batch))
    return f"at most {worst:.1e} of the values differ; 4 views of 512: {spent:.2f} ms a batch"


def _milliseconds(work: Callable[[], object], repeats: int = 50) -> float:
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats * 1e3
