"""Knowledge distillation: KL divergence of the softened known-class distributions.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531 (2015),
section 2 and its eq. 1. Temperature and reduction are those of the RepDistiller release.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from crkd.losses.precision import expectation, log_softmax
from crkd.losses.term import (
    ROWS,
    TERMS,
    DistillationInputs,
    DistillationTerm,
    checked_temperature,
)


def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Return ``T^2 mean_n KL(p_n || q_n)``, p the teacher's and q the student's softmax at T.

    Args:
        student_logits: ``(..., K)``.
        teacher_logits: ``(..., K)``; no gradient reaches them.
        temperature: T, in addition to any temperature that the logits include.

    Returns:
        Scalar in nats times ``T^2``, at least 0; 0, and differentiable, without samples.
    """
    log_q = log_softmax(student_logits, temperature)
    log_p = log_softmax(teacher_logits.detach(), temperature)
    divergence = expectation(log_p.exp(), log_p - log_q)
    return temperature**2 * divergence.sum() / max(divergence.numel(), 1)


@TERMS.register("kd")
class Kd(DistillationTerm):
    """KL divergence of the known-class distributions, on labeled and unlabeled rows.

    The logits of cosine heads are already divided by 0.1, so ``T = 4`` divides the cosines by 0.4
    in total. The factor ``T^2`` uses only T. It keeps the gradient with respect to the logits at
    the same scale for all T.

    The paper adds the term to the cross-entropy with labels and does not fix T and the weights. The
    release uses T = 4; the configuration sets the weights.

    Args:
        temperature: T, above 0.

    Raises:
        InputError: the temperature is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits"})
    # RepDistiller's weights.
    weight: ClassVar[float] = 0.9
    supervised: ClassVar[float] = 0.1
    rows: ClassVar[frozenset[str]] = ROWS

    def __init__(self, *, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = checked_temperature("kd", temperature)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the teacher's outputs are missing.
        """
        teacher = inputs.of_teacher()
        return kd(inputs.student.known_logits, teacher.known_logits, temperature=self.temperature)
