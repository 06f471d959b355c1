"""``crkd bench``: the benchmarks and their result files."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from crkd.commands.flags import add_device_flag
from crkd.core.errors import InputError
from crkd.core.paths import CHECKOUT
from crkd.core.watched import Job, Report, run_in_process, watched

PARTS = {
    "sinkhorn": ("device",),
    "sinkhorn-layouts": ("device",),
    "augment": (),
    "train": ("device",),
    "load": ("device",),
    "sizes": ("device",),
    "machine": ("device",),
    "operations": (),
    "people": (),
    "review-page": (),
    "kmeans": (),
    "embed": (),
    "diswot": ("out",),
    "distill": ("out", "jobs"),
    "recipes": ("out", "device", "jobs"),
    "increments": ("out", "jobs"),
    "class-count": ("out", "device", "jobs"),
    "vectors": ("out", "jobs"),
    "known-or-novel": (),
    "without-known": (),
    "close-pairs": (),
    "gcd": ("out", "jobs"),
    "outlier": (),
    "minutes": (),
    "memory": (),
    "pot-tests": (),
}
"""Benchmark to the arguments of its code."""

RESUMED = tuple(part for part, takes in PARTS.items() if "out" in takes)
PARALLEL = tuple(part for part, takes in PARTS.items() if "jobs" in takes)
ON_GPU = tuple(part for part, takes in PARTS.items() if takes == ("device",))
ROW_SECONDS = 180.0
"""Default time limit of a row on a GPU. It includes the compilation of a network."""

_DESCRIPTION = """\
Run a benchmark on this machine.

  sinkhorn     one assignment, compared with the released code, batched torch,
               POT and OTT-JAX
  sinkhorn-layouts
               all layouts of the resident kernel, compared with the planned
               one; needs a GPU
  augment      views of a training step, compared with torchvision and a
               DataLoader
  train        training steps and their parts, compared with a plain pipeline
  load         time from the command to the first step; image reading
  sizes        time per image by data set size, number of heads and number of
               classes; --plot draws it
  machine      matrix products, memory copy and launch time of an operation
  operations   count of the operations of a training step by phase, and the
               lower bound of their time on an H100
  people       predict, and the review page of 100,000 images, on the CPU
  review-page  the review page of 100,000 images in Chromium: time to open,
               frames while scrolling, search
  kmeans       time and memory of k-means on a million features
  embed        images a second of crkd embed, of a table named by CRKD_IMAGES
  diswot       rank correlation of the DisWOT score with accuracy; about 25
               minutes on one core
  distill      all methods of distillation, three seeds
  recipes      single changes of the published recipe, three seeds
  increments   plans of several steps, compared with FRoST and fine-tuning
  class-count  error of the estimated number of classes; --device cuda uses the
               published size
  vectors      discovery on feature vectors, compared with k-means
  known-or-novel
               known classes among unlabeled vectors, compared with distances
  without-known
               discovery on vectors without known classes, compared with k-means
  close-pairs  discovered classes that are named as one class, with too many of
               them
  gcd          generalized category discovery on feature vectors, in one and in
               several sessions, compared with SimGCD and k-means
  outlier      foreign images that the column outlier of predict finds, compared
               with distances
  minutes      training time of the configurations of the sweep
               accuracy-per-minute, on one thread
  memory       peak memory of embed, discover, predict and review at three
               numbers of rows, or at those that CRKD_ROWS gives
  pot-tests    POT's own tests of Sinkhorn with solve and solve_batch; CRKD_POT
               names a checkout of POT

--json is written after every row. A failed measurement becomes a row with a
reason instead of a value. The other measurements still run, and the exit code
is 1. --row-seconds runs the measurements in a separate process with a time
limit. This is the default on a GPU for:
{on_gpu}.

These benchmarks continue from the files next to --json after an interruption:
{resumed}.

The code of the benchmarks is in the folder benchmarks/ of a checkout.
"""
DESCRIPTION = _DESCRIPTION.format(on_gpu=", ".join(ON_GPU), resumed=", ".join(RESUMED))
SOURCE = "crkd.commands.bench:measurements"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("part", choices=tuple(PARTS), metavar="BENCHMARK", help="see above")
    parser.add_argument("--json", metavar="FILE", help="write the rows as a JSON list")
    add_device_flag(parser)
    parser.add_argument("--plot", metavar="FILE", help="draw the rows as a PNG image (sizes)")
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=1,
        help=f"number of processes ({', '.join(PARALLEL)})",
    )
    parser.add_argument(
        "--row-seconds",
        metavar="N",
        type=float,
        help=f"time limit of a row (default on a GPU: {ROW_SECONDS:g})",
    )


def run(given: argparse.Namespace) -> int:
    """Run a benchmark, print and write its rows; return 0 if no row failed, else 1."""
    _check(given)

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
    """Return the jobs of a benchmark; each job yields rows.

    Args:
        part: a key of ``PARTS``.
        device: "cpu" or "cuda".
        out: the result file.
        jobs: processes.

    Raises:
        InputError: the code of the benchmark is missing.
    """
    module = _benchmark(part)
    values = {"device": device, "out": out and Path(out), "jobs": jobs}
    taken = {name: values[name] for name in PARTS[part]}
    if hasattr(module, "measurements"):
        found: Iterable[Job] = module.measurements(**taken)
        return found
    # These rows depend on each other and form one job.
    return [Job(part, partial(module.rows, **taken))]


def _check(given: argparse.Namespace) -> None:
    """Check the flags against the benchmark.

    Raises:
        InputError: a flag is invalid or missing.
    """
    if given.plot is not None and given.part != "sizes":
        raise InputError(f"--plot does not apply to {given.part}, only to sizes; leave it out")
    if given.part in RESUMED and given.json is None:
        raise InputError(f"bench {given.part} needs --json FILE; it keeps its state next to it")
    if given.jobs < 1 or (given.jobs > 1 and given.part not in PARALLEL):
        raise InputError(
            f"--jobs is {given.jobs}; give 1, or more for one of: {', '.join(PARALLEL)}"
        )
    if given.row_seconds is not None and not given.row_seconds > 0:
        raise InputError(f"--row-seconds is {given.row_seconds:g}; give a number above 0")


def _measured(wanted: dict[str, Any], seconds: float | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a benchmark; with a time limit, from a separate process.

    Args:
        wanted: arguments of :func:`measurements`.
        seconds: time limit of a row; None for no limit.
    """
    if seconds is None:
        reports = run_in_process(partial(measurements, **wanted))
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
    """Return 16 hexadecimal digits of the SHA-256 of a benchmark's code.

    Rows with the same digest come from the same code.
    """
    code = Path(_benchmark(part).__file__).read_bytes()
    return hashlib.sha256(code).hexdigest()[:16]


def _benchmark(part: str) -> Any:
    """Return the module of a benchmark, which only a checkout has."""
    name = part.replace("-", "_")
    if not (CHECKOUT / "benchmarks" / f"{name}.py").is_file():
        raise InputError(f"benchmarks/{name}.py is missing; run bench from a checkout")
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
        # As text, because an error message may look like markup.
        table.add_row(*(Text(text) for text in (row["name"], *texts, row["unit"])))
    Console().print(table)
