"""Named columns of whole numbers or text from CSV, NPZ and Parquet files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError, listed
from crkd.core.parquet_file import native_file
from crkd.core.parquet_footer import column_chunks, most_values
from crkd.data.vectors.declared_size import OBJECT_BYTES, check_declared_size, parquet_bytes
from crkd.data.vectors.numpy_file import read_npz

Column = NDArray[Any]
"""``(N,)`` int64, or objects that are ``str``."""

MAX_ROWS: Final = 20_000_000
# Bytes of memory for each byte of a CSV file: its columns, and a text object for each cell.
_CSV_FACTOR: Final = 16


def read_columns(
    path: str | Path, names: Sequence[str], *, option: str, empty: Iterable[str] = ()
) -> tuple[dict[str, Column], list[str]]:
    """Read some columns of a file whose suffix is ``.csv``, ``.npz`` or ``.parquet``.

    A CSV file has one line of names and commas between cells, and its cells are text. An NPZ file
    has one array of one dimension for each column. Nothing is unpickled.

    Args:
        path: the file.
        names: columns to read; those that are missing are left out.
        option: flag that names the file, for messages.
        empty: columns that may have empty cells; these are "" in text and -1 in numbers.

    Returns:
        The columns, all of one length, and the names of all columns of the file.

    Raises:
        InputError: the file is missing, damaged, of another kind or larger than the memory; it has
            a name twice, columns of different lengths, other values than text and whole numbers,
            or empty cells.
    """
    file = Path(path)
    readers = {".csv": _csv_table, ".npz": _npz_table, ".parquet": _parquet_table}
    if file.suffix.lower() not in readers:
        raise InputError(
            f"{option} {str(file)!r} has the suffix {file.suffix!r}; give one of: "
            f"{', '.join(readers)}"
        )
    if not file.is_file():
        raise InputError(f"{option} {str(file)!r} is not a file; check the path")
    try:
        found, present = readers[file.suffix.lower()](file, names)
        columns = {
            name: _column(values, name, may_be_empty=name in set(empty))
            for name, values in found.items()
        }
    except _Refusal as error:
        raise InputError(f"{option} {str(file)!r} {error}") from None
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(
            f"{option} {str(file)!r} has columns of different lengths ({shown}); give one value "
            "of each an image"
        )
    return columns, present


class _Refusal(Exception):
    """An error of a file, without its name."""


def _csv_table(file: Path, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    import pyarrow
    from pyarrow import csv

    check_declared_size(file, _CSV_FACTOR * file.stat().st_size)
    types = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=False
    )
    quoted = csv.ParseOptions(newlines_in_values=True)
    try:
        # An open file, because a path may be decompressed by its name.
        with file.open("rb") as stream:
            table = csv.read_csv(stream, convert_options=types, parse_options=quoted)
        present = table.column_names
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None
    return _picked(table, names, present), present


def _parquet_table(file: Path, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with native_file(file) as source:
            opened = pyarrow.parquet.ParquetFile(source, pre_buffer=False)
            present = opened.schema_arrow.names
            wanted = [name for name in names if name in present]
            _check_names(present, names)
            for name in wanted:
                _check_type(opened.schema_arrow.field(name).type, name)
            paths = [opened.schema.column(place).path for place in range(len(opened.schema.names))]
            _check_rows(file, {place for place, path in enumerate(paths) if path in wanted})
            # Texts as dictionaries, because one long text may be declared in millions of rows.
            opened = pyarrow.parquet.ParquetFile(source, pre_buffer=False, read_dictionary=wanted)
            table = opened.read(columns=wanted)
        # Offsets and texts of a damaged file may point anywhere.
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        raise _unreadable(error) from None
    return _picked(table, names, table.column_names), present


def _check_rows(file: Path, places: set[int]) -> None:
    """Refuse a Parquet file that declares too many values of the columns at ``places``."""
    groups = column_chunks(file)
    rows = most_values(groups, places)
    if rows > MAX_ROWS:
        raise _Refusal(f"declares {rows:,} rows; at most {MAX_ROWS:,} are read")
    texts = rows * len(places) * OBJECT_BYTES
    check_declared_size(file, texts + parquet_bytes(groups, places))


def _npz_table(file: Path, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    found, present = read_npz(file, names)
    _check_names(present, names)
    return dict(found), present


def _picked(table: Any, names: Sequence[str], present: Sequence[str]) -> dict[str, Any]:
    _check_names(present, names)
    return {name: table.column(name) for name in names if name in present}


def _check_names(present: Sequence[str], names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(present).items() if count > 1 and name in names]
    if twice:
        raise _Refusal(f"has the column {twice[0]!r} twice; keep one")


def _unreadable(error: Exception) -> _Refusal:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return _Refusal(f"cannot be read ({reason}); write it again")


def _column(values: Any, name: str, *, may_be_empty: bool) -> Column:
    if isinstance(values, np.ndarray):
        return _array(values, name, may_be_empty=may_be_empty)
    import pyarrow
    import pyarrow.types as kinds

    nulls = values.null_count
    if nulls and not may_be_empty:
        raise _Refusal(f"has {nulls:,} empty cells in the column {name!r}; fill them")
    _check_type(values.type, name)
    if kinds.is_dictionary(values.type) or not kinds.is_integer(values.type):
        return _array(_texts(values), name, may_be_empty=may_be_empty)
    try:
        numbers = values.cast(pyarrow.int64())
    except pyarrow.ArrowException:
        raise _Refusal(f"has a number above 2^63 in the column {name!r}; renumber it") from None
    filled: Column = (numbers.fill_null(-1) if nulls else numbers).to_numpy()
    return filled


def _texts(values: Any) -> Column:
    """Return a column of text as objects; equal entries of a dictionary are one object."""
    import pyarrow
    import pyarrow.types as kinds

    if not kinds.is_dictionary(values.type):
        return np.array(["" if text is None else text for text in values.to_pylist()], object)
    parts = [np.empty(0, object)]
    for chunk in values.chunks:
        entries = ["" if entry is None else entry for entry in chunk.dictionary.to_pylist()]
        # An empty cell has the place of the empty text after all entries.
        places = chunk.indices.cast(pyarrow.int64()).fill_null(len(entries)).to_numpy()
        parts.append(np.array([*entries, ""], object)[places])
    return np.concatenate(parts)


def _check_type(found: Any, name: str) -> None:
    """Refuse a column that holds neither whole numbers nor text."""
    import pyarrow.types as kinds

    plain = found.value_type if kinds.is_dictionary(found) else found
    is_text = kinds.is_string(plain) or kinds.is_large_string(plain) or kinds.is_null(plain)
    if not is_text and (kinds.is_dictionary(found) or not kinds.is_integer(found)):
        raise _wrong_type(name, found)


def _array(values: Column, name: str, *, may_be_empty: bool) -> Column:
    if values.ndim != 1:
        raise _Refusal(
            f"has the shape {values.shape} in {name!r}; give one value an image (the argmax of "
            "its logits)"
        )
    if len(values) > MAX_ROWS:
        raise _Refusal(f"has {len(values):,} rows; at most {MAX_ROWS:,} are read")
    if values.dtype.kind in "iu":
        if values.dtype == np.uint64 and values.max(initial=0) > np.iinfo(np.int64).max:
            raise _Refusal(f"has a number above 2^63 in the column {name!r}; renumber it")
        return values.astype(np.int64)
    if values.dtype.kind not in "UO":
        raise _wrong_type(name, values.dtype)
    texts = values.astype(object)
    empty = int(np.sum(texts == ""))
    if empty and not may_be_empty:
        raise _Refusal(f"has {empty:,} empty cells in the column {name!r}; fill them")
    return texts


def _wrong_type(name: str, found: object) -> _Refusal:
    return _Refusal(f"has {found} in the column {name!r}; write whole numbers or text")


def missing_column(option: str, file: Path, name: str, present: Sequence[str]) -> InputError:
    """Return the refusal of a file without a column."""
    return InputError(
        f"{option} {str(file)!r} has no column {name!r} (it has {listed(present) or 'none'}); "
        "rename or add the column"
    )
