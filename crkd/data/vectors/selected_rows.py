"""Some rows of a file of feature vectors as a file of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from crkd.core.atomic_write import whole_file
from crkd.core.errors import InputError
from crkd.core.parquet_file import in_pieces, native_file
from crkd.data.vectors.row_file import PIECE_ROWS
from crkd.data.vectors.table import FEATURES, ID, LABEL, FeatureTable


def write_rows(table: FeatureTable, rows: NDArray[np.int64], folder: Path, name: str) -> Path:
    """Write rows of a table and return the file; an older file is replaced.

    Rows of a Parquet file keep all their columns and the description of their embedding. Ascending
    rows are copied piece by piece; others are in memory at once.

    Args:
        table: as :func:`~crkd.data.vectors.table.read_features` returned it.
        rows: ``(n,)`` positions.
        folder: exists.
        name: of the file, without a suffix.

    Raises:
        InputError: the file cannot be written.
    """
    is_parquet = table.path.suffix.lower() == ".parquet"
    place = folder / f"{name}{'.parquet' if is_parquet else '.npz'}"
    try:
        with whole_file(place) as unfinished, unfinished.open("wb") as file:
            if is_parquet:
                _copy_rows(table.path, rows, file)
            else:
                ids = np.array([table.ids[n] for n in rows])
                columns = {FEATURES: table.features[rows], ID: ids}
                if table.labels is not None:
                    columns[LABEL] = np.array([table.labels[n] for n in rows])
                np.savez(file, **columns)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(
            f"vectors cannot be written to {place} ({error.strerror or error}); give a folder that "
            "is writable"
        ) from error
    return place


def _copy_rows(source: Path, rows: NDArray[np.int64], file: IO[bytes]) -> None:
    """Write rows of a Parquet file, in their order, with all columns and metadata."""
    import pyarrow
    import pyarrow.parquet

    order = np.argsort(rows, kind="stable")
    with native_file(source) as encoded:
        opened = in_pieces(encoded)
        schema = opened.schema_arrow
        with pyarrow.parquet.ParquetWriter(file, schema) as writer:
            pieces = _pieces(opened, rows[order])
            if np.array_equal(order, np.arange(len(rows))):
                for piece in pieces:
                    writer.write_table(piece)
            else:
                found = pyarrow.concat_tables([schema.empty_table(), *pieces])
                writer.write_table(found.take(np.argsort(order)))


def _pieces(opened: Any, rows: NDArray[np.int64]) -> Iterator[Any]:
    """Yield ascending rows of a Parquet file as tables of at least ``PIECE_ROWS``, except the last.

    Small tables would become small groups of rows.
    """
    import pyarrow

    schema = opened.schema_arrow
    held: list[Any] = []
    start = first = 0
    for batch in opened.iter_batches(batch_size=PIECE_ROWS):
        stop = first + int(np.searchsorted(rows[first:], start + len(batch)))
        if stop > first:
            table = pyarrow.Table.from_batches([batch], schema=schema)
            held.append(table.take(rows[first:stop] - start))
        if sum(map(len, held)) >= PIECE_ROWS:
            yield pyarrow.concat_tables(held)
            held = []
        start, first = start + len(batch), stop
    if held:
        yield pyarrow.concat_tables(held)
