"""Error of the estimated number of novel classes, over five class orders each.

On a CPU: the digits with 5 known classes, and CIFAR-100 with 10 known and 10 novel ones, drawn from
the whole set and shrunk to 16 px. On a GPU: CIFAR-100 with 80 and 50 known classes and the
ResNet-18 of the published recipe. For each order a stage 1 is trained; the estimate is that of
``estimate-k`` on the novel training images. A finished order is a line of a file next to the
output.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.campaign import finished
from benchmarks.rows import row
from crkd.config.load import load_config
from crkd.stages.discover.class_count import Images, estimate_k
from crkd.stages.load_images import split_of
from crkd.stages.pretrain.run import pretrain

ORDERS = tuple(range(5))
ON_CPU = {
    "digits 5-5": ("digits", ()),
    "cifar100 10-10": ("cifar100-10-10", ("data.image_size=16", "pretrain.epochs=15")),
}
ON_GPU = {
    "cifar100 80-20": (None, ("dataset=cifar100", "split=80-20")),
    "cifar100 50-50": (None, ("dataset=cifar100", "split=50-50")),
}


class Order(NamedTuple):
    """One class order.

    Attributes:
        setting: a key of ``ON_CPU`` or ``ON_GPU``.
        order: seed of the order.
    """

    setting: str
    order: int


def rows(out: Path, device: str, *, jobs: int = 1) -> list[dict[str, Any]]:
    """Return error and coverage of every setting.

    Args:
        out: the result file; finished orders are stored next to it in ``NAME.runs.jsonl``.
        device: "cpu" or "cuda", which chooses the settings.
        jobs: processes, of one thread each.
    """
    settings = ON_CPU if device == "cpu" else ON_GPU
    wanted = [Order(setting, order) for setting in settings for order in ORDERS]
    lines = finished(wanted, partial(measure, device=device), out, jobs=jobs)
    return [made for name in settings for made in _rows(name, _of(lines, name))]


def measure(trial: Order, *, device: str) -> dict[str, Any]:
    """Train a stage 1 and return the estimate, its range and the true number."""
    base, settings = (ON_CPU | ON_GPU)[trial.setting]
    flags = {"device": device, "class_order_seed": trial.order}
    config = load_config(base, settings, flags)
    with tempfile.TemporaryDirectory() as folder:
        run = pretrain(config, Path(folder) / "stage-1")
        count = estimate_k(run.path, Images(), torch.device(device)).count
    return {
        "estimate": count.estimate,
        "low": count.low,
        "high": count.high,
        "truth": len(split_of(config).novel),
    }


def _of(lines: Sequence[dict[str, Any]], setting: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["run"]["setting"] == setting]


def _rows(setting: str, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    errors = [100 * abs(line["estimate"] / line["truth"] - 1) for line in lines]
    covered = sum(line["low"] <= line["truth"] <= line["high"] for line in lines)
    ranges = {"estimates": [[line["low"], line["estimate"], line["high"]] for line in lines]}
    error = statistics.fmean(errors)
    made = partial(row, "class-count", complete=False)
    return [
        {
            **made("% error", f"{setting}: mean error", error),
            **ranges,
            "truth": lines[0]["truth"],
        },
        made(f"orders of {len(lines)}", f"{setting}: the range covers the truth", float(covered)),
    ]
