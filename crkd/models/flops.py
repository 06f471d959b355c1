"""Cost of a network: parameters, and multiply-adds of one image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from crkd.models.backbones.build import build_backbone


class Cost(NamedTuple):
    """Size and computation of a backbone with a linear classifier.

    Attributes:
        params: number of parameters.
        flops: multiply-adds of one image, in convolutions and matrix products.
    """

    params: int
    flops: int


@torch.no_grad()
def cost_of(backbone: str, *, image_size: int, num_classes: int) -> Cost:
    """Return the cost of the backbone called ``backbone`` with a linear classifier.

    Raises:
        InputError: the backbone is unknown.
    """
    body = build_backbone(backbone, image_size=image_size).eval()
    with FlopCounterMode(display=False) as counter:
        body(torch.zeros(1, 3, image_size, image_size))
    params = sum(p.numel() for p in body.parameters()) + (body.num_features + 1) * num_classes
    # The counter counts a multiplication and an addition as two.
    return Cost(params, counter.get_total_flops() // 2 + body.num_features * num_classes)
