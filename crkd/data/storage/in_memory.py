"""In-memory image store: images decoded once and kept on the training device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor

from crkd.data.splits.partition import Subset
from crkd.data.storage.base import ImageStore, Rows
from crkd.data.storage.resize import read_squares
from crkd.data.storage.workers import parallel

Progress = Callable[[int, int], None]
"""Called with the number of decoded images and the number of all images."""

_BLOCK_IMAGES: Final = 128
_UPLOAD_BATCHES: Final = 256


class InMemoryImages(ImageStore):
    """Images of a subset, decoded once and kept on the device.

    Args:
        part: the images.
        size: side in pixels; images of another size are resized (``fit_square``).
        device: device of the images.
        progress: receives the number of decoded images.

    Raises:
        UnreadableImageError: an image cannot be decoded.
    """

    def __init__(
        self,
        part: Subset,
        size: int,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> None:
        self.size = size
        self.device = torch.device(device)
        report = progress or (lambda done, total: None)
        pixels = part.source.pixels() if len(part) else None
        if pixels is not None and pixels.shape[-1] == size:
            self._images = torch.from_numpy(pixels[part.indices]).to(self.device)
            report(len(part), len(part))
        else:
            self._images = _decode(part, size, self.device, report)

    def __len__(self) -> int:
        """Return n."""
        return len(self._images)

    @property
    def images(self) -> Tensor:
        """All images, ``(n, 3, size, size)`` uint8 on the device."""
        return self._images

    def get(self, index: Tensor) -> Tensor:
        """Return ``(b, 3, size, size)`` uint8."""
        return self._images.index_select(0, index)

    def batches(self, order: Iterable[Rows]) -> Iterator[Tensor]:
        """Yield ``(b, 3, size, size)`` uint8; positions of many batches are uploaded at once."""
        remaining = iter(order)
        while ahead := list(itertools.islice(remaining, _UPLOAD_BATCHES)):
            index = torch.from_numpy(np.concatenate(ahead))
            if self.device.type == "cuda":
                index = index.pin_memory().to(self.device, non_blocking=True)
            for rows in torch.split(index, [len(rows) for rows in ahead]):
                yield self.get(rows)


def _decode(part: Subset, size: int, device: torch.device, report: Progress) -> Tensor:
    """Decode a subset in blocks, so that the host never holds all images of a GPU."""
    images = torch.empty((len(part), 3, size, size), dtype=torch.uint8, device=device)
    blocks = [
        np.arange(start, min(start + _BLOCK_IMAGES, len(part)))
        for start in range(0, len(part), _BLOCK_IMAGES)
    ]
    done = 0
    for block in parallel(lambda rows: read_squares(part, rows, size), blocks):
        images[done : done + len(block)] = torch.from_numpy(block)
        done += len(block)
        report(done, len(part))
    return images
