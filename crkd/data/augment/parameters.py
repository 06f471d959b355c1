"""Random parameters of each view: a pure function of seed, epoch, image id and view."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.data.augment.recipe import ViewRecipe
from crkd.data.augment.words import (
    AFFINE,
    BLUR,
    FACTORS,
    LEVELS,
    ORDER,
    PLACE,
    SHEAR,
    Words,
    random_words,
    stretch,
)


class ViewParameters(NamedTuple):
    """Random parameters of one view of B images; each tensor is ``(B,)`` unless stated.

    The same parameters give the same view (:func:`crkd.data.augment.render.render`).

    Attributes:
        top: int64, first row of the cropped window in the stored image; negative inside padding.
        left: int64, its first column.
        height: int64, rows of the window.
        width: int64, columns of the window.
        flip: bool, mirrored horizontally after the crop.
        angle: float32, rotation in degrees, clockwise.
        shift_x: float32, translation to the right in output pixels.
        shift_y: float32, translation downwards in output pixels.
        zoom: float32, enlargement about the center.
        shear: float32, shear along x in degrees.
        jitter: bool, whether the four color operations are applied.
        order: ``(B, 4)`` int64, the order of the operations 0 brightness, 1 contrast,
            2 saturation, 3 hue.
        brightness: float32 factor.
        contrast: float32 factor.
        saturation: float32 factor.
        hue: float32, turns of the color circle.
        grayscale: bool.
        blur: bool.
        sigma: float32, standard deviation of the blur in output pixels.
        solarize: bool.
        threshold: float32 level.
        equalize: bool.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    angle: Tensor
    shift_x: Tensor
    shift_y: Tensor
    zoom: Tensor
    shear: Tensor
    jitter: Tensor
    order: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor
    threshold: Tensor
    equalize: Tensor

    def rows(self, index: Tensor | slice) -> ViewParameters:
        """Return the parameters of the images ``index``."""
        return ViewParameters(*(field[index] for field in self))


def draw(
    recipe: ViewRecipe,
    *,
    seed: int,
    epoch: Tensor | int,
    image_id: Tensor,
    view: Tensor | int,
    stored_size: int,
) -> ViewParameters:
    """Draw the parameters of one view of B images.

    Each value depends only on ``(seed, epoch, image_id, view)``, not on the batch or the device.
    The distributions are those of the released code, which draws with Python's or torch's generator
    (torchvision ``RandomResizedCrop``, ``RandomCrop``, ``ColorJitter``, ``RandomAffine``,
    ``RandomChoice``).

    Args:
        recipe: recipe of the view.
        seed: seed of the run.
        epoch: epoch number; compiled and captured steps pass a 0-d int64 tensor on the device of
            ``image_id``.
        image_id: ``(B,)`` int64, position of each image in its set.
        view: number of the view within the step, in ``[0, 65536)``; one for all images or
            ``(B,)`` int64.
        stored_size: side of the stored square images in pixels.

    Returns:
        The parameters, on the device of ``image_id``.

    Raises:
        InputError: ``recipe`` cannot crop images of that size.
    """
    recipe.check_fits(stored_size)
    words = random_words((recipe,), seed=seed, epoch=epoch, image_id=image_id, view=view)
    return draw_from(words, recipe, stored_size)


def draw_from(words: Words, recipe: ViewRecipe, stored_size: int) -> ViewParameters:
    """Draw parameters as :func:`draw` does, from random words that several recipes can share.

    Args:
        words: random words that contain the blocks of ``recipe``.
        recipe: recipe of the views.
        stored_size: side of the stored square images in pixels; ``recipe`` must fit it.
    """
    turn = recipe.hue if recipe.has_jitter else 0.0
    sigma = recipe.blur_sigma if recipe.blur else (1.0, 1.0)
    threshold = recipe.solarize_threshold if recipe.solarize else (256.0, 256.0)
    top, left, height, width = _window(recipe, words, stored_size)
    return ViewParameters(
        top,
        left,
        height,
        width,
        words.chance(PLACE, 3, recipe.flip),
        words.uniform(AFFINE, 0, -recipe.rotation, recipe.rotation),
        words.uniform(AFFINE, 1, -recipe.shift * recipe.size, recipe.shift * recipe.size),
        words.uniform(AFFINE, 2, -recipe.shift * recipe.size, recipe.shift * recipe.size),
        words.uniform(AFFINE, 3, *recipe.zoom),
        words.uniform(SHEAR, 0, -recipe.shear, recipe.shear),
        words.chance(ORDER, 2, recipe.jitter if recipe.has_jitter else 0.0),
        _order(words, recipe.has_jitter),
        words.uniform(FACTORS, 0, *_around_one(recipe.brightness, recipe.has_jitter)),
        words.uniform(FACTORS, 1, *_around_one(recipe.contrast, recipe.has_jitter)),
        words.uniform(FACTORS, 2, *_around_one(recipe.saturation, recipe.has_jitter)),
        words.uniform(FACTORS, 3, -turn, turn),
        words.chance(LEVELS, 3, recipe.grayscale),
        words.chance(BLUR, 0, recipe.blur),
        words.uniform(BLUR, 1, *sigma),
        words.chance(LEVELS, 0, recipe.solarize),
        words.uniform(LEVELS, 1, *threshold),
        words.chance(LEVELS, 2, recipe.equalize),
    )


