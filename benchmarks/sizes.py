"""What an image costs against the size of the set, the number of heads and of novel classes."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import rate, row
from benchmarks.train import setting, trained
from crkd.config.check import plain
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.data.partition import Part
from crkd.engine.setup import RunData
from crkd.engine.trial import discovery_loop

SHARES = (10, 50, 100)
HEADS = (1, 2, 4, 8, 16)
CLASSES = (10, 100, 1000)
ROUNDS = 3
AXES = {
    "share of the set": ("%", SHARES),
    "heads": ("", HEADS),
    "novel classes": ("", CLASSES),
}

_row = partial(row, "sizes", "us/image", complete=False)


def rows(device: str = "cpu", seconds: float = 100.0) -> list[dict[str, Any]]:
    """Return the microseconds of a whole training step for each image, one size varied a time.

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
    work = [trained(discovery_loop(settings, images, place)) for _, settings, images in cases]
    slot = seconds / len(work) / ROUNDS
    # In turn, so that a change of the machine's load hits all of them.
    costs = [[1e6 / rate(batches, slot) for batches in work] for _ in range(ROUNDS)]
    return [
        _row(f"{name}; {title.removesuffix(', 4 heads')}", statistics.median(found))
        for (name, _, _), found in zip(cases, zip(*costs, strict=True), strict=True)
    ]


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a picture with a panel for each size; all share one vertical axis.

    Args:
        rows: what :func:`rows` returned.
        path: file to write, PNG by its suffix.
    """
    from matplotlib.figure import Figure

    costs = [float(r["value"]) for r in rows]
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    start = 0
    for panel, (name, (unit, sizes)) in zip(panels, AXES.items(), strict=True):
        panel.plot(range(len(sizes)), costs[start : start + len(sizes)], marker="o")
        panel.set_xticks(range(len(sizes)), [f"{size} {unit}".strip() for size in sizes])
        panel.set_xlabel(name)
        panel.set_ylim(0, 1.1 * max(costs))
        panel.grid(axis="y", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        start += len(sizes)
    panels[0].set_ylabel("µs an image, whole step")
    figure.savefig(path, dpi=130)


def _smaller(data: RunData, percent: int) -> RunData:
    """Return the same run on an even share of the training images."""
    parts = dataclasses.replace(
        data.parts,
        known_train=_thinned(data.parts.known_train, percent),
        novel_train=_thinned(data.parts.novel_train, percent),
    )
    return dataclasses.replace(data, parts=parts, _stores={})


def _thinned(part: Part, percent: int) -> Part:
    rows = slice(None, None, 100 // percent)
    return Part(part.source, part.indices[rows], part.labels[rows], part.ids[rows])


def _changed(config: Config, setting: str) -> Config:
    same = [f"{key}={json.dumps(value)}" for key, value in plain(config).items()]
    return load_config(None, [*same, setting])
