"""Tf-KD by self-training: the teacher is a network of the student's own architecture.

Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020
(Tf-KD, self-training).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from crkd.losses.distillation.kd import kd
from crkd.losses.term import (
    TERMS,
    DistillationInputs,
    DistillationTerm,
    checked_temperature,
)


@TERMS.register("tfkd_self")
class TfKdSelf(DistillationTerm):
    """KL divergence of the known-class distributions, at a high temperature.

    With p the teacher's and q the student's softmax at temperature T::

        loss = T^2 mean_{v,n} sum_k p_vnk log(p_vnk / q_vnk)

    The loss is that of ``kd``. The method is defined by its teacher, a network of the student's
    architecture trained on the same labels, as in discovery. The release also averages over classes
    and multiplies by m, so its weight in this unit is alpha m / K. For ResNeXt-29 on CIFAR-100 this
    is 0.9, with a cross-entropy of weight 0.1. These are the defaults.

    Args:
        temperature: T, above 0, in addition to any temperature that the logits include; 20 in the
            release for all but one network.

    Raises:
        InputError: the temperature is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits"})
    # The release's weights for ResNeXt-29: alpha 0.9, multiplier 100 over 100 classes.
    weight: ClassVar[float] = 0.9
    supervised: ClassVar[float] = 0.1
    same_architecture: ClassVar[bool] = True

    def __init__(self, *, temperature: float = 20.0) -> None:
        super().__init__()
        self.temperature = checked_temperature("tfkd_self", temperature)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the teacher's outputs are missing.
        """
        student, teacher = inputs.student.known_logits, inputs.of_teacher().known_logits
        return kd(student, teacher, temperature=self.temperature)
