"""SRRL: student features under the teacher's classifier.

Yang et al., "Knowledge Distillation via Softmax Regression Representation Learning", ICLR 2021.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.losses.feature_maps import Connector, mean_square, stage_map
from crkd.losses.precision import full
from crkd.losses.term import ROWS, TERMS, DistillationInputs, DistillationTerm, TermContext


@TERMS.register("srrl")
class Srrl(DistillationTerm):
    """Distance of the features plus distance of the logits of the teacher's classifier.

    With f the student's last map, r a 1x1 convolution, batch norm and ReLU, h the teacher's
    features, z its known logits and W its frozen classifier::

        s    = average over h,w of r(f)
        loss = mean_{v,n,d} (s - h)^2 + w mean_{v,n,k} (W(s) - z)^2

    Paper and release agree on the squared distance of the logits (no softmax, no temperature).
    This follows the release's reduction, the mean over samples and entries, and its w of 1. The
    variant in the SimKD repository connects the pooled vector and adds ``kd``. Here the connector
    reads the map, as in the authors' release, and ``kd`` is a separate term.

    The classifier is a frozen copy: gradients pass through it to the student, but do not train it.
    Logits of a cosine head are cosines divided by 0.1, so their squared distance is 100 times that
    of the cosines. It does not depend on the length of s, which only the first part constrains.

    Args:
        student_channels: channels of the student's stages, of which the last is used.
        teacher_features: D, length of the teacher's feature vector.
        teacher_head: ``(N, D)`` features to ``(N, K)`` logits; copied.
        regression_weight: w, at least 0.
        relu: whether the connector ends with a ReLU. Without it, negative teacher features can be
            matched, such as those of transformers.

    Raises:
        InputError: an option is out of range, there is no teacher head, or the student has no
            feature maps.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits", "feature_maps"})
    # The squared distance of cosine logits has a larger gradient than the discovery loss at 1.
    discovery_weight: ClassVar[float | None] = 0.2
    rows: ClassVar[frozenset[str]] = ROWS

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_features: int,
        teacher_head: nn.Module | None,
        *,
        regression_weight: float = 1.0,
        relu: bool = True,
    ) -> None:
        super().__init__()
        if not (0 <= regression_weight < math.inf):
            raise InputError(
                f"srrl: regression_weight is {regression_weight}; it must be finite and at least 0"
            )
        if not student_channels:
            raise InputError(
                "srrl needs the student's last feature map, and this backbone has none; choose "
                "another backbone, or a loss on logits such as kd or lwf"
            )
        if teacher_head is None:
            raise InputError(
                "srrl needs the teacher's classifier, and this teacher has none; choose a loss on "
                "feature maps such as fitnet or vid"
            )
        self.regression_weight = regression_weight
        self.connector = Connector(student_channels[-1], teacher_features, relu=relu)
        self.teacher_head = copy.deepcopy(teacher_head).requires_grad_(False).eval()

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> Srrl:
        """Create the term for two given networks."""
        return cls(
            context.student_channels, context.teacher_features, context.teacher_head, **options
        )

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, except for the frozen classifier."""
        super().train(mode)
        self.teacher_head.eval()
        return self

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the teacher's outputs, or the student's maps, are missing.
        """
        teacher = inputs.of_teacher()
        connected = full(self.connector(stage_map(inputs.student, -1))).mean(dim=(2, 3))
        matching = mean_square(connected, teacher.features.detach().flatten(0, 1))
        logits = self.teacher_head(connected)
        regression = mean_square(logits, teacher.known_logits.detach().flatten(0, 1))
        return matching + self.regression_weight * regression
