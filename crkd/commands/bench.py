"""``crkd bench``: measure a part of the system and write its result file."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from crkd.commands.flags import Parser
from crkd.core.errors import InputError
from crkd.core.paths import CHECKOUT
from crkd.core.watched import Job, Report, done_here, watched

DESCRIPTION = """\
Measure a part of the system on this machine.

  sinkhorn   one assignment against the released code's loop, batched torch and POT
  augment    the views of a training step against torchvision with a DataLoader
  train      training steps and their parts against a plain pipeline
  load       from the command to the first step; reading images
  sizes      cost of an image against size of the set, heads and classes; --plot draws it
  machine    matrix products, a copy of memory and the launch of an operation
  operations operations of a step by phase, and what an H100 could do at best; counted, not timed
  people     predict, and the review page of 100,000 images, on the CPU
  kmeans     k-means on a million features, with its memory
  diswot     rank correlation of the student search's score with accuracy; about 25 minutes of
             one core; trains only the students that are missing next to --json
  distill    every way of teacher-to-student training, three seeds; resumes like diswot
  recipes    one change at a time against the published recipe, three seeds; resumes likewise
  increments plans of further steps against FRoST's recipe and fine-tuning; resumes likewise
  class-count  error of the estimated number of classes; with --device cuda at the published size
  long-tail  priors of the assignment where the novel classes are a long tail
  vectors    discovery on frozen vectors and k-means on them; CRKD_VECTORS is their folder

Each row is written to --json once it is measured. A measurement that fails becomes a row without
a value but with a reason, the others still run, and the exit code is 1. With --row-seconds the
measurements run in a process of their own, so that one that hangs fails like any other; on a GPU
that is how {on_gpu} run.

The measuring code is in benchmarks/ of the repository; run it from a checkout.
"""
PARTS = {
    "sinkhorn": ("device",),
    "augment": (),
    "train": ("device",),
    "load": ("device",),
    "sizes": ("device",),
    "machine": ("device",),
    "operations": (),
    "people": (),
    "kmeans": (),
    "diswot": ("out",),
    "distill": ("out", "jobs"),
    "recipes": ("out", "device", "jobs"),
    "increments": ("out", "jobs"),
    "class-count": ("out", "device", "jobs"),
    "long-tail": ("out", "jobs"),
    "vectors": ("out", "jobs"),
}
"""Part to the arguments that its measuring code takes."""

RESUMED = tuple(part for part, takes in PARTS.items() if "out" in takes)
PARALLEL = tuple(part for part, takes in PARTS.items() if "jobs" in takes)
ON_GPU = tuple(part for part, takes in PARTS.items() if takes == ("device",))
ROW_SECONDS = 180.0
"""Enough for a network to be compiled, the longest wait for a row on a GPU."""

SOURCE = "crkd.commands.bench:measurements"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and write the rows; return 0 if all was measured, else 1."""
    given = _given(arguments)

    from crkd.core.device import device_name, pick_device
    from crkd.runs.atomic_files import write_json
    from crkd.runs.provenance import git_commit, versions

    device = pick_device(given.device)
    seconds = given.row_seconds
    if seconds is None and device.type == "cuda" and given.part in ON_GPU:
        seconds = ROW_SECONDS
    origin = {
        "device": device_name(device),
        "versions": versions(),
        "commit": git_commit(),
        "recipe": recipe_digest(given.part),
    }
    wanted = {"part": given.part, "device": device.type, "out": given.json, "jobs": given.jobs}
    rows = []
    for row in _measured(wanted, seconds):
        rows.append({**origin, **row})
        if given.json:
            write_json(Path(given.json), rows)
    _show(rows)
    if given.plot:
        _benchmark(given.part).draw(rows, Path(given.plot))
    return int(any("reason" in row for row in rows))


