"""Encoded images in a fixed order: folders, tar files and tables, read once and one by one."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.data.encoded.base import EncodedImages
    from crkd.data.encoded.folder import EncodedFolder
    from crkd.data.encoded.listing import Listing, find_encoded
    from crkd.data.encoded.table import EncodedTable
    from crkd.data.encoded.tar import EncodedTar
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": "EncodedImages",
            "folder": "EncodedFolder",
            "listing": "Listing find_encoded",
            "table": "EncodedTable",
            "tar": "EncodedTar",
        },
    )

__all__ = [
    "EncodedFolder",
    "EncodedImages",
    "EncodedTable",
    "EncodedTar",
    "Listing",
    "find_encoded",
]
