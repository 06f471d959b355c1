"""``log.csv``: the same rows for spreadsheets and data frames, one column a series."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from crkd.config.schema import Config
from crkd.core.atomic_write import write_bytes
from crkd.runs.folder import RunFolder
from crkd.training.loggers.base import LOGS, LogWriter, Row, logged


@LOGS.register("csv")
class CsvTable(LogWriter):
    """A series that begins later gets its column then, empty in the rows before.

    The table is made from ``log.jsonl``, which is therefore written first.
    """

    def __init__(self, run: RunFolder, config: Config, earlier: Sequence[Row]) -> None:
        self._run, self._path = run, run.path / "log.csv"
        self._columns: list[str] = []
        self._rewrite(earlier)

    def write(self, row: Row) -> None:
        """Append a row, or rewrite the table where it needs another column."""
        if not row.keys() <= set(self._columns):
            self._rewrite(logged(self._run))
            return
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._text([row]))

    def _rewrite(self, rows: Sequence[Row]) -> None:
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        heading = dict(zip(self._columns, self._columns, strict=True))
        write_bytes(self._path, self._text([heading, *rows] if rows else []).encode())

    def _text(self, rows: Sequence[Row]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._columns).writerows(rows)
        return text.getvalue()
