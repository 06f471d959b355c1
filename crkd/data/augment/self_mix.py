"""SelfMix: mixing of each large view with the next large view of the same image.

The idea is from FerKD (Shen, ICCV 2023): regions of one image differ less in content than two
images. The paper does not specify the operator and the fractions. Here an image is mixed by CutMix
(a square of the other view at the same position) or by Mixup (a weighted mean), with equal
probability. The fraction of itself that a view keeps is uniform in [0, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.core.philox import MASK, philox
from crkd.core.types import Batch
from crkd.data.augment.words import stretch

# Views draw from the blocks below 2**16 of their number; these two blocks are above all of them.
_BLOCKS = (0xFFF0, 0xFFF1)


class MixParameters(NamedTuple):
    """Random parameters of the mixtures of B images; each tensor is ``(B,)``.

    Attributes:
        mixed: bool, whether the views are mixed.
        cut: bool, mixed by a square instead of a mean.
        share: float32 in [0, 1], fraction of itself that a view keeps; 1 if it is not mixed.
        top: int64, first row of the square.
        left: int64, its first column.
        side: int64, its side in pixels.
    """

    mixed: Tensor
    cut: Tensor
    share: Tensor
    top: Tensor
    left: Tensor
    side: Tensor


def draw_mixes(
    probability: float, *, seed: int, epoch: Tensor, image_id: Tensor, size: int
) -> MixParameters:
    """Draw the mixtures of B images, a pure function of ``(seed, epoch, image_id)``.

    Args:
        probability: probability that an image is mixed, in [0, 1].
        seed: seed of the run.
        epoch: ``(B,)`` int64, epoch from which the views are drawn.
        image_id: ``(B,)`` int64.
        size: side of the views in pixels.
    """
    block = torch.arange(_BLOCKS[0], _BLOCKS[1] + 1, device=image_id.device).unsqueeze(1)
    counter = (image_id & MASK, (image_id >> 32) & MASK, epoch & MASK, block)
    words = philox(counter, seed)
    mixed = words[0, 0] < round(probability * 2**32)
    cut = words[1, 0] < 2**31
    share = stretch(words[2, 0], 0.0, 1.0)
    side = torch.round(torch.sqrt(1 - share) * size).to(torch.int64)
    # The square has whole pixels, and the labels follow the pixels.
    share = torch.where(cut, 1 - (side / size).square(), share).to(torch.float32)
    free = size - side + 1
    return MixParameters(
        mixed,
        cut,
        torch.where(mixed, share, 1.0),
        (words[0, 1] * free) >> 32,
        (words[1, 1] * free) >> 32,
        side,
    )


def mix(views: Tensor, drawn: MixParameters) -> Tensor:
    """Return every view mixed with the next one; the next of the last is the first.

    Args:
        views: ``(V, B, 3, size, size)``.
        drawn: parameters for these images and this size.
    """
    other = views.roll(-1, 0)
    places = torch.arange(views.shape[-1], device=views.device)
    rows, columns = (
        (places >= first.unsqueeze(1)) & (places < (first + drawn.side).unsqueeze(1))
        for first in (drawn.top, drawn.left)
    )
    square = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
    share = drawn.share.to(views.dtype)[:, None, None, None]
    cut, mixed = drawn.cut[:, None, None, None], drawn.mixed[:, None, None, None]
    both = torch.where(cut, torch.where(square, other, views), torch.lerp(other, views, share))
    return torch.where(mixed, both, views)


def self_mix(batch: Batch, probability: float, *, seed: int) -> tuple[Batch, Tensor]:
    """Mix the large views of a batch, image by image.

    Args:
        batch: with at least two large views.
        probability: probability that an image is mixed, in [0, 1].
        seed: seed of the run.

    Returns:
        the batch with mixed large views, and ``(B,)`` float32 fraction that each view kept.

    Raises:
        InputError: there is no other view to mix with.
    """
    if batch.num_large < 2:
        raise InputError(
            f"self_mix {probability} mixes large views of one image, and there is "
            f"{batch.num_large}; set self_mix to 0 or num_large to 2"
        )
    large = torch.stack(batch.views[: batch.num_large])
    drawn = draw_mixes(
        probability,
        seed=seed,
        epoch=batch.view_epoch,
        image_id=batch.sample_id,
        size=large.shape[-1],
    )
    shown = MixParameters(*map(batch.shown, drawn))
    views = (*mix(large, shown).unbind(), *batch.views[batch.num_large :])
    return batch._replace(views=views), drawn.share
