"""Splits into known and novel classes, and the resulting subsets of a data set."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports
from crkd.data.splits.partition import HiddenLabels, Subset, Subsets, joined, partition

if TYPE_CHECKING:
    from crkd.data.splits.class_split import ClassSplit, available_splits, label_hash, load_split
    from crkd.data.splits.long_tail import long_tailed
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "class_split": "ClassSplit available_splits label_hash load_split",
            "long_tail": "long_tailed",
        },
    )

__all__ = [
    "ClassSplit",
    "HiddenLabels",
    "Subset",
    "Subsets",
    "available_splits",
    "joined",
    "label_hash",
    "load_split",
    "long_tailed",
    "partition",
]
