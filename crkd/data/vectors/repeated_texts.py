"""Texts that a Parquet file stores once and repeats in many rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from crkd.core.parquet_file import native_file
from crkd.core.parquet_footer import ColumnChunk
from crkd.data.vectors.declared_size import SMALL, DecodedBytes

_BYTE_ARRAY: Final = 6
_ROWS: Final = 1 << 16
"""Rows that are read at once; the dictionary is read each time."""


def check_repeated_texts(
    file: Path,
    groups: Sequence[Sequence[ColumnChunk]],
    columns: Collection[str] | None = None,
) -> None:
    """Refuse a file whose columns of texts or bytes would fill the memory, before they are decoded.

    The file declares a text of a dictionary once. Texts inside lists and structs are not counted.

    Args:
        file: a Parquet file.
        groups: its column chunks.
        columns: names of the columns that are counted, where they are texts; None counts all.

    Raises:
        InputError: the texts of all rows are larger than the free memory, or far larger than the
            file.
        pyarrow.ArrowException: the file is damaged.
        OSError: the file is damaged or cannot be read.
    """
    import pyarrow.parquet

    texts = [chunk for group in groups for chunk in group if chunk.type == _BYTE_ARRAY]
    if sum(chunk.num_values * chunk.uncompressed for chunk in texts) <= SMALL:
        # Not even the longest possible text in each row is too large.
        return
    decoded = DecodedBytes(file)
    with native_file(file) as source:
        names = [
            field.name
            for field in pyarrow.parquet.read_schema(source)
            if _is_text(field.type) and (columns is None or field.name in columns)
        ]
        opened = pyarrow.parquet.ParquetFile(source, pre_buffer=False, read_dictionary=names)
        for batch in opened.iter_batches(batch_size=_ROWS, columns=names):
            # Numbers of a damaged file may point anywhere.
            batch.validate(full=True)
            for column in batch.columns:
                decoded.add(_text_bytes(column))


def _is_text(kind: Any) -> bool:
    import pyarrow.types as kinds

    if kinds.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        kinds.is_string(kind)
        or kinds.is_large_string(kind)
        or kinds.is_binary(kind)
        or kinds.is_large_binary(kind)
    )


def _text_bytes(column: Any) -> int:
    """Return the bytes of the texts of all rows of an array, which may be a dictionary."""
    import pyarrow.compute
    import pyarrow.types as kinds

    if not kinds.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pyarrow.compute.binary_length(column.dictionary).cast("int64")
    return pyarrow.compute.sum(lengths.take(column.indices)).as_py() or 0
