"""Logits and feature maps from which losses and their formulas are computed."""

from __future__ import annotations

import numpy as np
import torch

from crkd.core.types import HeadOutputs
from crkd.losses.term import DistillationInputs

Maps = list[list[torch.Tensor]]
"""Per view and stage ``(rows, channels, side, side)``."""


def random_logits(seed: int = 0, rows: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Student's and teacher's logits of two views over four classes."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, rows, 4)) * 5, rng.normal(size=(2, rows, 4)) * 5


def leaf(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array, requires_grad=True)


def of_logits(student: torch.Tensor, teacher: torch.Tensor, labeled: int = 0) -> DistillationInputs:
    empty = torch.zeros(*student.shape[:2], 1)
    return DistillationInputs(
        HeadOutputs(empty, student), HeadOutputs(empty, teacher), None, labeled
    )


def random_maps(
    channels: tuple[int, ...], side: int, seed: int = 0, *, views: int = 2, rows: int = 3
) -> Maps:
    """Maps above 0, as after a ReLU; each stage half as large as the one before."""
    make = torch.Generator().manual_seed(seed)
    return [
        [
            torch.randn(rows, c, side >> stage, side >> stage, generator=make, dtype=torch.float64)
            .abs()
            .requires_grad_()
            for stage, c in enumerate(channels)
        ]
        for _ in range(views)
    ]


def of_maps(maps: Maps) -> HeadOutputs:
    rows = len(maps[0][0])
    return HeadOutputs(
        torch.zeros(len(maps), rows, 1),
        torch.zeros(len(maps), rows, 4),
        maps=tuple(tuple(view) for view in maps),
    )


def stacked(maps: Maps, stage: int) -> np.ndarray:
    """One stage of all views."""
    return np.concatenate([view[stage].detach().numpy() for view in maps])


def pooled(maps: np.ndarray, side: int) -> np.ndarray:
    n, c, h, _ = maps.shape
    return maps.reshape(n, c, side, h // side, side, h // side).mean(axis=(3, 5))
