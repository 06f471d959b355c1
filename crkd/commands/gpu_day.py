"""``crkd gpu-day``: all GPU measurements, in slices of a few minutes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crkd.commands.flags import add_data_root_flag, add_set_flag
from crkd.core.errors import InputError
from crkd.core.paths import cache_folder

if TYPE_CHECKING:
    from rich.table import Table

    from crkd.gpu_checks.day import Outcome

DESCRIPTION = """\
Run the next unfinished steps of a fixed list and stop after --minutes. The
steps are versions and the peak speed of matrix products, the GPU checks, one
epoch of each stage, the benchmarks sinkhorn and train, the sanitizer, and the
experiments, seed 0 of each first. The same command continues the list.
Interrupted training runs continue from their saved state.

  crkd gpu-day --out results --minutes 9
  crkd gpu-day --out results --list

--state keeps the runs and the compiled kernels. After every step, the result
files are copied to --out in the format of benchmarks/results. The verb needs no
network, POT, faiss or git. In a copy without git, $CRKD_COMMIT sets the commit.
The exit code is 0 if all steps are finished, else 3.
"""

UNFINISHED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the result files")
    parser.add_argument(
        "--minutes", metavar="N", type=float, default=9.0, help="time limit (default: 9)"
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="folder of the runs (default: gpu-day in $CRKD_CACHE or ~/.cache/crkd)",
    )
    parser.add_argument(
        "--list", action="store_true", help="print the steps and their status, run none"
    )
    add_data_root_flag(parser)
    parser.add_argument(
        "--device", metavar="NAME", default="cuda", help="cuda, or cpu for a test of the list"
    )
    add_set_flag(parser, "change one configuration key of every experiment, for a test of the list")


def run(given: argparse.Namespace) -> int:
    """Run the next steps; return the exit code.

    Raises:
        InputError: there is no such device or folder, or the time is too short.
    """
    if not given.minutes >= 2:
        raise InputError(f"--minutes {given.minutes:g} is too short; give at least 2")

    from rich.console import Console

    from crkd.gpu_checks.day import Day
    from crkd.gpu_checks.day_steps import Place, check_place

    state = Path(given.state) if given.state else cache_folder() / "gpu-day"
    place = Place(
        state, Path(given.out), given.device, given.data_root, settings=tuple(given.settings)
    )
    if not given.list:
        check_place(place)
    day = Day(place)
    finished = False if given.list else day.work(60 * given.minutes)
    Console().print(table(day.outcomes()))
    return 0 if given.list or finished else UNFINISHED


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return a table with the outcome of each step."""
    from rich import box
    from rich.table import Table

    made = Table("step", "status", "attempts", "seconds", box=box.SIMPLE_HEAD, pad_edge=False)
    style = {"done": "green", "red": "red", "failed": "red", "cut": "yellow"}
    for outcome in outcomes:
        cells = (str(outcome.attempts or ""), f"{outcome.seconds:.0f}" if outcome.attempts else "")
        made.add_row(outcome.name, outcome.status, *cells, style=style.get(outcome.status, ""))
    return made
