"""``crkd predict``: predictions of a finished run for new images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from crkd.commands.flags import add_device_flag, check_run
from crkd.core.counted import counted
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from crkd.inference.predict import Summary

DESCRIPTION = """\
Predict the class of every image, with a confidence, and whether the class is
known or novel.

  crkd predict runs/mine new-photos/ --out predictions.csv
  crkd predict --example

IMAGES are image files and folders with any subfolders; for a discovery on
vectors also files of vectors. The suffix of --out
selects the format: .csv, .parquet or .json. Files that cannot be read are
skipped and listed in NAME.skipped.csv. --example predicts test images of
handwritten digits with a small run that is part of the package.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("run", metavar="RUN", nargs="?", help="folder of a finished run")
    parser.add_argument("images", metavar="IMAGES", nargs="*", help="image files and folders")
    parser.add_argument(
        "--example", action="store_true", help="use the example run and images of the package"
    )
    parser.add_argument("--out", metavar="FILE", help="table to write (default: predictions.csv)")
    parser.add_argument(
        "--unsure",
        metavar="P",
        type=float,
        default=0.5,
        help="mark predictions below this confidence as unsure (default: 0.5)",
    )
    add_device_flag(parser)
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        help="samples in a batch (default: 32 images on a CPU, 128 on a GPU; 256 feature vectors)",
    )


def run(given: argparse.Namespace) -> int:
    """Write the table and print a summary; return the exit code."""
    if given.example and given.run is not None:
        raise InputError(
            f"--example has its own run and images; leave out {given.run} or --example"
        )
    if not given.example and not given.images:
        raise InputError("RUN and IMAGES are not given; name them, or use --example")
    if not given.example:
        check_run(given.run)

    from crkd.core.device import pick_device
    from crkd.inference.example import PLACE, RUN, write_images
    from crkd.inference.predict import check_arguments, predict
    from crkd.training.distributed import barrier, is_rank_zero

    folder, images = given.run, given.images
    out = Path(given.out or "predictions.csv")
    device = pick_device(given.device)
    if given.example:
        out = Path(given.out or PLACE / "predictions.csv")
        check_arguments(out, given.unsure, given.batch_size)
        folder, images = RUN, [str(out.parent / "digits")]
        if is_rank_zero():
            write_images(out.parent / "digits")
        barrier()
    found = predict(
        folder,
        images,
        out,
        device=device,
        unsure=given.unsure,
        batch_size=given.batch_size,
    )
    _show(found, out, given.unsure)
    if given.example:
        print(f"images: {images[0]}; the first character of a file name is its digit")
        print("next: crkd review --example")
    return 0


def _show(found: Summary, out: Path, unsure: float) -> None:
    for kind, counts in found.classes.items():
        if counts:
            classes = counted(len(counts), f"{kind} class", f"{kind} classes")
            print(f"{counted(counts.total(), 'image')} of {classes}")
    print(f"{found.unsure:,} unsure (confidence below {unsure})")
    if found.outliers is None:
        print("no outlier detection: the run has no statistics for it")
    else:
        fitting = counted(found.outliers, "image fits", "images fit")
        print(f"{fitting} none of the classes (column outlier)")
    if found.temperature is None:
        print(f"confidence is not calibrated: {found.uncalibrated}")
    else:
        print(f"confidence of known classes: temperature {found.temperature:.2f}")
        print("confidence of novel classes is not calibrated")
    if found.skipped:
        from crkd.runs.skipped_files import skipped_file

        print(f"{counted(len(found.skipped), 'file')} skipped, listed in {skipped_file(out)}")
        for name, reason in list(found.skipped.items())[:5]:
            print(f"  {name!r}: {reason}")
    rate = found.num_images / max(found.seconds, 1e-9)
    images = counted(found.num_images, "image")
    print(f"{images} in {found.seconds:.1f} s ({rate:,.0f} images/s): {out}")
