"""Checks of the training step that need a CUDA device."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.engine.loop import Loop
from crkd.engine.recorded import WARM_UP
from crkd.engine.setup import prepare
from crkd.engine.trial import discovery_loop

STEPS = 3
LOSS_TOLERANCE = 2e-3
HALF_TOLERANCE = 3e-2
REPLAY_TOLERANCE = 1e-4
QUEUE = "discover.assignment={queue: 256, queue_start_epoch: 1, prior: estimated}"


def checks() -> list[tuple[str, Callable[[], str]]]:
    """Return the checks; each returns a line of figures or raises AssertionError."""
    return [
        ("training: losses equal those of the CPU", losses_agree),
        ("training: bfloat16 stays close to float32", half_stays_close),
        ("training: a step waits for nothing", nothing_waits),
        ("training: recorded steps equal eager ones", recorded_agree),
        ("training: a recorded step with a bad loss is skipped", recorded_skips),
        ("training: a replayed step waits for nothing", replay_waits_for_nothing),
        ("training: compiled steps, recorded and not, equal eager ones", compiled_agree),
    ]


def _config(*settings: str) -> Config:
    return load_config(
        "digits", ["loop.precision=float32", "discover.optimiser.lr=0.01", *settings]
    )


def _loop(config: Config, device: str = "cuda") -> Loop:
    place = torch.device(device)
    return discovery_loop(config, prepare(config, place), place)


def _losses(loop: Loop, steps: int = STEPS) -> list[float]:
    """Train and return the loss of each step."""
    found = []
    for step, batch in enumerate(loop.feed.batches(0, steps)):
        if step % loop.feed.steps_per_epoch == 0:
            loop.task.start_epoch(step // loop.feed.steps_per_epoch)
        loop.step(batch, step)
        found.append(loop.training_step.totals.take()["loss"])
    return found


def _compare(ours: list[float], theirs: list[float], tolerance: float) -> str:
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    assert worst < tolerance, f"relative difference {worst:.2e}, {tolerance:.0e} is allowed"
    return f"largest relative difference {worst:.1e} over {len(ours)} steps"


def losses_agree() -> str:
    """The same seed gives the same losses on both devices, TF32 off."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        here = _losses(_loop(_config()))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return _compare(here, _losses(_loop(_config(), "cpu")), LOSS_TOLERANCE)


def half_stays_close() -> str:
    """Mixed precision stays within its tolerance of float32 at the first steps."""
    half, full = (_losses(_loop(_config(f"loop.precision={p}"))) for p in ("bfloat16", "float32"))
    return _compare(half, full, HALF_TOLERANCE)


def nothing_waits() -> str:
    """A training step makes no host synchronisation; torch raises on the first one."""
    return _watched(_loop(_config("loop.precision=bfloat16")), STEPS - 1)


def replay_waits_for_nothing() -> str:
    """Neither does a replay, nor what surrounds it."""
    loop = _loop(_config("loop.precision=bfloat16", "loop.step=recorded"))
    return _watched(loop, WARM_UP + 1)


def _watched(loop: Loop, free: int) -> str:
    """Train ``free`` steps and then some that, batches and all, must not wait."""
    batches = enumerate(loop.feed.batches(0, free + STEPS))
    for step, batch in itertools.islice(batches, free):
        loop.step(batch, step)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, batch in batches:
            loop.step(batch, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return f"{STEPS} steps without synchronisation"


def recorded_agree() -> str:
    """A recording follows the learning rate and is renewed when the queue takes part."""
    steps = 2 * _loop(_config(QUEUE)).feed.steps_per_epoch
    eager, recorded = (
        _losses(_loop(_config(QUEUE, f"loop.step={mode}")), steps) for mode in ("eager", "recorded")
    )
    return _compare(recorded, eager, REPLAY_TOLERANCE)


def recorded_skips() -> str:
    """A replayed step whose loss is NaN changes no weight, and its number is kept."""
    loop = _loop(_config("loop.step=recorded"))
    bad = WARM_UP + 2
    for step, batch in enumerate(loop.feed.batches(0, bad + 1)):
        before = [p.detach().clone() for p in loop.task.modules.parameters()]
        if step == bad:
            batch = batch._replace(views=tuple(view * float("nan") for view in batch.views))
        loop.step(batch, step)
    after = list(loop.task.modules.parameters())
    # Prototypes are brought back to length one once more, which may turn their last digit.
    moved = max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))
    assert moved < 1e-6, f"a weight moved by {moved:.1e}"
    noted = loop.training_step.first_bad()
    assert noted == bad, f"noted step {noted}, not {bad}"
    return f"step {bad} noted, no weight moved"


def compiled_agree() -> str:
    """torch.compile changes roundings alone, and its code can be recorded."""
    plain = _losses(_loop(_config()), WARM_UP + STEPS)
    for mode in ("eager", "recorded"):
        loop = _loop(_config("loop.compile=true", f"loop.step={mode}"))
        text = _compare(_losses(loop, WARM_UP + STEPS), plain, LOSS_TOLERANCE)
    return text
