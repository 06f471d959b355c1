"""Table of predictions as CSV, Parquet or JSON: one row for each image, written as it comes."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crkd.core.atomic_write import whole_file
from crkd.core.errors import InputError
from crkd.core.parquet_file import native_file
from crkd.core.parquet_footer import column_chunks
from crkd.core.paths import irregular
from crkd.data.vectors.declared_size import check_declared_size, parquet_bytes
from crkd.data.vectors.repeated_texts import check_repeated_texts
from crkd.runs.atomic_files import read_json
from crkd.runs.csv_cells import escape_formula, unescape_formula

FORMATS: Final = (".csv", ".parquet", ".json")
WATCHED: Final = ".jsonl"
"""Format of the predictions in the state folder of a watch, which is only read here."""
_ROW_GROUP: Final = 8192


@dataclass(frozen=True)
class PredictedImage:
    """Prediction for one image.

    Attributes:
        path: the file, as valid Unicode.
        kind: "known" or "novel", the kind of the class.
        class_id: joint id of the class.
        class_name: its name.
        confidence: probability of the class among all classes, in [0, 1].
        calibrated: whether ``confidence`` is calibrated; never for a novel class.
        unsure: whether ``confidence`` is below the requested threshold.
        head_agreement: for a novel class the share of the other heads that say the same after
            matching, in [0, 1]; None for a known class, or without other heads.
        top: up to five likeliest classes and their probabilities, likeliest first.
        nearest_known: up to three known classes and their probabilities among known classes.
        outlier: whether the image fits none of the classes; None where the run keeps no statistics
            of them.
    """

    path: str
    kind: str
    class_id: int
    class_name: str
    confidence: float
    calibrated: bool
    unsure: bool
    head_agreement: float | None
    top: dict[str, float]
    nearest_known: dict[str, float]
    outlier: bool | None = None


COLUMNS: Final = tuple(field.name for field in dataclasses.fields(PredictedImage))
OPTIONAL: Final = ("head_agreement", "outlier")
"""Columns that are missing from a file if the run cannot fill them."""
Write = Callable[[Sequence[PredictedImage]], None]


def check_format(path: Path) -> None:
    """Refuse a path to which no table can be written.

    Raises:
        InputError: the suffix is none of ``FORMATS``, or the path is not a regular file.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"--out {str(path)!r} names no format; let it end in one of: {', '.join(FORMATS)}"
        )
    kind = irregular(path)
    if kind is not None:
        raise InputError(f"--out {str(path)!r} is {kind}; name another file")


@contextlib.contextmanager
def writing(
    path: Path, header: dict[str, Any], columns: Sequence[str] = COLUMNS
) -> Iterator[Write]:
    """Give a function that appends rows; the file appears whole when the block ends well.

    Args:
        path: ends in one of ``FORMATS``; an older file is replaced.
        header: what holds for all rows, in plain values; Parquet keeps it in the schema's
            metadata under ``crkd``, JSON next to ``images``, and CSV drops it.
        columns: of ``COLUMNS``, all but some of ``OPTIONAL``.

    Raises:
        InputError: the file cannot be written.
    """
    forms = {".csv": _csv, ".parquet": _parquet, ".json": _json}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            whole_file(path) as unfinished,
            forms[path.suffix.lower()](unfinished, header, columns) as write,
        ):
            yield write
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> InputError:
    """Return the error for an output file that cannot be written."""
    return InputError(
        f"--out {path} cannot be written ({error.strerror or error}); free space or name "
        "another file"
    )


def read(path: Path) -> list[PredictedImage]:
    """Read a file that :func:`writing` made, in any format, or the predictions of a watch.

    Raises:
        InputError: there is no such file, or it is not of that kind.
    """
    readers = {
        ".csv": _read_csv,
        ".parquet": _read_parquet,
        ".json": _read_json,
        WATCHED: _read_watched,
    }
    form = path.suffix.lower()
    if form not in readers:
        raise InputError(
            f"--predictions {str(path)!r} has none of the suffixes {', '.join(readers)}; give what "
            "predict or watch wrote"
        )
    try:
        absent: dict[str, Any] = dict.fromkeys(OPTIONAL)
        rows = [PredictedImage(**absent | row) for row in readers[form](path)]
        if all(_sound(row) for row in rows):
            return rows
        reason = "a value has the wrong type"
    except (OSError, ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
        reason = " ".join(str(error).split())
    raise InputError(
        f"{path} is not a file of predictions ({reason}); give what predict or watch wrote"
    )


@contextlib.contextmanager
def _csv(path: Path, header: dict[str, Any], columns: Sequence[str]) -> Iterator[Write]:
    del header
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)

        def write(rows: Sequence[PredictedImage]) -> None:
            writer.writerows([_cell(getattr(row, name)) for name in columns] for row in rows)

        yield write


