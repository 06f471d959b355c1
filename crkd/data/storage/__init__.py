"""Image storage: in memory, or decoded on demand."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.data.storage.base import ImageStore
    from crkd.data.storage.choose import choose_storage
    from crkd.data.storage.in_memory import InMemoryImages
    from crkd.data.storage.streaming import StreamingImages
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": "ImageStore",
            "choose": "choose_storage",
            "in_memory": "InMemoryImages",
            "streaming": "StreamingImages",
        },
    )

__all__ = ["ImageStore", "InMemoryImages", "StreamingImages", "choose_storage"]
