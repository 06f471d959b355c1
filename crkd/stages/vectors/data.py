"""Feature vectors of a run, read like images and in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from crkd.clustering.kmeans import Floats
from crkd.config.schema import Config
from crkd.core.counted import counted
from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset
from crkd.data.datasets.features import feature_dataset, next_feature_dataset
from crkd.data.splits.class_split import ClassSplit
from crkd.data.splits.partition import Subset, Subsets, partition
from crkd.data.storage.base import ImageStore
from crkd.data.storage.free_memory import held_bytes
from crkd.data.vectors.declared_size import check_memory
from crkd.data.vectors.embedded_source import with_images
from crkd.data.vectors.row_file import PIECE_ROWS, RowWriter, VectorRows, stacked
from crkd.data.vectors.same_embedding import check_same_embedding
from crkd.data.vectors.store import VectorStore
from crkd.data.vectors.table import FeatureTable
from crkd.models.network import Network
from crkd.runs.class_info import ClassInfo
from crkd.runs.sample_digests import SampleDigests
from crkd.stages.forward import NetworkInput, Outputs, forward_batch
from crkd.stages.load_images import data_notes
from crkd.stages.run_data import RunData
from crkd.stages.vectors.images import read_tables
from crkd.stages.vectors.memory import discovery_bytes, head_bytes
from crkd.stages.vectors.sampling import known_sample, most_rows, unlabeled_sample

CPU = torch.device("cpu")


@dataclass
class VectorData(RunData):
    """The feature vectors of a run; they stay on the CPU.

    Attributes:
        vectors: ``(N, D)`` float32 in the order of the data's source.
        embedding: how ``crkd embed`` made the vectors; None for vectors of another origin.
        file: one of the files; files for a while are made next to it.
    """

    vectors: VectorRows = field(default_factory=lambda: np.empty((0, 0), np.float32))
    embedding: dict[str, Any] | None = None
    file: Path = Path("vectors")

    def of(self, subset: Subset) -> Tensor:
        """Return the vectors of a subset, ``(n, D)`` float32.

        Raises:
            InputError: they do not fit into the memory.
        """
        if not isinstance(self.vectors, np.ndarray):
            check_memory(
                4 * len(subset) * self.vectors.shape[1], f"reading {len(subset):,} vectors at once"
            )
        return torch.from_numpy(self.vectors[subset.indices])

    def in_pieces(self, subset: Subset) -> bool:
        """Return whether a subset has so many vectors that only pieces or a sample are in use."""
        return len(subset) > most_rows(_given(self.config))

    def pieces(self, subset: Subset) -> Iterator[Floats]:
        """Yield the vectors of a subset, ``(n, D)`` float32, in pieces if they are many."""
        each = PIECE_ROWS if self.in_pieces(subset) else max(len(subset), 1)
        for start in range(0, len(subset), each):
            yield self.vectors[subset.indices[start : start + each]]

    @cached_property
    def fitted_known(self) -> Subset:
        """The labeled training vectors from which a discovery learns: all, or a sample of many."""
        part, seed = self.subsets.known_train, self.config.seed
        if not self.in_pieces(part):
            return part
        return part.at(known_sample(part.labels, _given(self.config), seed=seed))

    @cached_property
    def fitted_novel(self) -> Subset:
        """The unlabeled vectors in which classes are discovered: all, or a sample of many."""
        return self.sampled(self.subsets.unlabeled)

    @cached_property
    def fitted_validation(self) -> Subset:
        """The held-out known vectors by which thresholds are set: all, or a sample of many."""
        return self.sampled(self.subsets.known_val)

    def sampled(self, part: Subset) -> Subset:
        """Return a subset of vectors without labels: all, or a sample of many."""
        if not self.in_pieces(part):
            return part
        rows = unlabeled_sample(len(part), _given(self.config), seed=self.config.seed)
        return part.at(rows)

    def check_memory(self) -> None:
        """Refuse a discovery for which the memory is not enough, about.

        Of vectors in memory, only what the discovery adds for each class counts.

        Raises:
            InputError: less memory is free.
        """
        rows, length = self.vectors.shape
        known, novel = len(self.fitted_known), len(self.fitted_novel)
        given, hidden = _given(self.config), len(self.split.novel)
        method = self.config.vectors.method
        needed = head_bytes(method, novel, given or hidden, known, self.num_known)
        if not isinstance(self.vectors, np.ndarray):
            classes = self.num_known + max(given, hidden)
            needed = discovery_bytes(rows, length, known + novel, classes, needed)
            # A part of it is in use by now: libraries, ids and labels.
            needed = max(needed - held_bytes(), 0)
        check_memory(needed, f"a discovery on {rows:,} vectors", "give fewer rows or classes")

    def samples(self) -> list[str]:
        """Return a sentence for each sample that takes the place of more vectors."""
        pairs = (
            ("labeled", self.fitted_known, self.subsets.known_train),
            ("unlabeled", self.fitted_novel, self.subsets.unlabeled),
        )
        return [
            f"learned from a sample of {len(some):,} of {len(part):,} {kind} vectors"
            for kind, some, part in pairs
            if some is not part
        ]

    def store(self, subset: Subset) -> ImageStore | None:
        """Return the vectors of a subset; None where the subset is empty."""
        return VectorStore(self.of(subset)) if len(subset) else None

    def outputs(self, network: Network, subset: Subset) -> Outputs:
        """Return features and logits of all vectors of a subset, which must not be empty.

        Of many vectors the features are in a temporary file, and all outputs are float32.
        """
        if not self.in_pieces(subset):
            return super().outputs(network, subset)
        known = self._outputs.setdefault(network, {})
        if subset not in known:
            known[subset] = self._outputs_in_pieces(network, subset)
        return known[subset]

    def _outputs_in_pieces(self, network: Network, subset: Subset) -> Outputs:
        count, size = len(subset), self.config.evaluation.batch_size
        features: RowWriter | None = None
        known = novel = np.empty(0, np.float32)
        for start in range(0, count, size):
            rows = slice(start, start + size)
            samples = torch.from_numpy(self.vectors[subset.indices[rows]])
            out = forward_batch(network, samples, self.network_input())
            if features is None:
                features = RowWriter(self.file, 4 * count * out.features.shape[1])
                known = np.empty((count, out.known_logits.shape[1]), np.float32)
                heads, _, width = out.novel_logits.shape
                novel = np.empty((heads, count, width), np.float32)
            features.add(out.features.astype(np.float32))
            known[rows], novel[:, rows] = out.known_logits, out.novel_logits
        assert features is not None
        # Rows are taken from it as from an array.
        return Outputs(cast(Floats, features.finished()), known, novel)

    def sample_digests(self) -> SampleDigests:
        """Return digests of all vectors and of the labels of the known ones."""
        source, count = self.dataset.train, len(self.vectors)
        # Hidden labels do not count: a resumed run must not depend on them.
        labels = np.full(count, -1, np.int64)
        for subset in (self.subsets.known_train, self.subsets.known_val):
            labels[subset.indices] = subset.labels
        digests = np.zeros((count, 16), np.uint8)
        for row, (vector, label) in enumerate(
            zip(self._one_by_one(), labels.tolist(), strict=True)
        ):
            known = source.class_names[label] if label >= 0 else ""
            found = hashlib.blake2b(vector, digest_size=16)
            found.update(known.encode("utf-8", "surrogatepass"))
            digests[row] = np.frombuffer(found.digest(), np.uint8)
        return SampleDigests(source.ids, digests)

    def _one_by_one(self) -> Iterator[Floats]:
        for start in range(0, len(self.vectors), PIECE_ROWS):
            yield from self.vectors[start : start + PIECE_ROWS]

    def network_input(self) -> NetworkInput:
        """Return the identity: vectors need no preparation."""
        return lambda vectors: vectors


def _given(config: Config) -> int:
    """Return the number of novel classes if it is given, else 0."""
    given = config.discover.num_novel
    return given if isinstance(given, int) else 0


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
        classes: label space of the earlier run; empty without one.
        embedding: how its vectors were made, or None if they are of unknown origin.
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
        allow_empty_known=True,
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
        vectors=stacked([table.features for table in tables]),
        embedding=tables[-1].embedding,
        file=tables[-1].path,
    )


def _tables(config: Config, count: int) -> list[FeatureTable]:
    if len(config.data.features) != count:
        wanted = (
            "KNOWN NOVEL, labeled and unlabeled vectors" if count == 2 else "one of new vectors"
        )
        raise InputError(
            f"data.features names {counted(len(config.data.features), 'file')}; give {count}: "
            f"{wanted}"
        )
    return read_tables(config)
