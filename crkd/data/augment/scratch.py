"""Reused scratch memory of the CPU path, which stays in the cache."""

from __future__ import annotations

import threading

import torch
from torch import Tensor


class Workspace(threading.local):
    """Named float32 scratch memory, one set per thread, enlarged when needed."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return uninitialized memory of ``shape``; it overwrites the last one of ``name``."""
        count = 1
        for extent in shape:
            count *= extent
        flat = self._flat.get(name)
        if flat is None or len(flat) < count:
            flat = self._flat[name] = torch.empty(count, dtype=torch.float32)
        return flat[:count].view(shape)


memory = Workspace()
