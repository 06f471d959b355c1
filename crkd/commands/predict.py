"""``crkd predict``: a finished run on new images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crkd.commands.flags import Parser

DESCRIPTION = """\
Say of every image whether its class is known or novel, which one it is, and how sure that is.

  crkd predict runs/mine new-photos/ --out predictions.csv

IMAGES are files and folders, flat or nested. The suffix of --out chooses the format: .csv,
.parquet or .json. A file that cannot be read is skipped and listed in NAME.skipped.csv.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table and print what is in it; return the exit code."""
    parser = Parser(prog="crkd predict", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help="a finished run folder")
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="files and folders of images")
    parser.add_argument("--out", metavar="FILE", default="predictions.csv", help="table to write")
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

    from crkd.engine.predict import predict
    from crkd.engine.provenance import pick_device

    out = Path(given.out)
    found = predict(
        given.run,
        given.images,
        out,
        device=pick_device(given.device),
        unsure=given.unsure,
        batch_size=given.batch_size,
    )
    for kind, counts in found.classes.items():
        print(f"{counts.total():,} images of {len(counts)} {kind} classes")
    print(f"{found.unsure:,} unsure (confidence below {given.unsure})")
    if found.temperature is None:
        print(
            "confidence is not calibrated: no held-out image of a known class fixes a temperature"
        )
    else:
        print(f"confidence of known classes: temperature {found.temperature:.2f}")
        print("confidence of novel classes is not calibrated")
    if found.skipped:
        from crkd.engine.predict import skipped_file

        print(f"{len(found.skipped):,} files skipped, listed in {skipped_file(out)}")
        for name, reason in list(found.skipped.items())[:5]:
            print(f"  {name!r}: {reason}")
    rate = found.num_images / max(found.seconds, 1e-9)
    print(f"{found.num_images:,} images in {found.seconds:.1f} s ({rate:,.0f} images/s): {out}")
    return 0
