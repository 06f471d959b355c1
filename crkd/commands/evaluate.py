"""``crkd evaluate``: the metrics of a run, computed from its predictions."""

from __future__ import annotations

import argparse
import json
import sys

DESCRIPTION = """\
Compute all metrics of a run from its file predictions.parquet.

  crkd evaluate runs/mine
  crkd evaluate runs/mine --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")


def run(given: argparse.Namespace) -> int:
    """Print the metrics of a run; return the exit code."""
    from rich.console import Console

    from crkd.evaluation.predictions_file import load_predictions
    from crkd.evaluation.report import evaluate
    from crkd.evaluation.tables import protocol_table
    from crkd.runs.folder import RunFolder

    folder = RunFolder.open(given.run).path
    metrics = evaluate(load_predictions(folder / "predictions.parquet"))
    if given.json:
        json.dump(metrics, sys.stdout, indent=2, allow_nan=False)
        print()
    else:
        Console().print(protocol_table(metrics))
    return 0
