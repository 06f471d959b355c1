"""scikit-learn estimator of novel classes, for feature vectors and images in memory."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.estimator.class_table import ClassRow
    from crkd.estimator.novel_class_discovery import NovelClassDiscovery
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "class_table": "ClassRow",
            "novel_class_discovery": "NovelClassDiscovery",
        },
    )

__all__ = ["ClassRow", "NovelClassDiscovery"]
