"""Feature vectors instead of images."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.data.vectors.embedded_source import EmbeddedSource
    from crkd.data.vectors.store import VectorStore
    from crkd.data.vectors.table import FeatureTable, read_features
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "embedded_source": "EmbeddedSource",
            "store": "VectorStore",
            "table": "FeatureTable read_features",
        },
    )

__all__ = ["EmbeddedSource", "FeatureTable", "VectorStore", "read_features"]
