"""Prediction on new images: class, known or novel, and confidence."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch

from crkd.core.batch_shard import own_rows
from crkd.core.errors import InputError, listed
from crkd.core.paths import readable
from crkd.core.threads import one_thread
from crkd.data.sources.decode import FORMATS
from crkd.data.splits.partition import Subset
from crkd.data.storage.base import Rows
from crkd.data.storage.streaming import StreamingImages
from crkd.data.storage.workers import parallel, threads_of_a_process
from crkd.embedding.progress import ImageProgress
from crkd.inference.image_files import TolerantSource, find_images
from crkd.inference.rows import UNSURE, RowMaker
from crkd.inference.shards import RowBatch, gathered
from crkd.inference.table import check_format, writing
from crkd.inference.vector_outputs import (
    are_vector_files,
    embedder_of,
    outputs_of_images,
    outputs_of_vectors,
    vectors_of_files,
)
from crkd.runs.calibration import missing_temperature
from crkd.runs.load import OpenedRun, open_run
from crkd.runs.skipped_files import list_skipped, skipped_file
from crkd.stages.forward import Outputs, forward_batch, whole_images
from crkd.training.distributed import is_rank_zero

CPU_BATCH_SIZE: Final = 32
"""Images of a forward pass on a CPU: one thread computes a batch."""
GPU_BATCH_SIZE: Final = 128
VECTOR_BATCH_SIZE: Final = 256


@dataclass
class Summary:
    """Counts over the images.

    Attributes:
        classes: number of images of each class name, by kind.
        unsure: number of images below the threshold.
        outliers: number of images that fit none of the classes; None without an outlier test.
        skipped: reason for each file that could not be read.
        seconds: from the first file to the last row.
        temperature: fitted temperature behind the confidence of known classes, or None.
        uncalibrated: why there is no temperature; empty with one.
    """

    temperature: float | None
    uncalibrated: str
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

    def add(self, batch: RowBatch) -> None:
        """Count the rows of a batch."""
        self.skipped |= batch.skipped
        for row in batch.rows:
            self.classes[row.kind][row.class_name] += 1
            self.unsure += row.unsure
            if row.outlier is not None:
                self.outliers = (self.outliers or 0) + row.outlier


@dataclass(frozen=True, eq=False)
class Samples:
    """N images or vectors to predict.

    Attributes:
        paths: files, or ids of vectors, which stay as they are.
        batch_size: samples of a batch.
        outputs: turns the positions of each batch into the outputs of the run, in order.
        unreadable: reason for each position that cannot be read; an entry is there before the
            outputs of its batch.
    """

    paths: Sequence[str | Path]
    batch_size: int
    outputs: Callable[[Sequence[Rows]], Iterator[Outputs]]
    unreadable: dict[int, str] = field(default_factory=dict)


def check_arguments(out: Path, unsure: float, batch_size: int | None) -> None:
    """Refuse arguments of :func:`predict` before any work.

    Raises:
        InputError: one of them is unusable.
    """
    check_format(out)
    if not 0.0 <= unsure <= 1.0:
        raise InputError(f"--unsure {unsure} is not in [0, 1]; 0.5 is usual")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size {batch_size} is below 1; leave it out")


# The number of threads changes the last bits of a batch, so one thread computes it. Several threads
# compute several batches.
@one_thread()
def predict(
    path: str | Path,
    images: Sequence[str | Path],
    out: Path,
    *,
    device: torch.device,
    unsure: float = UNSURE,
    batch_size: int | None = None,
) -> Summary:
    """Write the predictions of a run on images.

    An unreadable file is skipped and listed in ``NAME.skipped.csv``. Only a few batches are in
    memory at any time. Of several processes each predicts its share of the batches; the first one
    writes the table, which on a CPU equals that of one process.

    Args:
        path: the run folder.
        images: files, and folders of images, flat or nested.
        out: the table to write, in the format of its suffix.
        device: where the network computes.
        unsure: confidence in [0, 1] below which an image is called unsure.
        batch_size: samples in a forward pass; None is 32 images on a CPU and 128 on a GPU, and 256
            feature vectors.

    Returns:
        Counts over the images of all processes; empty in all but the first one.

    Raises:
        InputError: an argument is unusable, or no image can be read.
    """
    check_arguments(out, unsure, batch_size)
    paths = None if are_vector_files(images) else find_images(images)
    opened = open_run(path, device)
    vectors = paths is None and opened.architecture.on_vectors
    if batch_size is None:
        of_images = CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE
        batch_size = VECTOR_BATCH_SIZE if vectors else of_images
    samples = (
        _vectors(opened, images, batch_size)
        if vectors
        else _images(opened, paths or find_images(images), device, batch_size)
    )
    maker = RowMaker(opened, unsure)
    summary = Summary(
        maker.temperature, "" if maker.temperature else missing_temperature(opened.run)
    )
    header = {
        "run": readable(Path(path)),
        "model_sha256": opened.info.model_sha256,
        "temperature": maker.temperature,
        "unsure_below": unsure,
    }
    batches = gathered(_own_batches(samples, maker), out)
    if not is_rank_zero():
        for _ in batches:
            pass
        return summary
    began = time.monotonic()
    with writing(out, header, maker.columns) as write:
        for batch in batches:
            write(batch.rows)
            summary.add(batch)
        _check_any(summary)
    summary.seconds = time.monotonic() - began
    list_skipped(skipped_file(out), summary.skipped)
    return summary


def _check_any(summary: Summary) -> None:
    """Refuse a call none of whose images can be read."""
    if summary.num_images:
        return
    shown = listed((f"{name!r} ({why})" for name, why in summary.skipped.items()), 3)
    raise InputError(
        f"none of the {len(summary.skipped)} IMAGES can be read: {shown}; give images of the "
        f"formats {', '.join(FORMATS)}"
    )


def _own_batches(samples: Samples, maker: RowMaker) -> Iterator[RowBatch]:
    """Yield the rows of the batches of this process, which are whole batches of one process."""
    rows, size = np.arange(len(samples.paths)), samples.batch_size
    starts = range(0, len(rows), size)
    blocks = [rows[starts[number] :][:size] for number in own_rows(len(starts))]
    progress, done = ImageProgress("predict", sum(map(len, blocks))), 0
    for block, outputs in zip(blocks, samples.outputs(blocks), strict=True):
        made = maker.rows([samples.paths[row] for row in block], outputs)
        bad = {int(row): samples.unreadable[row] for row in block if row in samples.unreadable}
        kept = [made[n] for n, row in enumerate(block) if row not in bad]
        yield RowBatch(kept, {readable(samples.paths[row]): why for row, why in bad.items()})
        done += len(block)
        progress.show(done)
    progress.close()


def _vectors(opened: OpenedRun, files: Sequence[str | Path], batch_size: int) -> Samples:
    """Return files of vectors for a discovery on vectors."""
    ids, vectors = vectors_of_files(opened, files)
    return Samples(ids, batch_size, lambda blocks: outputs_of_vectors(opened, vectors, blocks))


def _images(opened: OpenedRun, paths: list[Path], device: torch.device, batch_size: int) -> Samples:
    """Return image files for a run of any kind."""
    if opened.architecture.on_vectors:
        embedder, unreadable = embedder_of(opened), dict[int, str]()
        return Samples(
            paths,
            embedder.form.batch_size,
            lambda blocks: outputs_of_images(opened, embedder, paths, blocks, unreadable),
            unreadable,
        )
    source = TolerantSource(paths)
    return Samples(
        paths,
        batch_size,
        lambda blocks: _outputs(opened, source, device, blocks),
        source.unreadable,
    )


def _outputs(
    opened: OpenedRun, source: TolerantSource, device: torch.device, blocks: Sequence[Rows]
) -> Iterator[Outputs]:
    """Yield the network's outputs on batch after batch."""
    shape, config = opened.info.preprocessing, opened.config
    size = int(shape["image_size"])
    part = Subset(source, np.arange(len(source)), source.labels, list(source.ids))
    stored, workers = round(size * config.data.stored_share), threads_of_a_process()
    store = StreamingImages(part, stored, device, workers=workers)
    prepare = whole_images(size, shape["mean"], shape["std"])

    def computed(images: torch.Tensor) -> Outputs:
        return forward_batch(opened.network, images, prepare, precision=config.loop.precision)

    if device.type != "cpu":
        yield from map(computed, store.batches(blocks))
        return
    yield from parallel(computed, store.batches(blocks))
