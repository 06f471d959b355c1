"""Discovery on feature vectors as a run folder: minutes on a CPU, no training of a backbone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crkd.config.schema import Config
from crkd.core.batch_shard import processes
from crkd.core.errors import InputError
from crkd.core.threads import one_thread
from crkd.models.architecture import VECTORS, Architecture
from crkd.runs.atomic_files import write_json
from crkd.runs.console import say
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.provenance import parent_entry
from crkd.runs.stability import write_stability
from crkd.runs.vector_files import vector_files
from crkd.stages.discover.parent import next_classes
from crkd.stages.kmeans_columns import Column
from crkd.stages.results import finish_run
from crkd.stages.vectors.arguments import check_mixed
from crkd.stages.vectors.candidates import FLOOR, METHODS
from crkd.stages.vectors.data import CPU, VectorData, next_vector_data, vector_data
from crkd.stages.vectors.discovery import (
    VectorDiscovery,
    fit_discovery,
    further_discovery,
)
from crkd.stages.vectors.discovery_input import DiscoveryInput
from crkd.stages.vectors.outliers import calibrate_outliers
from crkd.stages.vectors.stability import class_stability
from crkd.stages.vectors.start import CONTEST, VectorStart, first_start, next_start, num_novel_of
from crkd.stages.vectors.state import network_of, state_of
from crkd.training.session import begin_run, running


def discover_vectors(
    config: Config, out: str | Path, parent: str | Path | None = None, *, resume: bool = False
) -> RunFolder:
    """Discover novel classes on feature vectors and return the finished run folder.

    Args:
        config: its ``data.features`` names the files: known and novel vectors, or the novel
            vectors only, with a parent or if no class is known.
        out: the run folder to write.
        parent: an earlier discovery on vectors, which this run extends.
        resume: continue an interrupted run; it is computed again from the vectors.

    Raises:
        InputError: the configuration, a file, the parent or the folder is unusable.
    """
    _check_config(config, parent)
    start = first_start(config) if parent is None else next_start(config, RunFolder.open(parent))
    num_novel, origin = num_novel_of(start)
    info = _info(config, start, num_novel, [*start.notes, origin])
    samples = start.data.sample_digests()
    run = begin_run(out, info, config, CPU, resume=resume, samples=samples)
    with running(run), one_thread():
        if start.filter is not None:
            start.filter.write(run)
        began = time.monotonic()
        found = _discover(start, num_novel)
        write_json(run.path / CONTEST, found.contest.plain())
        before = None if start.parent is None else (start.parent.run, start.parent.found.gate)
        calibrate_outliers(run, found.gate, start.data, start.data.fitted_novel, before)
        seconds = time.monotonic() - began
        _measure_stability(run, start, found)
        finish_run(
            run,
            network_of(found),
            start.data,
            seconds=seconds,
            chosen_head=0,
            true_known=start.true_known,
            columns=_kmeans_columns(start, num_novel),
            tensors=state_of(found),
            earlier=None,
        )
    return run


def _measure_stability(run: RunFolder, start: VectorStart, found: VectorDiscovery) -> None:
    """Discover once more with another seed, and write how well it repeats each class."""
    chosen, novel = found.contest.chosen, start.novel().numpy()
    head, seed = found.heads[-1], start.data.config.seed + 1
    count = head.weights.shape[1]
    other = METHODS[chosen](DiscoveryInput(novel, count, found.space, found.gate.space, seed), seed)
    values = class_stability(
        head.logits(novel).argmax(axis=1).astype(np.int64),
        other.logits(novel).argmax(axis=1).astype(np.int64),
        count,
    )
    names = [entry.name for entry in run.read_info().classes[-count:]]
    write_stability(run, dict(zip(names, values, strict=True)))


def data_of_run(run: RunFolder, novel: str | None = None) -> VectorData:
    """Return the vectors of a finished run, read again from its files.

    Args:
        run: the folder.
        novel: a file of other unlabeled vectors, without known ones; None takes the run's.

    Raises:
        InputError: a file is missing or was made otherwise.
    """
    config, info = run.read_config(), run.read_info()
    files = vector_files(run) if novel is None else (novel,)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, features=files))
    if novel is not None:
        return next_vector_data(config, info.classes, info.embedding, str(run.path))
    if len(config.data.features) == 1:
        known = info.classes[: info.num_known]
        return next_vector_data(config, known, info.embedding, str(run.path))
    return vector_data(config)


def _check_config(config: Config, parent: str | Path | None) -> None:
    check_mixed(config, no_known=parent is None and len(config.data.features) == 1)
    if processes()[1] > 1:
        raise InputError("discovery on vectors runs in one process; start it without torchrun")
    if config.discover.method != "swapped":
        raise InputError(
            f"discover.method {config.discover.method!r} does not apply to vectors; leave it out"
        )


def _discover(start: VectorStart, num_novel: int) -> VectorDiscovery:
    data, config = start.data, start.data.config
    novel, mixed = start.novel(), config.mixed
    method, seed = config.vectors.method, config.seed
    if start.parent is not None:
        return further_discovery(
            start.parent.found, novel, num_novel, method=method, seed=seed, mixed=mixed
        )
    known = data.fitted_known
    labels = torch.from_numpy(known.labels.copy())
    return fit_discovery(
        data.of(known), labels, novel, num_novel, method=method, seed=seed, mixed=mixed, log=say
    )


def _kmeans_columns(start: VectorStart, num_novel: int) -> dict[str, Column]:
    """Return the clusters of k-means on the same vectors, by baseline and subset.

    In the mixed setting the vectors of novel classes are not given, so there is no such baseline.
    """
    data, seed = start.data, start.data.config.seed
    if data.config.mixed:
        return {}
    novel = start.novel().numpy()
    inputs = DiscoveryInput(novel, num_novel, start.space, start.wide, seed)
    floor = METHODS[FLOOR](inputs, seed)
    clusters = {
        name: np.concatenate(
            [floor.logits(piece).argmax(axis=1) for piece in data.pieces(subset)]
        ).astype(np.int64)
        for name, subset in data.evaluated().items()
    }
    return {"kmeans_features": clusters}


def _info(config: Config, start: VectorStart, num_novel: int, notes: Sequence[str]) -> RunInfo:
    data, parent = start.data, start.parent
    groups = () if parent is None else parent.found.gate.sizes[1:]
    architecture = Architecture(
        VECTORS,
        data.image_size,
        num_known=len(start.classes),
        num_novel=num_novel,
        num_heads=1,
        known_head="linear",
        groups=groups,
    )
    return RunInfo(
        kind="discovered",
        dataset=config.dataset,
        split=data.split_entry(),
        classes=next_classes(start.classes, num_novel),
        preprocessing=data.preprocessing(),
        architecture=architecture.plain(),
        seed=config.seed,
        parent=None if parent is None else parent_entry(parent.run.path, parent.run.read_info()),
        notes=list(notes),
        embedding=_without_roots(data.embedding),
    )


def _without_roots(embedding: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the entries that embed further images alike."""
    if embedding is None:
        return None
    return {name: value for name, value in embedding.items() if name not in ("roots", "skipped")}
