"""Both stages on images in memory, without a run folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import Pixels
from crkd.data.splits.class_split import ClassSplit
from crkd.data.splits.partition import HiddenLabels, Subset, Subsets
from crkd.data.storage.in_memory import InMemoryImages
from crkd.models.network import Network, freeze
from crkd.stages.discover.run import discovery_loader, student_of
from crkd.stages.discover.task import DiscoveryTask
from crkd.stages.forward import Outputs, forward_store, whole_images
from crkd.stages.pretrain.run import SupervisedTraining
from crkd.stages.run_data import RunData
from crkd.training.loop import Loop

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of each channel, images scaled to [0, 1]."""
PIXELS_AT_ONCE: Final = 2**16
"""Pixels that are counted at once, in whole images."""

RECIPE: dict[str, Any] = {
    "dataset": "images",
    "model": {"backbone": "resnet8"},
    "pretrain": {"epochs": 40, "optimizer": {"warmup_epochs": 2, "weight_decay": 5e-4}},
    "discover": {"epochs": 40, "num_small": 0, "optimizer": {"warmup_epochs": 3}},
}
"""Default settings of images in memory."""


def is_images(samples: Any) -> bool:
    """Return whether samples are images: an array of four axes."""
    return len(getattr(samples, "shape", ())) == 4


def as_numpy(samples: Any) -> Any:
    """Return a tensor as an array, bfloat16 as float32; everything else as it is."""
    if not isinstance(samples, torch.Tensor):
        return samples
    values = samples.detach().cpu()
    # NumPy has no bfloat16.
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def image_source(pixels: NDArray[np.generic]) -> ArraySource:
    """Return ``(N, H, W, 3)`` or ``(N, 3, H, W)`` uint8 images as a source without labels.

    Raises:
        InputError: the array has another shape or type, or no image.
    """
    if not len(pixels):
        raise InputError("X has no images; give at least one")
    return ArraySource(pixels, np.full(len(pixels), -1), ())


def pixel_statistics(source: ArraySource) -> Statistics:
    """Return the statistics of all images; a channel without contrast keeps its scale.

    They follow from the number of pixels of each of the 256 values, which are whole numbers: only
    the last steps are rounded.
    """
    counts = np.zeros((3, 256), np.int64)
    height, width = size_of(source)
    each = max(PIXELS_AT_ONCE // (height * width), 1)
    for start in range(0, len(source), each):
        block = np.stack([source.read(row) for row in range(start, min(start + each, len(source)))])
        for channel, found in enumerate(counts):
            found += np.bincount(block[..., channel].reshape(-1), minlength=256)
    mean, spread = zip(*map(_mean_and_spread, counts.tolist()), strict=True)
    return _three(np.array(mean) / 255), _three(np.maximum(spread, 1.0) / 255)


def _mean_and_spread(counts: list[int]) -> tuple[float, float]:
    """Return mean and standard deviation of levels from 0 that occur so many times."""
    # Python's whole numbers have no limit.
    number = sum(counts)
    total = sum(level * count for level, count in enumerate(counts))
    squares = sum(level**2 * count for level, count in enumerate(counts))
    return total / number, math.sqrt(number * squares - total**2) / number


def pixels_of(source: ArraySource) -> Pixels:
    """Return ``(N, H, W, 3)`` uint8."""
    return np.stack([source.read(row) for row in range(len(source))])


def size_of(source: ArraySource) -> tuple[int, int]:
    """Return height and width of the images in pixels."""
    height, width, _ = source.read(0).shape
    return height, width


def array_data(
    source: ArraySource,
    labels: NDArray[np.int64],
    statistics: Statistics,
    config: Config,
    device: torch.device,
) -> RunData:
    """Return images in memory as the data of a run.

    Args:
        source: N images.
        labels: ``(N,)`` class ids in ``[0, K)``, -1 for unlabeled images.
        statistics: of the training images.
        config: of the run.
        device: where the images are stored.
    """
    size, names = min(size_of(source)), tuple(map(str, range(int(labels.max()) + 1)))
    mean, std = statistics
    dataset = Dataset("images", source, None, names, size, mean, std)
    split = ClassSplit("images", "arrays", names, tuple(range(len(names))), ())

    def subset(rows: NDArray[np.int64]) -> Subset:
        return Subset(source, rows, labels[rows], [source.ids[row] for row in rows])

    none = np.zeros(0, np.int64)
    known, novel = subset(np.flatnonzero(labels >= 0)), subset(np.flatnonzero(labels < 0))
    subsets = Subsets(
        split, known, subset(none), novel, subset(none), HiddenLabels(novel.labels, none)
    )
    stores: dict[Subset, Any] = {
        part: InMemoryImages(part, size, device) for part in (known, novel) if len(part)
    }
    return RunData(dataset, split, subsets, size, device, size, config, [], _stores=stores)


def discover_in_memory(
    data: RunData, num_novel: int, say: Callable[[str], None]
) -> tuple[Network, int | None]:
    """Run both stages; return the network and its chosen head.

    Args:
        data: from :func:`array_data`.
        num_novel: M; 0 runs stage 1 alone, whose head is None.
        say: receives some lines of progress.
    """
    config, device = data.config, data.device
    training = SupervisedTraining(config, data, device)
    training.loop(None, say).train()
    if not num_novel:
        return training.network.eval(), None
    architecture = dataclasses.replace(training.architecture, num_novel=num_novel)
    teacher = freeze(training.network)
    student = student_of(config, architecture, teacher, device)
    task = DiscoveryTask(student, teacher, config, device, num_known=data.num_known)
    Loop(
        task,
        discovery_loader(config, data, device),
        config=config,
        optimizer=config.discover.optimizer,
        epochs=config.discover.epochs,
        run=None,
        device=device,
        say=say,
    ).train()
    return task.final_network().eval(), task.chosen_head()


def outputs_of(
    network: Network, source: ArraySource, statistics: Statistics, device: torch.device
) -> Outputs:
    """Return the outputs of a network on images in memory."""
    rows, size = np.arange(len(source)), min(size_of(source))
    store = InMemoryImages(Subset(source, rows, source.labels, []), size, device)
    return forward_store(network, store, whole_images(size, *statistics))


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = values.tolist()
    return first, second, third
