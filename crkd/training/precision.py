"""Which arithmetic a run uses."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return the autocast context for ``loop.precision``: "auto", "float32" or "bfloat16".

    "auto" is bfloat16 on a GPU, whose matrix units are made for it, and float32 on a CPU.
    """
    enabled = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
