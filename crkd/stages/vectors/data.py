"""Feature vectors of a run, read like images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset
from crkd.data.datasets.features import feature_dataset, next_feature_dataset
from crkd.data.splits.class_split import ClassSplit
from crkd.data.splits.partition import Subset, Subsets, partition
from crkd.data.storage.base import ImageStore
from crkd.data.vectors.embedded_source import with_images
from crkd.data.vectors.same_embedding import check_same_embedding
from crkd.data.vectors.store import VectorStore
from crkd.data.vectors.table import FeatureTable
from crkd.runs.class_info import ClassInfo
from crkd.runs.sample_digests import SampleDigests
from crkd.stages.forward import NetworkInput
from crkd.stages.load_images import data_notes
from crkd.stages.run_data import RunData
from crkd.stages.vectors.images import read_tables

CPU = torch.device("cpu")


@dataclass
class VectorData(RunData):
    """The feature vectors of a run; they stay on the CPU.

    Attributes:
        vectors: ``(N, D)`` float32 in the order of the data's source.
        embedding: how ``crkd embed`` made the vectors; None for vectors of another origin.
    """

    vectors: Tensor = field(default_factory=lambda: torch.empty(0))
    embedding: dict[str, Any] | None = None

    def of(self, subset: Subset) -> Tensor:
        """Return the vectors of a subset, ``(n, D)`` float32."""
        return self.vectors[torch.from_numpy(subset.indices)]

    def store(self, subset: Subset) -> ImageStore | None:
        """Return the vectors of a subset; None where the subset is empty."""
        return VectorStore(self.of(subset)) if len(subset) else None

    def sample_digests(self) -> SampleDigests:
        """Return digests of all vectors and of the labels of the known ones."""
        source, count = self.dataset.train, len(self.vectors)
        # Hidden labels do not count: a resumed run must not depend on them.
        labels = np.full(count, -1, np.int64)
        for subset in (self.subsets.known_train, self.subsets.known_val):
            labels[subset.indices] = subset.labels
        digests = np.zeros((count, 16), np.uint8)
        for row, (vector, label) in enumerate(
            zip(self.vectors.numpy(), labels.tolist(), strict=True)
        ):
            known = source.class_names[label] if label >= 0 else ""
            found = hashlib.blake2b(vector, digest_size=16)
            found.update(known.encode("utf-8", "surrogatepass"))
            digests[row] = np.frombuffer(found.digest(), np.uint8)
        return SampleDigests(source.ids, digests)

    def network_input(self) -> NetworkInput:
        """Return the identity: vectors need no preparation."""
        return lambda vectors: vectors


def vector_data(config: Config) -> VectorData:
    """Read the files of known and novel vectors of a configuration and divide them.

    Raises:
        InputError: there are not two files, they do not fit each other, or one is unusable.
    """
    known, novel = _tables(config, 2)
    check_same_embedding(known, novel.embedding, str(known.path), str(novel.path))
    dataset, split = feature_dataset(known, novel, mixed=config.mixed)
    dataset = with_images(dataset, [known, novel])
    parts = partition(
        dataset,
        split,
        validation_fraction=config.data.validation_fraction,
        seed=config.seed,
        imbalance=config.data.imbalance,
        labeled_fraction=config.data.labeled_fraction,
        subset=config.data.subset,
    )
    return _data(config, dataset, split, parts, [known, novel])


def next_vector_data(
    config: Config, classes: Sequence[ClassInfo], embedding: dict[str, Any] | None, origin: str
) -> VectorData:
    """Read the one file of an incremental step; no old vector is needed.

    Args:
        config: of the new run.
        classes: label space of the earlier run.
        embedding: how its vectors were made, or None.
        origin: the earlier run, for messages.

    Raises:
        InputError: there is not one file, it is unusable, or its vectors were made otherwise.
    """
    (novel,) = _tables(config, 1)
    check_same_embedding(novel, embedding, str(novel.path), origin)
    dataset, split = next_feature_dataset(
        [entry.name for entry in classes], novel, mixed=config.mixed
    )
    dataset = with_images(dataset, [novel])
    parts = partition(
        dataset,
        split,
        validation_fraction=0.0,
        seed=config.seed,
        images_gone=True,
        subset=config.data.subset,
    )
    return _data(config, dataset, split, parts, [novel])


def _data(
    config: Config,
    dataset: Dataset,
    split: ClassSplit,
    subsets: Subsets,
    tables: Sequence[FeatureTable],
) -> VectorData:
    width = dataset.image_size
    return VectorData(
        dataset,
        split,
        subsets,
        width,
        CPU,
        width,
        config,
        data_notes(config, dataset),
        vectors=torch.from_numpy(np.concatenate([table.features for table in tables])),
        embedding=tables[-1].embedding,
    )


def _tables(config: Config, count: int) -> list[FeatureTable]:
    if len(config.data.features) != count:
        wanted = (
            "KNOWN NOVEL, labeled and unlabeled vectors" if count == 2 else "one of new vectors"
        )
        raise InputError(
            f"data.features names {len(config.data.features)} files; give {count}: {wanted}"
        )
    return read_tables(config)
