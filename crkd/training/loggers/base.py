"""Loggers: base class, registry, and the logs of a resumed run."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.core.registry import Registry
from crkd.runs.folder import RunFolder
from crkd.training.distributed import is_rank_zero

Row = dict[str, Any]
"""One line of metrics: "time" (seconds since 1970), "stage", "step", "epoch", and one a series."""

ALWAYS: Final = ("json_lines", "csv")
NO_SERIES: Final = frozenset({"time", "stage", "step", "epoch"})


class LogWriter(ABC):
    """One kind of log of one run.

    Args:
        run: the run's folder.
        config: its configuration.
        earlier: rows that an interrupted part of the run left and that stay; the next one to be
            written follows their last step. What a log holds beyond them has to go.
    """

    @abstractmethod
    def __init__(self, run: RunFolder, config: Config, earlier: Sequence[Row]) -> None: ...

    @abstractmethod
    def write(self, row: Row) -> None:
        """Add a row; it has reached the disk when this returns."""

    def close(self) -> None:  # noqa: B027 - most logs have nothing to end
        """End the log; nothing is written afterwards."""

    @classmethod  # noqa: B027 - most logs need nothing
    def check(cls) -> None:
        """Raise InputError where this machine lacks what the log needs."""


LOGS: Registry[type[LogWriter]] = Registry("log", "crkd.training.loggers", "crkd.loggers")


def check_logs(config: Config) -> None:
    """Find out before a run begins whether its logs can be written.

    Raises:
        InputError: ``loop.loggers`` names one that does not exist, or whose package is missing.
    """
    for name in config.loop.loggers:
        LOGS.get(name).check()


class Logs:
    """All logs of a run.

    Args:
        run: the run's folder.
        config: its configuration.
        start: steps done so far; rows of later ones, left by an interruption, are dropped.
    """

    def __init__(self, run: RunFolder, config: Config, start: int) -> None:
        names = dict.fromkeys((*ALWAYS, *config.loop.loggers))
        earlier = [row for row in logged(run) if row["step"] <= start]
        self._run = run
        self._writers = [LOGS.get(name)(run, config, earlier) for name in names]

    def write(self, row: Row) -> None:
        """Add a row to every log.

        Raises:
            InputError: one of them cannot be written.
        """
        try:
            for writer in self._writers:
                writer.write(row)
        except OSError as error:
            raise InputError(
                f"the logs in {self._run.path} cannot be written ({error.strerror}); free space "
                "and continue with --resume"
            ) from None

    def close(self) -> None:
        """End every log."""
        for writer in self._writers:
            writer.close()


@contextmanager
def open_logs(run: RunFolder, config: Config, start: int) -> Iterator[Logs | None]:
    """Yield the logs of a run; of several processes the first one alone gets them."""
    if not is_rank_zero():
        yield None
        return
    logs = Logs(run, config, start)
    try:
        yield logs
    finally:
        logs.close()


def logged(run: RunFolder) -> list[Row]:
    """Return the rows of ``log.jsonl``; none if there is no such file.

    A line that is damaged, as the last one of a crashed run may be, is skipped.
    """
    path = run.path / "log.jsonl"
    rows: list[Row] = []
    if not path.is_file():
        return rows
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and type(row.get("step")) is int and "epoch" in row:
            rows.append(row)
    return rows
