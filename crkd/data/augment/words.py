"""Random words of a view: the block of each purpose, and typed draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.core.philox import MASK, philox
from crkd.data.augment.recipe import ViewRecipe

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop before it falls back to a central crop
# Every block of four words has a fixed purpose, so switching one operation on or off does not
# change the draws of the others.
PLACE, ATTEMPT, ORDER, FACTORS, LEVELS, BLUR, AFFINE, SHEAR = 0, 1, 6, 7, 8, 9, 10, 11


class Words(NamedTuple):
    """Blocks of random words for some recipes; a draw with a certain outcome uses no word.

    Attributes:
        image_id: ``(n,)`` int64.
        first: number of the first block.
        blocks: ``(4, number of blocks, n)`` int64, words in ``[0, 2**32)``.
    """

    image_id: Tensor
    first: int
    blocks: Tensor

    def rows(self, start: int, stop: int) -> Words:
        """Return the words of the images ``[start, stop)``."""
        return Words(self.image_id[start:stop], self.first, self.blocks[:, :, start:stop])

    def word(self, block: int, lane: int) -> Tensor:
        """Return one word per image, int64 in ``[0, 2**32)``."""
        return self.blocks[lane, block - self.first]

    def attempts(self, lane: int) -> Tensor:
        """Return ten words per image, ``(10, n)``: lanes ``lane`` and ``lane + 2``."""
        start = ATTEMPT - self.first
        rows = slice(start, start + _ATTEMPTS // 2)
        return torch.cat((self.blocks[lane, rows], self.blocks[lane + 2, rows]))

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


def random_words(
    recipes: Sequence[ViewRecipe],
    *,
    seed: int,
    epoch: Tensor | int,
    image_id: Tensor,
    view: Tensor | int,
) -> Words:
    """Return the blocks from the first to the last one that any recipe needs.

    Args:
        recipes: recipes of the views.
        seed: seed of the run.
        epoch: epoch number; compiled and captured steps pass a 0-d or ``(n,)`` int64 tensor on the
            device of ``image_id``.
        image_id: ``(n,)`` int64, position of each image in its set.
        view: index of the view within the step, one for all images or ``(n,)`` int64.
    """
    needed = [block for recipe in recipes for block in _blocks(recipe)]
    if not needed:
        return Words(image_id, 0, image_id.new_empty((4, 0, len(image_id))))
    first, last = min(needed), max(needed)
    # Filled on the device from Python numbers, because copying a host tensor would synchronize.
    block = torch.arange(first, last + 1, device=image_id.device)
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
    return Words(image_id, first, philox(counter, seed))


def stretch(word: Tensor, low: float, high: float) -> Tensor:
    """Map words in ``[0, 2**32)`` to float64 in ``[low, high)``, bit for bit on any device.

    The word and the width keep 24 bits each, so their product is exact in float64. The sum is
    rounded once, whether or not a compiler fuses the two operations.

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
        PLACE: crops or recipe.flip not in (0.0, 1.0),
        **dict.fromkeys(range(ATTEMPT, ATTEMPT + _ATTEMPTS // 2), resizes),
        ORDER: resizes or recipe.has_jitter,
        FACTORS: recipe.has_jitter,
        LEVELS: recipe.solarize or recipe.equalize or recipe.grayscale,
        BLUR: recipe.blur,
        AFFINE: recipe.has_affine,
        SHEAR: recipe.shear,
    }
    return [block for block, wanted in needed.items() if wanted]
