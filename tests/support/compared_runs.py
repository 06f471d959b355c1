"""Folders of runs and plans made from the kept runs, without training."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crkd.config.check import build, plain
from crkd.config.load import merge
from crkd.config.schema import Config
from crkd.evaluation.predictions_file import load_predictions, save_predictions
from crkd.runs.folder import RunFolder
from tests.support import ROOT

KEPT = ROOT / "tests" / "runs" / "kept" / "schema-3"


def changed_run(
    place: Path,
    kept: str = "discovered",
    *,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    wrong: float = 0.0,
) -> Path:
    """Copy what a comparison reads of a kept run, with other entries.

    Args:
        place: the new folder.
        kept: name of the kept run.
        seed: its new seed.
        settings: blocks of its configuration.
        info: entries of ``run.json``.
        wrong: share of the images whose predictions are drawn at random.
    """
    place.mkdir(parents=True)
    for name in ("run.json", "config.yaml", "predictions.parquet"):
        shutil.copy(KEPT / kept / name, place / name)
    run = RunFolder(place)
    values = {"parent": None, "seed": seed, **(info or {})}
    run.write_info(dataclasses.replace(run.read_info(), **values))
    given = merge(plain(run.read_config()), {**(settings or {}), "seed": seed})
    run.write_config(build(Config, given))
    if wrong:
        _with_errors(place / "predictions.parquet", wrong, seed)
    return place


def _with_errors(file: Path, share: float, seed: int) -> None:
    table, random = load_predictions(file), np.random.default_rng(seed)
    drawn = random.random(len(table.label)) < share
    changes = {
        name: np.where(drawn, random.integers(0, high, len(drawn)), getattr(table, name))
        for name, high in (
            ("known_head", table.num_known),
            ("novel_heads", table.num_novel),
            ("joint_heads", table.num_known + table.num_novel),
        )
        if high
    }
    kept = {name: values.astype(np.int32) for name, values in changes.items()}
    save_predictions(dataclasses.replace(table, **kept), file)


def plan_folder(
    place: Path,
    *,
    seed: int = 0,
    method: str = "remember",
    plan: Sequence[int] = (4, 3, 3),
    final: Sequence[float] = (0.5, 0.75, 0.25),
    lost: Sequence[float] = (0.2, 0.1),
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write what a comparison reads of a folder of ``crkd increments``.

    Args:
        place: the new folder.
        seed: its seed.
        method: its method.
        plan: sizes of the groups of classes.
        final: accuracy on all, old and new classes after the last step.
        lost: forgetting of each group but the last.
        settings: blocks of the configuration of the steps.
    """
    last = len(plan) - 1
    changed_run(place / "step-0", "pretrained", seed=seed)
    changed_run(place / f"step-{last}", seed=seed, settings=settings)
    (place / "step-0.yaml").write_text("")
    steps = [{"acc": dict(zip(("all", "old", "new"), final, strict=True))} for _ in plan]
    metrics = {"plan": [*plan], "method": method, "seed": seed, "steps": steps}
    (place / "metrics.json").write_text(json.dumps({**metrics, "forgetting": [*lost]}))
    return place
