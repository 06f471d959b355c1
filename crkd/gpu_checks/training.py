"""GPU checks of the training step."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import torch

from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.gpu_checks.fresh_loops import discovery_loop
from crkd.stages.run_data import prepare
from crkd.training.checkpoint import load_state, save_state
from crkd.training.cuda_graph import WARM_UP
from crkd.training.loop import Loop
from crkd.training.optim import optimizer_tensors

STEPS = 3
LOSS_TOLERANCE = 2e-3
HALF_TOLERANCE = 3e-2
STEP_TOLERANCE = 1e-2
"""Largest relative difference of two updates of the same weights by the same batch."""

STILL = 1e-4
"""Fraction of the weights below which an update is too small to compare with rounding."""
QUEUE = "discover.assignment={queue: 256, queue_start_epoch: 1, prior: estimated}"
SMALL = (QUEUE, "discover.batch_size=48", "model.hidden=64")


def checks() -> list[tuple[str, Callable[[], str]]]:
    """Return the checks; each returns a line of numbers or raises AssertionError."""
    return [
        ("training: losses equal those of the CPU", losses_are_equal),
        ("training: bfloat16 stays close to float32", mixed_precision_is_close),
        ("training: a step does not synchronize", no_synchronization),
        ("training: steps of a CUDA graph equal eager ones", cuda_graph_agrees),
        ("training: a step of a CUDA graph with a bad loss is skipped", cuda_graph_skips),
        ("training: a replayed step does not synchronize", replay_without_synchronization),
        ("training: compiled steps, in a CUDA graph and not, equal eager ones", compiled_agree),
        ("reliability: the determinism flags make a run repeatable", repeat_is_exact),
        ("reliability: a resumed run equals an uninterrupted one", resume_is_exact),
    ]


def _config(*settings: str) -> Config:
    return load_config(
        "digits", ["loop.precision=float32", "discover.optimizer.lr=0.01", *settings]
    )


def _loop(config: Config, device: str = "cuda") -> Loop:
    place = torch.device(device)
    return discovery_loop(config, prepare(config, place), place)


def _losses(loop: Loop, steps: int = STEPS) -> list[float]:
    """Train from the start and return the loss of each step."""
    return _trained(loop, 0, steps)


def _trained(loop: Loop, start: int, stop: int) -> list[float]:
    """Train the steps ``[start, stop)`` and return the loss of each."""
    found = []
    for step, batch in enumerate(loop.loader.batches(start, stop, rendered=False), start):
        if step % loop.loader.steps_per_epoch == 0:
            loop.task.start_epoch(step // loop.loader.steps_per_epoch)
        loop.step(batch, step)
        found.append(loop.training_step.totals.take()["loss"])
    return found


def _compare(ours: list[float], theirs: list[float], tolerance: float) -> str:
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    assert worst < tolerance, f"relative difference {worst:.2e}, {tolerance:.0e} is allowed"
    return f"largest relative difference {worst:.1e} over {len(ours)} steps"


def losses_are_equal() -> str:
    """Check that the same seed gives the same losses on both devices, with TF32 off."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        here = _losses(_loop(_config()))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return _compare(here, _losses(_loop(_config(), "cpu")), LOSS_TOLERANCE)


def mixed_precision_is_close() -> str:
    """Check that mixed precision stays close to float32 in the first steps."""
    half, full = (_losses(_loop(_config(f"loop.precision={p}"))) for p in ("bfloat16", "float32"))
    return _compare(half, full, HALF_TOLERANCE)


def no_synchronization() -> str:
    """Check that a training step has no host synchronization; torch raises on the first one."""
    return _watched(_loop(_config("loop.precision=bfloat16")), STEPS - 1)


def replay_without_synchronization() -> str:
    """Check that a graph replay and the code around it have no host synchronization."""
    loop = _loop(_config("loop.precision=bfloat16", "loop.step=cuda_graph"))
    return _watched(loop, WARM_UP + 1)


