"""Estimation of the number of novel classes, as a range with evidence."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.clustering.class_count.estimate import ClassCount, Evidence, estimate_class_count
    from crkd.clustering.class_count.inertia import InertiaCurve, cluster_counts, inertia_curve
    from crkd.clustering.class_count.validity import silhouettes, stabilities
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "estimate": "ClassCount Evidence estimate_class_count",
            "inertia": "InertiaCurve cluster_counts inertia_curve",
            "validity": "silhouettes stabilities",
        },
    )

__all__ = [
    "ClassCount",
    "Evidence",
    "InertiaCurve",
    "cluster_counts",
    "estimate_class_count",
    "inertia_curve",
    "silhouettes",
    "stabilities",
]