def measurements(part: str, device: str, out: str | None, jobs: int) -> Iterable[Job]:
    """Return what there is to measure of a part; each job yields rows.

    Args:
        part: a key of ``PARTS``.
        device: "cpu" or "cuda".
        out: the result file.
        jobs: processes.

    Raises:
        InputError: the measuring code is not here.
    """
    module = _benchmark(part)
    values = {"device": device, "out": out and Path(out), "jobs": jobs}
    taken = {name: values[name] for name in PARTS[part]}
    if hasattr(module, "measurements"):
        found: Iterable[Job] = module.measurements(**taken)
        return found
    # Its rows need each other: they are one measurement.
    return [Job(part, partial(module.rows, **taken))]


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the checked flags."""
    parser = Parser(prog="crkd bench", description=DESCRIPTION.format(on_gpu=", ".join(ON_GPU)))
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--json", metavar="FILE", help="write the rows as a JSON list")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--plot", metavar="FILE", help="draw the rows as a picture (sizes)")
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=1, help=f"processes ({', '.join(PARALLEL)})"
    )
    parser.add_argument(
        "--row-seconds",
        metavar="N",
        type=float,
        help=f"give up a measurement without a row for N seconds (on a GPU: {ROW_SECONDS:g})",
    )
    given = parser.parse_args(arguments)
    if given.plot is not None and given.part != "sizes":
        raise InputError(f"--plot draws the part sizes alone, not {given.part}; leave it out")
    if given.part in RESUMED and given.json is None:
        raise InputError(
            f"bench {given.part} needs --json FILE: what is finished is kept next to it"
        )
    if given.jobs < 1 or (given.jobs > 1 and given.part not in PARALLEL):
        raise InputError(
            f"--jobs is {given.jobs}; give 1, or more for one of: {', '.join(PARALLEL)}"
        )
    if given.row_seconds is not None and not given.row_seconds > 0:
        raise InputError(f"--row-seconds is {given.row_seconds:g}; give a number above 0")
    return given


def _measured(wanted: dict[str, Any], seconds: float | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a part as they come; with a limit from a process of its own.

    Args:
        wanted: arguments of :func:`measurements`.
        seconds: longest wait for a row, None for any.
    """
    if seconds is None:
        reports = done_here(partial(measurements, **wanted))
    else:
        reports = watched(SOURCE, wanted, seconds)
    for report in reports:
        yield report.value if report.reason is None else _failed(wanted["part"], report)


def _failed(part: str, report: Report) -> dict[str, Any]:
    assert report.reason is not None
    return {
        "benchmark": part,
        "name": report.job,
        "value": None,
        "unit": "",
        "baseline": None,
        "ratio": None,
        "reason": " ".join(report.reason.split())[:300],
    }


def recipe_digest(part: str) -> str:
    """Return 16 hexadecimal digits of the measuring code of a part.

    Rows of equal digests were measured in the same way.
    """
    code = Path(_benchmark(part).__file__).read_bytes()
    return hashlib.sha256(code).hexdigest()[:16]


def _benchmark(part: str) -> Any:
    """Return the measuring module of a part, which only a checkout has."""
    name = part.replace("-", "_")
    if not (CHECKOUT / "benchmarks" / f"{name}.py").is_file():
        raise InputError(f"benchmarks/{name}.py is not here; run bench from a checkout")
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    return importlib.import_module(f"benchmarks.{name}")


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{rows[0]['device']}" if rows else None)
    for column in ("name", "value", "baseline", "ratio", "unit"):
        table.add_column(column, justify="left" if column in ("name", "unit") else "right")
    for row in rows:
        cells = [row[column] for column in ("value", "baseline", "ratio")]
        texts = ["not measured" if c is None else f"{c:,.2f}" for c in cells]
        if "reason" in row:
            texts = [f"failed: {row['reason']}", "", ""]
        elif row["value"] is not None:
            texts[1:] = ["" if t == "not measured" else t for t in texts[1:]]
        # As text: what an error says may look like markup.
        table.add_row(*(Text(text) for text in (row["name"], *texts, row["unit"])))
    Console().print(table)
