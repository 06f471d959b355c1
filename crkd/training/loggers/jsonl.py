"""``log.jsonl``: one object a line, the log that the rest of the project reads."""

from __future__ import annotations

import json
from collections.abc import Sequence

from crkd.config.schema import Config
from crkd.core.atomic_write import write_bytes
from crkd.runs.folder import RunFolder
from crkd.training.loggers.base import LOGS, LogWriter, Row


@LOGS.register("json_lines")
class JsonLines(LogWriter):
    """A line is written whole or not at all."""

    def __init__(self, run: RunFolder, config: Config, earlier: Sequence[Row]) -> None:
        self._path = run.path / "log.jsonl"
        write_bytes(self._path, "".join(map(_line, earlier)).encode())

    def write(self, row: Row) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(row))


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
