"""A teacher that admits second-best classes, and the generations of students after it.

Yang et al., "Training Deep Neural Networks in Generations: A More Tolerant Teacher Educates Better
Students", AAAI 2019. No released code was found: formula and defaults are those of notes on it.
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
    """Return how far the highest score lies above the next ones, averaged over samples.

    With p_(k) the k-th highest entry of a sample's softmax, whatever its label::

        mean_n [ p_(1) - 1 / (top - 1) sum_{k=2..top} p_(k) ]

    Args:
        logits: ``(..., K)``.
        top: how many classes count as plausible, the highest included; in ``[2, K]``.

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
    teacher: the network keeps some belief in the classes that resemble the right one. In stage
    ``distill`` it is the KL divergence from the generation before, at temperature 1.

    The paper mixes: ``eta CE + (1 - eta) difference``, then ``lambda CE + (1 - lambda) KL``. An
    eta or lambda of 0.6 is a weight of 2/3 beside a cross-entropy of weight 1.

    Args:
        stage: ``pretrain`` or ``distill``.
        num_known: K.
        top: plausible classes of each sample, 5 if left out, in ``[2, K]``; ``pretrain`` alone.

    Raises:
        InputError: the option is out of range, or given where it has no meaning.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"pretrain", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits"})
    # eta and lambda of 0.6.
    weight: ClassVar[float] = 0.4
    supervised: ClassVar[float] = 0.6

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
                f"tolerant: top is {top}, which stage 'pretrain' alone reads; leave it out in "
                f"stage {stage!r}"
            )
        self.top = top

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> Tolerant:
        """Make the term for a stage and a number of classes."""
        return cls(context.stage, context.num_known, **options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: stage ``distill``, and the teacher's outputs are absent.
        """
        logits = inputs.student.known_logits
        if self.top is None:
            return kd(logits, inputs.of_teacher().known_logits, temperature=1.0)
        return top_score_difference(logits, top=self.top)
