"""Where the images of a part are kept during training: the choice, and its two outcomes."""

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
"""What "auto" gives to the images of one part; the network and its activations need the rest."""


def choose_storage(
    part: Subset,
    size: int,
    device: torch.device | str,
    memory_budget_bytes: int | None = None,
    mode: StorageMode = "auto",
    log: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
) -> ImageStore:
    """Return the images of a part, kept on the device if they fit, else decoded ahead of use.

    Args:
        part: the images.
        size: side in pixels of the stored squares, at least 1.
        device: the training device.
        memory_budget_bytes: what the images may take; None takes ``SHARE_OF_FREE_MEMORY`` of
            what is free now.
        mode: "auto" decides by the sizes; the others are taken at their word.
        log: receives one line that states the choice and its reason.
        progress: told of the images decoded, where they stay.

    Raises:
        InputError: the mode is unknown or the size is below 1.
        UnreadableImageError: an image cannot be decoded (images that stay).
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
        log(f"images stay on {device}: {reason}")
        return InMemoryImages(part, size, device, progress)
    log(f"images are decoded ahead of use for {device}: {reason}")
    return StreamingImages(part, size, device)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