def _watched(loop: Loop, free: int) -> str:
    """Train ``free`` steps, then steps and batches that must not synchronize."""
    batches = enumerate(loop.loader.batches(0, free + STEPS, rendered=False))
    for step, batch in itertools.islice(batches, free):
        loop.step(batch, step)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, batch in batches:
            loop.step(batch, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return f"{STEPS} steps without synchronization"


def cuda_graph_agrees() -> str:
    """Check that a captured step follows the learning rate and is recaptured for the queue."""
    eager, captured = (_loop(_config(QUEUE, f"loop.step={m}")) for m in ("eager", "cuda_graph"))
    return step_by_step(eager, captured, 2 * eager.loader.steps_per_epoch)


def step_by_step(
    reference: Loop, other: Loop, steps: int, disturb: Callable[[Loop], None] = lambda loop: None
) -> str:
    """Compare the updates of two loops from the same weights and the same batch in every step.

    Training amplifies rounding errors from step to step, so two correct runs diverge. A single step
    from equal weights does not, whatever the number of steps.

    Args:
        reference: trains independently.
        other: gets the weights, buffers and momenta of ``reference`` before each step.
        steps: number of steps, from the first one.
        disturb: applied to ``other`` before each step.

    Raises:
        AssertionError: a loss or an update differs by more than rounding.
    """
    worst = 0.0
    for step, batch in enumerate(reference.loader.batches(0, steps, rendered=False)):
        for loop in (reference, other):
            if step % loop.loader.steps_per_epoch == 0:
                loop.task.start_epoch(step // loop.loader.steps_per_epoch)
        _copy_state(reference, other)
        disturb(other)
        before = _weights(reference).clone()
        for loop in (reference, other):
            loop.step(batch, step)
        one, two = (loop.training_step.totals.take()["loss"] for loop in (reference, other))
        assert abs(one - two) < STEP_TOLERANCE * abs(one), f"step {step}: loss {two}, not {one}"
        after, theirs = _weights(reference), _weights(other)
        scale = (after - before).norm() + STILL * before.norm()
        difference = float((theirs - after).norm() / scale)
        assert difference < STEP_TOLERANCE, f"step {step}: the update differs by {difference:.1e}"
        worst = max(worst, difference)
    return f"largest difference {worst:.1e} of an update, {steps} steps"


def _copy_state(source: Loop, target: Loop) -> None:
    """Copy weights, buffers and momenta in place, because a captured step reads their memory."""
    tensors = target.task.modules.state_dict() | optimizer_tensors(target.optimizer)
    values = source.task.modules.state_dict() | optimizer_tensors(source.optimizer)
    for name, tensor in tensors.items():
        tensor.copy_(values[name])


def _weights(loop: Loop) -> torch.Tensor:
    """Return all trained weights as one float32 vector."""
    with torch.no_grad():
        return torch.cat([p.float().flatten() for p in loop.task.modules.parameters()])


def cuda_graph_skips() -> str:
    """Check that a replayed step with a NaN loss changes no weight and is counted."""
    loop = _loop(_config("loop.step=cuda_graph"))
    bad = WARM_UP + 2
    for step, batch in enumerate(loop.loader.batches(0, bad + 1)):
        before = [p.detach().clone() for p in loop.task.modules.parameters()]
        if step == bad:
            batch = batch._replace(views=tuple(view * float("nan") for view in batch.views))
        loop.step(batch, step)
    after = list(loop.task.modules.parameters())
    # Prototypes are normalized once more, which may change their last digit.
    moved = max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))
    assert moved < 1e-6, f"a weight moved by {moved:.1e}"
    noted = loop.training_step.first_bad()
    assert noted == bad, f"noted step {noted}, not {bad}"
    return f"step {bad} noted, no weight moved"


def compiled_agree() -> str:
    """Check that torch.compile changes only roundings, and that its code can be captured."""
    plain = _losses(_loop(_config()), WARM_UP + STEPS)
    for mode in ("eager", "cuda_graph"):
        loop = _loop(_config("loop.compile=true", f"loop.step={mode}"))
        text = _compare(_losses(loop, WARM_UP + STEPS), plain, LOSS_TOLERANCE)
    return text


def repeat_is_exact(device: str = "cuda") -> str:
    """Check that two equal runs with torch's deterministic algorithms give the same weights.

    cuBLAS also needs ``CUBLAS_WORKSPACE_CONFIG``, which the command sets before anything starts.
    """
    with _deterministic():
        for precision in _precisions(device):
            config = _config(*SMALL, f"loop.precision={precision}")
            loops = [_loop(config, device) for _ in range(2)]
            for loop in loops:
                _losses(loop, 2 * STEPS)
            _same_weights(*loops)
    return f"{2 * STEPS} steps in {' and '.join(_precisions(device))}, bit-identical"


def resume_is_exact(device: str = "cuda") -> str:
    """Check that saving and loading half-way leads to the same weights, bit by bit."""
    modes = ("eager", "cuda_graph") if device == "cuda" else ("eager",)
    with _deterministic():
        for precision, mode in itertools.product(_precisions(device), modes):
            config = _config(*SMALL, f"loop.precision={precision}", f"loop.step={mode}")
            straight, first, second = (_loop(config, device) for _ in range(3))
            half = WARM_UP + STEPS
            _losses(straight, 2 * half)
            _losses(first, half)
            save_state(
                first.folder,
                stage=first.task.stage,
                step=half,
                seconds=0.0,
                modules=first.task.modules,
                optimizer=first.optimizer,
                config=config,
            )
            step, _ = load_state(
                first.folder,
                stage=second.task.stage,
                modules=second.task.modules,
                optimizer=second.optimizer,
                config=config,
            )
            assert step == half, f"the state says step {step}, not {half}"
            _trained(second, step, 2 * half)
            _same_weights(straight, second)
    return f"saved after {half} of {2 * half} steps ({', '.join(modes)}), bit-identical"


def _precisions(device: str) -> tuple[str, ...]:
    """Return the precisions to check; bfloat16 is slow on a CPU and not used there."""
    return ("float32", "bfloat16") if device == "cuda" else ("float32",)


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Enable deterministic algorithms; if one is missing torch warns, and the check decides."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _same_weights(one: Loop, other: Loop) -> None:
    theirs = other.task.modules.state_dict()
    for name, tensor in one.task.modules.state_dict().items():
        assert torch.equal(tensor, theirs[name]), f"{name} differs"
