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
    from crkd.clustering.novelty.outliers import Outliers, reject_bucket, tukey_fence
    from crkd.clustering.novelty.relative_mahalanobis import (
        RelativeMahalanobis,
        fit_relative_mahalanobis,
    )
    from crkd.clustering.novelty.separation import Separation, measure_separation
    from crkd.clustering.novelty.set_distance import DistanceCheck, distance_check
    from crkd.clustering.novelty.similar_outliers import distance_within, outlier_groups
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "energy": "carried_threshold energy_scores energy_threshold",
            "set_distance": "DistanceCheck distance_check",
            "known_or_novel": "KnownCheck known_check",
            "mixture_share": "known_share",
            "mahalanobis": "ClassDistance",
            "relative_mahalanobis": "RelativeMahalanobis fit_relative_mahalanobis",
            "similar_outliers": "distance_within outlier_groups",
            "outliers": "Outliers reject_bucket tukey_fence",
            "separation": "Separation measure_separation",
        },
    )

__all__ = [
    "ClassDistance",
    "DistanceCheck",
    "KnownCheck",
    "Outliers",
    "RelativeMahalanobis",
    "Separation",
    "carried_threshold",
    "distance_check",
    "distance_within",
    "energy_scores",
    "energy_threshold",
    "fit_relative_mahalanobis",
    "known_check",
    "known_share",
    "measure_separation",
    "outlier_groups",
    "reject_bucket",
    "tukey_fence",
]
