"""torch.compile, as every part of a training step uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from crkd.config.blocks import LoopConfig


def compiled(function: Callable[..., Any], settings: LoopConfig) -> Callable[..., Any]:
    """Return ``function`` compiled if ``loop.compile`` asks for it, otherwise as it is.

    Batches have fixed shapes, so every graph is compiled for exactly its own. Without
    ``dynamic=False`` a second shape, such as that of the small views or of the teacher's rows,
    would make torch compile slower code for symbolic shapes.
    """
    if not settings.compile:
        return function
    compiled_function: Callable[..., Any] = torch.compile(function, dynamic=False)
    return compiled_function
