"""TensorBoard: ``tensorboard --logdir runs`` shows the curves of every run."""

from __future__ import annotations

from collections.abc import Sequence

from crkd.config.schema import Config
from crkd.runs.folder import RunFolder
from crkd.training.loggers.base import LOGS, NO_SERIES, LogWriter, Row


@LOGS.register("tensorboard")
class TensorBoard(LogWriter):
    """Event files in the folder ``tensorboard`` of the run, one for each part of it.

    A resumed run tells readers to drop events after its first step.
    """

    def __init__(self, run: RunFolder, config: Config, earlier: Sequence[Row]) -> None:
        # Takes a quarter of a second, which every other command shall not pay.
        from torch.utils.tensorboard import SummaryWriter

        folder = run.path / "tensorboard"
        start = earlier[-1]["step"] if earlier else 0
        self._writer = SummaryWriter(folder, purge_step=start + 1 if folder.exists() else None)

    def write(self, row: Row) -> None:
        """Write a point of every series, under "STAGE/SERIES"."""
        for name, value in row.items():
            if name not in NO_SERIES:
                tag = f"{row['stage']}/{name}"
                self._writer.add_scalar(tag, value, row["step"], row["time"])
        self._writer.flush()

    def close(self) -> None:
        """End the event file."""
        self._writer.close()
