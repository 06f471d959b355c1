"""Parquet file of the prediction table.

Columns, one row per image: ``id`` and ``part`` (string), ``label``, ``known_head``,
``novel_head_{h}`` and ``joint_head_{h}`` for every head h, ``baseline_{name}`` for every baseline
(all int32), ``confidence`` (float32). All other fields are stored as JSON in the schema's metadata
under the key ``crkd``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crkd.core.atomic_write import whole_file
from crkd.core.errors import InputError, listed
from crkd.core.parquet_file import native_file
from crkd.core.parquet_footer import column_chunks, most_values
from crkd.evaluation.predictions import Predictions

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
METADATA_KEY = b"crkd"
# A few kilobytes of Parquet can claim billions of equal rows.
MAX_ROWS = 20_000_000
_FIELDS: dict[str, tuple[type, ...]] = {
    "schema_version": (int,),
    "class_names": (list,),
    "num_known": (int,),
    "num_novel": (int,),
    "num_heads": (int,),
    "chosen_head": (int, type(None)),
    "baselines": (list,),
}


def save_predictions(predictions: Predictions, path: str | Path) -> None:
    """Write a prediction table as a Parquet file, atomically; an older file is replaced.

    Raises:
        InputError: the folder is missing or cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    header = {
        "schema_version": SCHEMA_VERSION,
        "class_names": list(predictions.class_names),
        "num_known": predictions.num_known,
        "num_novel": predictions.num_novel,
        "num_heads": predictions.num_heads,
        "chosen_head": predictions.chosen_head,
        "baselines": list(predictions.baselines),
    }
    schema = _schema(predictions.num_heads, list(predictions.baselines)).with_metadata(
        {METADATA_KEY: json.dumps(header)}
    )
    table = pa.table(
        [
            predictions.id,
            predictions.part,
            predictions.label,
            predictions.known_head,
            *predictions.novel_heads,
            *predictions.joint_heads,
            predictions.confidence,
            *predictions.baselines.values(),
        ],
        schema=schema,
    )
    try:
        with whole_file(path) as unfinished, native_file(unfinished, "wb") as file:
            pq.write_table(table, file, compression="zstd")
    except OSError as error:
        raise InputError(
            f"predictions cannot be written to {path} ({error.strerror or error}); "
            "give a path in a folder that exists and is writable"
        ) from error


def load_predictions(path: str | Path) -> Predictions:
    """Read a table that :func:`save_predictions` wrote, with a check of its content.

    Raises:
        InputError: there is no such file, or it is not a valid prediction table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no prediction table {path}; give the file that a run wrote")
    try:
        num_values = most_values(column_chunks(path))
        with native_file(path) as source:
            file = pq.ParquetFile(source, pre_buffer=False)
            num_rows = max(file.metadata.num_rows, num_values)
            header = _checked_header(file.schema_arrow, num_rows)
            table = file.read()
        # Offsets and texts of a damaged file may point anywhere.
        table.validate(full=True)
        return _predictions(table, header)
    except InputError as error:
        raise InputError(f"prediction table {path} is unusable: {error}") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"prediction table {path} cannot be read ({reason}); give the file that a run wrote"
        ) from error


def _schema(num_heads: int, baselines: list[str]) -> pa.Schema:
    import pyarrow as pa

    ids = ["label", "known_head"]
    ids += [f"{kind}_head_{head}" for kind in ("novel", "joint") for head in range(num_heads)]
    fields = [(name, pa.string()) for name in ("id", "part")]
    fields += [(name, pa.int32()) for name in ids]
    fields += [("confidence", pa.float32())]
    fields += [(f"baseline_{name}", pa.int32()) for name in baselines]
    return pa.schema(fields)


def _checked_header(schema: pa.Schema, num_rows: int) -> dict[str, Any]:
    if num_rows > MAX_ROWS:
        raise InputError(f"it claims {num_rows} rows; at most {MAX_ROWS} are read")
    try:
        header = json.loads((schema.metadata or {})[METADATA_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError("its metadata holds no readable entry 'crkd'; only crkd writes it") from (
            error
        )
    if not isinstance(header, dict) or set(header) != set(_FIELDS):
        raise InputError(f"its metadata must hold exactly: {', '.join(_FIELDS)}")
    for name, types in _FIELDS.items():
        # bool is a subclass of int, and true is not a number of classes.
        if not isinstance(header[name], types) or isinstance(header[name], bool):
            raise InputError(f"its metadata holds a {type(header[name]).__name__} as {name}")
    if header["schema_version"] != SCHEMA_VERSION:
        raise InputError(
            f"its schema_version is {header['schema_version']}; this crkd reads {SCHEMA_VERSION}"
        )
    # Checked against the columns before anything of that length is created.
    if not 0 <= header["num_heads"] <= len(schema.names):
        raise InputError(f"its num_heads is {header['num_heads']} for {len(schema.names)} columns")
    if not all(isinstance(name, str) for name in header["baselines"]):
        raise InputError("its metadata holds a baseline that is not a name")
    _check_columns(schema, _schema(header["num_heads"], header["baselines"]))
    return header


def _check_columns(found: pa.Schema, expected: pa.Schema) -> None:
    missing = [name for name in expected.names if name not in found.names]
    if missing:
        raise InputError(f"columns are missing: {listed(missing)}")
    surplus = sorted(set(found.names) - set(expected.names))
    if surplus:
        raise InputError(f"it has unexpected columns: {listed(surplus)}")
    if len(set(found.names)) != len(found.names) or len(found.names) != len(expected.names):
        raise InputError("it names a column twice")
    for field in expected:
        if found.field(field.name).type != field.type:
            raise InputError(
                f"column {field.name} is {found.field(field.name).type}; it must be {field.type}"
            )


def _predictions(table: pa.Table, header: dict[str, Any]) -> Predictions:
    empty = [name for name in table.column_names if table.column(name).null_count]
    if empty:
        raise InputError(f"columns hold missing values: {listed(empty)}")
    heads = range(header["num_heads"])

    def ids(names: list[str]) -> np.ndarray[Any, Any]:
        columns = [table.column(name).to_numpy() for name in names]
        return np.stack(columns) if columns else np.zeros((0, table.num_rows), np.int32)

    return Predictions(
        id=np.array(table.column("id").to_pylist(), dtype=object),
        part=np.array(table.column("part").to_pylist(), dtype=object),
        label=table.column("label").to_numpy(),
        known_head=table.column("known_head").to_numpy(),
        novel_heads=ids([f"novel_head_{head}" for head in heads]),
        joint_heads=ids([f"joint_head_{head}" for head in heads]),
        confidence=table.column("confidence").to_numpy(),
        class_names=header["class_names"],
        num_known=header["num_known"],
        num_novel=header["num_novel"],
        chosen_head=header["chosen_head"],
        baselines={
            name: table.column(f"baseline_{name}").to_numpy() for name in header["baselines"]
        },
    )
