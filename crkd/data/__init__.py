"""Data: image sources, data sets, class splits and image storage."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.data.datasets.base import DATASETS, Dataset, DatasetNotFoundError, load_dataset
    from crkd.data.datasets.features import feature_dataset
    from crkd.data.loader import BatchLoader
    from crkd.data.sources.arrays import ArraySource
    from crkd.data.sources.base import ImageSource, UnreadableImageError
    from crkd.data.sources.folder import folder_dataset
    from crkd.data.splits.class_split import ClassSplit, available_splits, load_split
    from crkd.data.splits.partition import HiddenLabels, Subset, Subsets, partition
    from crkd.data.storage.choose import choose_storage
    from crkd.data.storage.in_memory import InMemoryImages
    from crkd.data.storage.streaming import StreamingImages
    from crkd.data.vectors.table import FeatureTable, read_features
    from crkd.data.views import Views
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "datasets.base": "DATASETS Dataset DatasetNotFoundError load_dataset",
            "datasets.features": "feature_dataset",
            "loader": "BatchLoader",
            "sources.arrays": "ArraySource",
            "sources.base": "ImageSource UnreadableImageError",
            "sources.folder": "folder_dataset",
            "splits.class_split": "ClassSplit available_splits load_split",
            "splits.partition": "HiddenLabels Subset Subsets partition",
            "storage.choose": "choose_storage",
            "storage.in_memory": "InMemoryImages",
            "storage.streaming": "StreamingImages",
            "vectors.table": "FeatureTable read_features",
            "views": "Views",
        },
    )

__all__ = [
    "DATASETS",
    "ArraySource",
    "BatchLoader",
    "ClassSplit",
    "Dataset",
    "DatasetNotFoundError",
    "FeatureTable",
    "HiddenLabels",
    "ImageSource",
    "InMemoryImages",
    "StreamingImages",
    "Subset",
    "Subsets",
    "UnreadableImageError",
    "Views",
    "available_splits",
    "choose_storage",
    "feature_dataset",
    "folder_dataset",
    "load_dataset",
    "load_split",
    "partition",
    "read_features",
]
