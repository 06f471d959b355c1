"""Checks of the training step that need a CUDA device."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.types import Batch
from crkd.engine.discover import discovery_feed, student_of
from crkd.engine.discovery_task import DiscoveryTask
from crkd.engine.loop import Loop
from crkd.engine.pretrain import architecture_of, network_for
from crkd.engine.run import RunFolder
from crkd.engine.setup import RunData, prepare

STEPS = 3
LOSS_TOLERANCE = 2e-3
HALF_TOLERANCE = 3e-2


def checks() -> list[tuple[str, Callable[[], str]]]:
    """Return the checks; each returns a line of figures or raises AssertionError."""
    return [
        ("training: losses equal those of the CPU", losses_agree),
        ("training: bfloat16 stays close to float32", half_stays_close),
        ("training: a step waits for nothing", nothing_waits),
    ]


def _config(precision: str = "float32") -> Config:
    return load_config("digits", [f"loop.precision={precision}", "discover.optimiser.lr=0.01"])


def _loop(config: Config, device: torch.device) -> tuple[Loop, list[Batch]]:
    """Return a discovery loop from a fresh stage 1, and its first batches."""
    data: RunData = prepare(config, device)
    known = architecture_of(config, data, num_known=data.num_known, num_novel=0)
    shape = dataclasses.replace(known, num_novel=len(data.split.novel))
    stage1 = network_for(config, known).to(device)
    student = student_of(config, shape, stage1, device)
    feed = discovery_feed(config, data, device)
    task = DiscoveryTask(student, stage1, config, device, num_known=data.num_known)
    task.modules.train()
    loop = Loop(
        task,
        feed,
        config=config,
        optimiser=config.discover.optimiser,
        epochs=1,
        run=RunFolder(Path(tempfile.mkdtemp())),
        device=device,
    )
    return loop, list(feed.batches(0, STEPS))


def _losses(config: Config, device: torch.device) -> list[float]:
    loop, batches = _loop(config, device)
    found = []
    for step, batch in enumerate(batches):
        found.append(float(loop.task.losses(batch)[0].detach()))
        loop.step(batch, step)
    return found


def losses_agree() -> str:
    """The same seed gives the same losses on both devices, TF32 off."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        here = _losses(_config(), torch.device("cuda"))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    there = _losses(_config(), torch.device("cpu"))
    worst = max(abs(a - b) / abs(b) for a, b in zip(here, there, strict=True))
    assert worst < LOSS_TOLERANCE, f"relative difference {worst:.2e}"
    return f"largest relative difference {worst:.1e} over {STEPS} steps"


def half_stays_close() -> str:
    """Mixed precision stays within its tolerance of float32 at the first steps."""
    device = torch.device("cuda")
    half, full = (_losses(_config(p), device) for p in ("bfloat16", "float32"))
    worst = max(abs(a - b) / abs(b) for a, b in zip(half, full, strict=True))
    assert worst < HALF_TOLERANCE, f"relative difference {worst:.2e}"
    return f"largest relative difference {worst:.1e} over {STEPS} steps"


def nothing_waits() -> str:
    """A training step makes no host synchronisation; torch raises on the first one."""
    loop, batches = _loop(_config("bfloat16"), torch.device("cuda"))
    loop.step(batches[0], 0)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, batch in enumerate(batches[1:], 1):
            loop.step(batch, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return f"{STEPS - 1} steps without synchronisation"
