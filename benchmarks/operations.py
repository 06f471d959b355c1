"""Operations of a training step by phase, counted on a processor, and the roofline of an H100.

On a GPU an eager operation is a launch, whose cost does not depend on its size; a captured step has
none. What is counted is every operation that PyTorch dispatches, views of tensors among them. The
count depends on neither batch size nor device, except that views take the plain path of a GPU.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rows import row
from crkd.config.load import load_config
from crkd.core.types import Batch
from crkd.data.augment.plan import ViewPlan
from crkd.data.views import Views
from crkd.gpu_checks.fresh_loops import discovery_loop
from crkd.stages.run_data import prepare
from crkd.training.loop import Loop

PUBLISHED = ["split=50-50", "discover.distillation=[{name: class_relation, weight: 0.1}]"]
BATCH = 512
COUNTED = 16
"""Rows of the batch that is counted; operations do not depend on it, arithmetic is scaled."""

CONVOLUTIONS = 450.0
PRODUCTS = 660.0
"""TFLOP/s in bfloat16: the average aimed at in the convolutions, and large products on an H100."""

_row = partial(row, "operations", device="computed")


class PhaseCounter(TorchDispatchMode):
    """Counts dispatched operations by phase.

    Attributes:
        counts: phase to number of operations.
        phase: the one that runs.
    """

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.phase = phase

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operation."""
        self.counts[self.phase] += 1
        return func(*args, **(kwargs or {}))

    def within(self, phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``work`` as a part of ``phase``."""

        def counted(*arguments: Any, **options: Any) -> Any:
            before, self.phase = self.phase, phase
            try:
                return work(*arguments, **options)
            finally:
                self.phase = before

        return counted


def rows() -> Iterator[dict[str, Any]]:
    """Count one published step of discovery and yield a row for each phase."""
    loop = published_loop()
    counts = count_step(loop)
    for phase, count in counts.items():
        yield _row("operations", phase, count)
    yield _row("operations", "whole step", sum(counts.values()))
    flops = step_flops(loop)
    yield _row("TFLOP", f"arithmetic of the networks, batch {BATCH}", flops / 1e12)
    for ceiling in (CONVOLUTIONS, PRODUCTS):
        name = f"roofline at {ceiling:g} TFLOP/s, networks alone"
        yield _row("images/s", name, BATCH / (flops / (ceiling * 1e12)))


def published_loop() -> Loop:
    """Return the loop of the published setting on CIFAR-100, with a small batch on a processor."""
    device = torch.device("cpu")
    config = load_config(None, ["dataset=cifar100", *PUBLISHED, f"discover.batch_size={COUNTED}"])
    return discovery_loop(config, prepare(config, device), device)


def count_step(loop: Loop, steps: int = 32) -> dict[str, float]:
    """Return the operations of one step by phase.

    Args:
        loop: of a discovery.
        steps: how many batches are made; the loader draws the views of so many at once.
    """
    views = loop.loader.views
    batches = list(loop.loader.batches(0, steps, rendered=False))
    assert batches[0].images is not None
    views.prepare(batches[0].images.shape[-1], loop.device)
    loop.step(batches[0], 0)
    making, counter = PhaseCounter("batches without views"), PhaseCounter("losses")
    drawing = making.within("drawing the views", Views.draw)
    with mock.patch.object(Views, "draw", drawing), making:
        list(loop.loader.batches(0, steps, rendered=False))
    with _phases(loop, counter), counter:
        loop.step(batches[1], 1)
    return {phase: count / steps for phase, count in making.counts.items()} | counter.counts


@contextlib.contextmanager
def _phases(loop: Loop, counter: PhaseCounter) -> Iterator[None]:
    """Name the phases of a step while the context lasts; views take the path of a GPU."""
    task: Any = loop.task
    step = loop.training_step
    plain: Any = ViewPlan.render_plain
    with contextlib.ExitStack() as stack:
        for owner, name, phase in (
            (task, "_forward", "student, forward"),
            (task, "teacher", "teacher, forward"),
            (Tensor, "backward", "backward"),
            (step.optimizer, "step", "update"),
            (task, "after_step", "prototypes to unit length"),
            (step.totals, "add", "sums for the log"),
        ):
            work = getattr(owner, name)
            stack.enter_context(mock.patch.object(owner, name, counter.within(phase, work)))
        rendering = counter.within("rendering the views", plain)
        stack.enter_context(mock.patch.object(ViewPlan, "render", rendering))
        assigner = task.modules.assigner
        work = counter.within("assignment", assigner.forward)
        stack.enter_context(mock.patch.object(assigner, "forward", work))
        yield


def step_flops(loop: Loop) -> float:
    """Return the floating-point operations of both networks in a step of ``BATCH`` images."""
    batch: Batch = loop.loader.render(next(iter(loop.loader.batches(0, 1, rendered=False))))
    with FlopCounterMode(display=False) as counter:
        loss, _ = loop.task.losses(batch)
        loss.backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) * BATCH / len(batch.labels)
