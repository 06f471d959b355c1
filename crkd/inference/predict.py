"""Prediction on new images: class, known or novel, and confidence."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.core.errors import InputError, listed
from crkd.data.sources.decode import FORMATS
from crkd.data.splits.partition import Subset
from crkd.data.storage.streaming import StreamingImages
from crkd.inference.image_files import TolerantSource, find_images, readable
from crkd.inference.rows import UNSURE, RowMaker
from crkd.inference.table import PredictedImage, check_format, writing
from crkd.inference.vector_outputs import (
    Batches,
    are_vector_files,
    outputs_of_images,
    outputs_of_vectors,
    vectors_of_files,
)
from crkd.models.vector_network import NAME as VECTORS
from crkd.runs.console import TrainingProgress
from crkd.runs.load import OpenedRun, open_run
from crkd.runs.skipped_files import list_skipped, skipped_file
from crkd.stages.forward import Outputs, forward_batches, whole_images

BATCH_SIZE: Final = 128


@dataclass
class Summary:
    """Counts over the images.

    Attributes:
        classes: number of images of each class name, by kind.
        unsure: number of images below the threshold.
        outliers: number of images that fit none of the classes; None where the run cannot tell.
        skipped: reason for each file that could not be read.
        seconds: from the first file to the last row.
        temperature: fitted temperature behind the confidence of known classes, or None.
    """

    temperature: float | None
    classes: dict[str, Counter[str]] = field(
        default_factory=lambda: {"known": Counter(), "novel": Counter()}
    )
    unsure: int = 0
    outliers: int | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def num_images(self) -> int:
        """Number of images with a prediction."""
        return sum(counts.total() for counts in self.classes.values())

    def add(self, rows: Sequence[PredictedImage]) -> None:
        """Count some rows."""
        for row in rows:
            self.classes[row.kind][row.class_name] += 1
            self.unsure += row.unsure
            if row.outlier is not None:
                self.outliers = (self.outliers or 0) + row.outlier


def predict(
    path: str | Path,
    images: Sequence[str | Path],
    out: Path,
    *,
    device: torch.device,
    unsure: float = UNSURE,
    batch_size: int = BATCH_SIZE,
) -> Summary:
    """Write the predictions of a run on images.

    An unreadable file is skipped and listed in ``NAME.skipped.csv``. Only a few batches are in
    memory at any time.

    Args:
        path: the run folder.
        images: files, and folders of images, flat or nested.
        out: the table to write, in the format of its suffix.
        device: where the network computes.
        unsure: confidence in [0, 1] below which an image is called unsure.
        batch_size: images in a forward pass.

    Raises:
        InputError: an argument is unusable, or no image can be read.
    """
    check_format(out)
    if not 0.0 <= unsure <= 1.0:
        raise InputError(f"--unsure {unsure} is not in [0, 1]; 0.5 is usual")
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size} is below 1; {BATCH_SIZE} is usual")
    if not are_vector_files(images):
        find_images(images)
    opened = open_run(path, device)
    paths, unreadable, batches, size = _batches(opened, images, device, batch_size)
    maker = RowMaker(opened, unsure)
    summary = Summary(maker.temperature)
    began = time.monotonic()
    header = {
        "run": readable(Path(path)),
        "model_sha256": opened.info.model_sha256,
        "temperature": maker.temperature,
        "unsure_below": unsure,
    }
    progress = TrainingProgress("predict", -(-len(paths) // size), 0, size)
    with writing(out, header) as write, progress:
        for number, (indices, outputs) in enumerate(batches, start=1):
            rows = maker.rows([paths[i] for i in indices], outputs)
            kept = [r for i, r in zip(indices, rows, strict=True) if i not in unreadable]
            write(kept)
            summary.add(kept)
            progress.show(number, {})
        summary.skipped = {readable(paths[i]): reason for i, reason in sorted(unreadable.items())}
        if not summary.num_images:
            shown = listed((f"{name!r} ({why})" for name, why in summary.skipped.items()), 3)
            raise InputError(
                f"none of the {len(paths)} IMAGES can be read: {shown}; give images of the formats "
                f"{', '.join(FORMATS)}"
            )
    summary.seconds = time.monotonic() - began
    list_skipped(skipped_file(out), summary.skipped)
    return summary


def _batches(
    opened: OpenedRun, images: Sequence[str | Path], device: torch.device, batch_size: int
) -> tuple[list[Path], dict[int, str], Batches, int]:
    """Return paths, reasons of unreadable ones, batches of outputs, and the size of a batch."""
    if opened.architecture.backbone == VECTORS:
        if are_vector_files(images):
            ids, vectors = vectors_of_files(opened, images)
            return ids, {}, outputs_of_vectors(opened, vectors, batch_size), batch_size
        paths, unreadable = find_images(images), dict[int, str]()
        batches = outputs_of_images(opened, paths, unreadable)
        form = opened.info.embedding or {}
        return paths, unreadable, batches, int(form.get("form", {}).get("batch_size", batch_size))
    paths = find_images(images)
    source = TolerantSource(paths)
    return paths, source.unreadable, _outputs(opened, source, device, batch_size), batch_size


def _outputs(
    opened: OpenedRun, source: TolerantSource, device: torch.device, batch_size: int
) -> Iterator[tuple[NDArray[np.int64], Outputs]]:
    """Yield the positions of every batch and the network's outputs on it."""
    shape, config = opened.info.preprocessing, opened.config
    size = int(shape["image_size"])
    part = Subset(source, np.arange(len(source)), source.labels, list(source.ids))
    store = StreamingImages(part, round(size * config.data.stored_share), device)
    rows = np.arange(len(source))
    blocks = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    images = whole_images(size, shape["mean"], shape["std"])
    precision = config.loop.precision
    yield from zip(
        blocks,
        forward_batches(opened.network, store, blocks, images, precision=precision),
        strict=True,
    )
