"""Self-distillation between views, and the entropy of the mean prediction.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (DINO), ICCV 2021, for
the first; Assran et al., "Masked Siamese Networks", ECCV 2022, for the second. Wen et al.,
"Parametric Classification for Generalized Category Discovery" (SimGCD), ICCV 2023, eq. 3 and 4,
uses both without a momentum teacher.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.losses.precision import full
from crkd.losses.swapped_prediction import swapped_prediction


def self_distillation(logits: Tensor, sharpening: Tensor | float, num_large: int) -> Tensor:
    """Return the cross-entropy of every view to the sharpened prediction of every other large one.

    With the logits l over the student's temperature, and s the student's temperature over the
    teacher's::

        loss = -1 / (V_large (V - 1) B)  sum_{a < V_large} sum_{v != a} sum_b
               <softmax(s l_ab), log softmax(l_vb)>

    Args:
        logits: ``(V, B, C)``, large views first.
        sharpening: s; 1 or more. A scalar, or a tensor without dimensions.
        num_large: V_large; no gradient reaches the predictions of these views as targets.

    Returns:
        Scalar in nats; 0, and differentiable, without samples.

    Raises:
        InputError: fewer than two views, or ``num_large`` is not in ``[1, V]``.
    """
    if not 1 <= num_large <= len(logits):
        raise InputError(
            f"num_large is {num_large}, but the logits have {len(logits)} views; give a number of "
            "at least 1, and at most that of the views"
        )
    targets = (full(logits[:num_large].detach()) * sharpening).softmax(dim=-1)
    return swapped_prediction(logits.unsqueeze(1), targets.unsqueeze(1)).squeeze()


def entropy_gap(logits: Tensor) -> Tensor:
    """Return ln C minus the entropy of the mean prediction.

    It is 0 if all classes are predicted equally often, and ln C if all rows are of one class.

    Args:
        logits: ``(..., C)``; the mean is over all leading dimensions.

    Returns:
        Scalar in nats, in [0, ln C]; 0, and differentiable, without rows.
    """
    rows = full(logits).softmax(dim=-1).flatten(0, -2)
    if len(rows) == 0:
        return rows.sum()
    # Where every softmax underflows, the entropy would have an infinite slope.
    mean = rows.mean(dim=0).clamp(min=torch.finfo(rows.dtype).tiny)
    gap: Tensor = math.log(logits.shape[-1]) - torch.special.entr(mean).sum()
    return gap
