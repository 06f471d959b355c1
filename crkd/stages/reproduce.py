"""Repeated runs of a recorded experiment, compared with its expected results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crkd.config.experiments import Expectation, Experiment, experiment_config, load_experiment
from crkd.config.schema import Config
from crkd.evaluation.predictions_file import load_predictions
from crkd.evaluation.report import evaluate
from crkd.runs.atomic_files import write_json
from crkd.runs.folder import RunFolder
from crkd.runs.summary import record
from crkd.stages.baselines.kmeans import METHODS, kmeans_on_features
from crkd.stages.baselines.supervised import supervised_upper_bound
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from crkd.stages.pretrain.settings import stage1_settings, with_unread
from crkd.training.checkpoint import resumable_settings
from crkd.training.finished import finished

RESULT = "result.json"


def reproduce(
    file: Path,
    seeds: int,
    place: Path,
    *,
    device: str | None = None,
    root: str | None = None,
    settings: Sequence[str] = (),
    download: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run an experiment with the seeds 0 to ``seeds - 1``; return its result and write it as JSON.

    Finished seeds are kept, an interrupted one is resumed. ``place`` holds
    ``EXPERIMENT/seedN/`` and ``EXPERIMENT/result.json``; stages 1, ``stage1-DIGEST-seedN/``, serve
    all experiments that have the same one.

    Args:
        file: the experiment's configuration file.
        seeds: how many, at least 1.
        place: folder of the runs.
        device: where it computes; None is the experiment's own choice.
        root: folder of the data sets.
        settings: ``key=value`` strings that change the experiment; the result names them.
        download: fetch the data set if it is missing and can be fetched.
        say: receives a line before each seed.

    Returns:
        :func:`crkd.runs.summary.record` of all seeds, with ``experiment``, ``title``, ``settings``,
        ``recipe`` (:func:`recipe_digest`) and ``comparison`` (:func:`compared`).

    Raises:
        InputError: the experiment is wrong, or a folder holds runs of another configuration.
        Interrupted: a signal came; the same call resumes.
    """
    experiment, folder = load_experiment(file), place / file.stem
    runs: list[RunFolder] = []
    result: dict[str, Any] = {}
    for seed in range(seeds):
        config = experiment_config(file, seed=seed, settings=settings, device=device, root=root)
        say(f"{file.stem}: seed {seed} ({seed + 1} of {seeds})")
        runs.append(_run(experiment, config, folder / f"seed{seed}", place, download=download))
        metrics = [evaluate(load_predictions(run.path / "predictions.parquet")) for run in runs]
        found = record(runs, metrics)
        result = {
            "experiment": file.stem,
            "title": experiment.title,
            "settings": list(settings),
            "recipe": recipe_digest(config),
            "comparison": compared(experiment.expected, found),
            **found,
        }
        write_json(folder / RESULT, result)
    return result


def _run(
    experiment: Experiment, config: Config, out: Path, place: Path, *, download: bool
) -> RunFolder:
    """Return the finished run of one seed; run or resume it if necessary."""
    parent = stage1_folder(config, place)

    def stage1(resume: bool) -> RunFolder:
        # Another configuration with the same stage 1 may have begun it.
        saved = resume and (parent / "config.yaml").is_file()
        begun = with_unread(config, RunFolder(parent).read_config()) if saved else config
        return pretrain(begun, parent, resume=resume, download=download)

    def whole(resume: bool) -> RunFolder:
        if experiment.method == "supervised":
            return supervised_upper_bound(config, out, resume=resume, download=download)
        finished(parent, config, stage1_settings, stage1)
        if experiment.method in METHODS:
            return kmeans_on_features(
                config, out, parent, method=experiment.method, resume=resume, download=download
            )
        return discover(config, out, parent, resume=resume, download=download)

    return finished(out, config, resumable_settings, whole)


def stage1_folder(config: Config, place: Path) -> Path:
    """Return the folder of the stage 1 of a configuration; equal stages 1 share it."""
    return place / f"stage1-{_digest(stage1_settings(config))[:8]}-seed{config.seed}"


def recipe_digest(config: Config) -> str:
    """Return 16 hexadecimal digits of all settings that shape a result, the seed left out.

    Results of equal digests were made by the same recipe.
    """
    return _digest(resumable_settings(config))[:16]


def _digest(settings: Mapping[str, Any]) -> str:
    content = json.dumps({**settings, "seed": None}, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def compared(expected: Sequence[Expectation], found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare the means of a result with the expected ones.

    Returns:
        One entry a metric, numbers in percent: ``metric``, ``expected``, ``tolerance``,
        ``source``, ``origin``, ``mean``, ``std`` and ``verdict``: "within" the tolerance,
        "outside" it, "reached" where a metric of another source is exceeded, or "not measured"
        where the runs have no such metric.
    """
    entries = []
    for expectation in expected:
        for metric, wanted in expectation.metrics.items():
            mean, std = (_percent(found[of].get(metric)) for of in ("mean", "std"))
            entries.append(
                {
                    "metric": metric,
                    "expected": float(wanted),
                    "tolerance": expectation.tolerance,
                    "source": expectation.source,
                    "origin": expectation.origin,
                    "mean": mean,
                    "std": std,
                    "verdict": _verdict(mean, float(wanted), expectation),
                }
            )
    return entries


def _verdict(mean: float | None, wanted: float, expectation: Expectation) -> str:
    if mean is None:
        return "not measured"
    # Values are compared as they are printed.
    if round(abs(mean - wanted), 1) <= expectation.tolerance:
        return "within"
    better_than_others = mean > wanted and expectation.source != "recorded"
    return "reached" if better_than_others else "outside"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
