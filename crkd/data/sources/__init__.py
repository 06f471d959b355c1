"""Image sources, one module per layout."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.data.sources.arrays import ArraySource
    from crkd.data.sources.base import ImageSource, RowIds, UnreadableImageError
    from crkd.data.sources.decode import decode_image, read_header
    from crkd.data.sources.files import FileSource, image_files
    from crkd.data.sources.folder import folder_dataset
    from crkd.data.sources.parquet import ParquetSource
    from crkd.data.sources.tar import TarSource, tar_dataset
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "arrays": "ArraySource",
            "base": "ImageSource RowIds UnreadableImageError",
            "decode": "decode_image read_header",
            "files": "FileSource image_files",
            "folder": "folder_dataset",
            "parquet": "ParquetSource",
            "tar": "TarSource tar_dataset",
        },
    )

__all__ = [
    "ArraySource",
    "FileSource",
    "ImageSource",
    "ParquetSource",
    "RowIds",
    "TarSource",
    "UnreadableImageError",
    "decode_image",
    "folder_dataset",
    "image_files",
    "read_header",
    "tar_dataset",
]
