"""The whole view: against Pillow, fast against plain path, replay, layouts, tracing, messages."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import functional as reference

from crkd.core.errors import InputError
from crkd.data.augment import (
    ViewParameters,
    ViewRecipe,
    chunks,
    draw,
    make_view,
    make_views,
    named_recipe,
    render,
)
from crkd.data.augment.preview import view_sheet
from crkd.data.augment.render import render_levels
from tests.support.view_recipes import EVERYTHING, NO_HUE, NORMALIZED, RAW, blobs

RECIPES = {
    "everything": EVERYTHING,
    "no hue": NO_HUE,
    "nobody": dataclasses.replace(EVERYTHING, jitter=1e-9, crop="pad"),
    "everybody": dataclasses.replace(EVERYTHING, jitter=1.0, equalize=1.0, crop="resized"),
    **{name: named_recipe(name, 32) for name in ("large", "pretraining", "plain", "evaluation")},
    "small": named_recipe("small", 18),
    "digits": named_recipe("digits", 16),
    "photo": named_recipe("large-photo", 20),
}


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Smooth colored blobs over noise: 96 images of 32 px."""
    return blobs(96, 32, seed=0)


def view_of(images: Tensor, recipe: ViewRecipe, **options: object) -> Tensor:
    given = {"seed": 1, "epoch": 2, "view": 0, "image_id": torch.arange(len(images)), **RAW}
    return make_view(images, recipe, **{**given, **options})  # type: ignore[arg-type]


def drawn(images: Tensor, recipe: ViewRecipe) -> ViewParameters:
    ids = torch.arange(len(images))
    return draw(recipe, seed=1, epoch=2, image_id=ids, view=0, stored_size=images.shape[-1])


