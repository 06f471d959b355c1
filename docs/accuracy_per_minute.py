"""Plot of novel accuracy against training time, from the records of the sweep and of its times.

``python docs/accuracy_per_minute.py`` writes ``docs/images/accuracy-per-minute.png``.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ACCURACY, MINUTES = RESULTS / "accuracy-per-minute.json", RESULTS / "minutes.json"
PICTURE = ROOT / "docs" / "images" / "accuracy-per-minute.png"
METRIC = "task_aware/train/novel"
LENGTHS = "fast"
"""Beginning of the names of the configurations that differ in length alone."""


def points(record: dict[str, Any], times: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return minutes of both stages and percent of each configuration, means over seeds."""
    runs = {run["run"]: 100 * run["acc"][METRIC] for run in record["runs"]}
    minutes = {row["name"].removeprefix("both stages, "): row["value"] for row in times}
    return {
        group["name"]: (minutes[group["name"]], fmean(runs[name] for name in group["runs"]))
        for group in record["groups"]
    }


def main() -> None:
    """Draw the picture."""
    found = points(json.loads(ACCURACY.read_text()), json.loads(MINUTES.read_text()))
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    lengths = sorted(point for name, point in found.items() if name.startswith(LENGTHS))
    axes.plot(*zip(*lengths, strict=True), "o-", label="cifar100-10-10-fast, by length")
    for name, (minutes, percent) in found.items():
        if not name.startswith(LENGTHS):
            axes.plot(minutes, percent, "s", color="tab:gray")
            axes.annotate(name, (minutes, percent), (6, -10), textcoords="offset points")
    axes.set_xlabel("minutes of both stages, one CPU thread; one seed")
    axes.set_ylabel("accuracy on novel training images, %")
    # Room for the names at the right.
    axes.set_xlim(0, 1.35 * max(minutes for minutes, _ in found.values()))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
