"""Arithmetic of the networks of a run."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for products of bfloat16 matrices.

    Every GPU counts. A CPU without them computes in bfloat16 more slowly than in float32.
    """
    if device.type != "cpu":
        return True
    # Older releases of torch do not name the instructions of a CPU.
    listed: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(listed.get("avx512_bf16") or listed.get("amx_bf16"))


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
