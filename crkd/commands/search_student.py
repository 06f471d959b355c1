"""``crkd search-student``: a ranking of small networks as students of a run."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd.commands.flags import add_device_flag

if TYPE_CHECKING:
    from crkd.models.diswot import Similarity
    from crkd.stages.distill.student_search import SearchResult

DESCRIPTION = """\
Rank small networks as students of a run (teacher) by DisWOT, without training.

The search space has 64 CIFAR ResNets with 1, 3, 5 or 7 blocks in each of three
stages. Numbers of parameters and multiply-adds may end with k, M or G. FLOPs
are the multiply-adds of one image. If the features of the teacher have another
length than those of the students, the students are ranked by size.

  crkd search-student --teacher RUN --max-params 300k
  crkd search-student --teacher RUN --max-flops 40M --json students.json
"""
SHOWN = 10
_FACTORS = {"k": 10**3, "M": 10**6, "G": 10**9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("--teacher", metavar="RUN", required=True, help="finished run")
    budget = parser.add_argument_group("budget")
    for name, text in (("max-params", "parameters"), ("max-flops", "multiply-adds of an image")):
        budget.add_argument(
            f"--{name}",
            metavar="N",
            type=_count,
            default=math.inf,
            help=f"largest number of {text}",
        )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--widths",
        choices=("plain", "x4"),
        help="layer widths of the students (default: the teacher's)",
    )
    search.add_argument(
        "--evaluations",
        metavar="N",
        type=int,
        help="number of students to score (default: all within the budget)",
    )
    numbers = {
        "population": (16, "population size of the evolutionary search"),
        "sample": (4, "tournament size of the evolutionary search"),
        "seeds": (5, "number of draws of weights and images to average over"),
        "batch-size": (128, "number of images in a draw"),
        "seed": (0, "seed of all random draws"),
    }
    for name, (default, text) in numbers.items():
        search.add_argument(
            f"--{name}", metavar="N", type=int, default=default, help=f"{text} (default: {default})"
        )
    add_device_flag(parser)
    parser.add_argument("--json", metavar="FILE", help="write the scores of all students")


def run(given: argparse.Namespace) -> int:
    """Search and print the best students; return the exit code."""
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


def _count(text: str) -> int:
    """Return the number in ``text``, such as 300k or 0.3M."""
    factor = _FACTORS.get(text[-1:], 1)
    try:
        return round(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number; give one such as 250000, 250k or 0.25M"
        ) from None


def _show(result: SearchResult, teacher: str) -> None:
    from rich.console import Console
    from rich.table import Table

    criterion = "number of parameters" if result.by_size else "DisWOT score"
    table = Table(title=f"students of {result.teacher} by {criterion}")
    columns = ["rank", "name", "params", "size rank", "multiply-adds"]
    if not result.by_size:
        columns.append("score")
    for column in columns:
        table.add_column(column, justify="left" if column == "name" else "right", no_wrap=True)
    ranked = zip(result.students[:SHOWN], result.size_ranks, strict=False)
    for rank, (student, size_rank) in enumerate(ranked, 1):
        params, flops = (f"{number:,}" for number in student.cost)
        cells = [str(rank), student.name, params, str(size_rank), flops]
        if student.similarity is not None:
            cells.append(f"{student.similarity.score:.4f}")
        table.add_row(*cells)
    Console().print(table)
    for note in result.notes:
        print(f"note: {note}")
    best = result.students[0]
    if best.similarity is None:
        print(f"largest: {best.name}, {best.cost.params:,} parameters")
    else:
        print(f"best: {best.name}, score {best.similarity.score:.4f}")
    train = ["--teacher", teacher, "--student", best.name, "--method", "kd"]
    print(f"train this student: crkd distill {shlex.join(train)}")


def _scores(similarity: Similarity | None) -> dict[str, float]:
    if similarity is None:
        return {}
    return {**similarity._asdict(), "score": similarity.score}


def _document(result: SearchResult, teacher: str) -> dict[str, Any]:
    students = [
        {
            "name": student.name,
            **student.cost._asdict(),
            "size_rank": size_rank,
            **_scores(student.similarity),
        }
        for student, size_rank in zip(result.students, result.size_ranks, strict=True)
    ]
    return {
        "run": teacher,
        "teacher": result.teacher,
        "ranked_by": "params" if result.by_size else "score",
        "pick": students[0]["name"],
        "notes": result.notes,
        "students": students,
    }
