"""Metrics of several runs with their provenance: the format of every result file."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from crkd.runs.folder import RunFolder

_OTHER_ENTRIES: Final = ("spread_over_heads", "chosen_head", "oracle", "per_class", "baselines")
"""Blocks of the metrics that are not a protocol."""


def record(runs: Sequence[RunFolder], metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a result file holds of several runs, usually seeds of one configuration.

    Returns:
        ``runs``: per run its kind, seed, command, commit, device, versions, notes, accuracies, and
        the seconds of its training and of that of the run that it started from; ``mean`` and
        ``std`` (sample standard deviation, null for one run) of every accuracy, keyed
        "protocol/part/group", "NAME/protocol/part/group" for baselines and
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
                "parent_seconds": (info.parent or {}).get("seconds"),
                **info.provenance,
                "notes": info.notes,
                "acc": accuracies(tree),
            }
        )
    return {"runs": entries, **mean_and_std([entry["acc"] for entry in entries])}


def mean_and_std(
    scores: Sequence[Mapping[str, float | None]],
) -> dict[str, dict[str, float | None]]:
    """Return mean and sample standard deviation of every metric over the runs that have it."""
    keys = dict.fromkeys(key for entry in scores for key in entry)
    full = {k: [v for entry in scores if (v := entry.get(k)) is not None] for k in keys}
    return {
        "mean": {k: statistics.fmean(v) if v else None for k, v in full.items()},
        "std": {k: statistics.stdev(v) if len(v) > 1 else None for k, v in full.items()},
    }


def accuracies(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the accuracies of a run, its baselines and its oracle head under flat keys.

    Args:
        metrics: see :func:`crkd.evaluation.report.evaluate`.

    Returns:
        "protocol/part/group", "NAME/protocol/part/group" for baselines and
        "oracle/protocol/part/group"; values in [0, 1].
    """
    found = _leaves({key: v for key, v in metrics.items() if key not in _OTHER_ENTRIES})
    for name, tree in metrics["baselines"].items():
        found |= _leaves(tree, f"{name}/")
    return found | _leaves(metrics["oracle"], "oracle/")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """Return the accuracy of every protocol, part and group; other entries are left out."""
    return {
        f"{prefix}{protocol}/{part}/{group}": score["acc"]
        for protocol, parts in tree.items()
        if isinstance(parts, Mapping)
        for part, groups in parts.items()
        if isinstance(groups, Mapping)
        for group, score in groups.items()
        if isinstance(score, Mapping) and "acc" in score
    }
