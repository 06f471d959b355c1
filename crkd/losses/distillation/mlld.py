"""Multi-level logit distillation: instance, batch and class level.

Jin et al., "Multi-Level Logit Distillation", CVPR 2023, on the known head. The default is the
paper's formula. The released ``KD_ours.py`` also multiplies by masks that were reduced to their
means; the option ``form`` gives it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.losses.precision import expectation, full
from crkd.losses.term import TERMS, DistillationInputs, DistillationTerm, checked_choice

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)
FORMS = ("paper", "release")
VIEWS = ("alike", "weak_strong")

WEAK_IN_RELEASE = (2.0, 6.0)
"""Temperatures at which the release compares weak views a second time, in place of strong ones."""


def kept_share(scores: Tensor) -> Tensor:
    """Return the fraction of entries at or below the lower median of the last axis.

    This is the mean of the release's mask, with which it multiplies a whole level: one half for an
    even number of distinct scores.

    Args:
        scores: ``(..., n)``, n at least 1.

    Returns:
        ``(...)`` in (0, 1].

    >>> kept_share(torch.tensor([0.9, 0.2, 0.5, 0.4, 0.3])).item() == torch.tensor(0.6).item()
    True
    """
    middle = (scores.shape[-1] - 1) // 2
    threshold = scores.sort(dim=-1).values[..., middle : middle + 1]
    return (scores <= threshold).to(scores.dtype).mean(dim=-1)


def instance_level(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``KL(teacher || student)`` ``(..., B)`` of log-probabilities ``(..., B, K)``."""
    return expectation(teacher.exp(), teacher - student)


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

    With p the teacher's and q the student's softmax over K classes at temperature T, B0 and K0 the
    reference numbers of samples and classes, and every level averaged over its views::

        instance = sum_T T^2 [ 1/B sum_b KL_weak(p_b || q_b) + 1/B sum_b KL_strong(p_b || q_b) ]
        batch    = sum_T B0/B^2 K/K0 || P_s P_s^T - P_t P_t^T ||^2                     (weak)
        class    = sum_T B0^2/B^2 K/K0^2 || P_s^T P_s - P_t^T P_t ||^2                 (weak)

    At B = B0 and K = K0 these are the paper's. At other numbers the levels keep this scale: a
    batch that is repeated, or joined with a copy of itself on other classes, has the same loss.
    As published, the class level grows with B^2 and falls with K^2, and outweighs all others
    for few classes.

    Args:
        temperatures: the T, one or several, in addition to the heads' own temperature, which the
            logits include.
        form: ``paper``, as above; ``release``: weak instance and batch level times the fraction of
            samples, class level times the fraction of classes, at or below the teacher's median
            confidence, and the strong part at T = 2 and 6 on the weak views.
        reference_batch: B0, above 0; 64 in the release.
        reference_classes: K0, above 0; 100 in CIFAR-100.
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
    # The weights of the release, which adds the cross-entropies of a weak and a strong view.
    weight: ClassVar[float] = 0.9
    # The sum of T^2 is eleven times that of kd.
    discovery_weight: ClassVar[float | None] = 0.1
    supervised: ClassVar[float] = 0.2

    def __init__(
        self,
        *,
        temperatures: float | Sequence[float] = TEMPERATURES,
        form: str = "paper",
        reference_batch: float = 64,
        reference_classes: float = 100,
        views: str = "alike",
        instance_weight: float = 1.0,
        batch_weight: float = 1.0,
        class_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperatures = _checked_temperatures(temperatures)
        references = {"reference_batch": reference_batch, "reference_classes": reference_classes}
        for option, value in references.items():
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"mlld: {option} is {value}; it must be above 0")
        self.form = checked_choice("mlld", "form", form, FORMS)
        self.views = checked_choice("mlld", "views", views, VIEWS)
        for option, weight in (
            ("instance_weight", instance_weight),
            ("batch_weight", batch_weight),
            ("class_weight", class_weight),
        ):
            if not (weight >= 0 and math.isfinite(weight)):
                raise InputError(f"mlld: {option} is {weight}; it must be 0 or more")
        self.reference_batch, self.reference_classes = reference_batch, reference_classes
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
        if student.shape[1] == 0:  # no mean to take
            return full(student).sum()
        with torch.autocast(student.device.type, enabled=False):
            return self._levels(full(student), full(teacher))

    def _levels(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the weighted sum of the levels for logits ``(V, B, K)``, B at least 1."""
        alike = self.views == "alike"
        weak = slice(None) if alike else slice(0, 1)
        strong = slice(None) if alike else slice(1, None)
        log_q, log_p = self._at_all_temperatures(student), self._at_all_temperatures(teacher)
        q, p = log_q[:, weak].exp(), log_p[:, weak].exp()
        divergence = zip(self.temperatures, instance_level(log_q, log_p), strict=True)
        instance = torch.stack([t**2 * kl for t, kl in divergence]).mean(dim=-1)
        on_weak, on_strong = instance[:, weak], instance[:, strong].mean(dim=1)
        on_batch, on_classes = batch_level(q, p).mean(dim=-1), class_level(q, p).mean(dim=-1)
        if self.form == "release":
            sure = teacher[weak].softmax(dim=-1)
            samples, classes = kept_share(sure.amax(dim=-1)), kept_share(sure.sum(dim=-2))
            parts = zip(self.temperatures, on_weak.mean(dim=1), on_strong, strict=True)
            on_strong = torch.stack([w if t in WEAK_IN_RELEASE else s for t, w, s in parts])
            on_weak, on_batch = on_weak * samples, on_batch * samples
            on_classes = on_classes * classes
        more_classes = student.shape[-1] / self.reference_classes
        return (
            self.instance_weight * (_summed(on_weak) + on_strong.sum())
            + self.batch_weight * self.reference_batch * more_classes * _summed(on_batch)
            + self.class_weight * (self.reference_batch * more_classes) ** 2 * _summed(on_classes)
        )

    def _at_all_temperatures(self, logits: Tensor) -> Tensor:
        """Return the log-softmax at every temperature, ``(T, V, B, K)``."""
        return torch.stack([logits / t for t in self.temperatures]).log_softmax(dim=-1)


def _summed(levels: Tensor) -> Tensor:
    """Return ``(T, V)`` summed over temperatures and averaged over views."""
    return levels.sum(dim=0).mean()


def _checked_temperatures(temperatures: float | Sequence[float]) -> tuple[float, ...]:
    several = tuple(temperatures) if isinstance(temperatures, Sequence) else (temperatures,)
    if not several or not all(value > 0 and math.isfinite(value) for value in several):
        raise InputError(
            f"mlld: temperatures is {temperatures!r}; give at least one number, each above 0"
        )
    return several
