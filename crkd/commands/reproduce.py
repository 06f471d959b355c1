"""``crkd reproduce``: comparison of an experiment with its expected results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd.commands.flags import (
    add_data_root_flag,
    add_device_flag,
    add_download_flag,
    add_set_flag,
)
from crkd.commands.output import RUNS
from crkd.config.experiments import Experiment, experiment_names, find_experiment, load_experiment
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

DESCRIPTION = """\
Run an experiment with several seeds. Compare the mean and the standard
deviation of its metrics with the expected results.

The same command continues an interrupted experiment and keeps its finished
seeds. The result is runs/experiments/EXPERIMENT/result.json. The exit code is 1
if a metric is outside its tolerance.

  crkd reproduce --list
  crkd reproduce digits --seeds 3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "experiment", nargs="?", metavar="EXPERIMENT", help="name of an experiment, or YAML file"
    )
    parser.add_argument("--list", action="store_true", help="print the experiments, run none")
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="number of seeds, from 0 (default: 3)"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default=str(RUNS / "experiments"),
        help="folder of all experiments (default: runs/experiments)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the result to FILE")
    add_set_flag(parser, "change one configuration key of the experiment")
    add_data_root_flag(parser)
    add_download_flag(parser)
    add_device_flag(parser, default=None)


def run(given: argparse.Namespace) -> int:
    """Run an experiment; return the exit code."""
    from rich.console import Console

    if given.list:
        found = {name: load_experiment(find_experiment(name)) for name in experiment_names()}
        Console().print(experiments_table(found))
        return 0
    if given.experiment is None:
        raise InputError("no experiment is given; --list prints the experiments")
    if given.seeds < 1:
        raise InputError(f"--seeds {given.seeds} is below 1; give the number of seeds")
    file = find_experiment(given.experiment)

    from crkd.runs.atomic_files import write_json
    from crkd.stages.reproduce import RESULT, reproduce
    from crkd.training.interruption import Interrupted

    try:
        result = reproduce(
            file,
            given.seeds,
            Path(given.out),
            device=given.device,
            root=given.data_root,
            settings=given.settings,
            download=given.download,
            say=lambda line: print(line, file=sys.stderr),
        )
    except Interrupted as stop:
        print(f"crkd reproduce: {stop.progress}; the same command continues", file=sys.stderr)
        return 130
    if given.json:
        write_json(Path(given.json), result)
    Console().print(comparison_table(result))
    print(f"result: {Path(given.out) / file.stem / RESULT}")
    print(summary(result))
    return int(any(entry["verdict"] == "outside" for entry in result["comparison"]))


def experiments_table(experiments: Mapping[str, Experiment]) -> Table:
    """Return a table of all experiments with their expected accuracy on novel classes."""
    table = _table("experiment", "title", "novel accuracy, training images")
    for name, experiment in experiments.items():
        expected = [
            f"{expectation.metrics['task_aware/train/novel']:.1f} ({expectation.source})"
            for expectation in experiment.expected
            if "task_aware/train/novel" in expectation.metrics
        ]
        if not any(expectation.source == "recorded" for expectation in experiment.expected):
            expected.append("ours: not measured")
        table.add_row(name, experiment.title, "\n".join(expected))
    return table


def comparison_table(result: Mapping[str, Any]) -> Table:
    """Return a table of the expected and the measured metrics of an experiment."""
    seeds = len(result["runs"])
    table = _table("metric, percent", "expected", f"measured, {seeds} seed{'s' * (seeds > 1)}", "")
    table.title = f"{result['experiment']}: {result['title']}"
    for entry in result["comparison"]:
        mean = "not measured" if entry["mean"] is None else f"{entry['mean']:.1f}"
        spread = "" if entry["std"] is None else f" ± {entry['std']:.1f}"
        table.add_row(
            entry["metric"],
            f"{entry['expected']:.1f} ± {entry['tolerance']:g} ({entry['source']})",
            mean + spread,
            entry["verdict"] if entry["mean"] is not None else "",
            style="red" if entry["verdict"] == "outside" else "",
        )
    for origin in dict.fromkeys(entry["origin"] for entry in result["comparison"]):
        table.caption = "\n".join(filter(None, [table.caption, origin]))  # type: ignore[list-item]
    return table


def summary(result: Mapping[str, Any]) -> str:
    """Return the comparison in one sentence.

    >>> summary({"experiment": "digits", "comparison": []})
    'digits: no expected results to compare with'
    """
    name, verdicts = result["experiment"], [entry["verdict"] for entry in result["comparison"]]
    if not verdicts:
        return f"{name}: no expected results to compare with"
    outside = verdicts.count("outside")
    if outside:
        return f"{name}: {outside} of {len(verdicts)} results are OUTSIDE their tolerance"
    missing = verdicts.count("not measured")
    rest = f", {missing} not measured" if missing else ""
    return f"{name}: {len(verdicts) - missing} results within tolerance or above{rest}"


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.title_justify = "left"
    return table
