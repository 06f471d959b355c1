"""FitNet hints: a regressor maps an intermediate student map to one of the teacher.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, eq. 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from crkd.losses.feature_maps import Connector, check_stage, equal_sizes, mean_square, stage_map
from crkd.losses.term import ROWS, TERMS, DistillationInputs, DistillationTerm, TermContext


@TERMS.register("fitnet")
class FitNet(DistillationTerm):
    """Mean squared distance between the regressed student map and the teacher's hint.

    With f the student's and g the teacher's map, average-pooled to one size, and r a 1x1
    convolution, batch norm and ReLU::

        loss = mean_{v,n,c,h,w} (r(f) - g)^2

    Where paper and releases differ, this follows the releases (RepDistiller, SemCKD, mdistiller),
    because the published comparisons use them. They take the mean over all entries (weight 100)
    instead of half the sum, and train jointly with the other losses instead of in a separate
    stage. For maps of different size, the releases use strided or valid convolutions in the
    regressor. Here the larger map is pooled; for equal sizes the regressor is that of the releases.

    Args:
        student_channels: channels of the student's stages.
        teacher_channels: the same of the teacher.
        hint_layer: stage of the teacher, counted from 1; 2 in RepDistiller, whose layer 0 is the
            stem.
        guided_layer: stage of the student; that of the teacher by default.

    Raises:
        InputError: a network has no such stage, or no feature maps.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"feature_maps"})
    # RepDistiller's weight, with a cross-entropy of weight 1.
    weight: ClassVar[float] = 100.0
    # At 100 it has 30 times the gradient of the discovery loss.
    discovery_weight: ClassVar[float | None] = 1.0
    rows: ClassVar[frozenset[str]] = ROWS

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        hint_layer: int = 2,
        guided_layer: int | None = None,
    ) -> None:
        super().__init__()
        check_stage("fitnet", "hint_layer", hint_layer, teacher_channels)
        if guided_layer is None:
            guided_layer = hint_layer
        check_stage("fitnet", "guided_layer", guided_layer, student_channels)
        self.hint, self.guided = hint_layer - 1, guided_layer - 1
        self.regressor = Connector(student_channels[self.guided], teacher_channels[self.hint])

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> FitNet:
        """Create the term for two given networks."""
        return cls(context.student_channels, context.teacher_channels, **options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the teacher's outputs, or the maps of either network, are missing.
        """
        hint = stage_map(inputs.of_teacher(), self.hint).detach()
        guided, hint = equal_sizes(stage_map(inputs.student, self.guided), hint)
        return mean_square(self.regressor(guided), hint)
