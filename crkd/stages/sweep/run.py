"""A sweep from its checked file to its tables."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crkd.core.atomic_write import write_bytes
from crkd.core.device import pick_device
from crkd.evaluation.comparison import Group, grouped, references
from crkd.evaluation.comparison_tables import latex_table
from crkd.runs.atomic_files import write_json
from crkd.runs.comparison.files import comparison_csv, comparison_record
from crkd.runs.comparison.reading import ReadPlan, ReadRun, read_plan, read_run
from crkd.runs.lock import locked
from crkd.stages.load_images import load_images
from crkd.stages.reproduce import RESULT
from crkd.stages.sweep.file import Sweep
from crkd.stages.sweep.jobs import Job, check_recipes, jobs_of, write_recipes
from crkd.stages.sweep.workers import Start, Workers, start_process, threads_for

TABLES: Final = ("result.csv", "result.tex")


@dataclass(frozen=True)
class SweepResult:
    """State of a sweep after a call.

    Attributes:
        groups: group of finished runs -> the group that its paired differences refer to.
        total: number of runs without shared stages 1.
        failed: jobs that failed.
        left: jobs that are neither complete nor failed.
        stopped: whether a signal stopped the work.
    """

    groups: dict[Group, Group]
    total: int
    failed: list[Job]
    left: list[Job]
    stopped: bool


def run_sweep(
    sweep: Sweep,
    place: Path,
    *,
    devices: Sequence[str] = ("auto",),
    download: bool = False,
    start: Start | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> SweepResult:
    """Make the runs of a sweep that are missing or unfinished; write the results.

    ``place`` holds ``CONFIGURATION/seedN/``, shared stages 1 ``stage1-DIGEST-seedN/``, ``logs/``,
    ``configs/``, ``result.json``, ``result.csv`` and ``result.tex``.

    Args:
        sweep: the checked file.
        place: folder of the sweep.
        devices: where it computes, one run at a time on each; a name may be repeated.
        download: fetch a data set that is missing and can be fetched, before any run.
        start: starts ``crkd ARGUMENTS`` with a log file; None starts a process.
        say: receives a line about every run.

    Raises:
        InputError: a device, data set or split is missing, or the folder holds runs of another
            configuration or is in use. No run has begun then.
    """
    for device in devices:
        pick_device(device)
    check_recipes(sweep, place)
    _check_data(sweep, download=download)
    if start is None:
        start = functools.partial(start_process, threads=threads_for(devices, os.environ))
    with locked(place, "--out"):
        write_recipes(sweep, place)
        jobs = jobs_of(sweep, place)
        workers = Workers(jobs, devices, start, say)
        stopped = workers.work()
        status = workers.status
        runs = [job for job in jobs if job.group is not None]
        return SweepResult(
            _written(sweep, runs, place),
            len(runs),
            [job for job in jobs if status[job.out] == "failed"],
            [job for job in jobs if status[job.out] in ("waiting", "stopped")],
            stopped,
        )


def _check_data(sweep: Sweep, *, download: bool) -> None:
    """Check that every data set is there and fits its split."""
    seen = set()
    for entry in sweep.configurations:
        config = entry.config
        key = (config.dataset, config.split, config.class_order_seed, config.data.root)
        if key in seen or config.dataset in ("folder", "features"):
            continue
        seen.add(key)
        dataset, split = load_images(config, download=download)
        split.check(dataset)


def _written(sweep: Sweep, jobs: Sequence[Job], place: Path) -> dict[Group, Group]:
    """Write the results of the complete runs, if there are any, and return their groups."""
    runs: list[ReadRun] = []
    plans: list[ReadPlan] = []
    complete = [job for job in jobs if job.state() == "complete"]
    if not complete:
        return {}
    for job in complete:
        name = str(job.out.relative_to(place))
        if job.is_plan:
            plans.append(read_plan(job.out, name, job.group))
        else:
            runs.append(read_run(job.out, name, job.group))
    order = {entry.name: number for number, entry in enumerate(sweep.configurations)}
    entries = [*(run.entry for run in runs), *(plan.entry for plan in plans)]
    entries.sort(key=lambda entry: (order[entry.label or ""], entry.seed))
    groups = references(grouped(entries))
    write_json(
        place / RESULT,
        {
            "sweep": sweep.name,
            "seeds": list(sweep.seeds),
            "missing": [job.name for job in jobs if job not in complete],
            **comparison_record(runs, plans, groups),
        },
    )
    kinds = [[group for group in groups if group.kind == kind] for kind in ("run", "plan")]
    latex = "\n".join(latex_table(members) for members in kinds if members)
    for file, text in zip(TABLES, (comparison_csv(groups), latex), strict=True):
        write_bytes(place / file, text.encode())
    return groups
