"""``crkd review``: an HTML page for the review of discovered classes."""

from __future__ import annotations

import argparse
from pathlib import Path

from crkd.commands.flags import add_device_flag, check_run
from crkd.core.counted import counted
from crkd.core.errors import InputError

DESCRIPTION = """\
Write one HTML page that shows every discovered class of a run: its images,
similar classes and its stability. Thumbnails of more than 4,000 images are in a
folder next to it. On the page, a person accepts, names, merges, splits or
rejects the classes, moves images and saves the decisions as a file. 'crkd
apply-review' makes a run with named classes from this file.

  crkd review runs/mine --picture classes.png
  crkd apply-review runs/mine decisions.json --out runs/mine-named
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("run", metavar="RUN", nargs="?", help="run folder of a finished discovery")
    parser.add_argument(
        "--example", action="store_true", help="review the example run of the package"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="page to write (default: review.html in the run folder)"
    )
    parser.add_argument(
        "--picture", metavar="FILE", help="also write the most typical images of each class as PNG"
    )
    add_device_flag(parser)


def run(given: argparse.Namespace) -> int:
    """Write the page and print its path; return the exit code."""
    if given.example == (given.run is not None):
        raise InputError("give either a RUN or --example")
    if not given.example:
        check_run(given.run)

    from crkd.core.device import pick_device
    from crkd.inference.example import PLACE, RUN
    from crkd.review.contact_sheet import write_picture
    from crkd.review.page import write_page
    from crkd.review.run_outputs import gather

    device = pick_device(given.device)
    folder, place = (RUN, PLACE) if given.example else (Path(given.run), Path(given.run))
    out = Path(given.out) if given.out else place / "review.html"
    evidence = gather(folder, device)
    counts = write_page(evidence, out)
    classes = counted(counts["classes"], "discovered class", "discovered classes")
    images = f"{counts['thumbnails']:,} of {counted(counts['images'], 'image')}"
    print(f"{classes}, {images} shown, {counts['bytes'] / 1e6:.1f} MB: {out}")
    if given.picture:
        write_picture(evidence, Path(given.picture))
        print(f"picture: {given.picture}")
    return 0
