"""``crkd gpu-day``: everything that a lent GPU should measure, in slices of a few minutes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crkd.commands.flags import Parser
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from crkd.gpu_checks.day import Outcome

DESCRIPTION = """\
Do the next unfinished steps of a fixed list and stop in time: versions and the ceiling of matrix
products, the GPU checks, one epoch of each stage, the Sinkhorn and the training benchmark, the
sanitizer, and the rows of the results, seed 0 of each first. Start the same command again to
continue; a training run that was cut continues from its saved state.

  crkd gpu-day --out results --minutes 9
  crkd gpu-day --out results --list

Runs and compiled kernels stay in --state. The small result files are copied to --out after every
step, in the form of benchmarks/results. It works offline, without POT, faiss and git: name the
commit of a copied working tree by $CRKD_COMMIT. Exit code 0 once every step is finished, else 3.
"""

UNFINISHED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the next steps; return the exit code.

    Raises:
        InputError: there is no such device or folder, or the time is too short.
    """
    parser = Parser(prog="crkd gpu-day", description=DESCRIPTION)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the result files")
    parser.add_argument("--minutes", metavar="N", type=float, default=9.0, help="to spend (9)")
    parser.add_argument("--state", metavar="DIR", help="folder of the runs (~/.cache/crkd/gpu-day)")
    parser.add_argument("--list", action="store_true", help="print the list and do nothing")
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data sets")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change one configuration key of every row, for a rehearsal; may be repeated",
    )
    given = parser.parse_args(arguments)
    if not given.minutes >= 2:
        raise InputError(f"--minutes {given.minutes:g} is too short; give at least 2")

    from rich.console import Console

    from crkd.gpu_checks.day import Day
    from crkd.gpu_checks.day_steps import Place, check_place

    state = Path(given.state) if given.state else _cache() / "gpu-day"
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
    """Lay out what became of each step."""
    from rich import box
    from rich.table import Table

    made = Table("step", "status", "attempts", "seconds", box=box.SIMPLE_HEAD, pad_edge=False)
    style = {"done": "green", "red": "red", "failed": "red", "cut": "yellow"}
    for outcome in outcomes:
        cells = (str(outcome.attempts or ""), f"{outcome.seconds:.0f}" if outcome.attempts else "")
        made.add_row(outcome.name, outcome.status, *cells, style=style.get(outcome.status, ""))
    return made


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crkd"
