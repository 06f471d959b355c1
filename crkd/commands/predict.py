"""``crkd predict``: a finished run on new images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crkd.commands.flags import Parser
from crkd.core.errors import InputError

DESCRIPTION = """\
Say of every image whether its class is known or novel, which one it is, and how sure that is.

  crkd predict runs/mine new-photos/ --out predictions.csv
  crkd predict --example

IMAGES are files and folders, flat or nested. The suffix of --out chooses the format: .csv,
.parquet or .json. A file that cannot be read is skipped and listed in NAME.skipped.csv.
--example takes a small run that comes with crkd and handwritten digits that it never saw.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table and print what is in it; return the exit code."""
    parser = Parser(prog="crkd predict", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a finished run folder")
    parser.add_argument("images", metavar="IMAGES", nargs="*", help="files and folders of images")
    parser.add_argument("--example", action="store_true", help="try it on digits, without a run")
    parser.add_argument("--out", metavar="FILE", help="table to write (default: predictions.csv)")
    parser.add_argument(
        "--unsure",
        metavar="P",
        type=float,
        default=0.5,
        help="call an image unsure below this confidence (default: 0.5)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--batch-size", metavar="N", type=int, default=128, help="images at once")
    given = parser.parse_args(arguments)
    if given.example and given.run is not None:
        raise InputError(
            f"--example brings a run and images of its own; leave {given.run} out, or --example"
        )
    if not given.example and not given.images:
        parser.error("the following arguments are required: RUN, IMAGES (or --example)")

    from crkd.core.device import pick_device
    from crkd.inference.example import PLACE, RUN, write_images
    from crkd.inference.predict import predict

    run, images = given.run, given.images
    out = Path(given.out or "predictions.csv")
    if given.example:
        out = Path(given.out or PLACE / "predictions.csv")
        run, images = RUN, [str(write_images(out.parent / "digits"))]
    found = predict(
        run,
        images,
        out,
        device=pick_device(given.device),
        unsure=given.unsure,
        batch_size=given.batch_size,
    )
    for kind, counts in found.classes.items():
        print(f"{counts.total():,} images of {len(counts)} {kind} classes")
    print(f"{found.unsure:,} unsure (confidence below {given.unsure})")
    if found.outliers is None:
        print("outliers not looked for: the run keeps no statistics of its classes")
    else:
        print(f"{found.outliers:,} fit none of the classes (column outlier)")
    if found.temperature is None:
        print(
            "confidence is not calibrated: no held-out image of a known class fixes a temperature"
        )
    else:
        print(f"confidence of known classes: temperature {found.temperature:.2f}")
        print("confidence of novel classes is not calibrated")
    if found.skipped:
        from crkd.runs.skipped_files import skipped_file

        print(f"{len(found.skipped):,} files skipped, listed in {skipped_file(out)}")
        for name, reason in list(found.skipped.items())[:5]:
            print(f"  {name!r}: {reason}")
    rate = found.num_images / max(found.seconds, 1e-9)
    print(f"{found.num_images:,} images in {found.seconds:.1f} s ({rate:,.0f} images/s): {out}")
    if given.example:
        print(f"the images: {images[0]}; their names tell the digit. Next: crkd review --example")
    return 0
