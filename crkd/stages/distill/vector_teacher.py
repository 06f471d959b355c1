"""A discovery on vectors as the teacher of a network that takes images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.splits.partition import Subset
from crkd.data.vectors.embedded_source import EmbeddedSource
from crkd.data.vectors.same_embedding import check_same_embedding
from crkd.data.vectors.store import VectorStore
from crkd.models.network import Network
from crkd.runs.console import say
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.load import OpenedRun
from crkd.runs.vector_files import vector_files
from crkd.stages.forward import Outputs, forward_store
from crkd.stages.run_data import RunData, prepare, prepare_incremental
from crkd.stages.vectors.images import read_tables
from crkd.training.loss_terms import check_offered
from crkd.training.teacher import FixedTeacher


class VectorTeacher:
    """The network of a discovery on vectors, and the vectors of the student's images.

    Args:
        network: of the discovery, frozen, with one novel head.
        vectors: ``(N, D)`` float32 in the order of the student's images.
    """

    def __init__(self, network: Network, vectors: Tensor) -> None:
        self._network, self._vectors = network, vectors

    def outputs(self, part: Subset) -> Outputs:
        """Return the outputs for the images of a subset."""
        store = VectorStore(self._vectors[torch.from_numpy(part.indices)])
        return forward_store(self._network, store, lambda vectors: vectors)

    def fixed(self, parts: Sequence[Subset], device: torch.device) -> FixedTeacher:
        """Return the log-probabilities of all classes for the images of a loader.

        Args:
            parts: the loader's subsets, the labeled one first.
            device: where the student computes.
        """
        filled = [part for part in parts if len(part)]
        joint = [torch.from_numpy(self.outputs(part).joint_logits(0)) for part in filled]
        return FixedTeacher(torch.cat(joint).log_softmax(-1).float().to(device))


def check_teaching(config: Config, run: RunFolder) -> None:
    """Refuse a configuration or a run that cannot be distilled, before its images are listed.

    Raises:
        InputError: the vectors have no images, no class was known from the start, or a term needs
            more than outputs.
    """
    info = run.read_info()
    if all(entry.was_discovered for entry in info.classes):
        raise InputError(
            f"--teacher {run.path} began without labeled images, which the training of a student "
            "needs; write its classes with 'apply-review --images folder', and name this folder as "
            "--known of pretrain"
        )
    if info.embedding is None:
        raise InputError(
            f"--teacher {run.path} was made of vectors of unknown origin, so there are no images "
            "to train a student on; name a run on images, or on vectors of crkd embed"
        )
    if config.distill.stored_epochs:
        raise InputError(
            f"distill.stored_epochs is {config.distill.stored_epochs}, but the outputs of a "
            "teacher on feature vectors are stored already; set it to 0"
        )
    check_offered(config.distill.method, "distill", "fixed")


def with_images_of(config: Config, run: RunFolder) -> Config:
    """Return the configuration whose vectors are those of the run and of all runs it extends.

    Raises:
        InputError: an earlier run is missing or is another one.
    """
    files = list(vector_files(run))
    here, first = run, files
    while len(first) < 2:
        here = _extended(run, here.read_info())
        before = list(vector_files(here))
        # A reviewed run has the files of the run that was reviewed.
        if before != first:
            files = [*before, *files]
        first = before
    return dataclasses.replace(config, data=dataclasses.replace(config.data, features=tuple(files)))


def _extended(run: RunFolder, info: RunInfo) -> RunFolder:
    """Return the run that an incremental step extends."""
    parent = info.parent or {"path": "", "model_sha256": ""}
    folder = Path(parent["path"])
    there = (folder / "run.json").is_file()
    if not there or RunFolder(folder).read_info().model_sha256 != parent["model_sha256"]:
        state = "another one now" if there else "missing"
        raise InputError(
            f"--teacher {run.path} extends {folder}, which is {state}, so the images of earlier "
            "classes are not known; restore it, or distill a discovery on the images of all classes"
        )
    return RunFolder(folder)


def images_of(config: Config, info: RunInfo, device: torch.device) -> RunData:
    """Return the images behind the vectors of a run.

    Args:
        config: from :func:`with_images_of`.
        info: of the run.
        device: where the student computes.

    Raises:
        InputError: an image is missing or has changed, or a file of vectors is not the run's.
    """
    known = [entry for entry in info.classes if not entry.is_novel]
    if any(entry.was_discovered for entry in known):
        data = prepare_incremental(config, device, classes=known, preprocessing=None)
    else:
        data = prepare(config, device)
    names = [entry.name for entry in known]
    if list(data.split.joint_names[: len(names)]) != names or data.num_known != len(names):
        raise InputError(
            f"the labels in {config.data.features[0]!r} name other known classes than the teacher; "
            "restore the file, or run discover again"
        )
    source = data.dataset.train
    assert isinstance(source, EmbeddedSource)
    say(f"comparing {len(source):,} images with the digests of their vectors")
    source.check()
    return data


def vector_teacher(opened: OpenedRun, network: Network, config: Config) -> VectorTeacher:
    """Return the teacher with the vectors of the configuration.

    Args:
        opened: the discovery.
        network: its network, frozen, with one novel head.
        config: from :func:`with_images_of`.

    Raises:
        InputError: vectors were made otherwise than those of the run.
    """
    tables = read_tables(config)
    origin = f"the run {opened.run.path}"
    for table in tables:
        check_same_embedding(table, opened.info.embedding, str(table.path), origin)
    vectors = np.concatenate([np.asarray(table.features) for table in tables])
    return VectorTeacher(network, torch.from_numpy(vectors))
