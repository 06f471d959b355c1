"""FKD: stored soft labels of repeated views, for training without running the teacher.

Shen and Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", ECCV 2022.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from crkd.losses.precision import expectation, full, log_softmax
from crkd.losses.term import (
    ROWS,
    TERMS,
    DistillationInputs,
    DistillationTerm,
    checked_temperature,
)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return ``-sum_k q_k log softmax(z)_k`` of each row.

    Args:
        logits: ``(..., K)``, z.
        target: ``(..., K)`` probabilities q; no gradient reaches them.

    Returns:
        ``(...)`` in nats.
    """
    return -expectation(target.detach(), log_softmax(logits))


@TERMS.register("fkd")
class Fkd(DistillationTerm):
    """Cross-entropy of the student's known classes with the stored soft labels.

    With q the stored label of a view and z the student's known logits on that view::

        loss = - mean_{v,b} sum_k q_k log softmax(z / T)_k

    As in the release, there is no factor ``T^2`` and no cross-entropy with labels. The soft labels
    are the teacher's softmax at temperature 1; T applies only to the student.

    Args:
        temperature: T, above 0; 1 in the release.

    Raises:
        InputError: the temperature is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits", "stored_views"})
    supervised: ClassVar[float] = 0.0
    rows: ClassVar[frozenset[str]] = ROWS

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = checked_temperature("fkd", temperature)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the stored labels are missing.
        """
        labels = log_softmax(inputs.of_teacher().known_logits).exp()
        student = inputs.student.known_logits
        per_row = soft_cross_entropy(full(student) / self.temperature, labels)
        return per_row.sum() / max(per_row.numel(), 1)
