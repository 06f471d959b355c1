"""``crkd review``: one page on which a person decides about discovered classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crkd.commands.flags import Parser

DESCRIPTION = """\
Write one HTML page that shows every discovered class of a run: its images, what it resembles, how
stable it is. Classes are accepted, named, merged, split or rejected there; the page saves the
decisions as a file, which apply-review turns into a run with named classes.

  crkd review runs/mine --picture classes.png
  crkd apply-review runs/mine decisions.json --out runs/mine-named
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and say where it is; return the exit code."""
    parser = Parser(prog="crkd review", description=DESCRIPTION)
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="the run folder of a finished discovery"
    )
    parser.add_argument("--example", action="store_true", help="the run that comes with crkd")
    parser.add_argument("--out", metavar="FILE", help="default: review.html in the run folder")
    parser.add_argument(
        "--picture", metavar="FILE", help="also draw the most typical images of every class (PNG)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    given = parser.parse_args(arguments)

    if given.example == (given.run is not None):
        parser.error("name a RUN, or take --example alone")

    from crkd.core.device import pick_device
    from crkd.inference.example import PLACE, RUN
    from crkd.review.contact_sheet import draw_sheet
    from crkd.review.page import review

    device = pick_device(given.device)
    run, place = (RUN, PLACE) if given.example else (Path(given.run), Path(given.run))
    out = Path(given.out) if given.out else place / "review.html"
    counts = review(run, out, device=device)
    print(
        f"{counts['classes']:,} discovered classes, {counts['thumbnails']:,} pictures of "
        f"{counts['images']:,} images, {counts['bytes'] / 1e6:.1f} MB: {out}"
    )
    if given.picture:
        draw_sheet(run, Path(given.picture), device=device)
        print(f"picture: {given.picture}")
    return 0
