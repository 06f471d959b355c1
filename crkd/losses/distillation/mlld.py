"""Multi-level logit distillation: instance, batch and class level.

Jin et al., "Multi-Level Logit Distillation", CVPR 2023, on the known head. The masks follow the
released ``KD_ours.py`` with its commented-out ``reduce=False``. They then select samples and
classes; in the code as released they only halve the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.losses.precision import full
from crkd.losses.term import TERMS, DistillationInputs, DistillationTerm

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)
VIEWS = ("alike", "weak_strong")


def lowest(scores: Tensor, share: float) -> Tensor:
    """Return which entries of the last axis are among the lowest, as booleans.

    The threshold is the value of rank ``floor(share * (n - 1))``, ties included. For 0.5, these are
    the entries at or below the median.

    Args:
        scores: ``(..., n)``, n at least 1.
        share: in (0, 1]; 1 selects all.

    >>> lowest(torch.tensor([0.9, 0.2, 0.5, 0.4]), 0.5).tolist()
    [False, True, False, True]
    """
    rank = math.floor(share * (scores.shape[-1] - 1))
    threshold = scores.sort(dim=-1).values[..., rank : rank + 1]
    return scores <= threshold


def instance_level(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``KL(teacher || student)`` ``(..., B)`` of log-probabilities ``(..., B, K)``."""
    return (teacher.exp() * (teacher - student)).sum(dim=-1)


def batch_level(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the difference of sample similarities between the networks, for each sample.

    Args:
        student: ``(..., B, K)`` probabilities P_s.
        teacher: ``(..., B, K)`` probabilities P_t.

    Returns:
        ``(..., B)``: mean over b' of the squared entries (b, b') of P_s P_s^T - P_t P_t^T.
    """
    return (student @ student.mT - teacher @ teacher.mT).square().mean(dim=-1)


def class_level(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the difference of class correlations between the networks, for each class.

    Args:
        student: ``(..., B, K)`` probabilities P_s.
        teacher: ``(..., B, K)`` probabilities P_t.

    Returns:
        ``(..., K)``: sum over k' of the squared entries (k, k') of (P_s^T P_s - P_t^T P_t) / B.
    """
    difference = student.mT @ student - teacher.mT @ teacher
    return (difference / student.shape[-2]).square().sum(dim=-1)


