"""``crkd compare``: runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from crkd.commands.flags import Parser
from crkd.engine.run import RunFolder
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.report import evaluate
from crkd.evaluation.tables import compare_table

DESCRIPTION = "Set the figures of several runs side by side."


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table with one column a run; return the exit code."""
    parser = Parser(prog="crkd compare", description=DESCRIPTION)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders")
    given = parser.parse_args(arguments)
    names = short_names([Path(run) for run in given.runs])
    metrics = {}
    for name, path in zip(names, given.runs, strict=True):
        run = RunFolder.open(path)
        metrics[name] = evaluate(Predictions.load(run.path / "predictions.parquet"))
    Console().print(compare_table(metrics))
    return 0


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest endings of the paths that tell them apart.

    >>> short_names([Path("runs/a/seed0"), Path("runs/b/seed0")])
    ['a/seed0', 'b/seed0']
    """
    for length in range(1, 1 + max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{number + 1}: {path}" for number, path in enumerate(paths)]
