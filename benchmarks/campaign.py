"""Trials of one result table: each finished trial is stored, and none is trained twice."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from crkd.runs.appended_lines import AppendedLines
from crkd.runs.console import console
from crkd.runs.folder import RunFolder

Trial = TypeVar("Trial", bound=NamedTuple)
Line = dict[str, Any]


def finished(
    wanted: Sequence[Trial],
    train: Callable[[Trial], Line],
    out: Path,
    *,
    prepare: Callable[[Sequence[Trial]], Sequence[Callable[[], object]]] | None = None,
    jobs: int = 1,
) -> list[Line]:
    """Return a line of results for every trial, training those that are missing.

    Args:
        wanted: the trials, each a named tuple of plain values.
        train: trains one trial in a process of its own; its results must be JSON values.
        out: the result file; finished trials are stored next to it in ``NAME.runs.jsonl``.
        prepare: returns the jobs that must finish before the missing trials, in any order.
        jobs: processes, of one thread each.

    Raises:
        RuntimeError: some trials failed; the others are kept.
    """
    kept = AppendedLines(out.with_suffix(".runs.jsonl"))
    trial_type = type(wanted[0])
    done = {trial_type(**line["run"]): line for line in kept.read()}
    missing = [trial for trial in wanted if trial not in done]
    with (
        ProcessPoolExecutor(
            jobs,
            multiprocessing.get_context("spawn"),
            initializer=torch.set_num_threads,
            initargs=(1,),
        ) as pool,
        _ending_early(pool),
    ):
        for future in as_completed([pool.submit(w) for w in (prepare(missing) if prepare else ())]):
            future.result()
        asked = {pool.submit(train, trial): trial for trial in missing}
        for future in as_completed(asked):
            trial = asked[future]
            description = ", ".join(f"{name} {value}" for name, value in trial._asdict().items())
            if error := future.exception():
                # The other trials continue. The next call tries this one again.
                _say(f"{description}: {error}")
                continue
            line = done[trial] = {"run": trial._asdict(), **future.result()}
            kept.path.parent.mkdir(parents=True, exist_ok=True)
            kept.append([line])
            _say(f"{description}: {_results(line)}")
    lost = [str(tuple(trial)) for trial in wanted if trial not in done]
    if lost:
        raise RuntimeError(f"not finished: {', '.join(lost)}; start the command again")
    return [done[trial] for trial in wanted]


def is_complete(folder: Path) -> bool:
    """Return whether a run folder holds a finished run."""
    return (folder / "run.json").is_file() and RunFolder(folder).read_info().status == "complete"


@contextlib.contextmanager
def _ending_early(pool: ProcessPoolExecutor) -> Iterator[None]:
    """At a signal, let the work that runs stop with its state, and begin no other."""
    try:
        yield
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)
        raise


def _results(line: Line) -> str:
    return ", ".join(
        f"{name} {value:.2f}" for name, value in line.items() if isinstance(value, float)
    )


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
