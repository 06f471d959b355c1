"""Arithmetic of the networks of a run."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from crkd.core.device import computes_in_bfloat16


def resolved_precision(precision: str, device: torch.device) -> str:
    """Return the arithmetic of ``loop.precision`` on a device, "float32" or "bfloat16".

    "auto" is bfloat16 on a GPU, whose matrix units are made for it, and float32 on a CPU. "fast" is
    bfloat16 wherever the device has instructions for it.
    """
    if precision == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    if precision == "fast":
        return "bfloat16" if computes_in_bfloat16(device) else "float32"
    return precision


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return the autocast context for ``loop.precision``."""
    enabled = resolved_precision(precision, device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
