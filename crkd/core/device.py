"""Device of a run: its choice, its name in results, and its instructions."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

from crkd.core.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: the name is unknown or there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name!r} is unknown; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {name!r} does not exist ({torch.cuda.device_count()} CUDA devices here); "
            "use --device cpu"
        )
    return device


def device_name(device: torch.device) -> str:
    """Return a description of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for products of bfloat16 matrices.

    Every GPU counts. A CPU without them computes in bfloat16 more slowly than in float32.
    """
    if device.type != "cpu":
        return True
    # Older releases of torch do not name the instructions of a CPU.
    listed: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", _flags_of_linux)()
    return bool(listed.get("avx512_bf16") or listed.get("amx_bf16"))


@functools.cache
def _flags_of_linux() -> dict[str, bool]:
    """Return the instructions of the CPU by the system's list; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    flags = next((line for line in lines if line.startswith("flags")), "")
    return dict.fromkeys(flags.split(), True)
