"""State before a discovery on vectors: data, known classes, and the vectors to discover in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.class_count.estimate import estimate_class_count
from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.known_or_novel import known_check
from crkd.clustering.whitening import WhitenedSpace
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.atomic_files import read_json
from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunFolder
from crkd.stages.class_memory import true_classes
from crkd.stages.discover.known_filter import KnownFilter, find_known
from crkd.stages.load_images import check_same_subset
from crkd.stages.run_data import check_num_novel, num_novel_classes
from crkd.stages.vectors.contest import Contest
from crkd.stages.vectors.data import VectorData, next_vector_data, vector_data
from crkd.stages.vectors.discovery import VectorDiscovery
from crkd.stages.vectors.gate import Gate
from crkd.stages.vectors.precheck import check_new, remark_on_known
from crkd.stages.vectors.spaces import starting_spaces
from crkd.stages.vectors.state import discovery_from

FEWEST = 5
"""Prototypes of a class, on average, with which vectors are compared; fewer say nothing."""
CONTEST = "contest.json"
"""The candidates of a run, their accuracy on hidden known classes, and the chosen one."""


class Parent(NamedTuple):
    """The run that an incremental step extends.

    Attributes:
        run: the finished run.
        found: its discovery.
    """

    run: RunFolder
    found: VectorDiscovery


@dataclass(frozen=True)
class VectorStart:
    """The state before a discovery on vectors.

    Attributes:
        data: known and novel vectors, or novel ones only.
        space: in which novel classes are found.
        wide: in which classes are separated.
        parent: the run that is extended, or None.
        classes: label space before the discovery.
        true_known: ``(K,)`` true class of every known output, for the evaluator alone.
        fresh: ``(N,)`` bool, which of ``data.fitted_novel`` to discover in: all of them, or in the
            mixed setting those that do not look like a known class.
        filter: how they were chosen; None where all of them are taken, or by an incremental step.
        notes: remarks about the run.
    """

    data: VectorData
    space: WhitenedSpace
    wide: WhitenedSpace
    parent: Parent | None
    classes: list[ClassInfo]
    true_known: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    filter: KnownFilter | None
    notes: list[str]

    def novel(self) -> Tensor:
        """Return the unlabeled vectors in which to discover, ``(m, D)``."""
        return self.data.of(self.data.fitted_novel)[torch.from_numpy(self.fresh)]


def first_start(config: Config) -> VectorStart:
    """Return the state before a first discovery.

    Raises:
        InputError: a file is unusable, or in the mixed setting no unlabeled vector looks novel.
    """
    # One file holds unlabeled vectors; no class is known then.
    alone = len(config.data.features) == 1
    data = next_vector_data(config, (), None, "") if alone else vector_data(config)
    data.check_memory()
    known, novel = data.fitted_known, data.fitted_novel
    labels = torch.from_numpy(known.labels.copy())
    space, wide = starting_spaces(data.of(known), labels, data.of(novel))
    fresh, looked, notes = np.ones(len(novel), np.bool_), None, [*data.notes, *data.samples()]
    if config.mixed:
        looked = find_known(
            data.of(known).numpy(),
            known.labels,
            data.of(novel).numpy(),
            seed=config.seed,
            weak_is_error=config.discover.mixed,
        )
        fresh = _fresh(looked.check.looks_known)
        notes.append(looked.sentence)
    elif remark := remark_on_known(data):
        notes.append(remark)
    names, true_known = data.class_entries(0), np.arange(data.num_known)
    return VectorStart(data, space, wide, None, names, true_known, fresh, looked, notes)


def _fresh(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which unlabeled vectors do not look like a known class.

    Raises:
        InputError: there are none.
    """
    if known.all():
        raise InputError(
            f"all {len(known)} unlabeled samples look like known classes, so that no class "
            "is added; sort them with predict, or leave out --mixed"
        )
    return ~known


