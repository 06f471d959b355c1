"""Application of review decisions: a run with named classes, and images with labels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.class_gaussians import ClassStatistics, class_statistics
from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.heads.prototype import NovelHeads
from crkd.models.heads.reviewed import reviewed
from crkd.models.network import Network, with_one_head
from crkd.review.decisions import Decisions, read_decisions
from crkd.review.export_images import write_images
from crkd.review.run_outputs import Evidence, gather
from crkd.review.split_class import divide
from crkd.runs.atomic_files import write_bytes
from crkd.runs.folder import RunFolder, RunInfo, check_free
from crkd.stages.class_memory import true_classes
from crkd.stages.discover.feature_replay import FILE as REPLAY
from crkd.stages.discover.feature_replay import load_replay, save_replay
from crkd.stages.results import Results
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.discovery import relabeled
from crkd.stages.vectors.outliers import calibrate_outliers
from crkd.stages.vectors.run import CONTEST, opened_discovery
from crkd.stages.vectors.state import network_of, state_of
from crkd.training.session import begin_run, running


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of the decisions on a run's M discovered classes.

    Attributes:
        halves: for each of them the new class of its first and its second half, counted from 0;
            both are the same unless it is split; -1 is no class.
        names: names of the new classes.
        origins: for each new class the class ids of the reviewed run that are merged into it.
        sides: ``(2, P)`` directions of each class that is split, by its position among the M.
        labels: ``(N,)`` new class of every unlabeled image, or -1.
    """

    halves: list[tuple[int, int]]
    names: list[str]
    origins: list[list[int]]
    sides: dict[int, Tensor]
    labels: NDArray[np.int64]


def apply_review(
    path: str | Path, file: Path, out: str | Path, *, device: torch.device, images: str | None
) -> tuple[RunFolder, Counter[str]]:
    """Create a run with the classes of the decisions.

    The reviewed run is not changed.

    Args:
        path: the reviewed run.
        file: decisions saved by its page.
        out: the new run folder.
        device: device of the network.
        images: also write the labeled images: "csv" or "folder"; None writes none.

    Returns:
        The new run, and the number of images of each new class.

    Raises:
        InputError: the run, the file or the folder is unusable.
    """
    check_free(Path(out), resumable=False)
    evidence = gather(path, device)
    opened = evidence.opened
    decisions = read_decisions(
        file,
        model_sha256=opened.info.model_sha256 or "",
        names=evidence.names,
        num_known=evidence.num_known,
        images=frozenset(evidence.images.ids),
    )
    outcome = outcome_of(evidence, decisions)
    model = _reviewed_model(evidence, outcome)
    info = _description(evidence, decisions, outcome, model.architecture)
    run = begin_run(out, info, opened.config, device, resume=False)
    with running(run):
        write_bytes(run.path / "decisions.json", file.read_bytes())
        if (opened.run.path / CONTEST).is_file():
            write_bytes(run.path / CONTEST, (opened.run.path / CONTEST).read_bytes())
        _write_results(run, model, evidence, outcome)
        if isinstance(evidence.data, VectorData):
            gates = [opened_discovery(folder).gate for folder in (run, opened.run)]
            calibrate_outliers(run, gates[0], evidence.data, (opened.run, gates[1]))
        if images is not None:
            write_images(
                run.path,
                images,
                evidence.images,
                outcome.labels,
                outcome.names,
                decisions.moved,
                disputed={
                    evidence.images.ids[row]: evidence.names[evidence.disputed[row]]
                    for row in np.flatnonzero(evidence.disputed >= 0)
                },
            )
    counts = np.bincount(outcome.labels[outcome.labels >= 0], minlength=len(outcome.names))
    return run, Counter(dict(zip(outcome.names, counts.tolist(), strict=True)))


def outcome_of(evidence: Evidence, decisions: Decisions) -> Outcome:
    """Return the result of the decisions on the run's classes and images.

    New classes keep the order of the old ones; of a split class the first half comes first.

    Raises:
        InputError: an image that starts the split of a class does not belong to it.
    """
    num_known, classes = evidence.num_known, decisions.classes
    halves: dict[int, tuple[int, int]] = {}
    names: list[str] = []
    for decision in classes.values():
        first = len(names)
        names += decision.names
        halves[decision.id] = (first, len(names) - 1) if decision.names else (-1, -1)
    for decision in classes.values():
        if decision.into is not None:
            halves[decision.id] = halves[decision.into]
    later, sides = _split(evidence, decisions)
    place = {image: row for row, image in enumerate(evidence.images.ids)}
    answered = evidence.answered.copy()
    for image, target in decisions.moved.items():
        answered[place[image]] = -1 if target is None else target
    table_of = np.full((num_known + len(halves) + 1, 2), -1)  # the last row is for no class
    for class_id, pair in halves.items():
        table_of[class_id] = pair
    origins = [[c for c, pair in halves.items() if new in pair] for new in range(len(names))]
    return Outcome(
        list(halves.values()), names, origins, sides, table_of[answered, later.astype(int)]
    )


