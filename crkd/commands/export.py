"""``crkd export``: a finished run or its labels in the formats of other programs."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from crkd.commands.flags import check_run
from crkd.core.counted import counted
from crkd.core.errors import InputError

DESCRIPTION = """\
Export a finished run to the format of another program.

  onnx         backbone and joint classifier for onnxruntime. If onnxruntime is
               installed, its outputs are compared with those of the run.
  torch        backbone and joint classifier for torch.export.load
  labelstudio  images of discovered classes as Label Studio tasks with
               predictions, and a labeling configuration
  fiftyone     images of discovered classes as labels of a
               FiftyOneImageClassificationDataset
  atlas        Parquet table for Embedding Atlas: class, confidence, position
               on a map and nearest images

labelstudio and fiftyone export the unlabeled training images of the run, or the
images in --predictions. atlas exports the unlabeled training images.
"""
PROGRAMS = ("onnx", "torch")
FORMATS = (*PROGRAMS, "labelstudio", "fiftyone", "atlas")
WHOLE = (*PROGRAMS, "atlas")
"""Formats that take the whole run, and no other images."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--format", required=True, choices=FORMATS, help="format to write")
    parser.add_argument(
        "--out", metavar="FILE", help="file to write (default: a file in the run folder)"
    )
    labels = parser.add_argument_group("labelstudio and fiftyone")
    labels.add_argument(
        "--predictions",
        metavar="FILE",
        help="table that 'crkd predict' wrote, or predictions.jsonl of 'crkd watch'",
    )
    labels.add_argument("--all", action="store_true", help="include images of known classes")
    labels.add_argument(
        "--prefix",
        metavar="URL",
        help="labelstudio: text before the path of an image (default: /data/local-files/?d=, that "
        "of local storage)",
    )
    labels.add_argument(
        "--root",
        metavar="DIR",
        help="labelstudio: folder of the prefix; image paths are relative to it (default: /)",
    )


def run(given: argparse.Namespace) -> int:
    """Write the files and print their paths; return the exit code."""
    out = None if given.out is None else Path(given.out)
    if given.format in WHOLE and (given.predictions or given.all):
        raise InputError(
            f"--predictions and --all do not apply to --format {given.format}; leave them out"
        )
    for flag in ("prefix", "root"):
        if given.format != "labelstudio" and getattr(given, flag) is not None:
            raise InputError(
                f"--{flag} does not apply to --format {given.format}; leave it out, or use "
                "--format labelstudio"
            )
    check_run(given.run)
    if given.format in PROGRAMS:
        from crkd.inference.export_model import export

        file, difference = export(given.run, given.format, out)
        if difference is None:
            print("outputs not compared with the run: onnxruntime is not installed")
        else:
            print(f"outputs equal those of the run within {difference:.1e}")
        print(f"written: {file} and {file.name}.json")
        return 0

    if given.format == "atlas":
        from crkd.review.export_atlas import COMMAND, export_atlas

        table, count = export_atlas(given.run, out)
        print(f"{counted(count, 'image')} written: {table}")
        print(f"next: {COMMAND.replace('FILE', shlex.quote(str(table)))}")
        return 0

    from crkd.inference.export_labels import export_labels

    places: dict[str, Any] = {}
    if given.prefix is not None:
        places["prefix"] = given.prefix
    if given.root is not None:
        places["root"] = Path(given.root)
    files, count = export_labels(
        given.run,
        given.format,
        out,
        predictions=None if given.predictions is None else Path(given.predictions),
        known_too=given.all,
        **places,
    )
    print(f"{counted(count, 'image')} written: {', '.join(str(file) for file in files)}")
    return 0