@TERMS.register("mlld")
class MLLD(DistillationTerm):
    """Alignment on three levels at several temperatures, over all rows and the known classes.

    With p the teacher's and q the student's softmax over K classes at temperature T, m and c the
    masks of samples and classes, B0 the reference batch, and every level averaged over its views::

        instance = sum_T T^2 [ 1/B sum_b m_b KL_weak(p_b || q_b) + 1/B sum_b KL_strong(p_b || q_b) ]
        batch    = sum_T B0/B^2 sum_b m_b || (P_s P_s^T - P_t P_t^T)_b ||^2            (weak)
        class    = sum_T B0^2/(K B^2) sum_k c_k || (P_s^T P_s - P_t^T P_t)_k ||^2      (weak)

    m keeps the samples of which the teacher is least certain on that view. c keeps the classes to
    which it gives the lowest probability. Both use its softmax of the unscaled logits (T = 1). For
    any B, the levels have the scale that they have in the release at a batch of B0.

    Args:
        temperatures: the T, one or several, in addition to the heads' own temperature, which the
            logits include.
        sample_share: fraction of samples that m keeps, in (0, 1]; 1 keeps all.
        class_share: fraction of classes that c keeps, in (0, 1]; 1 keeps all.
        reference_batch: B0, above 0; 64 in the release.
        views: ``alike``: every view is weak and strong at once; ``weak_strong``: the first view
            is weak, the others are strong.
        instance_weight: weight of the instance level, at least 0.
        batch_weight: weight of the batch level, at least 0.
        class_weight: weight of the class level, at least 0.

    Raises:
        InputError: an option is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits"})
    # The weights of the release.
    weight: ClassVar[float] = 0.9
    supervised: ClassVar[float] = 0.1

    def __init__(
        self,
        *,
        temperatures: float | Sequence[float] = TEMPERATURES,
        sample_share: float = 0.5,
        class_share: float = 0.5,
        reference_batch: float = 64,
        views: str = "alike",
        instance_weight: float = 1.0,
        batch_weight: float = 1.0,
        class_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperatures = _checked_temperatures(temperatures)
        for option, share in (("sample_share", sample_share), ("class_share", class_share)):
            if not 0 < share <= 1:
                raise InputError(f"mlld: {option} is {share}; it must be above 0 and at most 1")
        if not (reference_batch > 0 and math.isfinite(reference_batch)):
            raise InputError(f"mlld: reference_batch is {reference_batch}; it must be above 0")
        if views not in VIEWS:
            raise InputError(f"mlld: views is {views!r}; choose one of: {', '.join(VIEWS)}")
        for option, weight in (
            ("instance_weight", instance_weight),
            ("batch_weight", batch_weight),
            ("class_weight", class_weight),
        ):
            if not (weight >= 0 and math.isfinite(weight)):
                raise InputError(f"mlld: {option} is {weight}; it must be 0 or more")
        self.sample_share, self.class_share = sample_share, class_share
        self.reference_batch, self.views = reference_batch, views
        self.instance_weight, self.batch_weight = instance_weight, batch_weight
        self.class_weight = class_weight

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss of all rows.

        Raises:
            InputError: ``views`` is ``weak_strong``, but there is one view.
            RuntimeError: the teacher's outputs are missing.
        """
        student = inputs.student.known_logits
        teacher = inputs.of_teacher().known_logits.detach()
        if self.views == "weak_strong" and len(student) < 2:
            raise InputError(
                f"mlld: views is 'weak_strong', but the batch has {len(student)} large view; "
                "choose 'alike' or draw 2"
            )
        if student.shape[1] == 0:  # no median to take
            return full(student).sum()
        with torch.autocast(student.device.type, enabled=False):
            return self._levels(full(student), full(teacher))

    def _levels(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the weighted sum of the levels for logits ``(V, B, K)``, B at least 1."""
        alike = self.views == "alike"
        weak = slice(None) if alike else slice(0, 1)
        strong = slice(None) if alike else slice(1, None)
        sure = teacher[weak].softmax(dim=-1)
        samples = lowest(sure.amax(dim=-1), self.sample_share)
        classes = lowest(sure.sum(dim=-2), self.class_share)
        log_q, log_p = self._at_all_temperatures(student), self._at_all_temperatures(teacher)
        q, p = log_q[:, weak].exp(), log_p[:, weak].exp()
        divergence = zip(self.temperatures, instance_level(log_q, log_p), strict=True)
        instance = torch.stack([t**2 * kl for t, kl in divergence])
        on_instances = _mean(instance[:, weak] * samples) + _mean(instance[:, strong])
        on_batch = self.reference_batch * _mean(batch_level(q, p) * samples)
        on_classes = self.reference_batch**2 * _mean(class_level(q, p) * classes)
        return (
            self.instance_weight * on_instances
            + self.batch_weight * on_batch
            + self.class_weight * on_classes
        )

    def _at_all_temperatures(self, logits: Tensor) -> Tensor:
        """Return the log-softmax at every temperature, ``(T, V, B, K)``."""
        return torch.stack([logits / t for t in self.temperatures]).log_softmax(dim=-1)


def _mean(levels: Tensor) -> Tensor:
    """Return ``(T, V, entries)`` summed over temperatures, averaged over the rest."""
    return levels.sum(dim=0).mean()


def _checked_temperatures(temperatures: float | Sequence[float]) -> tuple[float, ...]:
    several = tuple(temperatures) if isinstance(temperatures, Sequence) else (temperatures,)
    if not several or not all(value > 0 and math.isfinite(value) for value in several):
        raise InputError(
            f"mlld: temperatures is {temperatures!r}; give at least one number, each above 0"
        )
    return several