def _split(evidence: Evidence, decisions: Decisions) -> tuple[NDArray[np.bool_], dict[int, Tensor]]:
    """Return which images are in a second half, ``(N,)``, and the directions of all halves."""
    place = {image: row for row, image in enumerate(evidence.images.ids)}
    answered, projected = evidence.answered, evidence.projected
    later, sides = np.zeros(len(answered), bool), {}
    target = answered.copy()
    for image, class_id in decisions.moved.items():
        target[place[image]] = -1 if class_id is None else class_id
    for decision in decisions.classes.values():
        if decision.seeds is None:
            continue
        members = np.flatnonzero(answered == decision.id)
        seeds = [np.flatnonzero(members == place[image]) for image in decision.seeds]
        if not all(map(len, seeds)):
            raise InputError(
                f"FILE splits class {decision.id} by images that do not belong to it; write the "
                "page again and decide there"
            )
        _, directions = divide(projected[members], *(int(seed[0]) for seed in seeds))
        sides[decision.id - evidence.num_known] = torch.from_numpy(directions)
        own = target == decision.id
        later[own] = projected[own] @ (directions[0] - directions[1]) < 0
    return later, sides


@dataclass(frozen=True, eq=False)
class ReviewedModel:
    """The model with the classes of a review.

    Attributes:
        architecture: of the network.
        network: with one novel head.
        tensors: content of the model file.
    """

    architecture: Architecture
    network: Network
    tensors: dict[str, Tensor]


def _reviewed_model(evidence: Evidence, outcome: Outcome) -> ReviewedModel:
    """Return the model in which the novel classes are those of the review."""
    opened, count = evidence.opened, len(outcome.names)
    before = opened.architecture
    if isinstance(evidence.data, VectorData):
        found = relabeled(
            opened_discovery(opened.run),
            evidence.data.of(evidence.images),
            outcome.labels,
            count,
            _labeled_vectors(evidence.data),
        )
        architecture = dataclasses.replace(before, num_novel=count)
        return ReviewedModel(architecture, network_of(found), state_of(found))
    network = with_one_head(opened.network, evidence.head)
    assert isinstance(network.novel_heads, NovelHeads)
    head = reviewed(network.novel_heads, outcome.halves, outcome.sides).eval()
    network.novel_heads = head
    groups = [before.review_of(group) for group in range(len(before.groups))]
    architecture = dataclasses.replace(
        before, num_novel=count, num_heads=1, overclustering=0, reviews=(*groups, head.classes)
    )
    return ReviewedModel(architecture, network, network.state_dict())


def _labeled_vectors(data: VectorData) -> tuple[Tensor, NDArray[np.int64]] | None:
    known = data.subsets.known_train
    return (data.of(known), known.labels) if len(known) else None


def _description(
    evidence: Evidence, decisions: Decisions, outcome: Outcome, architecture: Architecture
) -> RunInfo:
    info, num_known = evidence.opened.info, evidence.num_known
    novel = [
        dataclasses.replace(
            info.classes[origins[0]], id=num_known + m, name=name, reviewed=tuple(origins)
        )
        for m, (name, origins) in enumerate(zip(outcome.names, outcome.origins, strict=True))
    ]
    actions = Counter(decision.action for decision in decisions.classes.values())
    told = ", ".join(f"{action} {count}" for action, count in sorted(actions.items()))
    return dataclasses.replace(
        info,
        status="running",
        classes=[*info.classes[:num_known], *novel],
        architecture=architecture.plain(),
        chosen_head=0,
        provenance={},
        parent={
            "path": str(evidence.opened.run.path),
            "model_sha256": info.model_sha256 or "",
        },
        model_sha256=None,
        notes=[*info.notes, f"discovered classes reviewed by a person: {told}"],
        finished=None,
        seconds=0.0,
    )


def _write_results(
    run: RunFolder, model: ReviewedModel, evidence: Evidence, outcome: Outcome
) -> None:
    data, old, network = evidence.data, evidence.opened.run, model.network
    network.requires_grad_(False)
    known = true_classes(old, len(evidence.names))[: evidence.num_known]
    outputs = data.evaluated_outputs(network)
    results = Results(run, data, outputs, chosen_head=0, true_known=known)
    results.write_model(model.tensors)
    results.write_predictions()
    if (old.path / REPLAY).is_file():
        remembered = load_replay(old.path, len(evidence.names))
        save_replay(run.path, _statistics(remembered, evidence, outcome))
    if len(data.subsets.known_val):
        results.validate(data.outputs(network, data.subsets.known_val))
    results.complete(0.0)


def _statistics(
    remembered: ClassStatistics, evidence: Evidence, outcome: Outcome
) -> ClassStatistics:
    """Return the statistics of all classes; those of the new ones use the decided labels."""
    known = {n: t[: evidence.num_known] for n, t in remembered.tensors().items()}
    labels, width = outcome.labels, len(outcome.names)
    if not (labels >= 0).any():
        raise InputError("FILE leaves no image in any discovered class; keep some")
    found = class_statistics(
        torch.from_numpy(evidence.outputs.features),
        torch.from_numpy(labels),
        width,
        rank=remembered.factors.shape[-1],
    )
    return ClassStatistics(**known).followed_by(found)
