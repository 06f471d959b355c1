"""Discovery on arrays of feature vectors."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.arrays.run import VectorData, discover_features, prepare_features
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "run": "VectorData discover_features prepare_features",
        },
    )

__all__ = ["VectorData", "discover_features", "prepare_features"]
