from __future__ import annotations

import pytest

from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.summary import accuracies, record

METRICS = (
    ("task_aware", "train", "novel"),
    ("joint_hungarian", "test", "all"),
    ("joint_hungarian", "train", "novel"),
)


def tree(value: float | None) -> dict:
    metrics: dict = {"baselines": {}}
    for protocol, part, group in METRICS:
        metrics.setdefault(protocol, {}).setdefault(part, {})[group] = {"acc": value}
    metrics["baselines"]["kmeans_pixels"] = {"task_aware": metrics["task_aware"]}
    metrics["oracle"] = {protocol: metrics[protocol] for protocol, _, _ in METRICS}
    return metrics


def test_mean_and_sample_deviation(tmp_path) -> None:  # type: ignore[no-untyped-def]
    runs = []
    for seed in range(3):
        run = RunFolder.create(tmp_path / f"seed{seed}")
        run.write_info(
            RunInfo(
                kind="discovered",
                status="complete",
                dataset="digits",
                split={"name": "5-5", "fingerprint": "x", "known": "y"},
                classes=[ClassInfo(0, "a", "known")],
                preprocessing={"image_size": 16, "mean": [0.0] * 3, "std": [1.0] * 3},
                architecture=None,
                chosen_head=0,
                seed=seed,
                provenance={"command": "discover", "commit": "abc"},
            )
        )
        runs.append(run)
    found = record(runs, [tree(0.5), tree(0.6), tree(0.7)])
    assert found["mean"]["task_aware/train/novel"] == pytest.approx(0.6)
    assert found["std"]["kmeans_pixels/task_aware/train/novel"] == pytest.approx(0.1)
    assert found["mean"]["oracle/joint_hungarian/test/all"] == pytest.approx(0.6)
    assert [entry["seed"] for entry in found["runs"]] == [0, 1, 2]
    assert found["runs"][0]["commit"] == "abc"
    unlabeled = record(runs[:1], [tree(None)])
    assert unlabeled["mean"]["task_aware/train/novel"] is None


def test_every_protocol_of_the_tree_is_found_and_nothing_else() -> None:
    metrics = {
        **tree(0.25),
        "schema_version": 1,
        "counts": {"train": {"images": 3}},
        "spread_over_heads": tree(0.9),
        "per_class": {"task_aware": {"train": {"cat": 0.5}}},
    }
    metrics["oracle"] |= {"head": 1, "picked_by": "labels"}
    keys = ["/".join(key) for key in METRICS]
    assert list(accuracies(metrics)) == [
        *keys,
        "kmeans_pixels/task_aware/train/novel",
        *(f"oracle/{key}" for key in keys),
    ]
