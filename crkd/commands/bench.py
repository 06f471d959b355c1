"""``crkd bench``: measure a part of the system and write its result file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crkd.commands.flags import Parser
from crkd.core.errors import InputError

DESCRIPTION = """\
Measure a part of the system on this machine.

  sinkhorn   one assignment against the released code's loop, batched torch and POT
  augment    the views of a training step against torchvision with a DataLoader
  train      training steps and their parts against a plain pipeline
  load       from the command to the first step; reading images
  sizes      cost of an image against size of the set, heads and classes; --plot draws it
  people     predict, and the review page of 100,000 images, on the CPU
  kmeans     k-means on a million features, with its memory
  diswot     rank correlation of the student search's score with accuracy; about 25 minutes of
             one core, and goes on with the students that are missing beside --json
  distill    every way of teacher-to-student training, three seeds; goes on like diswot
  recipes    one change at a time against the published recipe, three seeds; goes on likewise
  increments plans of further steps beside FRoST's recipe and fine-tuning; goes on likewise
  class-count  error of the estimated number of classes; with --device cuda at the published size
  long-tail  priors of the assignment where the novel classes are a long tail

The measuring code lies in benchmarks/ of the repository; run it from a checkout.
"""
PARTS = (
    "sinkhorn",
    "augment",
    "train",
    "load",
    "sizes",
    "people",
    "kmeans",
    "diswot",
    "distill",
    "recipes",
    "increments",
    "class-count",
    "long-tail",
)
RESUMED = ("diswot", "distill", "recipes", "increments", "class-count", "long-tail")
PARALLEL = ("distill", "recipes", "increments", "class-count", "long-tail")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and write the rows; return the exit code."""
    parser = Parser(prog="crkd bench", description=DESCRIPTION)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--json", metavar="FILE", help="write the rows as a JSON list")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--plot", metavar="FILE", help="draw the rows as a picture (sizes)")
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=1, help=f"processes ({', '.join(PARALLEL)})"
    )
    given = parser.parse_args(arguments)
    if given.plot is not None and given.part != "sizes":
        raise InputError(f"--plot draws the part sizes alone, not {given.part}; leave it out")
    if given.part in RESUMED and given.json is None:
        raise InputError(
            f"bench {given.part} needs --json FILE: finished students are kept beside it"
        )
    if given.jobs < 1 or (given.jobs > 1 and given.part not in PARALLEL):
        raise InputError(
            f"--jobs is {given.jobs}; give 1, or more for one of: {', '.join(PARALLEL)}"
        )

    from crkd.engine.files import write_json
    from crkd.engine.provenance import device_name, git_commit, pick_device, versions

    device = pick_device(given.device)
    module = _benchmark(given.part)
    wants: dict[str, object] = dict.fromkeys(("sinkhorn", "train", "load", "sizes"), device.type)
    wants["diswot"] = given.json and Path(given.json)
    if given.part in ("distill", "increments", "long-tail"):
        measured = module.rows(Path(given.json), jobs=given.jobs)
    elif given.part in ("recipes", "class-count"):
        measured = module.rows(Path(given.json), device.type, jobs=given.jobs)
    else:
        measured = module.rows(wants[given.part]) if given.part in wants else module.rows()
    origin = {"device": device_name(device), "versions": versions(), "commit": git_commit()}
    rows = [{**origin, **row} for row in measured]
    _show(rows)
    if given.plot:
        module.draw(rows, Path(given.plot))
    if given.json:
        write_json(Path(given.json), rows)
    return 0


def _benchmark(part: str) -> Any:
    """Return the measuring module of a part, which lies beside the package in a checkout."""
    root = Path(__file__).resolve().parents[2]
    name = part.replace("-", "_")
    if not (root / "benchmarks" / f"{name}.py").is_file():
        raise InputError(f"benchmarks/{name}.py is not here; run bench from a checkout")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"benchmarks.{name}")


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{rows[0]['device']}" if rows else None)
    for column in ("name", "value", "baseline", "ratio", "unit"):
        table.add_column(column, justify="left" if column in ("name", "unit") else "right")
    for row in rows:
        cells = [row[column] for column in ("value", "baseline", "ratio")]
        texts = ["not measured" if c is None else f"{c:,.2f}" for c in cells]
        if row["value"] is not None:
            texts[1:] = ["" if t == "not measured" else t for t in texts[1:]]
        table.add_row(row["name"], *texts, row["unit"])
    Console().print(table)
