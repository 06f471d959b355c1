"""Resampling weights from a crop window of the stored image to the view, and their tables."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crkd.data.augment.parameters import ViewParameters, central_window
from crkd.data.augment.recipe import ViewRecipe

_TABLE_BYTES = 16 * 2**20


class Windows(NamedTuple):
    """All windows that a recipe can draw along one axis, flipped or not, numbered.

    Attributes:
        size: pixels of the view.
        stored: pixels of the stored image.
        starts: first pixels, negative inside padding.
        lengths: lengths of the windows in pixels.
    """

    size: int
    stored: int
    starts: range
    lengths: range

    @classmethod
    def of(cls, recipe: ViewRecipe, stored: int) -> Windows:
        """Return the windows that ``recipe`` can draw in images of ``stored`` pixels."""
        size = recipe.size
        if recipe.crop == "none":
            start, length = central_window(size, stored)
            return cls(size, stored, range(start, start + 1), range(length, length + 1))
        padded = range(-recipe.padding, stored + recipe.padding - size + 1)
        if recipe.crop == "pad":
            return cls(size, stored, padded, range(size, size + 1))
        if recipe.crop == "resized":
            return cls(size, stored, range(stored), range(1, stored + 1))
        starts = range(padded.start, max(stored, padded.stop))
        return cls(size, stored, starts, range(1, max(stored, size) + 1))

    @property
    def tabulated(self) -> bool:
        """Whether the windows are few enough for a table of all weights."""
        parts = 1 if one_part(self.size, self.stored) else 2
        return 4 * self._entries * parts * self.size * self.stored <= _TABLE_BYTES

    @property
    def inputs(self) -> int:
        """Number of values that describe the window of an image, rows and columns."""
        return 2 if self.tabulated else 6

    def describe(self, parameters: ViewParameters) -> Tensor:
        """Return these values, ``(inputs, B)`` float32."""
        top, left, height, width = parameters[:4]
        flip = parameters.flip.to(torch.int64)
        never = torch.zeros_like(flip)
        if self.tabulated:
            described = [self.entry(top, height, never), self.entry(left, width, flip)]
        else:
            described = [top, left, height, width, never, flip]
        return torch.stack(described).to(torch.float32)

    def entry(self, start: Tensor, length: Tensor, mirrored: Tensor) -> Tensor:
        """Return the number of each window, int64; below 2**22 if they are tabulated."""
        place = (start - self.starts.start) * len(self.lengths) + length - self.lengths.start
        return place + mirrored * (self._entries // 2)

    def table(self, device: torch.device) -> Tensor:
        """Return the weights of every window by its number, see :func:`window_weights`."""
        number = torch.arange(self._entries, device=device)
        length = number % len(self.lengths) + self.lengths.start
        start = number // len(self.lengths) % len(self.starts) + self.starts.start
        mirrored = number // (self._entries // 2)
        return window_weights(start, length, mirrored, self.size, self.stored)

    def weights(self, described: Tensor, table: Tensor | None) -> Tensor:
        """Return the weights of the rows and the columns of B views.

        Args:
            described: ``(inputs, B)`` float32, from :meth:`describe`.
            table: result of :meth:`table`, None if the windows are not tabulated.

        Returns:
            ``(2, B, parts * size, stored)`` float32.
        """
        if table is None:
            start, length, mirrored = described.view(3, 2, -1).unbind()
            return window_weights(start, length, mirrored, self.size, self.stored)
        chosen = table.index_select(0, described.to(torch.int64).flatten())
        return chosen.view(2, -1, *chosen.shape[1:])

    @property
    def _entries(self) -> int:
        return 2 * len(self.starts) * len(self.lengths)


def one_part(size: int, stored: int) -> bool:
    """Return whether all weights are multiples of 2**-11: enlargement to a power of two."""
    return size & (size - 1) == 0 and stored <= size <= 1024


def window_weights(
    start: Tensor, length: Tensor, mirrored: Tensor, size: int, stored: int
) -> Tensor:
    """Return the weights from one axis of the stored image to the axis of the view.

    Pillow uses multiples of 2**-22. Here the weights have two parts, multiples of 2**-11 and of
    2**-22, with eleven bits each. Products with 8-bit levels are then exact in float32 and even in
    TF32, so every device gets the same sum in any order.

    Args:
        start: ``(...)`` first pixel of the window; whole numbers of any dtype.
        length: ``(...)`` pixels of the window; likewise.
        mirrored: ``(...)`` 1 where the view is flipped, else 0; likewise.
        size: pixels of the view.
        stored: pixels of the stored image.

    Returns:
        ``(..., size, stored)`` float32, or ``(..., 2 * size, stored)`` with the lower parts, as
        multiples of 2**-11, below the upper ones. Lower parts that are always zero are left out.
        A row's weights sum to one up to Pillow's rounding, or to zero outside the stored image.
    """
    first, span, backwards = (
        given.to(torch.float32).unsqueeze(-1) for given in (start, length, mirrored)
    )
    position = torch.arange(size, dtype=torch.float32, device=start.device)
    position = position + backwards * (size - 1 - 2 * position)
    # Distances between pixel centers in units of 1 / (2 * size) are integers.
    center = ((2 * position + 1) * span).unsqueeze(-1)
    relative = torch.arange(stored, dtype=torch.float32, device=start.device) - first
    pixel = (2 * relative + 1) * size
    # Pixels beyond the window's edge are moved out of the reach of every filter.
    pixel = torch.where((relative >= 0) & (relative < span), pixel, -4.0 * (size + stored) ** 2)
    reach = (2 * span.clamp(min=size)).unsqueeze(-1)
    height = (reach - (pixel.unsqueeze(-2) - center).abs()).clamp(min=0.0)
    total = height.sum(dim=-1, keepdim=True).clamp(min=1.0)
    scaled = height * 2048.0
    # Round to nearest, so that a last-digit error of a division cannot lose a whole unit.
    upper = torch.floor(scaled / total + 0.5)
    if one_part(size, stored):
        return upper * 2.0**-11
    lower = torch.floor((scaled - upper * total) * 2048.0 / total + 0.5)
    return torch.cat((upper, lower), dim=-2) * 2.0**-11