def pillow_view(image: Tensor, p: ViewParameters, row: int, recipe: ViewRecipe) -> Tensor:
    """The released order of operations, one image, one Pillow call after the other."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    top, left, height, width = (int(field[row]) for field in p[:4])
    size = recipe.size
    picture = reference.crop(picture, top, left, height, width)
    picture = picture.resize((size, height), Image.Resampling.BILINEAR)
    picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    if p.flip[row]:
        picture = reference.hflip(picture)
    if p.jitter[row]:
        for operation in p.order[row].tolist():
            name = ("brightness", "contrast", "saturation", "hue")[operation]
            factor = getattr(p, name)[row].item()
            picture = getattr(reference, f"adjust_{name}")(picture, factor)
    if p.grayscale[row]:
        picture = reference.to_grayscale(picture, 3)
    if p.solarize[row]:
        picture = ImageOps.solarize(picture, p.threshold[row].item())
    if p.equalize[row]:
        picture = ImageOps.equalize(picture)
    return reference.normalize(reference.to_tensor(picture), **NORMALIZED)


@pytest.mark.parametrize(("name", "size"), [("large", 32), ("small", 18), ("pretraining", 32)])
def test_released_views_are_pillows_to_the_last_level(images: Tensor, name: str, size: int):
    recipe = named_recipe(name, size)
    p = drawn(images, recipe)
    ours = render(images, p, recipe, **NORMALIZED)
    theirs = torch.stack([pillow_view(image, p, r, recipe) for r, image in enumerate(images)])
    # One level is 1 / (255 * 0.256) = 0.015; what is left is float32 rounding of the scaling.
    assert (ours - theirs).abs().max() < 2e-6


@pytest.mark.parametrize("name", RECIPES)
def test_fast_path_is_the_plain_path_bit_for_bit(images: Tensor, name: str):
    recipe = RECIPES[name]
    p = drawn(images, recipe)
    plain = render_levels(images, p, recipe)
    assert torch.equal(render(images, p, recipe, **RAW), plain)
    assert plain.min() >= 0
    assert plain.max() <= 255
    assert torch.equal(plain, plain.round())


def test_pieces_and_threads_change_nothing(images: Tensor, monkeypatch: pytest.MonkeyPatch):
    whole = view_of(images, EVERYTHING)
    threads = torch.get_num_threads()
    monkeypatch.setattr(chunks, "_PIXELS", 7 * 24 * 24)
    try:
        torch.set_num_threads(1)
        assert torch.equal(view_of(images, EVERYTHING), whole)
        torch.set_num_threads(2)
        assert torch.equal(view_of(images, EVERYTHING), whole)
        assert torch.get_num_threads() == 2
        seen: list[int] = []
        late = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        late.start()
        late.join()
        assert seen == [2]  # the pool's single-threaded operations are its own affair
    finally:
        torch.set_num_threads(threads)


def test_an_error_in_a_thread_reaches_the_caller(images: Tensor, monkeypatch: pytest.MonkeyPatch):
    def fail(_: slice) -> None:
        raise RuntimeError("broken piece")

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError, match="broken piece"):
            chunks.for_each_piece(1000, 1024, fail)
    finally:
        torch.set_num_threads(threads)


def test_a_view_does_not_depend_on_the_batch(images: Tensor):
    whole = view_of(images, EVERYTHING)
    order = torch.randperm(96, generator=torch.Generator().manual_seed(1))
    permuted = view_of(images[order], EVERYTHING, image_id=order)
    assert torch.equal(permuted, whole[order])
    few = view_of(images[5:8], EVERYTHING, image_id=torch.arange(5, 8))
    assert torch.equal(few, whole[5:8])


def test_seed_epoch_and_view_change_the_picture(images: Tensor):
    whole = view_of(images, EVERYTHING)
    assert torch.equal(view_of(images, EVERYTHING), whole)
    for change in ({"seed": 2}, {"epoch": 3}, {"view": 1}):
        other = view_of(images, EVERYTHING, **change)
        assert ((other - whole).abs().amax(dim=(1, 2, 3)) > 0).float().mean() > 0.95


def test_stored_parameters_replay_the_view(images: Tensor, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    p = drawn(images, EVERYTHING)
    save_file(dict(p._asdict()), tmp_path / "views.safetensors")
    again = ViewParameters(**load_file(tmp_path / "views.safetensors"))
    assert torch.equal(render(images, again, EVERYTHING, **RAW), view_of(images, EVERYTHING))


def test_every_image_may_be_in_a_pass_of_its_own(images: Tensor) -> None:
    ids = torch.arange(len(images))
    passes = ids % 3
    recipes = [RECIPES["everything"]] * 2
    views = make_views(images, recipes, seed=4, epoch=passes, image_id=ids, **NORMALIZED)
    for number, view in enumerate(views):
        for one in range(3):
            alone = make_view(
                images, EVERYTHING, seed=4, epoch=one, image_id=ids, view=number, **NORMALIZED
            )
            assert torch.equal(view[passes == one], alone[passes == one])


def test_several_views_are_the_single_ones(images: Tensor):
    recipes = [RECIPES["large"], RECIPES["large"], RECIPES["small"], RECIPES["small"]]
    ids = torch.arange(96) + 1000
    views = make_views(images, recipes, seed=4, epoch=torch.tensor(3), image_id=ids, **NORMALIZED)
    assert len(views) == 4
    for number, (recipe, view) in enumerate(zip(recipes, views, strict=True)):
        single = view_of(images, recipe, seed=4, epoch=3, image_id=ids, view=number, **NORMALIZED)
        assert torch.equal(view, single)


def test_output_has_the_asked_dtype_and_layout(images: Tensor):
    full = view_of(images, EVERYTHING, **NORMALIZED)
    half = view_of(images, EVERYTHING, **NORMALIZED, dtype=torch.bfloat16, channels_last=True)
    assert half.dtype == torch.bfloat16
    assert half.is_contiguous(memory_format=torch.channels_last)
    assert full.is_contiguous()
    assert torch.equal(half, full.to(torch.bfloat16))


@pytest.mark.parametrize("name", ["everything", "digits", "evaluation"])
def test_traces_whole_and_gives_the_same(images: Tensor, name: str):
    torch._dynamo.reset()
    recipe = RECIPES[name]

    def step(batch: Tensor, epoch: Tensor, ids: Tensor) -> Tensor:
        return make_view(batch, recipe, seed=1, epoch=epoch, image_id=ids, view=0, **NORMALIZED)

    traced = torch.compile(step, fullgraph=True, backend="aot_eager")
    ids = torch.arange(96)
    for epoch in (2, 3):
        view = traced(images, torch.tensor(epoch), ids)
        assert torch.equal(view, view_of(images, recipe, epoch=epoch, **NORMALIZED))


def test_several_views_trace_whole(images: Tensor):
    torch._dynamo.reset()
    recipes = (RECIPES["large"], RECIPES["large"], RECIPES["small"])

    def step(batch: Tensor, epoch: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        return make_views(batch, recipes, seed=1, epoch=epoch, image_id=ids, **NORMALIZED)

    traced = torch.compile(step, fullgraph=True, backend="eager")
    ids = torch.arange(96)
    for epoch in (torch.tensor(2), torch.tensor(3)):
        views = traced(images, epoch, ids)
        for one, other in zip(views, step(images, epoch, ids), strict=True):
            assert torch.equal(one, other)


def test_half_precision_regions_do_not_touch_the_levels(images: Tensor):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = view_of(images, EVERYTHING)
    assert torch.equal(inside, view_of(images, EVERYTHING))


def test_memory_born_in_inference_mode_can_be_used_outside(images: Tensor):
    larger = images.repeat(3, 1, 1, 1)
    with torch.inference_mode():
        inside = view_of(larger, EVERYTHING)
    assert torch.equal(inside, view_of(larger, EVERYTHING))
    assert not inside.is_inference()


def test_an_empty_batch_gives_an_empty_view(images: Tensor):
    assert view_of(images[:0], EVERYTHING).shape == (0, 3, 24, 24)


def test_the_evaluation_view_only_normalizes(images: Tensor):
    view = view_of(images, named_recipe("evaluation", 32), **NORMALIZED)
    theirs = reference.normalize(images.float() / 255, **NORMALIZED)
    assert (view - theirs).abs().max() < 2e-6


@pytest.mark.parametrize(
    ("batch", "word"),
    [
        (torch.zeros(2, 3, 32, 32), "uint8"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "uint8"),
        (torch.zeros(2, 3, 32, 24, dtype=torch.uint8), "square"),
    ],
)
def test_other_images_are_refused(batch: Tensor, word: str):
    with pytest.raises(InputError, match=word):
        view_of(batch, EVERYTHING)


def test_wrong_number_of_channel_statistics_is_refused(images: Tensor):
    with pytest.raises(InputError, match="std"):
        view_of(images, EVERYTHING, std=(0.2, 0.0, 0.2))
    with pytest.raises(InputError, match="mean"):
        view_of(images, EVERYTHING, mean=(0.5,))


def test_picture_shows_every_view_of_every_image(images: Tensor, tmp_path: Path):
    path = tmp_path / "views.png"
    view_sheet(images[:3], {"large": RECIPES["large"], "small": RECIPES["small"]}, path, epochs=2)
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[0] > 300
    # Five columns of pictures: far more colors than a sheet with missing panels would have.
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2000
