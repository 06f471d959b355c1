"""Known or novel: detectors, their measured quality, and outliers."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.clustering.novelty.energy import (
        carried_threshold,
        energy_scores,
        energy_threshold,
    )
    from crkd.clustering.novelty.known_or_novel import KnownCheck, known_check
    from crkd.clustering.novelty.mahalanobis import ClassDistance
    from crkd.clustering.novelty.mixture_share import known_share
    from crkd.clustering.novelty.outliers import Outliers, outer_fence, reject_bucket
    from crkd.clustering.novelty.separation import Separation, measure_separation
    from crkd.clustering.novelty.set_distance import (
        ClassGaussians,
        DistanceCheck,
        distance_check,
        known_classes,
    )
    from crkd.clustering.novelty.similar_outliers import distance_within, outlier_groups
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "energy": "carried_threshold energy_scores energy_threshold",
            "set_distance": "ClassGaussians DistanceCheck distance_check known_classes",
            "known_or_novel": "KnownCheck known_check",
            "mixture_share": "known_share",
            "mahalanobis": "ClassDistance",
            "similar_outliers": "distance_within outlier_groups",
            "outliers": "Outliers outer_fence reject_bucket",
            "separation": "Separation measure_separation",
        },
    )

__all__ = [
    "ClassDistance",
    "ClassGaussians",
    "DistanceCheck",
    "KnownCheck",
    "Outliers",
    "Separation",
    "carried_threshold",
    "distance_check",
    "distance_within",
    "energy_scores",
    "energy_threshold",
    "known_check",
    "known_classes",
    "known_share",
    "measure_separation",
    "outer_fence",
    "outlier_groups",
    "reject_bucket",
]
