"""``crkd reproduce``: run an experiment and compare it with the committed results."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from crkd.commands.flags import Parser
from crkd.commands.output import RUNS
from crkd.config.experiments import Experiment, experiment_names, find_experiment, load_experiment
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

DESCRIPTION = """\
Run an experiment with several seeds and compare mean and spread with the committed results.

Finished seeds are kept and an interrupted one goes on: start the same command again. The result is
written to runs/experiments/EXPERIMENT/result.json. Exit code 1 if a result is outside its
tolerance.

  crkd reproduce --list
  crkd reproduce digits --seeds 3
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an experiment; return the exit code."""
    parser = Parser(prog="crkd reproduce", description=DESCRIPTION)
    parser.add_argument("experiment", nargs="?", metavar="EXPERIMENT", help="its name or YAML file")
    parser.add_argument("--list", action="store_true", help="print the experiments and run nothing")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1 (3)")
    parser.add_argument(
        "--out", metavar="DIR", default=str(RUNS / "experiments"), help="folder of all runs"
    )
    parser.add_argument("--json", metavar="FILE", help="write the result there too")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change one configuration key of the experiment; may be repeated",
    )
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data sets")
    parser.add_argument("--download", action="store_true", help="fetch the data set if it can be")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    given = parser.parse_args(arguments)
    if given.list:
        found = {name: load_experiment(find_experiment(name)) for name in experiment_names()}
        Console().print(experiments_table(found))
        return 0
    if given.experiment is None:
        raise InputError("no experiment is named; --list prints them")
    if given.seeds < 1:
        raise InputError(f"--seeds {given.seeds} is below 1; give how many to run")
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
        reason = stop.progress
        print(f"crkd reproduce: {reason}; the same command goes on", file=sys.stderr)
        return 130
    if given.json:
        write_json(Path(given.json), result)
    Console().print(comparison_table(result))
    print(f"result: {Path(given.out) / file.stem / RESULT}")
    print(summary(result))
    return int(any(entry["verdict"] == "outside" for entry in result["comparison"]))


def experiments_table(experiments: Mapping[str, Experiment]) -> Table:
    """Lay out all experiments, with the novel accuracy expected of each."""
    table = _table("experiment", "what it is", "novel, training images")
    for name, experiment in experiments.items():
        expected = [
            f"{expectation.figures['task_aware/train/novel']:.1f} ({expectation.source})"
            for expectation in experiment.expected
            if "task_aware/train/novel" in expectation.figures
        ]
        if not any(expectation.source == "recorded" for expectation in experiment.expected):
            expected.append("ours: not measured")
        table.add_row(name, experiment.title, "\n".join(expected))
    return table


def comparison_table(result: Mapping[str, Any]) -> Table:
    """Lay out what was expected of an experiment and what was found."""
    seeds = len(result["runs"])
    table = _table("figure, percent", "expected", f"here, {seeds} seed{'s' * (seeds > 1)}", "")
    table.title = f"{result['experiment']}: {result['title']}"
    for entry in result["comparison"]:
        mean = "not measured" if entry["mean"] is None else f"{entry['mean']:.1f}"
        spread = "" if entry["std"] is None else f" ± {entry['std']:.1f}"
        table.add_row(
            entry["figure"],
            f"{entry['expected']:.1f} ± {entry['tolerance']:g} ({entry['source']})",
            mean + spread,
            entry["verdict"] if entry["mean"] is not None else "",
            style="red" if entry["verdict"] == "outside" else "",
        )
    for origin in dict.fromkeys(entry["origin"] for entry in result["comparison"]):
        table.caption = "\n".join(filter(None, [table.caption, origin]))  # type: ignore[list-item]
    return table


def summary(result: Mapping[str, Any]) -> str:
    """Return the sentence that a person looks for.

    >>> summary({"experiment": "digits", "comparison": []})
    'digits: nothing to compare with is committed'
    """
    name, verdicts = result["experiment"], [entry["verdict"] for entry in result["comparison"]]
    if not verdicts:
        return f"{name}: nothing to compare with is committed"
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
