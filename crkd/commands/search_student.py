"""``crkd search-student``: which small network to distil a run into."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd.commands.flags import Parser

if TYPE_CHECKING:
    from crkd.stages.distill.student_search import SearchResult

DESCRIPTION = """\
Rank small networks as students of a run by DisWOT, without training any.

The space: CIFAR ResNets with 1, 3, 5 or 7 blocks in each of three stages, 64 in all. Budgets
take k, M or G behind the number. FLOPs are multiply-adds of one image.

  crkd search-student --teacher RUN --max-params 300k
  crkd search-student --teacher RUN --max-flops 40M --json students.json
"""
SHOWN = 10
_FACTORS = {"k": 10**3, "M": 10**6, "G": 10**9}


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, print the best students and the pick; return the exit code."""
    given = _parser().parse_args(arguments)

    from rich.progress import Progress

    from crkd.core.device import pick_device
    from crkd.runs.atomic_files import write_json
    from crkd.runs.console import console
    from crkd.runs.provenance import command_line, git_commit, versions
    from crkd.stages.distill.student_search import SPACE, SearchSettings, search_student

    settings = SearchSettings(
        max_params=given.max_params,
        max_flops=given.max_flops,
        wide=None if given.widths is None else given.widths == "x4",
        evaluations=len(SPACE) if given.evaluations is None else given.evaluations,
        population=given.population,
        sample=given.sample,
        seeds=given.seeds,
        batch_size=given.batch_size,
        seed=given.seed,
    )
    device = pick_device(given.device)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("scoring students", total=min(settings.evaluations, len(SPACE)))
        result = search_student(given.teacher, settings, device, scored=lambda _: bar.advance(task))
    _show(result, given.teacher)
    if given.json:
        provenance = {
            "command": command_line(),
            "commit": git_commit(),
            "versions": versions(),
        }
        write_json(Path(given.json), {**_document(result, given.teacher), "provenance": provenance})
    return 0


def _parser() -> Parser:
    parser = Parser(prog="crkd search-student", description=DESCRIPTION)
    parser.add_argument("--teacher", metavar="RUN", required=True, help="a finished run")
    budget = parser.add_argument_group("budget")
    for name, text in (("max-params", "parameters"), ("max-flops", "multiply-adds of an image")):
        budget.add_argument(
            f"--{name}", metavar="N", type=_count, default=math.inf, help=f"{text} at most"
        )
    search = parser.add_argument_group("search")
    search.add_argument("--widths", choices=("plain", "x4"), help="default: as the teacher's")
    search.add_argument(
        "--evaluations", metavar="N", type=int, help="students to score (default: all that fit)"
    )
    numbers = {
        "population": (16, "alive in the evolution"),
        "sample": (4, "drawn to find a parent"),
        "seeds": (5, "draws of weights and images to average"),
        "batch-size": (128, "images of a draw"),
        "seed": (0, "of everything drawn"),
    }
    for name, (default, text) in numbers.items():
        search.add_argument(
            f"--{name}", metavar="N", type=int, default=default, help=f"{text} (default {default})"
        )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", metavar="FILE", help="write every scored student")
    return parser


def _count(text: str) -> int:
    """Return the number that ``text`` means, such as 300k or 0.3M."""
    factor = _FACTORS.get(text[-1:], 1)
    try:
        return round(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number; give one such as 250000, 250k or 0.25M"
        ) from None


def _show(result: SearchResult, teacher: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"students of {result.teacher} by DisWOT, best first")
    for column in ("name", "params", "multiply-adds", "semantic", "relation", "score"):
        table.add_column(column, justify="left" if column == "name" else "right", no_wrap=True)
    for student in result.students[:SHOWN]:
        similarity = student.similarity
        semantic = "-" if similarity.semantic is None else f"{similarity.semantic:.4f}"
        costs = [f"{number:,}" for number in student.cost]
        figures = [semantic, f"{similarity.relation:.5f}", f"{similarity.score:.4f}"]
        table.add_row(student.name, *costs, *figures)
    Console().print(table)
    for note in result.notes:
        print(f"note: {note}")
    pick = result.students[0]
    print(f"pick: {pick.name}, score {pick.similarity.score:.4f}")
    train = ["--teacher", teacher, "--student", pick.name, "--method", "kd"]
    print(f"train it: crkd distill {shlex.join(train)}")


def _document(result: SearchResult, teacher: str) -> dict[str, Any]:
    students = [
        {
            "name": student.name,
            **student.cost._asdict(),
            **student.similarity._asdict(),
            "score": student.similarity.score,
        }
        for student in result.students
    ]
    return {
        "run": teacher,
        "teacher": result.teacher,
        "pick": students[0]["name"],
        "notes": result.notes,
        "students": students,
    }
