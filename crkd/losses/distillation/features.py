"""Feature distillation: distance between the feature vectors of student and teacher.

Roy et al., "Class-incremental Novel Class Discovery", ECCV 2022, eq. 5, and its released code.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.losses.precision import full
from crkd.losses.term import (
    TERMS,
    DistillationInputs,
    DistillationTerm,
    TermContext,
    checked_choice,
)

FORMS = ("relative", "unit", "batch")


@TERMS.register("features")
class Features(DistillationTerm):
    """Distance between the student's and the teacher's features.

    With f the student's and g the teacher's feature vectors of the large views::

        relative: loss = mean_{v,n} || f_vn - g_vn ||^2 / mean_{v,n} || g_vn - mean(g) ||^2
        unit:     loss = mean_{v,n} || f_vn / |f_vn| - g_vn / |g_vn| ||^2
        batch:    loss = mean_v || F_v / |F_v| - G_v / |G_v| ||,   F_v = (f_v1, ..., f_vN)

    The paper compares features at unit length (``unit``). Its release flattens a whole batch,
    normalizes that one vector and omits the square (``batch``). Neither constrains the length of
    the features. Cosine prototypes ignore the length, but the hidden layer of a novel head does
    not. Features after a ReLU also share a large mean, so that the differences between images are
    small at either scale. ``relative``, the default, preserves length and direction, and is
    measured in the teacher's variance over the batch: 1 is the loss of a student with equal
    features for all images. It is 0 if the teacher's features are equal up to rounding, such as
    those of a single view.

    Args:
        student_features: length of the student's feature vector.
        teacher_features: the same of the teacher.
        form: ``relative``, ``unit`` or ``batch``.

    Raises:
        InputError: the form is unknown, or the two lengths differ.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"feature_maps"})

    def __init__(
        self, student_features: int, teacher_features: int, *, form: str = "relative"
    ) -> None:
        super().__init__()
        if student_features != teacher_features:
            raise InputError(
                f"the loss 'features' compares vectors of {student_features} and "
                f"{teacher_features} numbers; give the student the teacher's backbone, or choose "
                "a loss with a regressor (fitnet, srrl, vid)"
            )
        self.form = checked_choice("features", "form", form, FORMS)

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> Features:
        """Create the term for two given networks."""
        return cls(context.student_features, context.teacher_features, **options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: there are no teacher outputs.
        """
        student = full(inputs.student.features)
        teacher = full(inputs.of_teacher().features.detach())
        if self.form == "batch":
            apart = F.normalize(student.flatten(1), dim=-1)
            apart = apart - F.normalize(teacher.flatten(1), dim=-1)
            # The root has no gradient at 0, where student and teacher agree.
            return (apart.square().sum(dim=-1) + 1e-12).sqrt().mean()
        if self.form == "unit":
            student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
        count = max(student[..., 0].numel(), 1)
        distance = (student - teacher).square().sum() / count
        if self.form == "unit":
            return distance
        spread = (teacher - teacher.mean(dim=(0, 1))).square().sum() / count
        # Equal features have a spread of rounding errors, or of 0.
        rounding = (16 * torch.finfo(spread.dtype).eps) ** 2 * teacher.square().sum() / count
        equal = (spread <= rounding) & rounding.isfinite()
        return distance.masked_fill(equal, 0.0) / spread.masked_fill(equal, 1.0)
