"""``crkd export``: a finished run, or its classes, for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crkd.commands.flags import Parser
from crkd.core.errors import InputError

DESCRIPTION = """\
Write a finished run for other programs.

  onnx         backbone and joint classifier for onnxruntime, checked equal where it is installed
  torch        the same for torch.export.load
  labelstudio  the images of discovered classes as tasks with predictions, and a labeling config
  fiftyone     the same as FiftyOneImageClassificationDataset labels

The last two take the unlabeled training images of the run, or --predictions of 'crkd predict'.
"""
PROGRAMS = ("onnx", "torch")
FORMATS = (*PROGRAMS, "labelstudio", "fiftyone")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file and say where it is; return the exit code."""
    parser = Parser(prog="crkd export", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help="a finished run folder")
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    parser.add_argument("--out", metavar="FILE", help="default: a file in the run folder")
    labels = parser.add_argument_group("labelstudio and fiftyone")
    labels.add_argument("--predictions", metavar="FILE", help="rows that 'crkd predict' wrote")
    labels.add_argument("--all", action="store_true", help="images of known classes too")
    labels.add_argument(
        "--prefix",
        metavar="URL",
        default="/data/local-files/?d=",
        help="labelstudio: what stands before an image's path (default: local storage)",
    )
    labels.add_argument(
        "--root",
        metavar="DIR",
        default="/",
        help="labelstudio: the folder that the prefix means; paths are given below it (default: /)",
    )
    given = parser.parse_args(arguments)
    out = None if given.out is None else Path(given.out)
    if given.format in PROGRAMS:
        if given.predictions or given.all:
            raise InputError(
                f"--predictions and --all do not apply to --format {given.format}; leave them out"
            )
        from crkd.inference.export_model import export

        file, difference = export(given.run, given.format, out)
        if difference is None:
            print("not compared with the run: onnxruntime is not installed")
        else:
            print(f"outputs equal those of the run within {difference:.1e}")
        print(f"written: {file} and {file.name}.json")
        return 0

    from crkd.inference.export_labels import export_labels

    files, count = export_labels(
        given.run,
        given.format,
        out,
        predictions=None if given.predictions is None else Path(given.predictions),
        known_too=given.all,
        prefix=given.prefix,
        root=Path(given.root),
    )
    print(f"{count:,} images written: {', '.join(str(file) for file in files)}")
    return 0
