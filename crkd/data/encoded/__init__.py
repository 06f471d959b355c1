"""Encoded images in a fixed order: folders, tar files and tables, read once and one by one."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.data.encoded.base import EncodedImages
    from crkd.data.encoded.find import Listing, Root, find_encoded
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": "EncodedImages",
            "find": "Listing Root find_encoded",
        },
    )

__all__ = ["EncodedImages", "Listing", "Root", "find_encoded"]
