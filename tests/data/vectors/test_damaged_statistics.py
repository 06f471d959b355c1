"""Parquet files with damaged size statistics: pyarrow ends the process that asks for a column.

The kept files do so in pyarrow 26; pyarrow 15 does not know these statistics yet.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.data.encoded.table import EncodedTable
from crkd.data.sources.parquet import ParquetSource
from crkd.data.vectors.embedding_file import EmbeddingFile
from crkd.data.vectors.table import read_features
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.column_file import read_columns
from tests.support.forked import fork_context

FILES = Path(__file__).parent / "damaged"


def embedding(file: Path) -> None:
    with EmbeddingFile(file) as opened:
        opened.digests()
        for row in range(len(opened)):
            opened.row(row)


def image_source(file: Path) -> None:
    ParquetSource([file], image_column="image", label_column="label").read(0)


def image_table(file: Path) -> None:
    EncodedTable(file).read(0)


def classes(file: Path) -> None:
    read_columns(file, ("id", "label"), option="--classes")


READERS = [
    (read_features, "features"),
    (read_features, "embeddings"),
    (embedding, "embeddings"),
    (image_source, "images"),
    (image_table, "images"),
    (classes, "classes"),
    (load_predictions, "predictions"),
]


def refused(read: Callable[[Path], object], file: Path) -> int:
    """Return 10 for a file that is refused, and 11 for one that is read."""
    try:
        read(file)
    except InputError:
        return 10
    return 11


def _exit(read: Callable[[Path], object], file: Path) -> None:
    raise SystemExit(refused(read, file))


def exit_code(read: Callable[[Path], object], file: Path) -> int | None:
    process = fork_context().Process(target=_exit, args=(read, file))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize(("read", "name"), READERS)
def test_the_process_that_reads_the_file_continues(
    read: Callable[[Path], object], name: str
) -> None:
    assert exit_code(read, FILES / f"{name}.parquet") in (10, 11)
