"""Class-relation distillation on unlabeled images.

Gu et al., "Class-relation Knowledge Distillation for Novel Class Discovery", ICCV 2023. The
default is the authors' released code; options select the paper's version where it differs.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from crkd.losses.precision import expectation, full, log_softmax
from crkd.losses.tensor_checks import check_alike
from crkd.losses.term import (
    TERMS,
    DistillationInputs,
    DistillationTerm,
    checked_choice,
    checked_temperature,
)

FORMS = ("cross_entropy", "kl")
WEIGHTINGS = ("normalized", "none")


def class_relation(
    student_known: Tensor,
    student_novel: Tensor,
    teacher_known: Tensor,
    *,
    temperature: float = 4.0,
    form: str = "cross_entropy",
    weighting: str = "normalized",
    detach_weight: bool = False,
) -> Tensor:
    """Return the class-relation loss, a scalar that includes the factor ``temperature**2``.

    For view v, head h and unlabeled sample n, with p the teacher's and q the student's softmax
    over the K known classes, both at the temperature T::

        loss = T^2 mean_{v,h,n} w_vhn sum_k -p_vnk log q_vnk
        w    = eta / mean(eta),  eta_vhn = known mass of the student's softmax over all C classes

    Args:
        student_known: ``(V, N, K)`` logits.
        student_novel: ``(V, H, N, M)`` logits.
        teacher_known: ``(V, N, K)`` logits; no gradient reaches them.
        temperature: T, in addition to the heads' own temperature, which the logits include.
        form: ``cross_entropy``, or ``kl``, which subtracts the teacher's entropy.
        weighting: ``normalized`` as above, or ``none``: w is 1.
        detach_weight: whether the gradient treats w as a constant.

    Returns:
        Scalar; 0, and differentiable, if N is 0.

    Raises:
        InputError: an option is out of range, or student and teacher differ in views, samples or
            known classes.
    """
    checked_temperature("class_relation", temperature)
    checked_choice("class_relation", "form", form, FORMS)
    checked_choice("class_relation", "weighting", weighting, WEIGHTINGS)
    check_alike(student_known, teacher_known)
    log_q = log_softmax(student_known, temperature)
    log_p = log_softmax(teacher_known.detach(), temperature)
    p = log_p.exp()
    per_sample = -expectation(p, log_q)
    if form == "kl":
        per_sample = per_sample + expectation(p, log_p)
    per_sample = per_sample.unsqueeze(1).expand(student_novel.shape[:3])
    if weighting == "normalized":
        weight = _known_mass_weight(student_known, student_novel, temperature)
        per_sample = per_sample * (weight.detach() if detach_weight else weight)
    return temperature**2 * per_sample.sum() / max(per_sample.numel(), 1)


def _known_mass_weight(known: Tensor, novel: Tensor, temperature: float) -> Tensor:
    """Return eta divided by its mean over views, heads and samples, ``(V, H, N)``.

    eta is the sigmoid of the difference of the two log-sum-exps. Division by the mean is computed
    as a softmax over all entries, so the result is never 0/0, however small all eta are.
    """
    known_lse = (full(known) / temperature).logsumexp(dim=-1).unsqueeze(1)
    novel_lse = (full(novel) / temperature).logsumexp(dim=-1)
    log_eta = F.logsigmoid(known_lse - novel_lse)
    return log_eta.numel() * log_eta.flatten().softmax(dim=0).view_as(log_eta)


@TERMS.register("class_relation")
class ClassRelation(DistillationTerm):
    """The class-relation term over the unlabeled rows of a batch.

    Args:
        temperature: T, above 0; 4 in the release, on cosines already divided by 0.1.
        form: ``cross_entropy`` (release) or ``kl`` (paper).
        weighting: ``normalized`` or ``none``.
        detach_weight: True blocks the gradient through the weights; the release does not.

    Raises:
        InputError: an option is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover"})
    needs: frozenset[str] = frozenset({"teacher_logits"})
    weight: ClassVar[float] = 0.1
    rows: ClassVar[frozenset[str]] = frozenset({"unlabeled"})

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        form: str = "cross_entropy",
        weighting: str = "normalized",
        detach_weight: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = checked_temperature("class_relation", temperature)
        self.form = checked_choice("class_relation", "form", form, FORMS)
        self.weighting = checked_choice("class_relation", "weighting", weighting, WEIGHTINGS)
        self.detach_weight = detach_weight

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss of the unlabeled rows.

        Raises:
            RuntimeError: the student has no novel heads, or there are no teacher outputs.
        """
        student = inputs.student.rows(inputs.num_labeled)
        if student.novel_logits is None:
            raise RuntimeError("class_relation was given a student without novel heads")
        teacher = inputs.of_teacher().rows(inputs.num_labeled)
        return class_relation(
            student.known_logits,
            student.novel_logits,
            teacher.known_logits,
            temperature=self.temperature,
            form=self.form,
            weighting=self.weighting,
            detach_weight=self.detach_weight,
        )
