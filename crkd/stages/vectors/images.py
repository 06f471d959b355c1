"""The images behind the vectors of a configuration as a data set."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Final

from crkd.config.schema import Config
from crkd.core.counted import counted
from crkd.core.errors import InputError
from crkd.data.datasets.base import IMAGENET_MEAN, IMAGENET_STD, Dataset
from crkd.data.datasets.features import feature_dataset, next_feature_dataset
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.decode import read_header
from crkd.data.sources.folder import SAMPLED_SIZES, training_size
from crkd.data.splits.class_split import ClassSplit
from crkd.data.vectors.embedded_source import EmbeddedSource, with_images
from crkd.data.vectors.table import FeatureTable, read_features
from crkd.runs.console import say

LARGEST_SIZE: Final = 64
"""Largest default side in pixels at which a network is trained on the images."""


def check_no_split(config: Config) -> None:
    """Refuse a split of classes, which labels of vectors or folders of images give.

    Raises:
        InputError: one is configured.
    """
    if config.split is not None or config.class_order_seed is not None:
        raise InputError(
            "--split and --class-order-seed do not apply to feature vectors: the labels, or the "
            "folders of own images, name the known classes; leave them out"
        )


def read_tables(config: Config) -> list[FeatureTable]:
    """Return the files of vectors of a configuration, in order.

    Raises:
        InputError: a file is unusable, or a split is configured.
    """
    check_no_split(config)
    return [read_features(path) for path in config.data.features]


def embedded_images(
    config: Config, *, class_names: Sequence[str] = ()
) -> tuple[Dataset, ClassSplit]:
    """Return the images behind the vectors of a configuration as a data set, and its split.

    Args:
        config: its ``data.features`` names the files: known vectors, unlabeled vectors of earlier
            steps, unlabeled vectors; or one file of unlabeled vectors.
        class_names: classes of an earlier run; needed for one file.

    Raises:
        InputError: there is no such file, or its vectors have no images.
    """
    tables = read_tables(config)
    foreign = [table.path for table in tables if table.embedding is None]
    if foreign:
        raise InputError(
            f"{str(foreign[0])!r} holds vectors of unknown origin, which have no images; use "
            "vectors of crkd embed"
        )
    if not tables or (len(tables) < 2 and not class_names):
        raise InputError(
            f"data.features names {counted(len(tables), 'file')}; give known and novel vectors of "
            "crkd embed"
        )
    if len(tables) == 1:
        dataset, split = next_feature_dataset(class_names, tables[0], mixed=config.mixed)
    else:
        known, *earlier, novel = tables
        dataset, split = feature_dataset(
            known, novel, earlier=earlier, classes_so_far=class_names, mixed=config.mixed
        )
    dataset = with_images(dataset, tables)
    size = config.data.image_size or _default_size(dataset)
    images = dataclasses.replace(dataset, image_size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return images, split


def _default_size(dataset: Dataset) -> int:
    """Return the training size of the images, from the headers of some of them."""
    source = dataset.train
    assert isinstance(source, EmbeddedSource)
    sides = []
    for row in range(0, len(source), max(1, len(source) // SAMPLED_SIZES)):
        with contextlib.suppress(UnreadableImageError):
            header = read_header(source.encoded(row), source.ids[row])
            sides.append(min(header.width, header.height))
    return training_size(sides, say, largest=LARGEST_SIZE)
