"""Application of review decisions: a run with named classes, and images with labels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crkd.clustering.low_rank_gaussians import ClassStatistics, class_statistics
from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.heads.prototype import NovelHeads
from crkd.models.heads.reviewed import reviewed
from crkd.models.network import Network, with_one_head
from crkd.review.decisions import Decisions, read_decisions
from crkd.review.export_images import check_files, write_images
from crkd.review.outcome import REJECTED, Outcome, outcome_of
from crkd.review.reviewed_vectors import reviewed_discovery
from crkd.review.run_outputs import Evidence, gather
from crkd.runs.folder import RunFolder, RunInfo, check_free
from crkd.runs.reviewed_labels import write_labels
from crkd.stages.class_memory import true_classes
from crkd.stages.discover.feature_replay import FILE as REPLAY
from crkd.stages.discover.feature_replay import load_replay, save_replay
from crkd.stages.results import Results
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.outliers import calibrate_outliers
from crkd.stages.vectors.start import CONTEST, opened_discovery, read_contest
from crkd.stages.vectors.state import discovery_from, network_of, state_of
from crkd.training.session import begin_run, running


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
        shown_sha256=evidence.shown_sha256,
        names=evidence.names,
        num_known=evidence.num_known,
        images=frozenset(evidence.images.ids),
    )
    outcome = outcome_of(evidence, decisions)
    _check_filled(evidence, decisions, outcome)
    if images == "folder":
        check_files(evidence.images, outcome.labels)
    names = [*evidence.names[: evidence.num_known], *outcome.names]
    model = _reviewed_model(evidence, outcome)
    info = _description(evidence, decisions, outcome, model.architecture)
    run = begin_run(out, info, opened.config, device, resume=False)
    with running(run, resumable=False):
        write_bytes(run.path / "decisions.json", file.read_bytes())
        if (opened.run.path / CONTEST).is_file():
            write_bytes(run.path / CONTEST, (opened.run.path / CONTEST).read_bytes())
        results = _written_results(run, model, evidence, outcome)
        if isinstance(evidence.data, VectorData):
            now = discovery_from(model.tensors, read_contest(run))
            before = opened_discovery(opened.run)
            own = evidence.data.sampled(evidence.images.at(np.flatnonzero(~outcome.without_class)))
            calibrate_outliers(run, now.gate, evidence.data, own, (opened.run, before.gate))
        write_labels(run, evidence.images.ids, outcome.labels, outcome.by_person)
        if images is not None:
            write_images(
                run.path,
                images,
                evidence.images,
                outcome.labels,
                names,
                outcome.by_person,
                disputed={
                    evidence.images.ids[row]: evidence.names[evidence.disputed[row]]
                    for row in np.flatnonzero(evidence.disputed >= 0)
                },
            )
        results.complete(0.0)
    counts = np.bincount(outcome.labels[outcome.labels >= 0], minlength=len(names))
    shown = slice(evidence.num_known, None)
    found = dict(zip(names[shown], counts[shown].tolist(), strict=True))
    known = dict(zip(names[: evidence.num_known], counts.tolist(), strict=False))
    return run, Counter(found | {name: count for name, count in known.items() if count})


def _check_filled(evidence: Evidence, decisions: Decisions, outcome: Outcome) -> None:
    """Check that every new class has an image.

    A class of a network that had none before the review may stay as it is. On vectors, no head can
    be fitted to it.

    Raises:
        InputError: a class has none.
    """
    new = outcome.labels[outcome.labels >= evidence.num_known] - evidence.num_known
    counts = np.bincount(new, minlength=len(outcome.names))
    out = {image for image, label in evidence.reviewed.items() if label.taken_out}
    pairs = zip(evidence.images.ids, evidence.assigned.tolist(), strict=True)
    filled = {class_id for image, class_id in pairs if image not in out}
    owners = [decision.id for decision in decisions.classes.values() for _ in decision.names]
    for owner, name, count in zip(owners, outcome.names, counts.tolist(), strict=True):
        if not count and (owner in filled or isinstance(evidence.data, VectorData)):
            raise InputError(f"FILE leaves no image in the class {name!r}; reject it or merge it")


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
    num_known = evidence.num_known
    if isinstance(evidence.data, VectorData):
        old = opened_discovery(opened.run)
        found = reviewed_discovery(old, evidence.data, evidence.images, outcome, num_known)
        architecture = dataclasses.replace(before, num_novel=count)
        return ReviewedModel(architecture, network_of(found), state_of(found))
    network = with_one_head(opened.network, evidence.head)
    if network.novel_heads is None:
        if outcome.origins != [[c] for c in range(before.num_known, before.num_known + count)]:
            raise InputError(
                f"FILE merges, splits or rejects classes, but one head of {opened.run.path} gives "
                "all classes, which can only be named; decide so in a review of its teacher, and "
                "distill the result"
            )
        return ReviewedModel(before, network, network.state_dict())
    assert isinstance(network.novel_heads, NovelHeads)
    places = [[_place(target, num_known) for target in parts] for parts in outcome.targets]
    head = reviewed(network.novel_heads, places, outcome.sides).eval()
    network.novel_heads = head
    groups = range(len(before.groups))
    architecture = dataclasses.replace(
        before,
        num_novel=count,
        num_heads=1,
        overclustering=0,
        reviews=(*map(before.review_of, groups), head.classes),
        review_parts=(*map(before.parts_of, groups), head.num_parts),
    )
    return ReviewedModel(architecture, network, network.state_dict())


def _place(target: int, num_known: int) -> int:
    """Return a class as :func:`crkd.models.heads.reviewed.reviewed` numbers it."""
    if target >= num_known:
        return target - num_known
    return REJECTED if target < 0 else -2 - target


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
    counts = ", ".join(f"{action} {count}" for action, count in sorted(actions.items()))
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
        notes=[*info.inherited_notes(), f"discovered classes reviewed by a person: {counts}"],
        own_notes=[],
        finished=None,
        seconds=0.0,
    )


def _written_results(
    run: RunFolder, model: ReviewedModel, evidence: Evidence, outcome: Outcome
) -> Results:
    """Write model and predictions, and return the results, which are not complete yet."""
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
    return results


def _statistics(
    remembered: ClassStatistics, evidence: Evidence, outcome: Outcome
) -> ClassStatistics:
    """Return the statistics of all classes; those of the new ones use the decided labels."""
    known = {n: t[: evidence.num_known] for n, t in remembered.tensors().items()}
    width = len(outcome.names)
    labels = (outcome.labels - evidence.num_known).clip(min=-1)
    if not (labels >= 0).any():
        raise InputError("FILE leaves no image in any discovered class; keep some")
    found = class_statistics(
        torch.from_numpy(evidence.outputs.features),
        torch.from_numpy(labels),
        width,
        rank=remembered.factors.shape[-1],
    )
    return ClassStatistics(**known).followed_by(found)
