"""Files of a comparison: JSON with everything, CSV with one line for each group and metric."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from crkd.evaluation.comparison import Group
from crkd.runs.comparison.reading import ReadPlan, ReadRun
from crkd.runs.csv_cells import escape_formula
from crkd.runs.summary import record

CSV_COLUMNS: Final = (
    *("kind", "group", "method", "dataset", "split", "metric", "runs", "n"),
    *("mean", "std", "reference", "pairs", "difference", "difference_std", "low", "high"),
)


def comparison_record(
    runs: Sequence[ReadRun], plans: Sequence[ReadPlan], groups: Mapping[Group, Group]
) -> dict[str, Any]:
    """Return the content of the JSON file.

    Args:
        runs: the runs.
        plans: the plans.
        groups: group -> the group that its paired differences refer to.

    Returns:
        ``runs`` as in :func:`crkd.runs.summary.record`; ``plans``: path, method, seed, plan and
        scores of each; ``groups``: name, method, settings that differ from other groups, folders,
        seeds, ``metrics`` with ``mean``, ``std``, ``n``, and ``differences`` to ``reference`` with
        ``mean``, ``std``, ``n``, ``low``, ``high``. With one group of runs also its ``mean`` and
        ``std``, as in a result file. Scores are in [0, 1].
    """
    found = record([run.folder for run in runs], [run.metrics for run in runs])
    of_runs = [group for group in groups if group.kind == "run"]
    if len(of_runs) != 1:
        del found["mean"], found["std"]
    for entry, run in zip(found["runs"], runs, strict=True):
        entry["run"] = run.entry.name
    return {
        **found,
        "plans": [
            {
                "run": plan.entry.name,
                "method": plan.entry.method,
                "seed": plan.entry.seed,
                "plan": plan.metrics["plan"],
                "acc": dict(plan.entry.scores),
            }
            for plan in plans
        ],
        "groups": [_group_record(group, reference) for group, reference in groups.items()],
    }


def _group_record(group: Group, reference: Group) -> dict[str, Any]:
    statistics = group.statistics()
    pairs = {} if group is reference else {m: group.minus(reference, m) for m in statistics}
    return {
        "name": group.name,
        "kind": group.kind,
        "method": group.entries[0].method,
        **{key: group.entries[0].data[key] for key in ("dataset", "split")},
        "settings": dict(group.differing),
        "runs": [entry.name for entry in group.entries],
        "seeds": group.seeds,
        "metrics": {m: dataclasses.asdict(found) for m, found in statistics.items()},
        "reference": reference.name,
        "differences": {m: dataclasses.asdict(pair) for m, pair in pairs.items() if pair},
    }


def comparison_csv(groups: Mapping[Group, Group]) -> str:
    """Return a CSV table, one line for each group and metric.

    Values are fractions from 0 to 1, as in the JSON file; ``low`` and ``high`` are the confidence
    interval of the difference. A cell is empty where there is no value. Texts that a spreadsheet
    would run as a formula have a leading apostrophe.

    Args:
        groups: group -> the group that its paired differences refer to.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for group, reference in groups.items():
        first = group.entries[0]
        for metric, found in group.statistics().items():
            pair = None if group is reference else group.minus(reference, metric)
            texts = [group.kind, group.name, first.method, first.data["dataset"]]
            texts += [first.data["split"], metric]
            writer.writerow(
                [
                    *map(escape_formula, texts),
                    len(group.entries),
                    *(found.n, found.mean, found.std),
                    escape_formula(reference.name) if pair else "",
                    *((pair.n, pair.mean, pair.std, pair.low, pair.high) if pair else [""] * 5),
                ]
            )
    return file.getvalue()
