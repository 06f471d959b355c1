"""Metrics of several runs with their provenance: the format of every result file."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from crkd.runs.folder import RunFolder

METRICS = (
    ("task_aware", "train", "novel"),
    ("task_aware", "test", "novel"),
    ("task_agnostic", "test", "all"),
    ("task_agnostic", "test", "known"),
    ("task_agnostic", "test", "novel"),
    ("joint_hungarian", "test", "all"),
    ("joint_hungarian", "test", "known"),
    ("joint_hungarian", "test", "novel"),
    # Only generalized category discovery has values here.
    ("joint_hungarian", "train", "all"),
    ("joint_hungarian", "train", "known"),
    ("joint_hungarian", "train", "novel"),
)


def record(runs: Sequence[RunFolder], metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a result file holds of several runs, usually seeds of one configuration.

    Returns:
        ``runs``: per run its kind, seed, command, commit, device, versions, seconds, notes and
        accuracies; ``mean`` and ``std`` (sample standard deviation, null for one run) of every
        accuracy, keyed "protocol/part/group", "NAME/protocol/part/group" for baselines and
        "oracle/protocol/part/group" for the heads picked by hidden labels.
    """
    entries = []
    for run, tree in zip(runs, metrics, strict=True):
        info = run.read_info()
        entries.append(
            {
                "run": run.path.name,
                "kind": info.kind,
                "seed": info.seed,
                "seconds": info.seconds,
                **info.provenance,
                "notes": info.notes,
                "acc": accuracies(tree),
            }
        )
    columns = {key: [entry["acc"].get(key) for entry in entries] for key in entries[0]["acc"]}
    full = {k: [v for v in vs if v is not None] for k, vs in columns.items()}
    return {
        "runs": entries,
        "mean": {k: statistics.fmean(v) if v else None for k, v in full.items()},
        "std": {k: statistics.stdev(v) if len(v) > 1 else None for k, v in full.items()},
    }


def accuracies(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the accuracies of a run, its baselines and its oracle head under flat keys."""
    flat = {"/".join(key): _leaf(metrics, key) for key in METRICS}
    for name, tree in metrics["baselines"].items():
        for key in METRICS[:2]:
            flat[f"{name}/{'/'.join(key)}"] = _leaf(tree, key)
    flat |= {f"oracle/{'/'.join(key)}": _leaf(metrics["oracle"], key) for key in METRICS}
    return flat


def _leaf(tree: Mapping[str, Any], key: tuple[str, str, str]) -> float | None:
    protocol, part, group = key
    value: float | None = tree[protocol][part][group]["acc"]
    return value
