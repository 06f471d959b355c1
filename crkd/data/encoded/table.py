"""Encoded images in a column of a Parquet file, as the Hugging Face hub stores them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from crkd.core.errors import InputError, listed
from crkd.core.parquet_file import native_file
from crkd.core.parquet_footer import column_chunks
from crkd.data.encoded.base import EncodedImages, Names
from crkd.data.encoded.table_pieces import KEPT_BYTES, TablePieces
from crkd.data.sources.base import UnreadableImageError
from crkd.data.vectors.declared_size import OBJECT_BYTES, check_declared_size, parquet_bytes
from crkd.data.vectors.repeated_texts import check_repeated_texts

_BYTES: Final = "bytes"
_LABELS: Final = ("label", "fine_label", "labels")
"""Names of label columns that are preferred where a file has several."""


class EncodedTable(EncodedImages):
    """The images of a Parquet file, by row: "0000012".

    They are read fast in the order of the rows.

    The images are in the first column of structs with the field ``bytes``. The class comes from a
    column of integers whose names are in the metadata, or from a column of texts called "label".

    Args:
        place: the file.

    Raises:
        InputError: the file is damaged, or has no column of images.
    """

    def __init__(self, place: Path) -> None:
        import pyarrow

        try:
            source, file = _opened(place)
            chunks = column_chunks(place)
            schema = file.schema_arrow
            column = image_column(schema)
            if column is None:
                raise InputError(
                    f"the Parquet file {str(place)!r} has the columns {listed(schema.names)}, and "
                    f"none is a struct with the field {_BYTES!r}; give a table of images"
                )
            count = file.metadata.num_rows
            groups = range(file.metadata.num_row_groups)
            lengths = [file.metadata.row_group(group).num_rows for group in groups]
            if sum(lengths) != count or min(lengths, default=0) < 0:
                raise OSError(f"its groups have other numbers of rows than {count:,} together")
            sizes = [parquet_bytes([group]) for group in chunks]
            if len(sizes) != len(lengths):
                raise OSError(f"it has {len(sizes):,} descriptions of {len(lengths):,} groups")
            # Names and classes of all rows, and the pieces that are kept.
            texts, pieces = OBJECT_BYTES * count, 2 * max(sizes, default=0)
            check_declared_size(place, texts + pieces, texts + min(pieces, KEPT_BYTES))
            check_repeated_texts(place, chunks, [_LABELS[0]])
            classes = _classes(file)
            if classes is not None and len(classes) != count:
                raise OSError(f"it has {len(classes):,} labels for {count:,} rows")
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(place, error) from None
        names = Names()
        for row in range(count):
            names.append(f"{row:07d}")
        super().__init__(place, names, [None] * count if classes is None else classes)
        self._pieces = TablePieces(source, file.metadata, column, _BYTES, sizes)

    def read(self, index: int) -> bytes:
        """Return the content of a row; the rows that were read last are kept."""
        import pyarrow

        where = f"{self.place}: {self.name(index)}"
        try:
            value = self._pieces.value(index)
        except (pyarrow.ArrowException, OSError) as error:
            raise UnreadableImageError(where, " ".join(str(error).split())) from None
        if not value.is_valid:
            raise UnreadableImageError(where, "the row holds no image")
        content: bytes = value.as_py()
        return content


def has_images(place: Path) -> bool:
    """Return whether a file is a Parquet table with a column of images."""
    import pyarrow

    try:
        return image_column(_opened(place)[1].schema_arrow) is not None
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        return False


def image_column(schema: Any) -> str | None:
    """Return the name of the first column of encoded images."""
    import pyarrow.types as kinds

    for field in schema:
        if kinds.is_struct(field.type) and (at := field.type.get_field_index(_BYTES)) >= 0:
            kind = field.type.field(at).type
            if kinds.is_binary(kind) or kinds.is_large_binary(kind):
                return str(field.name)
    return None


def _opened(place: Path) -> tuple[Any, Any]:
    """Return a file, open, and its ``ParquetFile``."""
    import pyarrow.parquet

    if not place.is_file():
        raise OSError("not a regular file")
    source = native_file(place)
    return source, pyarrow.parquet.ParquetFile(source)


def _damaged(place: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"cannot read the Parquet file {str(place)!r}: {reason}; fetch it again")


def _classes(file: Any) -> Sequence[str | None] | None:
    """Return the class of every row; None where the file names no classes."""
    schema = file.schema_arrow
    named = _class_names(schema.metadata)
    columns = [c for c in (*_LABELS, *schema.names) if c in named and c in schema.names]
    if columns:
        names = named[columns[0]]
        labels = file.read(columns=[columns[0]]).column(0).to_pylist()
        return [
            names[label] if isinstance(label, int) and 0 <= label < len(names) else None
            for label in labels
        ]
    if _LABELS[0] in schema.names and _is_text(schema.field(_LABELS[0]).type):
        texts: list[str | None] = file.read(columns=[_LABELS[0]]).column(0).to_pylist()
        return texts
    return None


def _is_text(kind: Any) -> bool:
    import pyarrow.types as kinds

    if kinds.is_dictionary(kind):
        kind = kind.value_type
    # Views have no function of their own in the oldest pyarrow that serves.
    return str(kind) in ("string", "large_string", "string_view")


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the names of the classes of every label column, as the hub's metadata give them."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        lists = {column: feature.get("names") for column, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {
        column: names
        for column, names in lists.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }
