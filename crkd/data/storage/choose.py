"""Choice of the image storage of a subset during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch

from crkd.core.errors import InputError
from crkd.data.splits.partition import Subset
from crkd.data.storage.base import ImageStore
from crkd.data.storage.free_memory import free_bytes
from crkd.data.storage.in_memory import InMemoryImages, Progress
from crkd.data.storage.streaming import StreamingImages

__all__ = ["ImageStore", "InMemoryImages", "StorageMode", "StreamingImages", "choose_storage"]

StorageMode = Literal["auto", "in_memory", "streaming"]

SHARE_OF_FREE_MEMORY: Final = 0.4
"""Fraction that "auto" gives to the images of one subset; the network needs the rest."""


def choose_storage(
    part: Subset,
    size: int,
    device: torch.device | str,
    memory_budget_bytes: int | None = None,
    mode: StorageMode = "auto",
    log: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
) -> ImageStore:
    """Return an image store: on the device if the images fit, otherwise decoded on demand.

    Args:
        part: the images.
        size: side in pixels of the stored squares, at least 1.
        device: the training device.
        memory_budget_bytes: memory for the images; None uses ``SHARE_OF_FREE_MEMORY`` of the memory
            that is free now.
        mode: "auto" decides by size; the others select a storage.
        log: receives one line with the choice and its reason.
        progress: receives the number of decoded images, for in-memory storage.

    Raises:
        InputError: the mode is unknown or the size is below 1.
        UnreadableImageError: an image cannot be decoded (in-memory storage).
    """
    if mode not in ("auto", "in_memory", "streaming"):
        raise InputError(f"storage {mode!r} is unknown; choose auto, in_memory or streaming")
    if size < 1:
        raise InputError(f"image size {size} is below 1; give the side of the images in pixels")
    device = torch.device(device)
    needed = len(part) * 3 * size * size
    sizes = f"{len(part):,} images of {size} px take {_mebibytes(needed)} as uint8"
    if mode == "auto":
        budget = memory_budget_bytes
        if budget is None:
            budget = int(SHARE_OF_FREE_MEMORY * free_bytes(device))
        mode = "in_memory" if needed <= budget else "streaming"
        reason = f"{sizes}, {_mebibytes(budget)} are allowed"
    else:
        reason = f"{sizes}, chosen by setting"
    if mode == "in_memory":
        log(f"images are kept on {device}: {reason}")
        return InMemoryImages(part, size, device, progress)
    log(f"images are decoded during training for {device}: {reason}")
    return StreamingImages(part, size, device)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
