"""Rows of several processes, brought to the first one in the order of the samples."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from crkd.core.batch_shard import processes
from crkd.inference.table import PredictedImage, unwritable
from crkd.training.distributed import barrier


@dataclass(frozen=True)
class RowBatch:
    """The rows of one batch.

    Attributes:
        rows: one for each image that can be read.
        skipped: reason for each file that cannot be read.
    """

    rows: list[PredictedImage]
    skipped: dict[str, str] = field(default_factory=dict)


def gathered(batches: Iterable[RowBatch], out: Path) -> Iterator[RowBatch]:
    """Yield the batches of all processes in the first one, and nothing in the others.

    Each process writes its batches to a hidden file next to the output, as one JSON object a line.
    All processes must read the result to its end.

    Args:
        batches: of this process; they follow those of the processes before it.
        out: the output file, at the same path in all processes.

    Raises:
        InputError: the hidden file cannot be written.
    """
    rank, size = processes()
    if size == 1:
        yield from batches
        return
    own = _place(out, rank)
    if rank == 0:
        # A process that is killed leaves its file.
        for left in out.parent.glob(f".{glob.escape(out.name)}.[0-9]*.rows"):
            left.unlink(missing_ok=True)
    barrier()
    try:
        _save(batches, own, out)
        barrier()
        if rank == 0:
            for other in range(size):
                yield from _load(_place(out, other))
        # No file is deleted before all are read.
        barrier()
    finally:
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)


def _place(out: Path, rank: int) -> Path:
    return out.with_name(f".{out.name}.{rank:04d}.rows")


def _save(batches: Iterable[RowBatch], path: Path, out: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for batch in batches:
                file.write(json.dumps(dataclasses.asdict(batch)) + "\n")
    except OSError as error:
        raise unwritable(out, error) from error


def _load(path: Path) -> Iterator[RowBatch]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            values = json.loads(line)
            yield RowBatch([PredictedImage(**row) for row in values["rows"]], values["skipped"])
