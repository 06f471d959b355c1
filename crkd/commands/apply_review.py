"""``crkd apply-review``: decisions of a review become a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crkd.commands.flags import Parser

DESCRIPTION = """\
Make a run with named classes from the decisions that a page of 'crkd review' saved. The reviewed
run stays as it is; the new one is opened by predict, export, review and discover like any other.

  crkd apply-review runs/mine decisions.json --out runs/mine-named
  crkd apply-review runs/mine decisions.json --out runs/mine-named --images folder
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the run and print its classes; return the exit code."""
    parser = Parser(prog="crkd apply-review", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help="the run that was reviewed")
    parser.add_argument("file", metavar="FILE", help="decisions saved from its page")
    parser.add_argument("--out", metavar="NEWRUN", required=True, help="the run folder to write")
    parser.add_argument(
        "--images",
        choices=("csv", "folder"),
        help="also write the labeled images: NEWRUN/labels.csv, or copies in NEWRUN/images/CLASS/",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    given = parser.parse_args(arguments)

    from crkd.core.device import pick_device
    from crkd.review.apply import apply_review

    run, counts = apply_review(
        given.run,
        Path(given.file),
        given.out,
        device=pick_device(given.device),
        images=given.images,
    )
    for name, count in counts.items():
        print(f"{count:>9,} images  {name}")
    print(f"run: {run.path}")
    return 0
