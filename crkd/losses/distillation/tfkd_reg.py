"""Tf-KD with a virtual teacher: a fixed probability for the label, the rest uniform.

Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020
(Tf-KD, manually designed teacher).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.losses.precision import log_softmax
from crkd.losses.term import (
    ON,
    TERMS,
    DistillationInputs,
    DistillationTerm,
    TermContext,
    checked_choice,
    checked_temperature,
)


def virtual_teacher(
    logits: Tensor, labels: Tensor, *, temperature: float = 20.0, correct: float = 0.99
) -> Tensor:
    """Return ``mean_n KL(p_n || q_n)`` over the labeled samples.

    With y a sample's label, a the teacher's probability of it, and C classes::

        u_k = a where k = y, else (1 - a) / (C - 1)
        p   = softmax(u / T),    q = softmax(logits)

    Args:
        logits: ``(..., C)``.
        labels: ``(...)`` int64 in ``[0, C)``; samples labeled -1 are left out.
        temperature: T. It divides probabilities, so p is nearly uniform from T = 10 on.
        correct: a, in (0, 1].

    Returns:
        Scalar in nats, at least 0; 0, and differentiable, without labeled samples.
    """
    num_classes = logits.shape[-1]
    log_q = log_softmax(logits)
    right = labels.unsqueeze(-1) == torch.arange(num_classes, device=labels.device)
    others = (1 - correct) / max(num_classes - 1, 1)
    u = others + (correct - others) * right.to(log_q.dtype)
    log_p = (u / temperature).log_softmax(dim=-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    labeled = labels >= 0
    # The count stays on the device, because reading it on the host would synchronize.
    # A row that is left out may have a logit of -inf.
    return torch.where(labeled, divergence, 0).sum() / labeled.sum().clamp(min=1)


@TERMS.register("tfkd_reg")
class TfKdReg(DistillationTerm):
    """KL divergence of the student from a virtual teacher, on labels or pseudo-labels.

    The formula is that of ``virtual_teacher``. As in the release, the temperature applies only to
    the teacher's probabilities: the student's softmax is at 1, and there is no ``T^2``. The release
    also averages over classes and multiplies by m, so its weight in this unit is alpha m / K. For
    ResNet-18 on CIFAR-100 this is 0.1, with a cross-entropy of weight 0.9. These are the defaults.

    Args:
        temperature: T, above 0; 20 in the release for ResNet-18 (10 to 40 for others).
        correct: a, the teacher's probability of the label, in (0, 1]; 0.99 in the release.
        on: ``labeled``: known logits and labels, over rows that have one; ``pseudo``: joint
            logits and pseudo-labels of every view, head and row.

    Raises:
        InputError: an option is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"pretrain", "discover", "distill"})
    needs: frozenset[str] = frozenset({"labels"})
    # The release's weights for ResNet-18: alpha 0.1, multiplier 100 over 100 classes.
    weight: ClassVar[float] = 0.1
    supervised: ClassVar[float] = 0.9

    def __init__(
        self, *, temperature: float = 20.0, correct: float = 0.99, on: str = "labeled"
    ) -> None:
        super().__init__()
        if not 0 < correct <= 1:
            raise InputError(f"tfkd_reg: correct is {correct}; it must be above 0 and at most 1")
        self.on = checked_choice("tfkd_reg", "on", on, ON)
        if on == "pseudo":
            self.needs = self.needs - {"labels"} | {"pseudo_labels"}
        self.temperature = checked_temperature("tfkd_reg", temperature)
        self.correct = correct

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> TfKdReg:
        """Create the term for a stage."""
        if context.stage == "pretrain" and options.get("on") == "pseudo":
            raise InputError(
                "tfkd_reg: on is 'pseudo', but stage 'pretrain' has labels and no pseudo-labels; "
                "set options: {on: labeled}"
            )
        return cls(**options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and the selected rows.

        Raises:
            RuntimeError: the labels, or pseudo-labels, that it needs are missing.
        """
        logits, labels = inputs.logits_and_labels(self.on)
        return virtual_teacher(logits, labels, temperature=self.temperature, correct=self.correct)
