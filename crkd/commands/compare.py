"""``crkd compare``: a table of the metrics of several runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = """\
Print the metrics of several runs in one table, then their mean and standard
deviation. --json writes these and the provenance of each run: command,
commit, device, versions and seed.

  crkd compare runs/digits-default/discover-seed0 runs/digits-default/uno-seed0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders")
    parser.add_argument("--json", metavar="FILE", help="write the metrics and the provenance")


def run(given: argparse.Namespace) -> int:
    """Print a table with one column for each run; return the exit code."""
    from rich.console import Console

    from crkd.evaluation.predictions_file import load_predictions
    from crkd.evaluation.report import evaluate
    from crkd.evaluation.tables import compare_table
    from crkd.runs.atomic_files import write_json
    from crkd.runs.folder import RunFolder
    from crkd.runs.summary import record

    runs = [RunFolder.open(path) for path in given.runs]
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
    """Return the shortest endings of the paths that are unique.

    >>> short_names([Path("runs/a/seed0"), Path("runs/b/seed0")])
    ['a/seed0', 'b/seed0']
    """
    for length in range(1, 1 + max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{number + 1}: {path}" for number, path in enumerate(paths)]
