"""A replayed step against an eager one, on a stand-in for CUDA graphs that any machine has."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import Batch
from crkd.training.cuda_graph import WARM_UP, CudaGraphStep, runner
from crkd.training.loop import Loop
from crkd.training.optim import learning_rate
from tests.support.steps import CPU, TapeCapture, device_branches, loop_of, tiny

pytestmark = pytest.mark.usefixtures("few_images")

QUEUE = "discover.assignment={queue: 32, queue_start_epoch: 1, prior: estimated}"


@pytest.fixture(autouse=True)
def like_a_gpu() -> Iterator[None]:
    with device_branches():
        yield


def train(loop: Loop, steps: int) -> list[dict[str, float]]:
    """Return the logged metrics of each step."""
    lines = []
    for step, batch in enumerate(loop.loader.batches(0, steps)):
        if step % loop.loader.steps_per_epoch == 0:
            loop.task.start_epoch(step // loop.loader.steps_per_epoch)
        loop.step(batch, step)
        lines.append({"rate": loop.training_step.rate, **loop.training_step.totals.take()})
    return lines


def captured(loop: Loop) -> TapeCapture:
    capture = TapeCapture(loop)
    loop._compute = CudaGraphStep(loop.training_step, capture, strict=True)
    return capture


@pytest.mark.parametrize(
    ("optimizer", "schedule", "per_view"), [("sgd", "step", False), ("adamw", "epoch", True)]
)
def test_recorded_and_eager_steps_agree(optimizer: str, schedule: str, per_view: bool) -> None:
    """Bit for bit, while the learning rate rises and falls, the queue fills and then takes part."""
    config = tiny(
        QUEUE,
        f"discover.optimizer={{name: {optimizer}, lr: 0.02, warmup_epochs: 1, "
        f"schedule: {schedule}}}",
        f"model.batch_norm_per_view={str(per_view).lower()}",
        "discover.batch_size=60",
        "model.overclustering=2",
        "discover.average=0.9",
    )
    eager, replayed = loop_of(config), loop_of(config)
    capture = captured(replayed)
    steps = 2 * eager.loader.steps_per_epoch
    assert train(eager, steps) == train(replayed, steps)
    assert capture.captures == 2, "once without the queue and once with it"
    assert capture.warm_ups == 2 * WARM_UP
    a, b = eager.task.modules.state_dict(), replayed.task.modules.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_stand_in_notices_a_learning_rate_that_stays_on_the_host() -> None:
    config = tiny("discover.optimizer={lr: 0.02, warmup_epochs: 1}")
    eager, replayed = loop_of(config), loop_of(config)
    captured(replayed)
    step = replayed.training_step

    def host_rate(number: int) -> None:
        rate = learning_rate(step.schedule, number, step.total, step.steps_per_epoch)
        for group in replayed.optimizer.param_groups:
            group["lr"] = rate

    replayed.training_step.prepare = host_rate  # type: ignore[method-assign]
    train(eager, WARM_UP + 3)
    train(replayed, WARM_UP + 3)
    a, b = eager.task.modules.state_dict(), replayed.task.modules.state_dict()
    assert not all(torch.equal(a[name], b[name]) for name in a)


def test_a_replayed_step_whose_loss_is_not_finite_is_skipped_and_named() -> None:
    loop = loop_of(tiny())
    captured(loop)
    bad = WARM_UP + 2
    for step, batch in enumerate(loop.loader.batches(0, bad + 2)):
        if step == bad:
            before = loop.task.modules.network.novel_heads.prototypes.detach().clone()
            spoiled = tuple(view * float("nan") for view in batch.views)
            batch = batch._replace(views=spoiled)
        loop.step(batch, step)
        if step == bad:
            torch.testing.assert_close(
                loop.task.modules.network.novel_heads.prototypes.detach(), before
            )
    assert loop.training_step.first_bad() == bad


def test_another_shape_is_recorded_anew() -> None:
    loop = loop_of(tiny())
    capture = captured(loop)
    batches = list(loop.loader.batches(0, 2 * (WARM_UP + 1)))
    for step, batch in enumerate(batches):
        loop.step(batch if step <= WARM_UP else _shorter(batch), step)
    assert capture.captures == 2


def _shorter(batch: Batch) -> Batch:
    return batch._replace(
        views=tuple(view[:-2] for view in batch.views),
        labels=batch.labels[:-2],
        sample_id=batch.sample_id[:-2],
    )


class Refusing(TapeCapture):
    def capture(self, work):  # type: ignore[no-untyped-def]
        self.captures += 1
        raise RuntimeError("operation not permitted when stream is capturing")


def test_a_step_that_cannot_be_recorded_runs_eagerly_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny()
    eager, stubborn = loop_of(config), loop_of(config)
    capture = Refusing(stubborn)
    stubborn._compute = CudaGraphStep(stubborn.training_step, capture, strict=False)
    with caplog.at_level(logging.WARNING):
        assert train(eager, WARM_UP + 3) == train(stubborn, WARM_UP + 3)
    assert capture.captures == 1
    assert [r.getMessage() for r in caplog.records] == [
        "steps run eagerly, capturing one failed: operation not permitted when stream is capturing"
    ]


def test_a_step_that_must_be_recorded_but_cannot_is_an_error() -> None:
    loop = loop_of(tiny())
    with pytest.raises(InputError, match=r"loop.step=cuda_graph cannot be used: the device is cpu"):
        runner(loop.training_step, "cuda_graph", CPU)
    assert runner(loop.training_step, "auto", CPU) == loop.training_step.compute
    loop._compute = CudaGraphStep(loop.training_step, Refusing(loop), strict=True)
    with pytest.raises(RuntimeError, match=r"loop\.step=eager"):
        train(loop, WARM_UP + 1)