def _around_one(strength: float, wanted: bool) -> tuple[float, float]:
    return (max(0.0, 1.0 - strength), 1.0 + strength) if wanted else (1.0, 1.0)


def _window(recipe: ViewRecipe, words: Words, stored: int) -> tuple[Tensor, ...]:
    """Return top, left, height and width of the window in the stored image, int64 ``(B,)``."""
    size = recipe.size
    whole = words.image_id * 0
    if recipe.crop == "none":
        start, side = central_window(size, stored)
        return whole + start, whole + start, whole + side, whole + side
    if recipe.crop in ("pad", "either"):
        places = stored + 2 * recipe.padding - size + 1
        top = words.below(PLACE, 1, places) - recipe.padding
        left = words.below(PLACE, 2, places) - recipe.padding
        padded = (top, left, whole + size, whole + size)
        if recipe.crop == "pad":
            return padded
    resized = _resized_window(recipe, words, stored)
    if recipe.crop == "resized":
        return resized
    pads = words.chance(PLACE, 0, 0.5)
    return tuple(torch.where(pads, a, b) for a, b in zip(padded, resized, strict=True))


def central_window(size: int, stored: int) -> tuple[int, int]:
    """Return the first pixel and the length of the window of an image without a random crop.

    >>> central_window(32, 40), central_window(32, 8)
    ((4, 32), (0, 8))
    """
    # torchvision's CenterCrop rounds half to even, as Python does.
    return (round((stored - size) / 2), size) if size < stored else (0, stored)


def _resized_window(recipe: ViewRecipe, words: Words, stored: int) -> tuple[Tensor, ...]:
    """Draw as torchvision's random resized crop: the first of ten attempts that fits, or center."""
    area = stretch(words.attempts(0), *recipe.scale) * (stored * stored)
    log_ratio = stretch(words.attempts(1), math.log(recipe.ratio[0]), math.log(recipe.ratio[1]))
    ratio = torch.exp(log_ratio)
    width = torch.round(torch.sqrt(area * ratio)).to(torch.int64)
    height = torch.round(torch.sqrt(area / ratio)).to(torch.int64)
    fits = (width > 0) & (width <= stored) & (height > 0) & (height <= stored)
    # The first success is the one without an earlier success.
    first = fits & (torch.cumsum(fits.to(torch.int64), dim=0) == 1)
    found = fits.any(dim=0)
    low, high = recipe.ratio
    central_height = round(stored / low) if low > 1 else stored
    central_width = round(stored * high) if high < 1 else stored
    height = torch.where(found, (height * first).sum(dim=0), central_height)
    width = torch.where(found, (width * first).sum(dim=0), central_width)
    top = words.below(ORDER, 0, stored - height + 1)
    left = words.below(ORDER, 1, stored - width + 1)
    top = torch.where(found, top, (stored - central_height) // 2)
    left = torch.where(found, left, (stored - central_width) // 2)
    return top, left, height, width


def _order(words: Words, needed: bool) -> Tensor:
    """Return a uniformly drawn permutation of 0..3 for each image, ``(B, 4)`` int64."""
    if not needed:
        return torch.arange(4, device=words.image_id.device).expand(len(words.image_id), 4)
    index = words.below(ORDER, 3, 24)
    first = index // 6
    second = (index % 6) // 2
    second = second + (second >= first)
    third = index % 2
    third = third + (third >= torch.minimum(first, second))
    third = third + (third >= torch.maximum(first, second))
    return torch.stack((first, second, third, 6 - first - second - third), dim=1)
