"""Baselines as runs of their own: k-means, UNO and the supervised upper bound."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.baselines.kmeans import kmeans_on_features
    from crkd.stages.baselines.supervised import supervised_upper_bound
    from crkd.stages.baselines.uno import uno_v2, uno_without_overclustering
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "kmeans": "kmeans_on_features",
            "supervised": "supervised_upper_bound",
            "uno": "uno_v2 uno_without_overclustering",
        },
    )

__all__ = [
    "kmeans_on_features",
    "supervised_upper_bound",
    "uno_v2",
    "uno_without_overclustering",
]
