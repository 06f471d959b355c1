"""Named data sets, one module each."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.data.datasets.base import (
        DATASETS,
        Dataset,
        DatasetBuilder,
        DatasetNotFoundError,
        find_folder,
        load_dataset,
    )
    from crkd.data.datasets.features import FeatureSource, feature_dataset
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": "DATASETS Dataset DatasetBuilder DatasetNotFoundError find_folder load_dataset",
            "features": "FeatureSource feature_dataset",
        },
    )

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetBuilder",
    "DatasetNotFoundError",
    "FeatureSource",
    "feature_dataset",
    "find_folder",
    "load_dataset",
]
