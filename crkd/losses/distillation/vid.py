"""Variational information distillation: a lower bound on the mutual information of two maps.

Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.losses.feature_maps import check_stage, equal_sizes, stage_map
from crkd.losses.precision import full
from crkd.losses.term import ROWS, TERMS, DistillationInputs, DistillationTerm, TermContext

MIN_VARIANCE = 1e-5


class GaussianRegressor(nn.Module):
    """q(teacher map | student map): a Gaussian with a regressed mean and a variance per channel.

    The mean is three 1x1 convolutions without bias, with a ReLU between two of them.

    Args:
        student_channels: channels of the student's map.
        teacher_channels: C, channels of the teacher's map and of the hidden layers.
        init_variance: v of every channel at the start.
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, *, init_variance: float
    ) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        above = init_variance - MIN_VARIANCE
        inverse_softplus = above + math.log(-math.expm1(-above))
        self.raw_variance = nn.Parameter(torch.full((teacher_channels,), inverse_softplus))

    def variance(self) -> Tensor:
        """Return v, ``(C,)``, above 0: softplus of the parameter and a small constant."""
        return F.softplus(full(self.raw_variance)) + MIN_VARIANCE

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean of ``((mu - t)^2 / v + log v) / 2``; 0 without samples.

        Args:
            student: ``(N, C_s, h, w)``.
            teacher: ``(N, C, h, w)``, t; no gradient reaches it.
        """
        mean = self.mean(student.to(self.raw_variance.dtype))
        variance = self.variance().view(1, -1, 1, 1)
        square = (full(mean) - full(teacher.detach())).square()
        surprise = 0.5 * (square / variance + variance.log())
        return surprise.sum() / max(surprise.numel(), 1)


@TERMS.register("vid")
class Vid(DistillationTerm):
    """Sum over stage pairs of the mean negative Gaussian log-likelihood of the teacher's map.

    For each pair, with f and t the maps of student and teacher, average-pooled to one size::

        loss = sum_pairs mean_{v,n,c,h,w} ((mu(f) - t)^2 / v_c + log v_c) / 2

    Up to the entropy of t and ``log(2 pi) / 2``, this is the negative bound on their mutual
    information, per entry. It is negative once the variances are small. mu and v are trained with
    the student, so the optimizer's weight decay moves v towards ``softplus(0) = 0.69``.

    Paper and release (RepDistiller, credited there to the authors) agree on the Gaussian and on
    ``v = softplus + constant``. The paper sums over the entries of a map, and the release averages.
    This uses the mean, so that one weight fits maps of every size. The paper also derives a bound
    on the logits, which is not included.

    Args:
        student_channels: channels of the student's stages.
        teacher_channels: the same of the teacher.
        init_variance: v at the start, above 1e-5; 5 in the release.
        student_layers: stages of the student, counted from 1; all by default.
        teacher_layers: those of the teacher, in the order of the student's; all by default.

    Raises:
        InputError: an option is out of range, the numbers of stages differ, or a network has no
            feature maps.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"feature_maps"})
    rows: ClassVar[frozenset[str]] = ROWS

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        init_variance: float = 5.0,
        student_layers: Sequence[int] | None = None,
        teacher_layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not (MIN_VARIANCE < init_variance < math.inf):
            raise InputError(
                f"vid: init_variance is {init_variance}; it must be finite and above {MIN_VARIANCE}"
            )
        student_stages = _stages("student_layers", student_layers, student_channels)
        teacher_stages = _stages("teacher_layers", teacher_layers, teacher_channels)
        if len(student_stages) != len(teacher_stages):
            raise InputError(
                f"vid: {len(student_stages)} stages of the student but {len(teacher_stages)} of "
                "the teacher; name as many of each with student_layers and teacher_layers"
            )
        self.pairs = tuple(zip(student_stages, teacher_stages, strict=True))
        self.regressors = nn.ModuleList(
            GaussianRegressor(student_channels[s], teacher_channels[t], init_variance=init_variance)
            for s, t in self.pairs
        )

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> Vid:
        """Create the term for two given networks."""
        return cls(context.student_channels, context.teacher_channels, **options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the teacher's outputs, or the maps of either network, are missing.
        """
        teacher = inputs.of_teacher()
        losses = []
        for (student_stage, teacher_stage), regressor in zip(
            self.pairs, self.regressors, strict=True
        ):
            maps = equal_sizes(
                stage_map(inputs.student, student_stage), stage_map(teacher, teacher_stage)
            )
            losses.append(regressor(*maps))
        return torch.stack(losses).sum()


def _stages(option: str, chosen: Sequence[int] | None, channels: Sequence[int]) -> list[int]:
    """Return the positions of the chosen stages; all if none was chosen."""
    stages = range(1, len(channels) + 1) if chosen is None else chosen
    if not stages:
        raise InputError(
            f"vid: {option} names no stage; name one or more, or choose a backbone with feature "
            "maps"
        )
    for stage in stages:
        check_stage("vid", option, stage, channels)
    return [stage - 1 for stage in stages]
