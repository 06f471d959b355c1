"""Run of a baseline that trains no network: its entry, its time and its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from crkd.config.schema import Config
from crkd.runs.folder import RunFolder, RunInfo
from crkd.stages.forward import Outputs
from crkd.stages.results import Results
from crkd.stages.run_data import RunData, num_novel_classes
from crkd.training.session import begin_run, running


def baseline_entry(
    config: Config,
    data: RunData,
    method: str,
    notes: Sequence[str],
    *,
    parent: dict[str, Any] | None = None,
) -> RunInfo:
    """Return what ``run.json`` says of a baseline at its start.

    Args:
        config: of the run.
        data: samples of the run.
        method: name of the baseline.
        notes: further remarks.
        parent: entry of the stage-1 run; None without one.

    Raises:
        InputError: the number of novel classes is not known.
    """
    num_novel, origin = num_novel_classes(data)
    return RunInfo(
        kind="baseline",
        dataset=config.dataset,
        split=data.split_entry(),
        classes=data.class_entries(num_novel),
        preprocessing=data.preprocessing(),
        chosen_head=0,
        seed=config.seed,
        parent=parent,
        notes=[*data.notes, origin, *notes],
        baseline=method,
    )


def run_baseline(
    config: Config,
    out: str | Path,
    data: RunData,
    info: RunInfo,
    compute: Callable[[RunFolder], dict[str, Outputs]],
    *,
    device: torch.device,
    resume: bool,
    resumable: bool = True,
) -> RunFolder:
    """Compute a baseline and return its finished run folder.

    Args:
        config: of the run.
        out: the run folder to write.
        data: samples of the run.
        info: from :func:`baseline_entry`.
        compute: returns the outputs on the evaluated subsets, by name; it may write files of its
            own into the folder.
        device: of the run.
        resume: start again in the folder of an interrupted run.
        resumable: whether the command takes ``--resume``.

    Raises:
        InputError: the folder is unusable.
    """
    run = begin_run(out, info, config, device, resume=resume, samples=data.sample_digests())
    with running(run, resumable=resumable):
        began = time.monotonic()
        outputs = compute(run)
        seconds = time.monotonic() - began
        results = Results(run, data, outputs, chosen_head=0)
        results.write_predictions()
        results.complete(seconds)
    return run
