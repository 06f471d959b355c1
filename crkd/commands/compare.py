"""``crkd compare``: runs side by side, and their mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from crkd.commands.flags import Parser
from crkd.evaluation.predictions_file import load_predictions
from crkd.evaluation.report import evaluate
from crkd.evaluation.tables import compare_table
from crkd.runs.atomic_files import write_json
from crkd.runs.folder import RunFolder
from crkd.runs.summary import record

DESCRIPTION = """\
Set the figures of several runs side by side. With --json the figures, their mean and standard
deviation, and where they come from (command, commit, device, versions, seed) are written too.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table with one column a run; return the exit code."""
    parser = Parser(prog="crkd compare", description=DESCRIPTION)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders")
    parser.add_argument("--json", metavar="FILE", help="write a result file")
    given = parser.parse_args(arguments)
    runs = [RunFolder.open(run) for run in given.runs]
    metrics = [evaluate(load_predictions(run.path / "predictions.parquet")) for run in runs]
    names = short_names([run.path for run in runs])
    Console().print(compare_table(dict(zip(names, metrics, strict=True))))
    found = record(runs, metrics)
    if len(runs) > 1:
        for key, mean in found["mean"].items():
            if mean is not None:
                print(f"{key:<45} {100 * mean:5.1f} ± {100 * (found['std'][key] or 0.0):.1f}")
    if given.json:
        write_json(Path(given.json), found)
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
