"""The random parameters of each view: a pure function of seed, epoch, image id and view."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.data.augment.philox import MASK, philox
from crkd.data.augment.recipe import ViewRecipe

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop before it falls back to a central crop
# Which block of four words serves which purpose. Every block has its fixed place, so that
# switching one operation on or off leaves the draws of all the others as they were.
_PLACE, _ATTEMPT, _ORDER, _FACTORS, _LEVELS, _BLUR, _AFFINE, _SHEAR = 0, 1, 6, 7, 8, 9, 10, 11


class ViewParameters(NamedTuple):
    """Everything random about one view of B images; each tensor is ``(B,)`` unless stated.

    Kept and given to :func:`crkd.data.augment.render.render` again, they give the same view.

    Attributes:
        top: int64, first row of the cropped window in the stored image; negative inside padding.
        left: int64, its first column.
        height: int64, rows of the window.
        width: int64, columns of the window.
        flip: bool, mirrored horizontally after the crop.
        angle: float32, rotation in degrees, clockwise.
        shift_x: float32, translation to the right in output pixels.
        shift_y: float32, translation downwards in output pixels.
        zoom: float32, enlargement about the centre.
        shear: float32, shear along x in degrees.
        jitter: bool, whether the four colour operations are applied.
        order: ``(B, 4)`` int64, the order of the operations 0 brightness, 1 contrast,
            2 saturation, 3 hue.
        brightness: float32 factor.
        contrast: float32 factor.
        saturation: float32 factor.
        hue: float32, turns of the colour circle.
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
        """Return the parameters of some of the images."""
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

    Each value depends on ``(seed, epoch, image_id, view)`` and on nothing else: neither on the
    batch around the image nor on the device. Where the released code draws with Python's or
    torch's generator, the distribution is the same (torchvision ``RandomResizedCrop``,
    ``RandomCrop``, ``ColorJitter``, ``RandomAffine``, ``RandomChoice``).

    Args:
        recipe: what may happen to the view.
        seed: seed of the run.
        epoch: number of the pass over the data; a 0-d int64 tensor on the device of
            ``image_id`` serves compiled and captured steps.
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
    words = _Words(recipe, seed, epoch, image_id, view)
    turn = recipe.hue if recipe.has_jitter else 0.0
    sigma = recipe.blur_sigma if recipe.blur else (1.0, 1.0)
    threshold = recipe.solarize_threshold if recipe.solarize else (256.0, 256.0)
    top, left, height, width = _window(recipe, words, stored_size)
    return ViewParameters(
        top,
        left,
        height,
        width,
        words.chance(_PLACE, 3, recipe.flip),
        words.uniform(_AFFINE, 0, -recipe.rotation, recipe.rotation),
        words.uniform(_AFFINE, 1, -recipe.shift * recipe.size, recipe.shift * recipe.size),
        words.uniform(_AFFINE, 2, -recipe.shift * recipe.size, recipe.shift * recipe.size),
        words.uniform(_AFFINE, 3, *recipe.zoom),
        words.uniform(_SHEAR, 0, -recipe.shear, recipe.shear),
        words.chance(_ORDER, 2, recipe.jitter if recipe.has_jitter else 0.0),
        _order(words, recipe.has_jitter),
        words.uniform(_FACTORS, 0, *_around_one(recipe.brightness, recipe.has_jitter)),
        words.uniform(_FACTORS, 1, *_around_one(recipe.contrast, recipe.has_jitter)),
        words.uniform(_FACTORS, 2, *_around_one(recipe.saturation, recipe.has_jitter)),
        words.uniform(_FACTORS, 3, -turn, turn),
        words.chance(_LEVELS, 3, recipe.grayscale),
        words.chance(_BLUR, 0, recipe.blur),
        words.uniform(_BLUR, 1, *sigma),
        words.chance(_LEVELS, 0, recipe.solarize),
        words.uniform(_LEVELS, 1, *threshold),
        words.chance(_LEVELS, 2, recipe.equalize),
    )


def _around_one(strength: float, wanted: bool) -> tuple[float, float]:
    return (max(0.0, 1.0 - strength), 1.0 + strength) if wanted else (1.0, 1.0)


