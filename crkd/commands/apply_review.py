"""``crkd apply-review``: a run with named classes, from the decisions of a review."""

from __future__ import annotations

import argparse
from pathlib import Path

from crkd.commands.flags import add_device_flag, check_run

DESCRIPTION = """\
Make a run with named classes from the decisions that the page of 'crkd review'
saved. The reviewed run does not change. The verbs predict, export, review and
discover accept the new run like any other run.

  crkd apply-review runs/mine decisions.json --out runs/mine-named
  crkd apply-review runs/mine decisions.json --out runs/mine-named \\
      --images folder
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("run", metavar="RUN", help="run that was reviewed")
    parser.add_argument("file", metavar="FILE", help="decisions that its review page saved")
    parser.add_argument("--out", metavar="NEWRUN", required=True, help="run folder to write")
    parser.add_argument(
        "--images",
        choices=("csv", "folder"),
        help="also write the labels of the images to NEWRUN/labels.csv, "
        "or copies of the images to NEWRUN/images/CLASS/",
    )
    add_device_flag(parser)


def run(given: argparse.Namespace) -> int:
    """Make the run and print its classes; return the exit code."""
    check_run(given.run)

    from crkd.core.device import pick_device
    from crkd.review.apply import apply_review

    made, counts = apply_review(
        given.run,
        Path(given.file),
        given.out,
        device=pick_device(given.device),
        images=given.images,
    )
    for name, count in counts.items():
        print(f"{count:>9,} {'image ' if count == 1 else 'images'}  {name}")
    print(f"run: {made.path}")
    return 0
