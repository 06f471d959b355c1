"""Augmentation: views a second on the CPU, against torchvision behind a DataLoader.

Both sides make the released views (two of 32 px, two of 18 px) of the same in-memory images in
the same process run; only that complete pipeline carries a ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional

from benchmarks.rows import rate, row
from crkd.core.watched import Job
from crkd.data.augment import ViewParameters, ViewRecipe, draw, make_views, named_recipe, render

MEAN, STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)
LARGE, SMALL = named_recipe("large", 32), named_recipe("small", 18)
RECIPES = (LARGE, LARGE, SMALL, SMALL)
BATCH = 512
_row = partial(row, "augment", "images/s")


class _Solarize:
    """The released solarize: its threshold is drawn for every image."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, image: Image.Image) -> Image.Image:
        if torch.rand(()) >= self.probability:
            return image
        return ImageOps.solarize(image, float(torch.rand(()) * 256))  # type: ignore[arg-type]


class ReleasedViews(Dataset[list[Tensor]]):
    """In-memory images through torchvision transforms with the released settings.

    Args:
        images: ``(N, 3, S, S)`` uint8.
        recipes: one a view; "large" and "small" have a counterpart in torchvision.
        mean: of each channel, images scaled to [0, 1].
        std: of each channel, likewise.
    """

    def __init__(
        self,
        images: Tensor,
        recipes: Sequence[ViewRecipe] = RECIPES,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        self.pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.views = [_torchvision_view(recipe, mean, std) for recipe in recipes]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> list[Tensor]:
        image = Image.fromarray(self.pixels[index])
        return [view(image) for view in self.views]


def _torchvision_view(
    recipe: ViewRecipe, mean: Sequence[float], std: Sequence[float]
) -> transforms.Compose:
    crops = [transforms.RandomResizedCrop(recipe.size, recipe.scale)]
    if recipe.crop == "either":
        crops.append(transforms.RandomCrop(recipe.size, padding=recipe.padding))
    jitter = transforms.ColorJitter(
        recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue
    )
    return transforms.Compose(
        [
            transforms.RandomChoice(crops),
            transforms.RandomHorizontalFlip(recipe.flip),
            transforms.RandomApply([jitter], recipe.jitter),
            _Solarize(recipe.solarize),
            transforms.RandomEqualize(recipe.equalize),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def measurements(
    seconds: float = 30.0, workers: int = 2, images: Tensor | None = None
) -> list[Job]:
    """Return the measurements of the benchmark file.

    Args:
        seconds: wall time to spend measuring, about; start-up adds a few seconds.
        workers: loader processes of the torchvision side and torch threads of ours.
        images: ``(B, 3, 32, 32)`` uint8 to use; smooth made-up ones if not given.

    Raises:
        RuntimeError: the views differ from Pillow's, so that no speed would count.
    """
    images = _made_up_images(4096) if images is None else images
    _check_against_pillow(images[:64])
    name = f"complete pipeline, 2 x 32 px + 2 x 18 px, {workers} cores"
    jobs = [Job(name, partial(_complete, name, images, workers, seconds))]
    work = {"draws alone, one 32 px view": partial(_draws, images)}
    work |= {name: partial(_our_batches, images, (recipe,)) for name, recipe in _singles().items()}
    slot = seconds * 0.3 / len(work)
    for name, batches in work.items():
        jobs.append(Job(name, partial(_single, name, batches, workers, slot)))
    return jobs


def _complete(name: str, images: Tensor, workers: int, seconds: float) -> Iterator[dict[str, Any]]:
    with _threads(workers):
        batches = _our_batches(images, RECIPES)
        # Ours before and after, so that a change of the machine's load hits both sides.
        first = rate(batches, seconds * 0.15)
        baseline = _torchvision_rate(images, workers, seconds * 0.35)
        second = rate(batches, seconds * 0.15)
        yield _row(name, 2 / (1 / first + 1 / second), baseline)


def _single(
    name: str, batches: Callable[[], Iterator[int]], workers: int, seconds: float
) -> Iterator[dict[str, Any]]:
    with _threads(workers):
        yield _row(name, rate(batches(), seconds))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _singles() -> dict[str, ViewRecipe]:
    """Return recipes with one operation each, applied to every image where it can be."""
    none = ViewRecipe(size=32, flip=0.0)
    return {
        "normalize alone": none,
        "pad and crop, flip": ViewRecipe(size=32, crop="pad"),
        "random resized crop to 32 px": replace(none, crop="resized"),
        "random resized crop to 18 px": replace(none, size=18, crop="resized", scale=(0.3, 0.8)),
        "color jitter": replace(
            none, jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
        ),
        "grayscale": replace(none, grayscale=1.0),
        "blur": replace(none, blur=1.0),
        "solarize": replace(none, solarize=1.0),
        "equalize": replace(none, equalize=1.0),
        "affine": replace(none, rotation=15.0, shift=0.1, zoom=(0.8, 1.2), shear=10.0),
        "one large view, 32 px": LARGE,
        "one small view, 18 px": SMALL,
    }


def _made_up_images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 300 - 20
    smooth = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic")
    smooth += torch.randn(smooth.shape, generator=generator) * 8
    return smooth.clamp(0, 255).to(torch.uint8)


def _our_batches(images: Tensor, recipes: tuple[ViewRecipe, ...]) -> Iterator[int]:
    """Make the views of one shuffled batch after the other; yield its number of images."""
    generator = torch.Generator().manual_seed(1)
    for epoch in cycle(range(1000)):
        for ids in torch.randperm(len(images), generator=generator).split(BATCH):
            make_views(images[ids], recipes, seed=0, epoch=epoch, image_id=ids, mean=MEAN, std=STD)
            yield len(ids)


def _draws(images: Tensor) -> Iterator[int]:
    ids = torch.arange(min(BATCH, len(images)))
    for epoch in cycle(range(1000)):
        draw(LARGE, seed=0, epoch=epoch, image_id=ids, view=0, stored_size=32)
        yield len(ids)


def _torchvision_rate(images: Tensor, workers: int, seconds: float) -> float:
    loader = DataLoader(
        ReleasedViews(images),
        batch_size=BATCH // 4,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        drop_last=True,
    )
    batches = (len(views[0]) for _ in cycle((0,)) for views in loader)
    # The first batches pay for starting the processes and fill the queues.
    for _ in islice(batches, 3 * workers):
        pass
    return rate(batches, seconds, warm_up=0)


def _check_against_pillow(images: Tensor) -> None:
    ids = torch.arange(len(images))
    for view, recipe in enumerate((LARGE, SMALL)):
        drawn = draw(recipe, seed=0, epoch=0, image_id=ids, view=view, stored_size=32)
        ours = render(images, drawn, recipe, mean=MEAN, std=STD)
        theirs = torch.stack([_pillow_view(i, drawn, r, recipe) for r, i in enumerate(images)])
        if (ours - theirs).abs().max() > 1e-5:
            raise RuntimeError("augmented views differ from Pillow's: no speed of theirs counts")


def _pillow_view(image: Tensor, drawn: ViewParameters, row: int, recipe: ViewRecipe) -> Tensor:
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    top, left, height, width = (int(field[row]) for field in drawn[:4])
    window = functional.crop(picture, top, left, height, width)
    # Columns first, as every Pillow before 13 does by itself.
    picture = window.resize((recipe.size, height), Image.Resampling.BILINEAR)
    picture = picture.resize((recipe.size, recipe.size), Image.Resampling.BILINEAR)
    steps: dict[int, tuple[Callable[..., Image.Image], float]] = {
        0: (functional.adjust_brightness, drawn.brightness[row].item()),
        1: (functional.adjust_contrast, drawn.contrast[row].item()),
        2: (functional.adjust_saturation, drawn.saturation[row].item()),
        3: (functional.adjust_hue, drawn.hue[row].item()),
    }
    picture = functional.hflip(picture) if drawn.flip[row] else picture
    for operation in drawn.order[row].tolist() if drawn.jitter[row] else ():
        function, factor = steps[operation]
        picture = function(picture, factor)
    if drawn.solarize[row]:
        picture = ImageOps.solarize(picture, drawn.threshold[row].item())  # type: ignore[arg-type]
    if drawn.equalize[row]:
        picture = ImageOps.equalize(picture)
    return functional.normalize(functional.to_tensor(picture), MEAN, STD)