class _Words:
    """The random words that one recipe needs, and typed draws from them.

    Only the blocks from the first to the last needed one are computed; a draw whose outcome is
    certain uses no word.
    """

    def __init__(
        self,
        recipe: ViewRecipe,
        seed: int,
        epoch: Tensor | int,
        image_id: Tensor,
        view: Tensor | int,
    ) -> None:
        self.image_id = image_id
        blocks = _blocks(recipe)
        if not blocks:
            return
        self._first = blocks[0]
        # Filled on the device from Python numbers: copying a host tensor would synchronise.
        block = torch.arange(blocks[0], blocks[-1] + 1, device=image_id.device)
        epoch_word = (
            epoch.to(torch.int64) & MASK
            if isinstance(epoch, Tensor)
            else torch.full((), epoch & MASK, dtype=torch.int64, device=image_id.device)
        )
        counter = (
            image_id & MASK,
            (image_id >> 32) & MASK,
            epoch_word,
            block.unsqueeze(1) + ((view & 0xFFFF) << 16),
        )
        self._words = philox(counter, seed)

    def word(self, block: int, lane: int) -> Tensor:
        """Return one word an image, int64 in ``[0, 2**32)``."""
        return self._words[lane, block - self._first]

    def attempts(self, lane: int) -> Tensor:
        """Return ten words an image, ``(10, B)``: lanes ``lane`` and ``lane + 2``."""
        start = _ATTEMPT - self._first
        rows = slice(start, start + _ATTEMPTS // 2)
        return torch.cat((self._words[lane, rows], self._words[lane + 2, rows]))

    def below(self, block: int, lane: int, count: Tensor | int) -> Tensor:
        """Return an integer in ``[0, count)`` for ``count`` below 2**31."""
        return (self.word(block, lane) * count) >> 32

    def chance(self, block: int, lane: int, probability: float) -> Tensor:
        """Return True with the given probability."""
        if probability in (0.0, 1.0):
            return self._constant(bool(probability), torch.bool)
        return self.word(block, lane) < round(probability * 2**32)

    def uniform(self, block: int, lane: int, low: float, high: float) -> Tensor:
        """Return a float32 in ``[low, high]``."""
        if low == high:
            return self._constant(low, torch.float32)
        return stretch(self.word(block, lane), low, high).to(torch.float32)

    def _constant(self, value: float, dtype: torch.dtype) -> Tensor:
        return torch.full_like(self.image_id, value, dtype=dtype)


def stretch(word: Tensor, low: float, high: float) -> Tensor:
    """Map words in ``[0, 2**32)`` to float64 in ``[low, high)``, bit for bit on any device.

    The word keeps 24 bits and the width 24, so their product is exact in float64 and the sum is
    rounded once, whether or not a compiler fuses the two into one instruction.

    >>> stretch(torch.tensor([0, 2**31]), -1.0, 3.0).tolist()
    [-1.0, 1.0]
    """
    mantissa, exponent = math.frexp(high - low)
    unit = math.ldexp(math.floor(mantissa * 2**24), exponent - 48)
    return (word >> 8).to(torch.float64) * unit + low


def _blocks(recipe: ViewRecipe) -> list[int]:
    crops = recipe.crop != "none"
    resizes = recipe.crop in ("resized", "either")
    needed = {
        _PLACE: crops or recipe.flip not in (0.0, 1.0),
        **dict.fromkeys(range(_ATTEMPT, _ATTEMPT + _ATTEMPTS // 2), resizes),
        _ORDER: resizes or recipe.has_jitter,
        _FACTORS: recipe.has_jitter,
        _LEVELS: recipe.solarize or recipe.equalize or recipe.grayscale,
        _BLUR: recipe.blur,
        _AFFINE: recipe.has_affine,
        _SHEAR: recipe.shear,
    }
    return [block for block, wanted in needed.items() if wanted]


def _window(recipe: ViewRecipe, words: _Words, stored: int) -> tuple[Tensor, ...]:
    """Return top, left, height and width of the window in the stored image, int64 ``(B,)``."""
    size = recipe.size
    whole = words.image_id * 0
    if recipe.crop == "none":
        # torchvision's CenterCrop rounds half to even, as Python does.
        side, start = (size, round((stored - size) / 2)) if size < stored else (stored, 0)
        return whole + start, whole + start, whole + side, whole + side
    if recipe.crop in ("pad", "either"):
        places = stored + 2 * recipe.padding - size + 1
        top = words.below(_PLACE, 1, places) - recipe.padding
        left = words.below(_PLACE, 2, places) - recipe.padding
        padded = (top, left, whole + size, whole + size)
        if recipe.crop == "pad":
            return padded
    resized = _resized_window(recipe, words, stored)
    if recipe.crop == "resized":
        return resized
    pads = words.chance(_PLACE, 0, 0.5)
    return tuple(torch.where(pads, a, b) for a, b in zip(padded, resized, strict=True))


def _resized_window(recipe: ViewRecipe, words: _Words, stored: int) -> tuple[Tensor, ...]:
    """Torchvision's random resized crop: the first of ten attempts that fits, else the centre."""
    area = stretch(words.attempts(0), *recipe.scale) * (stored * stored)
    log_ratio = stretch(words.attempts(1), math.log(recipe.ratio[0]), math.log(recipe.ratio[1]))
    ratio = torch.exp(log_ratio)
    width = torch.round(torch.sqrt(area * ratio)).to(torch.int64)
    height = torch.round(torch.sqrt(area / ratio)).to(torch.int64)
    fits = (width > 0) & (width <= stored) & (height > 0) & (height <= stored)
    # The first success is the one before which none succeeded.
    first = fits & (torch.cumsum(fits.to(torch.int64), dim=0) == 1)
    found = fits.any(dim=0)
    low, high = recipe.ratio
    central_height = round(stored / low) if low > 1 else stored
    central_width = round(stored * high) if high < 1 else stored
    height = torch.where(found, (height * first).sum(dim=0), central_height)
    width = torch.where(found, (width * first).sum(dim=0), central_width)
    top = words.below(_ORDER, 0, stored - height + 1)
    left = words.below(_ORDER, 1, stored - width + 1)
    top = torch.where(found, top, (stored - central_height) // 2)
    left = torch.where(found, left, (stored - central_width) // 2)
    return top, left, height, width


def _order(words: _Words, needed: bool) -> Tensor:
    """Return a uniformly drawn permutation of 0..3 an image, ``(B, 4)`` int64."""
    if not needed:
        return torch.arange(4, device=words.image_id.device).expand(len(words.image_id), 4)
    index = words.below(_ORDER, 3, 24)
    first = index // 6
    second = (index % 6) // 2
    second = second + (second >= first)
    third = index % 2
    third = third + (third >= torch.minimum(first, second))
    third = third + (third >= torch.maximum(first, second))
    return torch.stack((first, second, third, 6 - first - second - third), dim=1)
