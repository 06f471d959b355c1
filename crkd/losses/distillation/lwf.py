"""Learning without forgetting: cross-entropy with the teacher's softened known-class outputs.

Li and Hoiem, "Learning without Forgetting", ECCV 2016, eq. 2 and 3. Renormalized powers 1/T of
probabilities, as the paper writes them, are the softmax of the logits over T.
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


def lwf(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Return ``mean_n sum_k -p_nk log q_nk``, p the teacher's and q the student's softmax at T.

    Args:
        student_logits: ``(..., K)``.
        teacher_logits: ``(..., K)``; no gradient reaches them.
        temperature: T, in addition to any temperature that the logits include.

    Returns:
        Scalar in nats, at least the teacher's mean entropy; 0, and differentiable, without
        samples.
    """
    log_q = log_softmax(student_logits, temperature)
    p = log_softmax(teacher_logits.detach(), temperature).exp()
    per_sample = -expectation(p, log_q)
    return per_sample.sum() / max(per_sample.numel(), 1)


@TERMS.register("lwf")
class Lwf(DistillationTerm):
    """Cross-entropy of the known-class distributions, on labeled and unlabeled rows.

    Neither the paper nor the class-iNCD release (Roy et al., ECCV 2022, with weight 10) multiplies
    by ``T^2``, and neither does this term. Its gradient is that of ``kd`` at the same T, divided by
    ``T^2``. The logits of cosine heads are already divided by 0.1, so ``T = 2`` divides the cosines
    by 0.2 in total.

    Args:
        temperature: T, above 0; 2 in paper and release.

    Raises:
        InputError: the temperature is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits"})
    rows: ClassVar[frozenset[str]] = ROWS

    def __init__(self, *, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = checked_temperature("lwf", temperature)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the teacher's outputs are missing.
        """
        teacher = inputs.of_teacher()
        return lwf(inputs.student.known_logits, teacher.known_logits, temperature=self.temperature)