def next_start(config: Config, parent: RunFolder) -> VectorStart:
    """Return the state before a discovery that extends a finished run on vectors.

    Raises:
        InputError: the run or the files are unusable, or no unlabeled vector is new.
    """
    found = opened_discovery(parent)
    info = parent.read_info()
    check_same_subset(parent.path, info, config)
    classes, true_known = info.classes, true_classes(parent, len(info.classes))
    if config.mixed:
        # Hidden labels may name classes of earlier sessions, so outputs need their true names.
        classes, true_known = with_true_names(parent, true_known), np.arange(len(classes))
    data = next_vector_data(config, classes, info.embedding, str(parent.path))
    data.check_memory()
    check_new(parent, found.gate, data)
    fresh = np.ones(len(data.fitted_novel), np.bool_)
    if config.mixed:
        vectors = data.of(data.fitted_novel).numpy()
        fresh = _fresh(looks_known(found.gate, vectors, seed=config.seed))
    notes = data.samples()
    spaces, before = (found.space, found.gate.space), Parent(parent, found)
    return VectorStart(data, *spaces, before, info.classes, true_known, fresh, None, notes)


def with_true_names(run: RunFolder, true_known: NDArray[np.int64]) -> list[ClassInfo]:
    """Return the classes of a run; those that were matched to a true class have its name.

    Args:
        run: finished; its prediction table has the names of true classes.
        true_known: true class of every output, -1 for none.
    """
    names = load_predictions(run.path / "predictions.parquet").class_names
    found = [names[c] if 0 <= c < len(names) else None for c in true_known]
    taken = set(found)
    entries = []
    for entry, name in zip(run.read_info().classes, found, strict=True):
        # Names must stay unique for the data set.
        own = f"{entry.name} ({entry.id})" if entry.name in taken else entry.name
        entries.append(dataclasses.replace(entry, name=name or own))
    return entries


def looks_known(gate: Gate, vectors: Floats, *, seed: int) -> NDArray[np.bool_]:
    """Decide which vectors look like a class of a gate, by the prototypes alone, ``(N,)``.

    Args:
        gate: of the classes so far.
        vectors: ``(N, D)``.
        seed: of clusters and folds.
    """
    prototypes = gate.memory.parts.means.astype(np.float32)
    if len(prototypes) < FEWEST * gate.memory.num_classes:
        return np.zeros(len(vectors), np.bool_)
    check = known_check(prototypes, gate.memory.classes, gate.space.rows(vectors), seed=seed)
    return check.looks_known


def num_novel_of(start: VectorStart) -> tuple[int, str]:
    """Return M and a sentence on its origin.

    Raises:
        InputError: M is not known, or there are fewer vectors to discover in.
    """
    num_novel, origin = _counted(start)
    which = " that do not look like a known class" if start.data.config.mixed else ""
    check_num_novel(num_novel, int(start.fresh.sum()), f"unlabeled vectors{which}")
    return num_novel, origin


def _counted(start: VectorStart) -> tuple[int, str]:
    data = start.data
    if data.config.discover.num_novel != "auto":
        return num_novel_classes(data)
    rows = start.space.rows(start.novel().numpy())
    known, labels = data.fitted_known, None
    anchors = None
    if len(known):
        anchors, labels = start.space.rows(data.of(known).numpy()), known.labels
    count = estimate_class_count(rows, anchors, labels, seed=data.config.seed)
    return count.estimate, count.sentence


def opened_discovery(run: RunFolder) -> VectorDiscovery:
    """Return the discovery of a finished run on vectors.

    Raises:
        InputError: the run is of another kind or damaged.
    """
    info = run.read_info()
    if not info.on_vectors:
        raise InputError(
            f"{run.path} is not a discovery on feature vectors, so vectors cannot extend it; name "
            "such a run, or give images"
        )
    return discovery_from(run.read_model(info)[0], read_contest(run))


def read_contest(run: RunFolder) -> Contest:
    """Return the contest of a run on vectors."""
    values = read_json(run.path / CONTEST)
    try:
        return Contest.of(values)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{run.path / CONTEST} is damaged; restore it") from None
