"""Tolerant teacher: top score difference, and distillation over generations of students.

Yang et al., "Training Deep Neural Networks in Generations: A More Tolerant Teacher Educates Better
Students", AAAI 2019. No released code was found. Formula and defaults are from notes on the paper.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from crkd.core.errors import InputError
from crkd.losses.distillation.kd import kd
from crkd.losses.precision import full
from crkd.losses.term import TERMS, DistillationInputs, DistillationTerm, TermContext

TOP = 5


def top_score_difference(logits: Tensor, *, top: int = TOP) -> Tensor:
    """Return the highest score minus the mean of the next ones, averaged over samples.

    With p_(k) the k-th highest entry of a sample's softmax, whatever its label::

        mean_n [ p_(1) - 1 / (top - 1) sum_{k=2..top} p_(k) ]

    Args:
        logits: ``(..., K)``.
        top: number of plausible classes, including the highest; in ``[2, K]``.

    Returns:
        Scalar in ``[0, 1]``; 0, and differentiable, without samples.
    """
    scores = full(logits).softmax(dim=-1).topk(top, dim=-1).values
    difference = scores[..., 0] - scores[..., 1:].mean(dim=-1)
    return difference.sum() / max(difference.numel(), 1)


@TERMS.register("tolerant")
class Tolerant(DistillationTerm):
    """The tolerant teacher's top score difference, or a later generation's divergence from it.

    In stage ``pretrain`` the term is ``top_score_difference`` of the known logits and needs no
    teacher. The network then keeps some probability for classes that resemble the right one. In
    stage ``distill`` it is the KL divergence from the previous generation, at temperature 1.

    The paper uses ``eta CE + (1 - eta) difference``, then ``lambda CE + (1 - lambda) KL``. An eta
    or lambda of 0.6 is a weight of 2/3 with a cross-entropy of weight 1.

    Args:
        stage: ``pretrain`` or ``distill``.
        num_known: K.
        top: plausible classes of each sample, 5 by default, in ``[2, K]``; only in ``pretrain``.

    Raises:
        InputError: the option is out of range, or given in a stage without it.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"pretrain", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits"})
    # From eta and lambda of 0.6.
    weight: ClassVar[float] = 0.4
    supervised: ClassVar[float] = 0.6
    same_architecture: ClassVar[bool] = True

    def __init__(self, stage: str, num_known: int, *, top: int | None = None) -> None:
        super().__init__()
        if stage == "pretrain":
            self.needs = frozenset()
            top = TOP if top is None else top
            if top not in range(2, num_known + 1):
                raise InputError(
                    f"tolerant: top is {top}, and there are {num_known} known classes; set "
                    f"options: {{top: NUMBER}} from 2 to {num_known}"
                )
        elif top is not None:
            raise InputError(
                f"tolerant: top is {top}, which only stage 'pretrain' uses; leave it out in "
                f"stage {stage!r}"
            )
        self.top = top

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> Tolerant:
        """Create the term for a stage and a number of classes."""
        return cls(context.stage, context.num_known, **options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: in stage ``distill``, the teacher's outputs are missing.
        """
        logits = inputs.student.known_logits
        if self.top is None:
            return kd(logits, inputs.of_teacher().known_logits, temperature=1.0)
        return top_score_difference(logits, top=self.top)
