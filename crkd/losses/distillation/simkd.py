"""SimKD: the student uses the teacher's classifier and learns only its last feature map.

Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from crkd.core.errors import InputError
from crkd.losses.feature_maps import equal_sizes, mean_square, stage_map
from crkd.losses.term import TERMS, DistillationInputs, DistillationTerm, TermContext


@TERMS.register("simkd")
class SimKd(DistillationTerm):
    """Mean squared distance between the student's projected and the teacher's last map.

    With f the teacher's last map and s the student's, average-pooled to one size::

        loss = mean_{v,n,c,h,w} (s - f)^2

    s is already projected: the projector and the teacher's frozen classifier belong to the
    deployed student (``teacher_classifier``). This term trains no parameters of its own. It is the
    whole loss: cross-entropy and ``kd`` have weight 0, and no labels are used. It applies only to
    teacher-to-student training, because the teacher's classifier has no classes that the teacher
    does not know, such as the novel classes of a discovery.

    Raises:
        InputError: a network has no feature maps, or the teacher has no classifier.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"distill"})
    needs: frozenset[str] = frozenset({"feature_maps", "teacher_classifier"})
    supervised: ClassVar[float] = 0.0

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> SimKd:
        """Create the term for two given networks."""
        if not (context.student_channels and context.teacher_channels):
            raise InputError(
                "simkd compares last feature maps, and one of the two backbones has none; choose "
                "another backbone, or a loss on logits such as kd or lwf"
            )
        if context.teacher_head is None:
            raise InputError(
                "simkd gives the student the teacher's classifier, and this teacher has none; "
                "choose a loss on feature maps such as fitnet or vid"
            )
        return cls(**options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the teacher's outputs, or the maps of either network, are missing.
        """
        teacher = stage_map(inputs.of_teacher(), -1).detach()
        return mean_square(*equal_sizes(stage_map(inputs.student, -1), teacher))
