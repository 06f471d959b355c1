"""The plain path of all views of a step, with constants cached on each device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.data.augment import color
from crkd.data.augment.plain import Constants, PlainView


class _Constants(NamedTuple):
    """Constants on one device: those of each recipe, and ``(3, 1, 1)`` float32 normalization."""

    views: list[Constants]
    scale: Tensor
    shift: Tensor


class PlainPath:
    """Renders views of several recipes from inputs that were computed with the draws.

    Args:
        views: one plain view per recipe.
        mean: mean of each channel, for images scaled to [0, 1].
        std: standard deviation of each channel, likewise, above zero.

    Raises:
        InputError: ``mean`` or ``std`` are invalid.

    Attributes:
        views: one plain view per recipe.
        scale: factor of the levels of each channel for normalization.
        shift: offset added after it.
    """

    def __init__(
        self, views: Sequence[PlainView], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise InputError(
                f"mean {tuple(mean)} and std {tuple(std)}: give three numbers each, std above zero"
            )
        self.views = views
        self.scale = [1.0 / (255.0 * spread) for spread in std]
        self.shift = [-center / spread for center, spread in zip(mean, std, strict=True)]
        self._kept: dict[torch.device, _Constants] = {}

    def prepare(self, device: torch.device) -> None:
        """Create the constants on a device, before a step is captured or compiled."""
        # A tensor's device has an index, which "cuda" lacks.
        self._constants(torch.empty(0, device=device).device)

    def levels(self, images: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Render views before normalization.

        Args:
            images: ``(B, 3, S, S)`` uint8.
            inputs: ``(width, V * B)`` float32 for each recipe, of V views of the images, one view
                of all images after the other.

        Returns:
            ``(V * B, 3, size, size)`` float32 for each recipe, whole levels 0 to 255.
        """
        constants = self._constants(images.device).views
        levels: list[Tensor] = []
        pixels: dict[int, Tensor] = {}
        # Half precision cannot represent the levels exactly.
        with torch.autocast(images.device.type, enabled=False):
            for number, view in enumerate(self.views):
                batch, count = view.unequalized(images, inputs[number], constants[number])
                levels.append(batch)
                if count is not None:
                    pixels[number] = count
            if pixels:
                batches = [levels[number] for number in pixels]
                changed = color.equalize(batches, list(pixels.values()), constants[0].coefficients)
                for number, batch in zip(pixels, changed, strict=True):
                    levels[number] = batch
        return levels

    def render(
        self, images: Tensor, inputs: Sequence[Tensor], dtype: torch.dtype, channels_last: bool
    ) -> list[Tensor]:
        """Render as :meth:`levels`, then normalize to ``dtype`` and the memory format."""
        kept = self._constants(images.device)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return [
            batch.mul(kept.scale).add_(kept.shift).to(dtype=dtype, memory_format=layout)
            for batch in self.levels(images, inputs)
        ]

    def _constants(self, device: torch.device) -> _Constants:
        kept = self._kept.get(device)
        if kept is not None:
            return kept
        if torch.compiler.is_compiling():
            return self._made(device)
        with torch.inference_mode(False):
            kept = self._made(device)
        # Tensors created in a capture belong to its graph and are empty until the first replay.
        if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
            self._kept[device] = kept
        return kept

    def _made(self, device: torch.device) -> _Constants:
        coefficients = color.coefficients(device)
        scale, shift = (
            torch.cat([torch.full((1,), value, device=device) for value in values]).view(3, 1, 1)
            for values in (self.scale, self.shift)
        )
        return _Constants([view.constants(coefficients) for view in self.views], scale, shift)
