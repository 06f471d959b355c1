"""Discovery on precomputed features: both stages in one run, minutes on a CPU."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crkd.clustering.kmeans import assign, kmeans
from crkd.config.schema import Config
from crkd.core.batch_shard import processes
from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.data.datasets.features import feature_dataset
from crkd.data.splits.partition import Subset, partition
from crkd.data.vectors.table import read_features
from crkd.models.network import Network
from crkd.runs.folder import RunFolder, RunInfo, utc_now
from crkd.stages.arrays.training import stage1
from crkd.stages.arrays.vectors import forward_vectors, lengthened, material_of_vectors
from crkd.stages.discover.cluster_report import clusters_found, sentences
from crkd.stages.discover.prototype_init import prototypes_from_clusters
from crkd.stages.discover.run import student_of
from crkd.stages.discover.task import DiscoveryTask
from crkd.stages.pretrain.run import architecture_of
from crkd.stages.results import table, write_results
from crkd.stages.run_data import RunData, num_novel_classes, split_entry
from crkd.training.loop import Loop
from crkd.training.session import begin_run, running


@dataclass(frozen=True)
class FeatureRun:
    """The data of a run on features.

    Attributes:
        data: labels, ids, classes and parts.
        vectors: ``(N, D)`` float32 on the device, in the order of the data's source.
    """

    data: RunData
    vectors: Tensor

    def of(self, part: Subset) -> Tensor:
        """Return the vectors of a part, ``(n, D)``."""
        return self.vectors[torch.from_numpy(part.indices).to(self.vectors.device)]


def prepare_features(config: Config, device: torch.device) -> FeatureRun:
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
    data = RunData(dataset, split, parts, width, device, width, config.data.storage, [])
    vectors = np.concatenate([known.features, novel.features])
    return FeatureRun(data, torch.from_numpy(vectors).to(device))


def discover_features(config: Config, out: str | Path, *, resume: bool = False) -> RunFolder:
    """Train the known classes, discover the novel ones, and return the finished run folder.

    Stage 1 takes seconds; an interrupted run does it again and goes on within stage 2.

    Args:
        config: the configuration of the run, its data set "features".
        out: the run folder to write.
        resume: go on with the run in ``out`` from its saved state.

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
    features = prepare_features(config, device)
    data = features.data
    num_novel, origin = num_novel_classes(config, data)
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
            features.of(data.subsets.known_train),
            data.subsets.known_train.labels,
            features.of(data.subsets.novel_train),
            config,
        )
        known = dataclasses.replace(architecture, num_novel=0)
        teacher = stage1(material, known, config, device, lambda line: None)
        student = student_of(config, architecture, teacher, device)
        if config.discover.prototypes == "kmeans":
            seen = forward_vectors(teacher, features.of(data.subsets.novel_train)).features
            prototypes_from_clusters(student, seen, seed=config.seed)
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
        info.chosen_head = task.chosen_head()
        info.seconds = round(seconds, 1)
        _finish(run, info, task.final_network(), features, config)
    return run


def _finish(
    run: RunFolder, info: RunInfo, network: Network, features: FeatureRun, config: Config
) -> None:
    """Write model, predictions and figures, k-means on the same features beside them."""
    network.eval()
    parts = {name: features.of(part) for name, part in features.data.evaluated().items()}
    answers = {name: forward_vectors(network, vectors) for name, vectors in parts.items()}
    metadata = {"backbone": config.model.backbone, "classes": info.classes}
    info.model_sha256 = run.write_model(network.state_dict(), metadata)
    host = {name: vectors.cpu().numpy() for name, vectors in parts.items()}
    clusters = kmeans(
        host["train"],
        info.num_novel,
        seed=config.seed,
        num_restarts=config.evaluation.kmeans_restarts,
    )
    nearest = {
        name: clusters.assignment if name == "train" else assign(rows, clusters.centroids)
        for name, rows in host.items()
    }
    baselines = {"kmeans_features": nearest}
    write_results(run, table(answers, features.data, info.num_novel, info.chosen_head, baselines))
    assert info.chosen_head is not None
    ids = features.data.subsets.novel_train.ids
    found = clusters_found(run, answers["train"], ids, info.classes, info.chosen_head)
    info.notes = [*info.notes, *sentences(found)]
    info.finished, info.status = utc_now(), "complete"
    run.write_info(info)