def _cell(value: object) -> str:
    if isinstance(value, str):
        return escape_formula(value)
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            if None in cells.values():
                raise ValueError(f"a row has {sum(c is not None for c in cells.values())} cells")
            texts = {
                name: unescape_formula(cells.pop(name)) for name in ("path", "kind", "class_name")
            }
            values = {name: json.loads(cell) if cell else None for name, cell in cells.items()}
            yield {**texts, **values}


@contextlib.contextmanager
def _json(path: Path, header: dict[str, Any], columns: Sequence[str]) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:
        opening = json.dumps({**header, "images": []}, ensure_ascii=False, allow_nan=False)
        file.write(opening.removesuffix("]}"))
        separator = "\n"

        def write(rows: Sequence[PredictedImage]) -> None:
            nonlocal separator
            for row in rows:
                values = {name: getattr(row, name) for name in columns}
                file.write(separator + json.dumps(values, ensure_ascii=False))
                separator = ",\n"

        yield write
        file.write("\n]}\n")


def _read_json(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_json(path)["images"]
    return rows


def _read_watched(path: Path) -> list[dict[str, Any]]:
    """Return the newest prediction of each file, with the columns of a table."""
    newest: dict[str, dict[str, Any]] = {}
    with path.open("rb") as file:
        for line in file:
            # A watch may be writing the last line.
            if line.endswith(b"\n"):
                row = json.loads(line)
                newest[row["file"]] = row
    return [{name: row[name] for name in COLUMNS} for row in newest.values()]


@contextlib.contextmanager
def _parquet(path: Path, header: dict[str, Any], columns: Sequence[str]) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    shares = pa.map_(pa.string(), pa.float64())
    types = {
        "path": pa.string(),
        "kind": pa.string(),
        "class_id": pa.int32(),
        "class_name": pa.string(),
        "confidence": pa.float64(),
        "calibrated": pa.bool_(),
        "unsure": pa.bool_(),
        "head_agreement": pa.float64(),
        "top": shares,
        "nearest_known": shares,
        "outlier": pa.bool_(),
    }
    types = {name: types[name] for name in columns}
    schema = pa.schema(types.items()).with_metadata({b"crkd": json.dumps(header)})
    waiting: list[PredictedImage] = []
    with (
        native_file(path, "wb") as sink,
        pq.ParquetWriter(sink, schema, compression="zstd") as file,
    ):

        def flush() -> None:
            group = waiting[:_ROW_GROUP]
            arrays = [
                pa.array([_column(getattr(row, name)) for row in group], kind)
                for name, kind in types.items()
            ]
            file.write_table(pa.table(arrays, schema=schema))
            del waiting[:_ROW_GROUP]

        def write(rows: Sequence[PredictedImage]) -> None:
            waiting.extend(rows)
            # The groups of the file depend on the number of rows only, not on the batches.
            while len(waiting) >= _ROW_GROUP:
                flush()

        yield write
        flush()


def _column(value: object) -> object:
    return list(value.items()) if isinstance(value, dict) else value


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        groups = column_chunks(path)
        check_declared_size(path, parquet_bytes(groups))
        check_repeated_texts(path, groups)
        with native_file(path) as source:
            held = pq.read_schema(source).names
            wanted = [name for name in COLUMNS if name not in OPTIONAL or name in held]
            table = pq.read_table(source, columns=wanted)
        # Offsets and texts of a damaged file may point anywhere.
        table.validate(full=True)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    for row in table.to_pylist():
        yield {**row, "top": dict(row["top"]), "nearest_known": dict(row["nearest_known"])}


def _sound(row: PredictedImage) -> bool:
    return (
        isinstance(row.path, str)
        and row.kind in ("known", "novel")
        and type(row.class_id) is int
        and isinstance(row.class_name, str)
        and isinstance(row.confidence, float | int)
        and 0 <= row.confidence <= 1
        and isinstance(row.top, dict)
        and isinstance(row.nearest_known, dict)
    )
