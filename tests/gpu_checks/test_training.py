"""The checks for a GPU accept rounding errors and refuse wrong steps, shown on the CPU."""

import pytest
import torch

from crkd.gpu_checks import training as gpu_checks
from crkd.gpu_checks.training import SMALL, step_by_step

STEPS = 6


def loop(*settings):  # type: ignore[no-untyped-def]
    return gpu_checks._loop(gpu_checks._config(*SMALL, *settings), "cpu")


def rounding(seed):  # type: ignore[no-untyped-def]
    """Return what changes every weight by about half a unit in the last place of float32."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def disturb(other):  # type: ignore[no-untyped-def]
        for parameter in other.task.modules.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.mul_(1 + 6e-8 * noise)

    return disturb


@pytest.mark.parametrize("seed", range(3))
def test_rounding_errors_pass(seed):  # type: ignore[no-untyped-def]
    text = step_by_step(loop(), loop(), STEPS, rounding(seed))
    assert f"{STEPS} steps" in text


def test_a_learning_rate_that_is_not_followed_is_found():  # type: ignore[no-untyped-def]
    other = loop()
    prepare = other.training_step.prepare
    other.training_step.prepare = lambda step: prepare(0)
    with pytest.raises(AssertionError, match="step 1: the update differs"):
        step_by_step(loop(), other, STEPS)


def test_a_queue_that_does_not_take_part_is_found():  # type: ignore[no-untyped-def]
    with_queue = "discover.assignment={queue: 256, queue_start_epoch: 0, prior: uniform}"
    late = "discover.assignment={queue: 256, queue_start_epoch: 9, prior: uniform}"
    with pytest.raises(AssertionError, match=r"step \d: (loss|the update)"):
        step_by_step(loop(with_queue), loop(late), STEPS)


def test_two_loops_drift_apart_where_single_steps_do_not():  # type: ignore[no-untyped-def]
    """Why the steps are compared one by one: the same disturbance grows over free steps."""
    one, other = loop(), loop()
    rounding(0)(other)
    losses = [gpu_checks._trained(each, 0, 24) for each in (one, other)]
    gaps = [abs(a - b) / abs(a) for a, b in zip(*losses, strict=True)]
    assert max(gaps[-3:]) > 100 * max(gaps[0], 1e-9)
