"""``crkd embed``: images to feature vectors of a pretrained backbone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from crkd.core.counted import counted
from crkd.core.errors import listed

DESCRIPTION = """\
Compute feature vectors of images with a pretrained backbone, and write them to
a Parquet file.

  crkd embed photos/ --out vectors.parquet
  crkd embed photos/ more.tar --backbone vit_small_patch14_dinov2.lvd142m \\
      --image-size 224 --download --out vectors.parquet

DIR are folders, tar files and Parquet tables of images. An image that has a
vector in FILE is not embedded again. After an interruption the same command
continues. A file that cannot be read is listed in NAME.skipped.csv.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``crkd embed``."""
    parser.add_argument("images", metavar="DIR", nargs="+", help="folders, .tar or .parquet files")
    parser.add_argument("--out", metavar="FILE", required=True, help="Parquet file to write")
    parser.add_argument(
        "--backbone", metavar="NAME", help="lite0 (default), a timm model, or an ONNX file"
    )
    parser.add_argument("--backbone-weights", metavar="FILE", help="local weights of a timm model")
    parser.add_argument(
        "--download",
        action="store_true",
        help="download the weights of the backbone if they are missing",
    )
    parser.add_argument("--image-size", metavar="PX", type=int, help="side of the input in pixels")
    parser.add_argument(
        "--runtime",
        metavar="NAME",
        default="auto",
        help="auto (the fastest), torch, torch-bf16 or onnx",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="threads (default: one a processor)"
    )
    parser.add_argument("--resume", action="store_true", help="continue, or refuse to begin")


def run(given: argparse.Namespace) -> int:
    """Write the file and print its summary; return the exit code."""
    from crkd.data.encoded.listing import check_place

    for path in given.images:
        # PyTorch takes seconds to import.
        check_place(Path(path))

    import torch

    from crkd.core.device import pick_device
    from crkd.embedding.plan import EmbedSettings
    from crkd.embedding.run import embed
    from crkd.runs.skipped_files import skipped_file
    from crkd.training.interruption import Interrupted

    device = pick_device(given.device)
    if device.index is not None:
        torch.cuda.set_device(device)
    settings = EmbedSettings(
        backbone=given.backbone,
        weights=None if given.backbone_weights is None else Path(given.backbone_weights),
        image_size=given.image_size,
        runtime=given.runtime,
        device=device.type,
        download=given.download,
        workers=given.workers,
    )
    try:
        made = embed(given.images, given.out, settings, resume=given.resume)
    except Interrupted as stop:
        print(f"crkd embed: {stop}", file=sys.stderr)
        return 130
    if made.passed_over:
        kinds = listed(f"{count:,} {suffix}" for suffix, count in made.passed_over.items())
        print(f"skipped files that are not images by their suffix: {kinds}")
    if made.skipped:
        print(f"{counted(len(made.skipped), 'file')} skipped, listed in {skipped_file(made.out)}")
        for name, reason in list(made.skipped.items())[:5]:
            print(f"  {name!r}: {reason}")
    rate = made.embedded / max(made.seconds, 1e-9)
    print(
        f"{counted(made.embedded, 'image')} embedded in {made.seconds:.1f} s "
        f"({rate:,.0f} images/s), {made.reused:,} reused; {counted(made.rows, 'vector')}: "
        f"{made.out}"
    )
    return 0
