"""Contrastive self-supervised loss between views of the same image.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR),
ICML 2020, eq. 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.losses.term import (
    TERMS,
    DistillationInputs,
    DistillationTerm,
    TermContext,
    checked_temperature,
)
from crkd.losses.view_contrast import contrast


@TERMS.register("contrastive")
class Contrastive(DistillationTerm):
    """SimCLR on the features, through its own projector; needs neither labels nor a teacher.

    In stage 1, unlabeled images can be used too (``pretrain.unlabeled``). The projector is the
    published one: one hidden layer as wide as the features, 128 outputs, cosine.

    Args:
        num_features: length D of the feature vector.
        temperature: T, above 0; 0.5 is best on CIFAR-10 in the paper (appendix B.9); smaller values
            are better for more classes.
        projection: length P of the projected features.

    Raises:
        InputError: an option is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"pretrain", "discover"})
    # At 1 it costs accuracy of the known classes.
    discovery_weight: ClassVar[float | None] = 0.1
    needs: frozenset[str] = frozenset()

    def __init__(
        self, num_features: int, *, temperature: float = 0.2, projection: int = 128
    ) -> None:
        super().__init__()
        if projection < 1:
            raise InputError(f"contrastive: projection is {projection}; it must be at least 1")
        self.temperature = checked_temperature("contrastive", temperature)
        self.projector = nn.Sequential(
            nn.Linear(num_features, num_features), nn.ReLU(), nn.Linear(num_features, projection)
        )

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> Contrastive:
        """Create the term for a network."""
        return cls(context.student_features, **options)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all large views and rows.

        Raises:
            InputError: there is only one view.
        """
        features = inputs.student.features
        if len(features) < 2:
            raise InputError(
                "contrastive compares two views of an image, and each image has 1; set "
                "pretrain.num_views to 2"
            )
        dtype = next(self.projector.parameters()).dtype
        return contrast(self.projector(features.to(dtype)), self.temperature)
