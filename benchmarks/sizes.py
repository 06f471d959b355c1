"""Training time of an image against set size, number of heads and number of novel classes."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import rate, row
from benchmarks.train import setting, trained
from crkd.config.check import plain
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.watched import Job
from crkd.data.splits.partition import Subset
from crkd.gpu_checks.fresh_loops import discovery_loop
from crkd.stages.run_data import RunData

SHARES = (10, 50, 100)
HEADS = (1, 2, 4, 8, 16)
CLASSES = (10, 100, 1000)
ROUNDS = 3
AXES = {
    "share of the set": ("{} %", "{} % of the set", SHARES),
    "heads": ("{}", "{} heads", HEADS),
    "novel classes": ("{}", "{} novel classes", CLASSES),
}
"""Panel of the picture: how a size is written there, how its row is named, the sizes."""

_row = partial(row, "sizes", "us/image", complete=False)


def measurements(device: str = "cpu", seconds: float = 100.0) -> list[Job]:
    """Return jobs for the microseconds an image of a whole step, one size varied at a time.

    Args:
        device: "cuda" or "cpu".
        seconds: wall time to spend measuring, about.
    """
    place = torch.device(device)
    config, data, title = setting(place)
    cases: list[tuple[str, Config, RunData]] = [
        (f"{share} % of the set", config, _smaller(data, share)) for share in SHARES
    ]
    cases += [(f"{n} heads", _changed(config, f"model.num_heads={n}"), data) for n in HEADS]
    cases += [
        (f"{n} novel classes", _changed(config, f"discover.num_novel={n}"), data) for n in CLASSES
    ]
    slot = seconds / len(cases) / ROUNDS
    work: dict[str, Iterator[int]] = {}
    costs: dict[str, list[float]] = defaultdict(list)

    def measure(
        name: str, settings: Config, images: RunData, *, last: bool
    ) -> Iterator[dict[str, Any]]:
        if name not in work:
            work[name] = trained(discovery_loop(settings, images, place))
        costs[name].append(1e6 / rate(work[name], slot))
        if last:
            yield _row(name, statistics.median(costs[name]))

    jobs = []
    # In turn, so that a change of the machine's load hits all of them.
    for number in range(1, ROUNDS + 1):
        for case, settings, images in cases:
            name = f"{case}; {title.removesuffix(', 4 heads')}"
            work_of_case = partial(measure, name, settings, images, last=number == ROUNDS)
            jobs.append(Job(name, work_of_case))
    return jobs


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a picture with a panel for each size; all share one vertical axis.

    Args:
        rows: of :func:`measurements`; a size without a value is left out.
        path: file to write, PNG by its suffix.
    """
    from matplotlib.figure import Figure

    costs = {r["name"].split(";")[0]: r["value"] for r in rows if r["value"] is not None}
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for panel, (name, (tick, row_name, sizes)) in zip(panels, AXES.items(), strict=True):
        found = [costs.get(row_name.format(size), math.nan) for size in sizes]
        panel.plot(range(len(sizes)), found, marker="o")
        panel.set_xticks(range(len(sizes)), [tick.format(size) for size in sizes])
        panel.set_xlabel(name)
        panel.set_ylim(0, 1.1 * max(costs.values(), default=1.0))
        panel.grid(axis="y", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("µs an image, whole step")
    figure.savefig(path, dpi=130)


def _smaller(data: RunData, percent: int) -> RunData:
    """Return the same run on an even share of the training images."""
    parts = dataclasses.replace(
        data.subsets,
        known_train=_thinned(data.subsets.known_train, percent),
        unlabeled=_thinned(data.subsets.unlabeled, percent),
    )
    return dataclasses.replace(data, subsets=parts, _stores={})


def _thinned(part: Subset, percent: int) -> Subset:
    rows = slice(None, None, 100 // percent)
    return Subset(part.source, part.indices[rows], part.labels[rows], part.ids[rows])


def _changed(config: Config, setting: str) -> Config:
    same = [f"{key}={json.dumps(value)}" for key, value in plain(config).items()]
    return load_config(None, [*same, setting])
