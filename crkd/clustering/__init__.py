"""Clustering of features: k-means, class counts, novelty scores and near-duplicates.

Only this package imports faiss.
"""

from typing import TYPE_CHECKING

from crkd.clustering.kmeans import KMeansResult, assign, kmeans
from crkd.clustering.near_duplicates import Duplicates, near_duplicates
from crkd.clustering.semi_kmeans import SemiKMeansResult, semi_kmeans
from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.clustering.class_count.estimate import ClassCount, Evidence, estimate_class_count
    from crkd.clustering.cluster_usage import Merge, merge_suggestions, unused_clusters
    from crkd.clustering.low_rank_gaussians import ClassStatistics, class_statistics
    from crkd.clustering.neighbors import nearest_neighbors
    from crkd.clustering.novelty.known_or_novel import KnownCheck, known_check
    from crkd.clustering.novelty.mahalanobis import ClassDistance
    from crkd.clustering.novelty.outliers import Outliers
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "class_count.estimate": "ClassCount Evidence estimate_class_count",
            "low_rank_gaussians": "ClassStatistics class_statistics",
            "cluster_usage": "Merge merge_suggestions unused_clusters",
            "neighbors": "nearest_neighbors",
            "novelty.known_or_novel": "KnownCheck known_check",
            "novelty.mahalanobis": "ClassDistance",
            "novelty.outliers": "Outliers",
        },
    )

__all__ = [
    "ClassCount",
    "ClassDistance",
    "ClassStatistics",
    "Duplicates",
    "Evidence",
    "KMeansResult",
    "KnownCheck",
    "Merge",
    "Outliers",
    "SemiKMeansResult",
    "assign",
    "class_statistics",
    "estimate_class_count",
    "kmeans",
    "known_check",
    "merge_suggestions",
    "near_duplicates",
    "nearest_neighbors",
    "semi_kmeans",
    "unused_clusters",
]
