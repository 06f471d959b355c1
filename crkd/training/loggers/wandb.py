"""Weights & Biases, for those who ask for it and have installed it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence

from crkd.config.check import plain
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.training.loggers.base import LOGS, NO_SERIES, LogWriter, Row


@LOGS.register("wandb")
class WeightsAndBiases(LogWriter):
    """One run there for one run folder, also after an interruption.

    Nobody is asked to log in: without a key everything stays in the folder ``wandb`` of the run,
    from where ``wandb sync`` sends it later. ``WANDB_PROJECT`` and ``WANDB_MODE`` count as usual.
    """

    @classmethod
    def check(cls) -> None:
        """Raise InputError if the package is missing."""
        if importlib.util.find_spec("wandb") is None:
            raise InputError(
                "loop.loggers names wandb, which is not installed; "
                "'pip install \"wandb>=0.31\"', or leave it out"
            )

    def __init__(self, run: RunFolder, config: Config, earlier: Sequence[Row]) -> None:
        import wandb

        # The same after an interruption, and another one for each folder and each start.
        name = f"{run.path.resolve()} {run.read_info().started}"
        offline = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "crkd"),
            id=hashlib.sha256(name.encode()).hexdigest()[:16],
            name=run.path.name,
            config=plain(config),
            dir=run.path,
            resume="allow",
            mode="offline" if offline else None,
        )

    def write(self, row: Row) -> None:
        """Log every series under "STAGE/SERIES"; a step that is there already stays as it is."""
        series = {f"{row['stage']}/{n}": v for n, v in row.items() if n not in NO_SERIES}
        self._run.log(series, step=row["step"])

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()
