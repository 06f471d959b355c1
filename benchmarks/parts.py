"""The parts of a training step, each on its own and without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from crkd.core.types import Batch, HeadOutputs
from crkd.training.loop import Loop
from crkd.training.precision import autocast


def _views(loop: Loop, batch: Batch) -> Iterator[int]:
    for _ in loop.loader.batches(0, 10**9):
        yield sum(loop.loader.counts)


def _forward_backward(loop: Loop, batch: Batch) -> Iterator[int]:
    task: Any = loop.task
    while True:
        # A loss that costs nothing: what is timed is the network.
        total = _outputs(loop, batch).joint_logits().float().mean()
        task.modules.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        yield len(batch.labels)


def _teacher(loop: Loop, batch: Batch) -> Iterator[int]:
    task: Any = loop.task
    while True:
        task.teacher(batch, batch.num_labeled)
        yield len(batch.labels)


def _assignment(loop: Loop, batch: Batch) -> Iterator[int]:
    task: Any = loop.task
    heads, assigner = task.modules.network.novel_heads, task.modules.assigner
    with torch.no_grad():
        shown = _outputs(loop, batch).first_views(batch.num_large).rows(batch.num_labeled)
    while True:
        assigner(shown.novel_logits, heads.prototypes)
        yield len(batch.labels)


def _without_views(loop: Loop, batch: Batch) -> Iterator[int]:
    while True:
        loop.step(batch, 1)
        yield len(batch.labels)


def _outputs(loop: Loop, batch: Batch) -> HeadOutputs:
    """Return what the student says, not compiled."""
    task: Any = loop.task
    with autocast(loop.config.loop.precision, loop.device):
        outputs: HeadOutputs = task.modules.network(batch.views)
    return outputs


PARTS: dict[str, Callable[[Loop, Batch], Iterator[int]]] = {
    "views alone": _views,
    "student forward and backward alone, eager": _forward_backward,
    "teacher alone": _teacher,
    "assignment alone": _assignment,
    "step without making views": _without_views,
}
"""By name; each takes a loop and a batch of it and yields the images of each repetition."""
