"""Checks of the plain tensors that losses take; nothing is broadcast without an error."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from crkd.core.errors import InputError


def check_alike(student: Tensor, teacher: Tensor) -> None:
    """Raise InputError if tensors of student and teacher would be broadcast."""
    if student.shape != teacher.shape:
        raise InputError(
            f"student and teacher were given as {tuple(student.shape)} and {tuple(teacher.shape)}; "
            "both must have the same samples and the same classes or features"
        )


def check_novel(novel: Tensor, num_samples: int) -> None:
    """Raise InputError unless novel logits are ``(N, M)`` or ``(H, N, M)`` of N samples."""
    if novel.ndim not in (2, 3) or novel.shape[-2] != num_samples:
        raise InputError(
            f"student_novel has the shape {tuple(novel.shape)}; it must be (N, M) or (H, N, M) of "
            f"the N = {num_samples} samples of student_known"
        )


def check_views(features: Tensor) -> None:
    """Raise InputError unless features are ``(V, B, D)``."""
    if features.ndim != 3:
        raise InputError(
            f"features has the shape {tuple(features.shape)}; it must be (V, B, D), one entry for "
            "each view, as torch.stack makes it"
        )


def check_maps(loss: str, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> None:
    """Raise InputError unless there are maps ``(B, channels, h, w)`` of the same samples.

    Args:
        loss: name of the loss, for the message.
        student_maps: one map per stage.
        teacher_maps: likewise.
    """
    given: tuple[object, object] = (student_maps, teacher_maps)
    if any(isinstance(maps, Tensor) for maps in given):
        raise InputError(f"{loss} takes lists of maps, but was given a tensor; put it into a list")
    if not (student_maps and teacher_maps):
        raise InputError(
            f"{loss} was given {len(student_maps)} maps of the student and {len(teacher_maps)} of "
            "the teacher; pass one per stage of each"
        )
    every = (*student_maps, *teacher_maps)
    if any(one.ndim != 4 or len(one) != len(every[0]) for one in every):
        shapes = ", ".join(str(tuple(one.shape)) for one in every)
        raise InputError(
            f"{loss} was given maps of the shapes {shapes}; all must be (B, channels, h, w) of the "
            "same B samples"
        )


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Raise InputError unless there is one integer label for each row of the logits."""
    if labels.shape != logits.shape[:-1] or labels.dtype.is_floating_point:
        raise InputError(
            f"labels is {labels.dtype} of the shape {tuple(labels.shape)}; give one integer for "
            f"each of the logits {tuple(logits.shape)}, -1 for unlabeled samples"
        )


def check_range(labels: Tensor, num_classes: int) -> None:
    """Raise InputError if a label is ``num_classes`` or above; waits for the device."""
    if len(labels) and int(labels.max()) >= num_classes:
        raise InputError(
            f"labels holds {int(labels.max())}, but the logits have {num_classes} classes; give -1 "
            "to samples of other classes"
        )
