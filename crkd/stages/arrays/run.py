"""Discovery on precomputed features: both stages in one run, minutes on a CPU."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.kmeans import assign, kmeans
from crkd.config.schema import Config
from crkd.core.batch_shard import processes
from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.data.datasets.features import feature_dataset
from crkd.data.splits.partition import Subset, partition
from crkd.data.storage.base import ImageStore
from crkd.data.vectors.table import read_features
from crkd.data.vectors.views import FeatureStore
from crkd.runs.folder import RunFolder, RunInfo
from crkd.stages.arrays.training import stage1
from crkd.stages.arrays.vectors import lengthened, material_of_vectors
from crkd.stages.discover.prototype_init import prototypes_from_clusters
from crkd.stages.discover.run import student_of
from crkd.stages.discover.task import DiscoveryTask
from crkd.stages.forward import NetworkInput
from crkd.stages.load_images import split_entry
from crkd.stages.pretrain.run import architecture_of
from crkd.stages.results import finish_run
from crkd.stages.run_data import RunData, num_novel_classes
from crkd.training.loop import Loop
from crkd.training.session import begin_run, running


@dataclass
class VectorData(RunData):
    """The feature vectors of a run, read like images.

    Attributes:
        vectors: ``(N, D)`` float32 on the device, in the order of the data's source.
    """

    vectors: Tensor = field(default_factory=lambda: torch.empty(0))

    def of(self, subset: Subset) -> Tensor:
        """Return the vectors of a subset, ``(n, D)``."""
        return self.vectors[torch.from_numpy(subset.indices).to(self.vectors.device)]

    def store(self, subset: Subset) -> ImageStore | None:
        """Return the vectors of a subset on the device; None where the subset is empty."""
        return FeatureStore(self.of(subset)) if len(subset) else None

    def network_input(self) -> NetworkInput:
        """Return the identity: vectors need no preparation."""
        return lambda vectors: vectors

    def kmeans_column(self) -> dict[str, NDArray[np.int64]]:
        """Return k-means clusters of the vectors, by subset."""
        rows = {name: self.of(part).cpu().numpy() for name, part in self.evaluated().items()}
        num_novel, _ = num_novel_classes(self)
        restarts = self.config.evaluation.kmeans_restarts
        clusters = kmeans(rows["train"], num_novel, seed=self.config.seed, num_restarts=restarts)
        return {
            name: clusters.assignment if name == "train" else assign(vectors, clusters.centroids)
            for name, vectors in rows.items()
        }


def prepare_features(config: Config, device: torch.device) -> VectorData:
    """Read the two feature files of a configuration and divide them.

    Raises:
        InputError: there are not two files, or one of them is unusable.
    """
    if len(config.data.features) != 2:
        raise InputError(
            f"data.features names {len(config.data.features)} files; give two: --features KNOWN "
            "NOVEL, a file of labeled and one of unlabeled vectors"
        )
    if config.split is not None or config.class_order_seed is not None:
        raise InputError(
            "--split and --class-order-seed do not apply to feature files: their labels say which "
            "classes are known; leave them out"
        )
    known, novel = (read_features(path) for path in config.data.features)
    dataset, split = feature_dataset(known, novel)
    parts = partition(
        dataset,
        split,
        validation_fraction=config.data.validation_fraction,
        seed=config.seed,
        imbalance=config.data.imbalance,
    )
    width = dataset.image_size
    vectors = torch.from_numpy(np.concatenate([known.features, novel.features])).to(device)
    return VectorData(dataset, split, parts, width, device, width, config, [], vectors=vectors)


def discover_features(config: Config, out: str | Path, *, resume: bool = False) -> RunFolder:
    """Train the known classes, discover the novel ones, and return the finished run folder.

    Stage 1 takes seconds; a resumed run repeats it and continues within stage 2.

    Args:
        config: the configuration of the run, its data set "features".
        out: the run folder to write.
        resume: continue the run in ``out`` from its saved state.

    Raises:
        InputError: the configuration, a file or the folder is unusable.
        Interrupted: a signal came; the state is saved in ``out``.
    """
    if processes()[1] > 1:
        raise InputError("--features trains in seconds; start it in one process, without torchrun")
    if config.discover.stored_epochs:
        raise InputError(
            "discover.stored_epochs does not apply to features, whose teacher costs next to "
            "nothing; set it to 0"
        )
    if config.discover.mixed:
        raise InputError(
            "discover.mixed does not apply to features; leave out the vectors of known classes"
        )
    if config.discover.method != "swapped":
        raise InputError(
            f"discover.method {config.discover.method!r} does not apply to features; leave it out"
        )
    device = pick_device(config.device)
    data = prepare_features(config, device)
    num_novel, origin = num_novel_classes(data)
    if num_novel > len(data.subsets.novel_train):
        raise InputError(
            f"--num-novel {num_novel} exceeds the {len(data.subsets.novel_train)} unlabeled "
            "vectors; lower it"
        )
    config = lengthened(config, len(data.subsets.known_train), len(data.subsets.novel_train))
    architecture = architecture_of(config, data, num_known=data.num_known, num_novel=num_novel)
    info = RunInfo(
        kind="discovered",
        status="running",
        dataset=config.dataset,
        split=split_entry(data.split),
        classes=data.class_entries(num_novel),
        preprocessing=data.preprocessing(),
        architecture=architecture.plain(),
        chosen_head=None,
        seed=config.seed,
        provenance={},
        notes=[origin],
    )
    run = begin_run(out, info, config, device, resume=resume)
    with running(run):
        material = material_of_vectors(
            data.of(data.subsets.known_train),
            data.subsets.known_train.labels,
            data.of(data.subsets.novel_train),
            config,
        )
        known = dataclasses.replace(architecture, num_novel=0)
        teacher = stage1(material, known, config, device, lambda line: None)
        student = student_of(config, architecture, teacher, device)
        if config.discover.prototypes == "kmeans":
            seen = data.outputs(teacher, data.subsets.novel_train)
            prototypes_from_clusters(student, seen.features, seed=config.seed)
        task = DiscoveryTask(student, teacher, config, device, num_known=data.num_known)
        loop = Loop(
            task,
            material.discovery_loader(config),
            config=config,
            optimizer=config.discover.optimizer,
            epochs=config.discover.epochs,
            run=run,
            device=device,
        )
        seconds = loop.train(resume=resume)
        finish_run(
            run,
            task.final_network(),
            data,
            seconds=seconds,
            chosen_head=task.chosen_head(),
            columns={"kmeans_features": data.kmeans_column()},
        )
    return run
