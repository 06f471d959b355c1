"""Precomputed feature vectors in Parquet, .npy or .npz files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError, listed
from crkd.core.parquet_file import in_pieces, mapped_file, native_file
from crkd.core.parquet_footer import ColumnChunk, column_chunks
from crkd.core.paths import readable
from crkd.data.sources.base import RowIds
from crkd.data.vectors.checked_vectors import as_float32, checked_vectors
from crkd.data.vectors.declared_size import check_declared_size, parquet_bytes
from crkd.data.vectors.numpy_file import read_npy, read_npz, unreadable
from crkd.data.vectors.pandas_index import index_columns
from crkd.data.vectors.repeated_texts import check_repeated_texts
from crkd.data.vectors.row_file import IN_MEMORY, PIECE_ROWS, RowFile, RowWriter

LABEL: Final = "label"
ID: Final = "id"
FEATURES: Final = "features"
DIGEST: Final = "sha256"
METADATA: Final = b"crkd_embedding"
"""Key of the schema's metadata under which ``crkd embed`` describes a file."""

PIECE_BYTES: Final = 128 << 20
"""Memory for the rows of a large file that are converted at once."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """N feature vectors with their labels and ids from a file.

    Attributes:
        path: the file.
        features: ``(N, D)`` float32, finite, N and D at least 1. More than 256 MiB of them stay in
            a file, of which rows are taken by a slice, positions or a mask.
        labels: N class names, "" for a row without one; None if the file has no labels.
        ids: N unique names.
        embedding: how ``crkd embed`` made the vectors (:mod:`crkd.data.vectors.embedding_file`);
            None for vectors of another origin.
    """

    path: Path
    features: Vectors | RowFile
    labels: list[str] | None
    ids: Sequence[str]
    embedding: dict[str, Any] | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.features)


def read_features(path: str | Path) -> FeatureTable:
    """Read a file of feature vectors.

    - **Parquet**: one list column holds the vectors, or every number column is one dimension, in
      the order of the file. The columns ``label``, ``id`` and ``sha256`` and the index of a pandas
      table are taken out before.
    - **.npy**: the vectors, ``(N, D)``.
    - **.npz**: the array ``features``, and optionally ``label`` and ``id``.

    A label is text or a whole number; an empty text, a null and -1 mean that there is none.

    More than 256 MiB of vectors are not read into memory: those of an .npy file of float32 are read
    where they are, others are converted once into a temporary file next to the file.

    Args:
        path: the file; its suffix determines the format.

    Raises:
        InputError: the file is missing, damaged or in another format, it declares more values than
            the memory can hold, its vectors differ in length or hold a value that is not finite,
            labels or ids do not match them, or there is no space for a temporary file.
    """
    file = Path(path)
    readers = {".parquet": _from_parquet, ".npy": _from_npy, ".npz": _from_npz}
    if file.suffix.lower() not in readers:
        raise InputError(
            f"the feature file {str(file)!r} has the suffix {file.suffix!r}; "
            f"give one of: {', '.join(readers)}"
        )
    if not file.is_file():
        raise InputError(f"the feature file {str(file)!r} does not exist; check the path")
    columns = readers[file.suffix.lower()](file)
    vectors = checked_vectors(columns.features, file)
    return FeatureTable(
        file,
        vectors,
        _label_names(columns.labels, file, len(vectors)),
        _row_ids(columns.ids, file, len(vectors)),
        columns.embedding,
    )


class Columns(NamedTuple):
    """Content of a file before the checks."""

    features: npt.NDArray[Any] | RowFile
    labels: Sequence[Any] | None = None
    ids: Sequence[Any] | None = None
    embedding: dict[str, Any] | None = None


def _from_npy(file: Path) -> Columns:
    return Columns(read_npy(file))


def _from_npz(file: Path) -> Columns:
    found, present = read_npz(file, (FEATURES, LABEL, ID))
    if FEATURES not in found:
        raise InputError(
            f"the feature file {str(file)!r} has no array {FEATURES!r} (it has "
            f"{listed(present) or 'none'}); name the vectors so"
        )
    plain = {name: _flat(found[name]) for name in (LABEL, ID) if name in found}
    return Columns(found[FEATURES], plain.get(LABEL), plain.get(ID))


def _flat(values: npt.NDArray[Any] | RowFile) -> list[Any]:
    """Return labels or ids as plain values."""
    plain: list[Any] = np.asarray(values).ravel().tolist()
    return plain


def _from_parquet(file: Path) -> Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        groups = column_chunks(file)
        if parquet_bytes(groups) > IN_MEMORY:
            return _many_columns(file, groups)
        check_declared_size(file, parquet_bytes(groups))
        check_repeated_texts(file, groups)
        # Mapped, because the encoded columns would be a second copy.
        table = pyarrow.parquet.read_table(mapped_file(file))
        # Offsets and texts of a damaged file may point anywhere.
        table.validate(full=True)
        return _columns(table, file)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(file, error) from None


def _many_columns(file: Path, groups: Sequence[Sequence[ColumnChunk]]) -> Columns:
    """Return the columns of a large Parquet file, whose vectors are put into a temporary file."""
    import pyarrow

    with native_file(file) as source:
        opened = in_pieces(source)
        paths = [opened.schema.column(n).path for n in range(len(opened.schema))]
        other = {n for n, path in enumerate(paths) if path in (LABEL, ID, DIGEST)}
        texts, whole = parquet_bytes(groups, other), parquet_bytes(groups)
        check_declared_size(file, whole, texts + PIECE_BYTES)
        check_repeated_texts(file, groups)
        writer = RowWriter(file, whole - texts)
        labels: list[Any] = []
        ids: list[Any] = []
        width = 0
        piece = Columns(np.empty((0, 0), np.float32))
        for batch in opened.iter_batches(batch_size=PIECE_ROWS):
            table = pyarrow.Table.from_batches([batch], schema=opened.schema_arrow)
            table.validate(full=True)
            piece = _columns(table, file)
            width = width or piece.features.shape[1]
            if piece.features.shape[1] != width:
                raise _unequal(file, [width, piece.features.shape[1]])
            writer.add(as_float32(np.asarray(piece.features), file))
            labels += piece.labels or ()
            ids += piece.ids or ()
    return Columns(
        writer.finished(),
        None if piece.labels is None else labels,
        None if piece.ids is None else ids,
        piece.embedding,
    )


def _columns(table: Any, file: Path) -> Columns:
    import pyarrow.types as kinds

    labels = table.column(LABEL).to_pylist() if LABEL in table.column_names else None
    ids = table.column(ID).to_pylist() if ID in table.column_names else None
    index = index_columns(table.schema.metadata)
    fields = [f for f in table.schema if f.name not in (LABEL, ID, DIGEST, *index)]
    embedding = described(table.schema.metadata, file)
    lists = [f.name for f in fields if kinds.is_list(f.type) or kinds.is_fixed_size_list(f.type)]
    numbers = [f.name for f in fields if kinds.is_floating(f.type) or kinds.is_integer(f.type)]
    if len(lists) == 1:
        vectors = _list_column(table.column(lists[0]), lists[0], file)
        return Columns(vectors, labels, ids, embedding)
    others = [field.name for field in fields if field.name not in numbers]
    if lists or others or not numbers:
        raise InputError(
            f"the feature file {str(file)!r} has the columns {listed(table.column_names)}; except "
            f"for {LABEL!r} and {ID!r} it must have one list column, or only number columns"
        )
    columns = [_numbers(table.column(name), name, file) for name in numbers]
    return Columns(np.stack(columns, axis=1), labels, ids, embedding)


def described(metadata: Mapping[bytes, bytes] | None, file: Path) -> dict[str, Any] | None:
    """Return what ``crkd embed`` wrote of a file into its metadata; None for other files.

    Raises:
        InputError: the entry is damaged.
    """
    text = (metadata or {}).get(METADATA)
    if text is None:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(file, error) from None
    if not isinstance(values, dict):
        raise unreadable(file, ValueError(f"the metadata {METADATA.decode()} are not an object"))
    return values


def _list_column(column: Any, name: str, file: Path) -> npt.NDArray[Any]:
    """Return the vectors of a list column, ``(N, D)``."""
    import pyarrow.compute

    lengths = set(pyarrow.compute.unique(pyarrow.compute.list_value_length(column)).to_pylist())
    if len(lengths) > 1 or None in lengths:
        raise _unequal(file, lengths, f"the column {name!r} of ")
    flat = _numbers(pyarrow.compute.list_flatten(column), name, file)
    return flat.reshape(len(column), -1) if len(column) else flat.reshape(0, 0)


def _unequal(file: Path, lengths: Iterable[int | None], column: str = "") -> InputError:
    """Return the refusal of vectors of several lengths; None is that of an empty row."""
    found = list(lengths)
    known = sorted(length for length in found if length is not None)
    return InputError(
        f"{column}the feature file {str(file)!r} holds vectors of the lengths "
        f"{listed(known)}{' and empty rows' if None in found else ''}; give every row one "
        "vector of the same length"
    )


def _numbers(column: Any, name: str, file: Path) -> npt.NDArray[Any]:
    import pyarrow.types as kinds

    if not (kinds.is_floating(column.type) or kinds.is_integer(column.type)) or column.null_count:
        raise InputError(
            f"the column {name!r} of the feature file {str(file)!r} is of type {column.type} with "
            f"{column.null_count} empty values; give only numbers"
        )
    values: npt.NDArray[Any] = column.to_numpy()
    return values


def _label_names(labels: Sequence[Any] | None, file: Path, num_rows: int) -> list[str] | None:
    if labels is None:
        return None
    if len(labels) != num_rows:
        raise InputError(
            f"the feature file {str(file)!r} has {len(labels)} labels for {num_rows} vectors; give "
            "one a row"
        )
    names = []
    for row, label in enumerate(labels):
        if label is not None and (isinstance(label, bool) or not isinstance(label, (int, str))):
            raise InputError(
                f"the label {label!r} in row {row} of the feature file {str(file)!r} is neither "
                "text nor a whole number; give class names or class numbers"
            )
        names.append("" if label is None or label == -1 else str(label))
    return names


def _row_ids(ids: Sequence[Any] | None, file: Path, num_rows: int) -> Sequence[str]:
    if ids is None:
        return RowIds(readable(file.stem), num_rows)
    names = [str(name) for name in ids]
    if len(set(names)) != num_rows or None in ids:
        raise InputError(
            f"the feature file {str(file)!r} has {len(set(names))} different ids for {num_rows} "
            "vectors; give every row an id of its own, or leave the column out"
        )
    return names
