"""Precomputed feature vectors instead of images."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.data.vectors.table import FeatureTable, read_features
    from crkd.data.vectors.views import FeatureStore, FeatureViews, VectorRecipe
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "table": "FeatureTable read_features",
            "views": "FeatureStore FeatureViews VectorRecipe",
        },
    )

__all__ = ["FeatureStore", "FeatureTable", "FeatureViews", "VectorRecipe", "read_features"]
