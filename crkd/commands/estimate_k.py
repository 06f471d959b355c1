"""``crkd estimate-k``: the number of novel classes among unlabeled images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd.commands.flags import add_data_root_flag, add_device_flag, check_run
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from crkd.stages.discover.class_count import Estimate

DESCRIPTION = """\
Estimate the number of novel classes, with a range, from the features of a run.

The estimate combines three scores: a label-anchored search that holds out known
classes as novel classes, the stability of clusters under resampling, and the
silhouette. It uses no labels of novel images.

  crkd estimate-k runs/digits/pretrain-seed0
  crkd estimate-k RUN --novel new-photos/ --json count.json --plot count.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "run", metavar="RUN", help="finished run with a network, or a discovery on feature vectors"
    )
    parser.add_argument(
        "--novel", metavar="DIR", help="unlabeled images or a file of vectors (default: the run's)"
    )
    parser.add_argument(
        "--known", metavar="DIR", help="images of the known classes (default: the run's)"
    )
    parser.add_argument("--split", metavar="NAME|FILE", help="another split of the data set")
    add_data_root_flag(parser)
    parser.add_argument(
        "--max-k",
        metavar="N",
        type=int,
        help="largest number of classes (default: images / 20, at least 10, at most 150; of few "
        "images, half their number)",
    )
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="exclude images that look like known classes; for a run with a network",
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="seed of all random draws (default: 0)"
    )
    add_device_flag(parser)
    parser.add_argument("--json", metavar="FILE", help="write the range and all scores")
    parser.add_argument("--plot", metavar="FILE", help="draw the scores as a PNG image")


def run(given: argparse.Namespace) -> int:
    """Print the scores and the range; return the exit code."""
    if given.max_k is not None and given.max_k < 2:
        raise InputError(f"--max-k is {given.max_k}; give 2 or more, or leave it out")
    if given.seed < 0:
        raise InputError(f"--seed is {given.seed}; give 0 or more, or leave it out")
    for flag in ("known", "novel"):
        place = getattr(given, flag)
        if place is not None and not Path(place).exists():
            raise InputError(f"--{flag} {place!r} does not exist; name a folder of images")
    check_run(given.run)

    from crkd.core.device import pick_device
    from crkd.runs.atomic_files import write_json
    from crkd.runs.folder import RunFolder
    from crkd.runs.provenance import command_line, git_commit, versions
    from crkd.stages.discover.class_count import Images, estimate_k
    from crkd.stages.discover.class_count_plot import write_count_plot
    from crkd.stages.vectors.class_count import estimate_on_vectors

    if RunFolder.open(given.run).read_info().on_vectors:
        for flag in ("known", "split", "mixed"):
            if getattr(given, flag):
                raise InputError(f"--{flag} does not apply to a discovery on vectors; leave it out")
        result = estimate_on_vectors(
            given.run, given.novel, max_classes=given.max_k, seed=given.seed
        )
    else:
        result = estimate_k(
            given.run,
            Images(given.novel, given.known, given.split, given.data_root),
            pick_device(given.device),
            max_classes=given.max_k,
            seed=given.seed,
            mixed=given.mixed,
        )
    _show(result)
    if given.json:
        provenance = {"command": command_line(), "commit": git_commit(), "versions": versions()}
        write_json(
            Path(given.json), {"run": given.run, **_document(result), "provenance": provenance}
        )
    if given.plot:
        write_count_plot(Path(given.plot), result.count)
    return 0


def _show(result: Estimate) -> None:
    from rich.console import Console
    from rich.table import Table

    count, evidence = result.count, result.count.evidence
    table = Table(title=f"novel classes among {result.num_unlabeled:,} unlabeled images")
    for column in ("K", "anchored votes", "stability", "silhouette", ""):
        table.add_column(column, justify="right" if column else "left")
    for row, number in enumerate(evidence.counts):
        votes = "-" if evidence.votes is None else f"{evidence.votes[row]:.2f}"
        mark = "estimate" if number == count.estimate else ""
        if not mark and count.low <= number <= count.high:
            mark = "in range"
        scores = (evidence.stability[row], evidence.silhouette[row])
        table.add_row(str(number), votes, *(f"{s:.3f}" for s in scores), mark)
    console = Console()
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    print(f"novel classes: {count.estimate} (range {count.low} to {count.high})")


def _document(result: Estimate) -> dict[str, Any]:
    count, evidence = result.count, result.count.evidence
    return {
        "estimate": count.estimate,
        "low": count.low,
        "high": count.high,
        "anchors": result.anchors,
        "num_probes": count.num_probes,
        "num_unlabeled": result.num_unlabeled,
        "look_known": None if result.mixed is None else result.mixed.check.count,
        "evidence": {
            "k": evidence.counts.tolist(),
            "anchored_votes": None if evidence.votes is None else evidence.votes.tolist(),
            "stability": evidence.stability.tolist(),
            "silhouette": evidence.silhouette.tolist(),
        },
        "notes": result.notes,
    }
