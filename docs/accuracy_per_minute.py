"""Plot of novel accuracy against training time, from the records of the sweep and of its times.

``python docs/accuracy_per_minute.py`` writes ``docs/images/accuracy-per-minute.png``.
"""

from __future__ import annotations

import json
from pathlib import Path
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


def points(
    record: dict[str, Any], times: list[dict[str, Any]]
) -> dict[str, tuple[float, float, float]]:
    """Return minutes of both stages, and percent and its deviation, of each configuration.

    The deviation over seeds is 0 for a single seed.
    """
    minutes = {row["name"].removeprefix("both stages, "): row["value"] for row in times}
    return {
        group["name"]: (
            minutes[group["name"]],
            100 * group["metrics"][METRIC]["mean"],
            100 * (group["metrics"][METRIC]["std"] or 0.0),
        )
        for group in record["groups"]
    }


def main() -> None:
    """Draw the picture."""
    found = points(json.loads(ACCURACY.read_text()), json.loads(MINUTES.read_text()))
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    lengths = sorted(point for name, point in found.items() if name.startswith(LENGTHS))
    x, y, deviation = zip(*lengths, strict=True)
    axes.errorbar(x, y, deviation, fmt="o-", capsize=3, label="cifar100-10-10-fast, by length")
    for name, (minutes, percent, spread) in found.items():
        if not name.startswith(LENGTHS):
            axes.errorbar(minutes, percent, spread, fmt="s", capsize=3, color="tab:gray")
            text = name.replace(", ", ",\n")
            # The names of single seeds are below their points, so that few names overlap.
            place = (6, 5 if spread or "\n" in text else -12)
            axes.annotate(text, (minutes, percent), place, textcoords="offset points", size=8)
    axes.set_xlabel("minutes of both stages, one CPU thread")
    axes.set_ylabel("accuracy on novel training images, %")
    # Room for the names at the right.
    axes.set_xlim(0, 1.35 * max(point[0] for point in found.values()))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
