"""A distillation loss from outside of crkd."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from crkd.losses.term import DistillationInputs, DistillationTerm


class CosineFeatures(DistillationTerm):
    """One minus the cosine between the student's and the teacher's features, on average.

    Args:
        power: exponent of the distance; an option of the configuration.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"feature_maps"})
    weight: ClassVar[float] = 0.5

    def __init__(self, *, power: float = 1.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss; a sum over the count, so that no row gives zero and not NaN."""
        student = inputs.student.features.float()
        teacher = inputs.of_teacher().features.detach().float()
        apart = (1 - F.cosine_similarity(student, teacher, dim=-1)).clamp(min=0) ** self.power
        return apart.sum() / max(apart.numel(), 1)
