"""Novelty scores: distances of features from the known classes."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.clustering.novelty.energy import (
        carried_threshold,
        energy_scores,
        energy_threshold,
    )
    from crkd.clustering.novelty.known_detector import (
        KnownCheck,
        KnownClassDetector,
        known_check,
        known_classes,
    )
    from crkd.clustering.novelty.mahalanobis import ClassDistance
    from crkd.clustering.novelty.outliers import Outliers, outer_fence, reject_bucket
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "energy": "carried_threshold energy_scores energy_threshold",
            "known_detector": "KnownCheck KnownClassDetector known_check known_classes",
            "mahalanobis": "ClassDistance",
            "outliers": "Outliers outer_fence reject_bucket",
        },
    )

__all__ = [
    "ClassDistance",
    "KnownCheck",
    "KnownClassDetector",
    "Outliers",
    "carried_threshold",
    "energy_scores",
    "energy_threshold",
    "known_check",
    "known_classes",
    "outer_fence",
    "reject_bucket",
]
