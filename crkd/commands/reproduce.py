"""``crkd reproduce``: a row of the results, run anew and compared with what is committed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from crkd.commands.flags import Parser
from crkd.commands.output import RUNS
from crkd.config.rows import Row, find_row, load_row, row_names
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

DESCRIPTION = """\
Run a row of the results with several seeds and compare mean and spread with what is committed.

Finished seeds are kept and an interrupted one goes on: start the same command again. The result is
written to runs/rows/ROW/result.json. Exit code 1 if a figure lies outside its tolerance.

  crkd reproduce --list
  crkd reproduce digits --seeds 3
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a row; return the exit code."""
    parser = Parser(prog="crkd reproduce", description=DESCRIPTION)
    parser.add_argument("row", nargs="?", metavar="ROW", help="a row's name, or its YAML file")
    parser.add_argument("--list", action="store_true", help="print the rows and run nothing")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1 (3)")
    parser.add_argument(
        "--out", metavar="DIR", default=str(RUNS / "rows"), help="folder of the runs of all rows"
    )
    parser.add_argument("--json", metavar="FILE", help="write the result there too")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change one configuration key of the row; may be repeated",
    )
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data sets")
    parser.add_argument("--download", action="store_true", help="fetch the data set if it can be")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    given = parser.parse_args(arguments)
    if given.list:
        Console().print(rows_table({name: load_row(find_row(name)) for name in row_names()}))
        return 0
    if given.row is None:
        raise InputError("no row is named; --list prints them")
    if given.seeds < 1:
        raise InputError(f"--seeds {given.seeds} is below 1; give how many to run")
    file = find_row(given.row)

    from crkd.runs.atomic_files import write_json
    from crkd.stages.reproduce import RESULT, reproduce
    from crkd.training.loop import Interrupted

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
        reason = str(stop).split(";")[0]
        print(f"crkd reproduce: {reason}; the same command goes on", file=sys.stderr)
        return 130
    if given.json:
        write_json(Path(given.json), result)
    Console().print(comparison_table(result))
    print(f"result: {Path(given.out) / file.stem / RESULT}")
    print(summary(result))
    return int(any(entry["verdict"] == "outside" for entry in result["comparison"]))


def rows_table(rows: Mapping[str, Row]) -> Table:
    """Lay out all rows, with the novel accuracy expected of each."""
    table = _table("row", "what it is", "novel, training images")
    for name, row in rows.items():
        expected = [
            f"{expectation.figures['task_aware/train/novel']:.1f} ({expectation.source})"
            for expectation in row.expected
            if "task_aware/train/novel" in expectation.figures
        ]
        if not any(expectation.source == "recorded" for expectation in row.expected):
            expected.append("ours: not measured")
        table.add_row(name, row.title, "\n".join(expected))
    return table


def comparison_table(result: Mapping[str, Any]) -> Table:
    """Lay out what was expected of a row and what was found."""
    seeds = len(result["runs"])
    table = _table("figure, percent", "expected", f"here, {seeds} seed{'s' * (seeds > 1)}", "")
    table.title = f"{result['row']}: {result['title']}"
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

    >>> summary({"row": "digits", "comparison": []})
    'digits: nothing to compare with is committed'
    """
    verdicts = [entry["verdict"] for entry in result["comparison"]]
    if not verdicts:
        return f"{result['row']}: nothing to compare with is committed"
    outside = verdicts.count("outside")
    if outside:
        return f"{result['row']}: {outside} of {len(verdicts)} figures lie OUTSIDE their tolerance"
    missing = verdicts.count("not measured")
    rest = f", {missing} not measured" if missing else ""
    return f"{result['row']}: {len(verdicts) - missing} figures within tolerance or above{rest}"


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.title_justify = "left"
    return table
