"""Contrastive self-supervised loss between views of the same image.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR),
ICML 2020, eq. 1.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.losses.precision import full, log_softmax, similarities
from crkd.losses.term import (
    TERMS,
    DistillationInputs,
    DistillationTerm,
    TermContext,
    checked_temperature,
)


def contrast(directions: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of identifying the other views of the same image.

    With z of unit length and (v, n) running over views and samples::

        loss = -1 / (V (V - 1) N) sum_{v,n} sum_{u != v} log
               exp(<z_vn, z_un> / T) / sum_{(w,m) != (v,n)} exp(<z_vn, z_wm> / T)

    Args:
        directions: ``(V, N, P)``, of any length above 0.
        temperature: T.

    Returns:
        Scalar in nats, at least 0; 0, and differentiable, without samples.
    """
    views, samples, _ = directions.shape
    unit = F.normalize(full(directions), dim=-1).flatten(0, 1)
    row = torch.arange(views * samples, device=unit.device)
    itself = row.unsqueeze(1) == row
    same_image = row.unsqueeze(1) % max(samples, 1) == row % max(samples, 1)
    log_p = log_softmax((similarities(unit, unit) / temperature).masked_fill(itself, -math.inf))
    found = torch.where(same_image & ~itself, log_p, 0.0).sum()
    return -found / max(views * (views - 1) * samples, 1)


@TERMS.register("contrastive")
class Contrastive(DistillationTerm):
    """SimCLR on the features, through its own projector; needs neither labels nor a teacher.

    In stage 1, unlabeled images can be used too (``pretrain.unlabeled``). The projector is the
    published one: one hidden layer as wide as the features, 128 outputs, cosine.

    Args:
        num_features: length D of the feature vector.
        temperature: T, above 0; 0.5 is best on CIFAR-10 in the paper (appendix B.9); smaller values
            are better for more classes.
        projection: length P of the projected features.

    Raises:
        InputError: an option is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"pretrain", "discover"})
    # At 1 it costs accuracy of the known classes.
    discovery_weight: ClassVar[float | None] = 0.1
    needs: frozenset[str] = frozenset()

    def __init__(
        self, num_features: int, *, temperature: float = 0.2, projection: int = 128
    ) -> None:
        super().__init__()
        if projection < 1:
            raise InputError(f"contrastive: projection is {projection}; it must be at least 1")
        self.temperature = checked_temperature("contrastive", temperature)
        self.projector = nn.Sequential(
            nn.Linear(num_features, num_features), nn.ReLU(), nn.Linear(num_features, projection)
        )

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> Contrastive:
        """Create the term for a network."""
        return cls(context.student_features, **options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all large views and rows.

        Raises:
            InputError: there is only one view.
        """
        features = inputs.student.features
        if len(features) < 2:
            raise InputError(
                "contrastive compares two views of an image, and each image has 1; set "
                "pretrain.num_views to 2"
            )
        dtype = next(self.projector.parameters()).dtype
        return contrast(self.projector(features.to(dtype)), self.temperature)
