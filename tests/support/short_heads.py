"""Discovery on vectors whose heads train for few steps, where something else is tested."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crkd.stages.vectors import candidates


@contextmanager
def short_heads() -> Iterator[None]:
    """Train four heads for 80 steps and refine them for 40; clouds far apart need no more."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TEMI", "UNEVEN", "SINKHORN"):
            settings = dataclasses.replace(getattr(candidates, name), num_heads=4, steps=80)
            patch.setattr(candidates, name, settings)
        patch.setattr(candidates, "REFINING_STEPS", 40)
        yield
