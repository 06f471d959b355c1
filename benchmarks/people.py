"""Waiting times of a person: predictions for new images, and the review page of many images.

Times are processor times over all threads, which one core alone would need.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from benchmarks.rows import row
from crkd.config.load import load_config
from crkd.core.watched import Job
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import Pixels
from crkd.data.splits.partition import Subset
from crkd.inference.predict import predict
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.review.page import write_page
from crkd.review.run_outputs import Evidence
from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.load import open_run
from crkd.stages.discover.parent import next_classes
from crkd.stages.forward import Outputs
from crkd.stages.run_data import RunData

SIDE = 32
KNOWN, NOVEL, HEADS = 50, 100, 4
CPU = torch.device("cpu")


def measurements(images: int = 4000, reviewed: int = 100_000) -> list[Job]:
    """Return what is measured on the CPU.

    Args:
        images: files that ``predict`` gets.
        reviewed: images behind the review page.
    """
    name = f"predict PNG files, resnet8, {SIDE} px, {KNOWN} + {NOVEL} classes"
    jobs = [Job(name, partial(_predict, name, images))]
    for kind in ("smooth pictures", "noise"):
        name = f"review page of {reviewed:,} images, {NOVEL} classes, {kind}"
        jobs.append(Job(name, partial(_review, name, reviewed, kind)))
    return jobs


def _predict(name: str, images: int) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        run = untrained_run(Path(folder) / "run")
        yield row("people", "images/s of one core", name, _predicted(run, Path(folder), images))


def _review(name: str, images: int, kind: str) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        seconds, megabytes = _page(untrained_run(Path(folder) / "run"), images, kind)
    yield row("people", "s of one core", f"{name}, once the network has answered", seconds)
    yield row("people", "MB", name, megabytes)


def untrained_run(folder: Path) -> RunFolder:
    """Return a finished discovery with random weights."""
    shape = Architecture(
        "resnet8",
        SIDE,
        num_known=KNOWN,
        num_novel=NOVEL,
        num_heads=HEADS,
        hidden=256,
        projection=64,
    )
    known = [ClassInfo(n, f"class {n}", "known") for n in range(KNOWN)]
    run = RunFolder.create(folder)
    run.write_config(load_config("digits", [], {}))
    info = RunInfo(
        kind="discovered",
        status="complete",
        dataset="folder",
        split={"name": "folders", "fingerprint": "", "known": ""},
        classes=next_classes(known, NOVEL),
        preprocessing={"image_size": SIDE, "mean": [0.5] * 3, "std": [0.25] * 3},
        architecture=shape.plain(),
        chosen_head=0,
        seed=0,
        provenance={},
    )
    info.model_sha256 = run.write_model(build_network(shape, seed=0).state_dict(), {})
    run.write_info(info)
    return run


def _predicted(run: RunFolder, folder: Path, count: int) -> float:
    """Return images a second of one core, from files to a table."""
    draw = np.random.default_rng(0)
    place = folder / "images"
    place.mkdir()
    for number in range(count):
        Image.fromarray(_picture(draw)).save(place / f"{number}.png")
    start = time.process_time()
    predict(run.path, [place], folder / "rows.parquet", device=CPU)
    return count / (time.process_time() - start)


def _picture(draw: np.random.Generator, coarse: int = 8, side: int = SIDE) -> Pixels:
    """Return ``(side, side, 3)`` random colors, smoothed from ``coarse`` by ``coarse`` pixels."""
    colors = draw.integers(0, 256, (coarse, coarse, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(colors).resize((side, side)))


def _page(run: RunFolder, count: int, kind: str) -> tuple[float, float]:
    """Return the seconds of one core and the megabytes of the page of made-up outputs."""
    evidence = made_up_evidence(run, count, kind)
    start = time.process_time()
    counts = write_page(evidence, run.path / "page.html")
    return time.process_time() - start, counts["bytes"] / 1e6


def made_up_evidence(run: RunFolder, count: int, kind: str, side: int = SIDE) -> Evidence:
    """Return outputs for many images, of ``NOVEL`` clusters, without a network.

    Args:
        run: of :func:`untrained_run`.
        count: number of images; 1,000 different ones are repeated.
        kind: "smooth pictures" or "noise".
        side: of the images in pixels.
    """
    draw = np.random.default_rng(0)
    truth = draw.integers(0, NOVEL, count)
    centers = draw.normal(size=(NOVEL, 64)).astype(np.float32)
    features = centers[truth] + draw.normal(0, 0.3, (count, 64)).astype(np.float32)
    novel = features @ centers.T / 8
    outputs = Outputs(features, draw.normal(size=(count, KNOWN)).astype(np.float32), novel[None])
    coarse = side if kind == "noise" else 8
    pixels = np.stack([_picture(draw, coarse, side) for _ in range(1000)])
    source = ArraySource(pixels, np.full(len(pixels), -1), [])
    ids = [f"new photos/{number:06d}.png" for number in range(count)]
    part = Subset(source, np.arange(count) % len(pixels), np.full(count, -1), ids)
    return Evidence(
        open_run(run.path, CPU),
        cast(RunData, SimpleNamespace(subsets=SimpleNamespace(unlabeled=part))),
        0,
        outputs,
        features / np.linalg.norm(features, axis=1, keepdims=True),
        np.ones(count),
    )
