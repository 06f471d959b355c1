"""Knowledge distillation: the student's softened known-class distribution follows the teacher's.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531 (2015),
section 2 and its eq. 1. Temperature and reduction are those of the RepDistiller release.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from crkd.losses.precision import log_softmax
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
        temperature: T, on top of any temperature that the logits already hold.

    Returns:
        Scalar in nats times ``T^2``, at least 0; 0, and differentiable, without samples.
    """
    log_q = log_softmax(student_logits / temperature)
    log_p = log_softmax(teacher_logits.detach() / temperature)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)
    return temperature**2 * divergence.sum() / max(divergence.numel(), 1)


@TERMS.register("kd")
class Kd(DistillationTerm):
    """KL divergence of the known-class distributions, on labeled and unlabeled rows.

    The logits of cosine heads are divided by 0.1 before they come here, so that with ``T = 4``
    the cosines are divided by 0.4 in all. The factor ``T^2`` is that of T alone: it keeps the
    gradient with respect to the logits at one size while T varies.

    The paper mixes the term with the cross-entropy of labels and leaves T and the mixture open;
    the release takes T = 4, and weights belong to the configuration.

    Args:
        temperature: T, above 0.

    Raises:
        InputError: the temperature is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits"})
    # RepDistiller's mixture.
    weight: ClassVar[float] = 0.9
    supervised: ClassVar[float] = 0.1
    rows: ClassVar[frozenset[str]] = ROWS

    def __init__(self, *, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = checked_temperature("kd", temperature)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the teacher's outputs are absent.
        """
        teacher = inputs.of_teacher()
        return kd(inputs.student.known_logits, teacher.known_logits, temperature=self.temperature)
