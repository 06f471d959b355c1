"""``crkd compare``: metrics of several runs, by method and configuration."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crkd.core.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from crkd.evaluation.comparison import Entry, Group
    from crkd.runs.comparison.reading import ReadPlan, ReadRun

DESCRIPTION = """\
Group runs by method and configuration, and print mean and sample standard
deviation of each group over its seeds. Groups are never mixed. Paired
differences by seed refer to the first group, or to the one of --against.
Folders of crkd increments have a table of their own.

  crkd compare runs/digits-default/discover-seed* runs/digits-default/uno-seed*
  crkd compare runs/cifar100-80-10-10/*-seed* --latex table.tex
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs and plans")
    parser.add_argument(
        "--against", metavar="RUN", help="one of the runs; differences refer to its group"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write metrics, groups, differences and provenance"
    )
    parser.add_argument("--csv", metavar="FILE", help="write a line for each group and metric")
    parser.add_argument("--latex", metavar="FILE", help="write LaTeX tables for booktabs")


def run(given: argparse.Namespace) -> int:
    """Print the tables; return the exit code."""
    from rich.console import Console

    from crkd.evaluation.comparison import grouped, references

    runs, plans = read(given.runs)
    entries = [*(run.entry for run in runs), *(plan.entry for plan in plans)]
    if len(entries) < 2:
        raise InputError(
            f"{given.runs[0]} is the only run, which leaves nothing to compare; name at least two, "
            "or use crkd evaluate"
        )
    groups = references(grouped(entries), _chosen(given, entries))
    if not any(group.statistics() for group in groups):
        raise InputError(
            "no run has a metric, since no image has a true label, which leaves nothing to compare;"
            " name runs whose images have labels"
        )
    console = Console()
    if runs:
        _print_runs(console, runs)
    print_groups(console, groups)
    write_files(given, runs, plans, groups)
    return 0


def read(paths: Sequence[str]) -> tuple[list[ReadRun], list[ReadPlan]]:
    """Read the folders of runs and of plans.

    Raises:
        InputError: a folder is neither, or unfinished, or without predictions.
    """
    from crkd.runs.comparison.reading import is_plan_folder, read_plan, read_run, short_names

    folders = [Path(path) for path in paths]
    named = list(zip(folders, short_names(folders), strict=True))
    plans = {folder for folder in folders if is_plan_folder(folder)}
    return (
        [read_run(folder, name) for folder, name in named if folder not in plans],
        [read_plan(folder, name) for folder, name in named if folder in plans],
    )


def _chosen(given: argparse.Namespace, entries: Sequence[Entry]) -> Entry | None:
    """Return the entry that ``--against`` names."""
    if given.against is None:
        return None
    from crkd.runs.comparison.reading import short_names

    wanted = Path(given.against).resolve()
    names = short_names([Path(path) for path in given.runs])
    place = {Path(path).resolve(): name for path, name in zip(given.runs, names, strict=True)}
    found = next((entry for entry in entries if entry.name == place.get(wanted)), None)
    if found is None:
        raise InputError(
            f"--against {given.against!r} is none of the runs; name one of them: "
            f"{', '.join(given.runs)}"
        )
    return found


def _print_runs(console: Console, runs: Sequence[ReadRun]) -> None:
    """Print the table with one column for each run, if every value fits into one line."""
    from crkd.evaluation.tables import compare_table

    table = compare_table({run.entry.name: run.metrics for run in runs})
    if 22 + 13 * len(runs) <= console.width:
        console.print(table)
    else:
        print(f"one column for each of {len(runs)} runs is too wide here; --json has every run")


def print_groups(console: Console, groups: Mapping[Group, Group]) -> None:
    """Print means, then paired differences.

    Args:
        console: where to print.
        groups: group -> the group that its paired differences refer to.
    """
    from crkd.evaluation import comparison_tables as tables

    console.print(tables.legend(list(groups)))
    for kind in ("run", "plan"):
        for table in tables.group_tables([group for group in groups if group.kind == kind]):
            console.print(table)
    print(tables.MEANS)
    for reference in dict.fromkeys(groups.values()):
        alike = [group for group, other in groups.items() if other is reference]
        found = tables.difference_tables(alike, reference)
        if found:
            console.print(f"\ndifferences to: {reference.name}", highlight=False, markup=False)
            for table in found:
                console.print(table)
            print(tables.DIFFERENCES)


def write_files(
    given: argparse.Namespace,
    runs: Sequence[ReadRun],
    plans: Sequence[ReadPlan],
    groups: Mapping[Group, Group],
) -> None:
    """Write the files that ``--json``, ``--csv`` and ``--latex`` name."""
    from crkd.core.atomic_write import write_bytes
    from crkd.evaluation.comparison_tables import latex_table
    from crkd.runs.atomic_files import write_json
    from crkd.runs.comparison.files import comparison_csv, comparison_record

    if given.json:
        write_json(Path(given.json), comparison_record(runs, plans, groups))
    if given.csv:
        write_bytes(Path(given.csv), comparison_csv(groups).encode())
    if given.latex:
        kinds = [[g for g in groups if g.kind == kind] for kind in ("run", "plan")]
        text = "\n".join(latex_table(members) for members in kinds if members)
        write_bytes(Path(given.latex), text.encode())
