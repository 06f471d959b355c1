"""Discovery on arrays in memory, for the estimator."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.arrays.images import array_data, discover_in_memory
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "images": "array_data discover_in_memory",
        },
    )

__all__ = ["array_data", "discover_in_memory"]
