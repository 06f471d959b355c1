"""Memory that the CPU path uses again and again, so that it stays in the cache."""

from __future__ import annotations

import threading

import torch
from torch import Tensor


class Workspace(threading.local):
    """Float32 scratch memory by name, one set a thread, grown when a larger piece comes."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return uninitialized memory of ``shape``; the last taker of ``name`` loses it."""
        count = 1
        for extent in shape:
            count *= extent
        flat = self._flat.get(name)
        if flat is None or len(flat) < count:
            flat = self._flat[name] = torch.empty(count, dtype=torch.float32)
        return flat[:count].view(shape)


memory = Workspace()
