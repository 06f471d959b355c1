"""Default run folders, and the printed metrics of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crkd.config.schema import Config
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from crkd.runs.folder import RunFolder

RUNS = Path("runs")


def run_name(config: Config, stage: str) -> Path:
    """Return the default folder of a run: ``runs/DATA-SPLIT/STAGE-seedN``."""
    split = Path(config.split).stem if config.split else "default"
    order = "" if config.class_order_seed is None else f"-order{config.class_order_seed}"
    return RUNS / f"{config.dataset}-{split}{order}" / f"{stage}-seed{config.seed}"


def check_out(out: Path, *, resume: bool) -> None:
    """Refuse a run folder that cannot be written, before any work starts.

    Raises:
        InputError: the folder holds files and is not to be resumed, or its run is complete.
    """
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(
                f"--out {out} holds files already; continue with --resume or name another folder"
            )
        return
    from crkd.runs.folder import RunFolder

    if (out / "run.json").is_file() and RunFolder(out).read_info().status == "complete":
        raise InputError(f"--resume: the run in {out} is complete; start another with --out")


def print_protocols(run: RunFolder) -> None:
    """Print the metrics of a run as a table, then its notes and its folder."""
    from rich.console import Console

    from crkd.evaluation.tables import protocol_table

    info = run.read_info()
    console = Console()
    if (run.path / "predictions.parquet").is_file():
        console.print(protocol_table(run.read_metrics()))
    else:
        console.print("no images for evaluation: set data.validation_fraction to hold some out")
    for note in info.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    console.print(f"run: {run.path}", highlight=False, markup=False, soft_wrap=True)
