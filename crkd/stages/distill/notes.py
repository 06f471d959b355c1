"""Sentences on a student and its teacher, for the notes of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from crkd.models.architecture import Architecture
from crkd.runs.load import OpenedRun
from crkd.stages.forward import Outputs

KINDS: Final = {"train": "unlabeled", "test": "test"}
"""Words for the evaluated subsets."""


def comparison(
    opened: OpenedRun, teacher: nn.Module, architecture: Architecture, student: nn.Module
) -> str:
    """Return a sentence on the sizes of both networks and on the teacher's accuracy.

    Args:
        opened: the teacher's run.
        teacher: its network, with one novel head.
        architecture: of the student.
        student: its network.
    """
    theirs, ours = num_parameters(teacher), num_parameters(student)
    score = teacher_accuracy(opened)
    known = "" if score is None else f", {100 * score[0]:.1f} % on {score[1]}"
    summary = f"this student: {architecture.backbone}, {ours:,} parameters"
    if opened.architecture.on_vectors:
        backbone = (opened.info.embedding or {}).get("backbone")
        return f"teacher {opened.run.path}: heads on the vectors of {backbone}{known}; {summary}"
    return (
        f"teacher {opened.run.path}: {opened.architecture.backbone}, {theirs:,} "
        f"parameters{known}; {summary} (the teacher has {theirs / ours:.2f} times as many)"
    )


def agreement(teacher: Mapping[str, Outputs], student: Mapping[str, Outputs]) -> str:
    """Return a sentence on the images of which both predict the same class of all.

    Args:
        teacher: outputs on the evaluated subsets, by name.
        student: likewise.
    """
    shares = [
        f"{100 * float((student[name].joint[0] == out.joint[0]).mean()):.1f} % of "
        f"{len(out.features):,} {KINDS[name]} images"
        for name, out in teacher.items()
    ]
    return f"student and teacher predict the same class for {' and '.join(shares)}"


def num_parameters(network: nn.Module) -> int:
    """Return how many numbers a network holds as parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def teacher_accuracy(opened: OpenedRun) -> tuple[float, str] | None:
    """Return the accuracy in [0, 1] on test images by a run's metrics, and the images' name.

    Known classes alone: of the known head. With novel ones: of the chosen head, task-agnostic, on
    all classes or, where novel test images have no label, on the known ones. None where no test
    image has a label.
    """
    if not (opened.run.path / "metrics.json").is_file():
        return None
    metrics: Any = opened.run.read_metrics()
    found: list[tuple[float | None, str]] = [
        (_accuracy(metrics, "supervised", "known"), "known test images")
    ]
    if opened.info.num_novel:
        chosen = metrics.get("chosen_head", {})
        found = [
            (_accuracy(chosen, "task_agnostic", group), f"{group} test images, task-agnostic")
            for group in ("all", "known")
        ]
    return next(((acc, source) for acc, source in found if acc is not None), None)


def _accuracy(metrics: Any, protocol: str, group: str) -> float | None:
    try:
        acc = metrics[protocol]["test"][group]["acc"]
    except KeyError:
        return None
    return None if acc is None else float(acc)
