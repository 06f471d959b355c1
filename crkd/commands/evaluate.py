"""``crkd evaluate``: the metrics of a run, or of any method, computed from its predictions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crkd.core.errors import InputError

DESCRIPTION = """\
Compute all metrics of a run from its file predictions.parquet, or those of any
method from a CSV, NPZ or Parquet file.

  crkd evaluate runs/mine
  crkd evaluate --predictions other.csv --num-known 80

Columns of the file, one row for each image:

  prediction  output: 0 to K - 1 are the known classes, K and above are clusters
  label       class: 0 to K - 1 are known, K and above are novel, -1 is unknown
  part        train (unlabeled training images) or test; default: train
  id          name of the image; optional without --labels
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("run", metavar="RUN", nargs="?", help="run folder")
    source.add_argument("--predictions", metavar="FILE", help="predictions of any method")
    known = parser.add_mutually_exclusive_group()
    known.add_argument(
        "--num-known", metavar="K", type=int, help="number of known classes; 0: clusters alone"
    )
    known.add_argument(
        "--known-classes",
        metavar="FILE",
        help="instead of --num-known, if labels are names: text file with one known class in a "
        "line, in the order of the outputs",
    )
    parser.add_argument("--labels", metavar="FILE", help="file with the columns id and label")
    parser.add_argument(
        "--clusters",
        action="store_true",
        help="predictions are numbers or names of clusters, and none is a known class",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the metrics as JSON")
    form.add_argument("--csv", action="store_true", help="print the metrics as CSV")
    form.add_argument("--latex", action="store_true", help="print a LaTeX table (booktabs)")


def run(given: argparse.Namespace) -> int:
    """Print the metrics of a run or of a file of predictions; return the exit code."""
    from crkd.evaluation.text_tables import csv_table, latex_table

    metrics, notes = _of_run(given) if given.predictions is None else _of_file(given)
    if given.json:
        json.dump(metrics, sys.stdout, indent=2, allow_nan=False)
        print()
    elif given.csv or given.latex:
        print(csv_table(metrics) if given.csv else latex_table(metrics), end="")
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
    else:
        _print(metrics, notes)
    return 0


def _of_run(given: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from crkd.evaluation.predictions_file import load_predictions
    from crkd.evaluation.report import evaluate
    from crkd.runs.folder import RunFolder

    for name in ("num_known", "known_classes", "labels", "clusters"):
        if getattr(given, name) not in (None, False):
            raise InputError(
                f"--{name.replace('_', '-')} belongs to --predictions FILE; a run has these "
                "values itself, so leave it out"
            )
    folder = RunFolder.open(given.run).path
    return evaluate(load_predictions(folder / "predictions.parquet")), []


def _of_file(given: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from crkd.evaluation.any_method import evaluate_outputs
    from crkd.runs.method_outputs import read_outputs

    if given.num_known is None and given.known_classes is None:
        raise InputError("--predictions needs --num-known K or --known-classes FILE; give one")
    if given.num_known is not None and given.num_known < 0:
        raise InputError(
            f"--num-known {given.num_known} is below 0; give the number of known classes"
        )
    known = given.known_classes if given.num_known is None else given.num_known
    outputs = read_outputs(
        given.predictions, known, labels=given.labels, clusters_only=given.clusters
    )
    metrics = evaluate_outputs(
        outputs.prediction,
        outputs.label,
        num_known=outputs.num_known,
        part=outputs.part,
        clusters_only=given.clusters,
    )
    name = Path(given.predictions).name
    notes = [f"{name} has no column part: all images are train."] if not outputs.names_parts else []
    return metrics, [*notes, *(f"not scored: {text}" for text in metrics["not_supported"])]


def _print(metrics: Mapping[str, Any], notes: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from crkd.evaluation.tables import protocol_table

    console = Console()
    console.print(protocol_table(metrics, variants=True))
    sources = Table.grid(padding=(0, 2))
    for entry in metrics.get("sources", {}).values():
        text = f"{entry['rule']} Source: {entry['source']}"
        sources.add_row(Text(entry["title"], style="bold"), Text(text))
    if sources.row_count:
        console.print("", sources, "", sep="\n")
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)
