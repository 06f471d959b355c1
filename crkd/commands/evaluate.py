"""``crkd evaluate``: recompute every figure of a run from its predictions alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console

from crkd.commands.flags import Parser
from crkd.evaluation.predictions_file import load_predictions
from crkd.evaluation.report import evaluate
from crkd.evaluation.tables import protocol_table
from crkd.runs.folder import RunFolder

DESCRIPTION = "Recompute every figure of a run from its predictions.parquet alone."


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a run's figures; return the exit code."""
    parser = Parser(prog="crkd evaluate", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    given = parser.parse_args(arguments)
    run = RunFolder.open(given.run)
    metrics = evaluate(load_predictions(run.path / "predictions.parquet"))
    if given.json:
        json.dump(metrics, sys.stdout, indent=2, allow_nan=False)
        print()
    else:
        Console().print(protocol_table(metrics))
    return 0
