"""SemCKD: distillation from all teacher layers to every student layer by a trained attention.

Chen et al., "Cross-Layer Distillation with Semantic Calibration", AAAI 2021. The released
attention reads rows of a batch-by-batch similarity matrix through a linear layer, which fixes the
batch size. Here it reads a fixed number of quantiles of each row instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.losses.feature_maps import equal_sizes, stage_map
from crkd.losses.precision import full
from crkd.losses.term import (
    TERMS,
    DistillationInputs,
    DistillationTerm,
    TermContext,
    checked_temperature,
)

# Lower bound of a map's norm, which bounds the gradient of its cosines if the map is zero.
SMALLEST_LENGTH = 1e-3
HALF = (torch.bfloat16, torch.float16)


def similarity_quantiles(maps: Tensor, num_views: int, levels: int) -> Tensor:
    """Return the quantiles of each sample's similarities to its batch, for any batch size.

    A row contains the cosines between the flattened map of a sample and those of all B samples of
    its view, including itself. The row is sorted and read at ``levels`` evenly spaced ranks, with
    linear interpolation between them. The shape of the result does not depend on B.

    Args:
        maps: ``(V * B, channels, h, w)``, view by view; B at least 1.
        num_views: V.
        levels: number of quantiles R, including the smallest and the largest value.

    Returns:
        ``(V, B, R)`` in float32 at least, ascending, within [-1, 1].
    """
    with torch.autocast(maps.device.type, enabled=False):
        flat = full(maps).reshape(num_views, len(maps) // num_views, -1)
        unit = F.normalize(flat, dim=-1, eps=SMALLEST_LENGTH)
        ascending = (unit @ unit.mT).sort(dim=-1).values
        ranks = torch.arange(flat.shape[1], device=flat.device, dtype=flat.dtype)
        read = torch.linspace(0, flat.shape[1] - 1, levels, device=flat.device, dtype=flat.dtype)
        # Linear interpolation as a product, because the gradient of a gather is not deterministic.
        return ascending @ (1 - (ranks.unsqueeze(1) - read).abs()).clamp_min(0)


@TERMS.register("semckd")
class SemCKD(DistillationTerm):
    """Squared distance of projected student maps to teacher maps, weighted by attention.

    With f the maps, r the quantiles of :func:`similarity_quantiles`, MLPs Q and K, a projector P
    for each pair of layers, s the attention's temperature::

        a_bij = softmax_j(cos(Q_i(r(f^s_i))_b, K_j(r(f^t_j))_b) / s)
        loss  = 1/L_s mean_{v,b} sum_{i,j} a_bij mean_{chw} (P_ij(f^s_i) - f^t_j)^2

    The larger map of a pair is average-pooled to the size of the smaller. Both attention and
    distances pass gradients to the student, as in the release.

    Args:
        student_channels: channels of the student's L_s maps.
        teacher_channels: channels of the teacher's L_t maps.
        levels: number of quantiles of a row, at least 2.
        width: length of queries and keys, at least 1; their MLP's hidden layer is twice as wide.
        temperature: s, above 0; the attention is a softmax of cosines, so that 1 (release) keeps
            it nearly uniform.

    Raises:
        InputError: a network has no feature maps, or an option is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"feature_maps"})
    # The weights of the release's training scripts for CIFAR, which add kd.
    weight: ClassVar[float] = 400.0
    # With larger weights the projectors diverge at the learning rate of discovery.
    discovery_weight: ClassVar[float | None] = 10.0
    beside: ClassVar[Mapping[str, float]] = MappingProxyType({"kd": 1.0})

    def __init__(
        self,
        student_channels: tuple[int, ...],
        teacher_channels: tuple[int, ...],
        *,
        levels: int = 32,
        width: int = 16,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        for owner, channels in (("student", student_channels), ("teacher", teacher_channels)):
            if not channels:
                raise InputError(
                    f"semckd: the {owner}'s backbone has 0 feature maps; choose a backbone that "
                    "has some, or a loss on logits such as mlld"
                )
        for option, value, least in (("levels", levels, 2), ("width", width, 1)):
            if value < least:
                raise InputError(f"semckd: {option} is {value}; it must be {least} or more")
        self.levels, self.temperature = levels, checked_temperature("semckd", temperature)
        self.queries = nn.ModuleList(_embedding(levels, width) for _ in student_channels)
        self.keys = nn.ModuleList(_embedding(levels, width) for _ in teacher_channels)
        self.projectors = nn.ModuleList(
            _projector(ours, theirs) for ours, theirs in product(student_channels, teacher_channels)
        )

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> SemCKD:
        """Create the term for the stages of two given backbones."""
        return cls(context.student_channels, context.teacher_channels, **options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all rows and views.

        Raises:
            RuntimeError: the teacher's outputs, or the maps of either network, are missing.
        """
        num_views, num_rows = inputs.student.features.shape[:2]
        student = [stage_map(inputs.student, i) for i in range(len(self.queries))]
        teacher = [stage_map(inputs.of_teacher(), j).detach() for j in range(len(self.keys))]
        if num_rows == 0:  # batch norm of no rows has no mean
            return torch.stack([full(stage).sum() for stage in student]).sum()
        attention = self.attention(student, teacher, num_views).flatten(0, 1)
        pairs = list(product(student, teacher))
        distances = [
            _distance(projector, ours, theirs, self._dtype())
            for projector, (ours, theirs) in zip(self.projectors, pairs, strict=True)
        ]
        weighted = attention.flatten(1) * torch.stack(distances, dim=1)
        return weighted.sum(dim=1).mean() / len(student)

    def attention(self, student: list[Tensor], teacher: list[Tensor], num_views: int) -> Tensor:
        """Return the attention of each student layer to each teacher layer.

        Args:
            student: per stage ``(V * B, channels, h, w)``, view by view.
            teacher: the same of the teacher.
            num_views: V.

        Returns:
            ``(V, B, L_s, L_t)``, each last axis a distribution.
        """
        with torch.autocast(student[0].device.type, enabled=False):
            queries = self._embedded(self.queries, student, num_views)
            keys = self._embedded(self.keys, teacher, num_views)
            return (queries @ keys.mT / self.temperature).softmax(dim=-1)

    def _embedded(self, embeddings: nn.ModuleList, maps: list[Tensor], num_views: int) -> Tensor:
        rows = [
            embedding(similarity_quantiles(stage, num_views, self.levels).to(self._dtype()))
            for embedding, stage in zip(embeddings, maps, strict=True)
        ]
        return F.normalize(torch.stack(rows, dim=2), dim=-1, eps=SMALLEST_LENGTH)

    def _dtype(self) -> torch.dtype:
        """Return the precision of the weights, to which maps are converted."""
        return next(self.queries.parameters()).dtype


def _distance(
    projector: nn.Module, student: Tensor, teacher: Tensor, weights: torch.dtype
) -> Tensor:
    """Return the mean squared distance of each sample, ``(V * B,)``."""
    student, teacher = equal_sizes(student, teacher)
    # Terms are computed outside of the networks' autocast. The projectors are larger than the
    # student, so they use the precision of its maps.
    half = student.dtype in HALF
    dtype = student.dtype if half else torch.bfloat16
    with torch.autocast(student.device.type, dtype=dtype, enabled=half):
        projected = projector(student if half else student.to(weights))
    return (full(projected) - full(teacher)).square().mean(dim=(1, 2, 3))


def _embedding(levels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(levels, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


def _projector(student_channels: int, teacher_channels: int) -> nn.Sequential:
    middle = 2 * teacher_channels
    return nn.Sequential(
        nn.Conv2d(student_channels, middle, 1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, middle, 3, padding=1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, teacher_channels, 1, bias=False),
    )
