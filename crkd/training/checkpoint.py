"""Saved states, from which a run resumes at the exact step."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from crkd.config.check import plain
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.models.weights import load_strict
from crkd.runs.atomic_files import load_tensors, save_tensors
from crkd.runs.console import console
from crkd.training.distributed import is_rank_zero
from crkd.training.optim import optimizer_tensors, restore_optimizer

RECOVERY_SETTINGS: Final = ("lr", "matrix_lr", "min_lr", "precision")
"""Settings that may change when a run resumes after a loss that was not finite."""


def states(folder: Path) -> list[Path]:
    """Return the saved states, the newest first; their names contain the step."""
    return sorted(folder.glob("state-*.safetensors"), reverse=True)


def remove_states(folder: Path) -> None:
    """Delete the states of a run that is finished."""
    for path in states(folder):
        path.unlink(missing_ok=True)


def save_state(
    folder: Path,
    *,
    stage: str,
    step: int,
    seconds: float,
    modules: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: Config,
) -> None:
    """Write ``state-STEP.safetensors``: weights, buffers, optimizer, step.

    Batches, views and the schedule are pure functions of the seed and the step, so no random
    state and no data position has to be kept. Of the states before, the newest
    ``loop.keep_states - 1`` stay; those of later steps were left behind by a return to this one.
    """
    if not is_rank_zero():
        return
    tensors = {f"modules.{name}": t for name, t in modules.state_dict().items()}
    for name, tensor in optimizer_tensors(optimizer).items():
        tensors[f"optimizer.{name}"] = tensor
    metadata = {"stage": stage, "step": step, "seconds": seconds, "config": _origin(config)}
    path = folder / f"state-{step:09d}.safetensors"
    save_tensors(path, tensors, metadata)
    kept = [state for state in states(folder) if state.name <= path.name][: config.loop.keep_states]
    for state in states(folder):
        if state not in kept:
            # One that cannot be deleted only takes up room.
            with contextlib.suppress(OSError):
                state.unlink()


def load_state(
    folder: Path,
    *,
    stage: str,
    modules: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: Config,
) -> tuple[int, float]:
    """Load the newest intact state in place; return the next step and the seconds spent so far.

    A run that ended before its first state starts again at its first step.

    Raises:
        InputError: all states are damaged, or they belong to another run.
    """
    found = _newest_intact(folder)
    if found is None:
        return 0, 0.0
    path, tensors, metadata = found
    if metadata.get("stage") != stage:
        raise InputError(
            f"--resume: {path} is a state of {metadata.get('stage')!r}, not of {stage!r}; "
            "use the command that started this run"
        )
    if metadata.get("config") != _origin(config):
        changed = differences(metadata.get("config"), _origin(config))
        raise InputError(
            f"--resume: {path} was saved with another configuration, which differs in {changed}; "
            "restore the state of this run"
        )
    load_strict(modules, _part(tensors, "modules."))
    restore_optimizer(optimizer, _part(tensors, "optimizer."))
    return int(metadata["step"]), float(metadata["seconds"])


def _newest_intact(folder: Path) -> tuple[Path, dict[str, Tensor], Any] | None:
    """Return the newest state that is whole, and say which ones are not; None without any."""
    refusals = []
    for path in states(folder):
        try:
            return path, *load_tensors(path)
        except InputError as error:
            refusals.append(error)
            console.print(f"warning: {error}", style="yellow", highlight=False, soft_wrap=True)
    if refusals:
        raise InputError(f"--resume: no saved state is whole: {refusals[0]}")
    return None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def resumable_settings(config: Config) -> Any:
    """Return the settings that must match to resume: all but where and how often to write."""
    values = json.loads(json.dumps(plain(config)))
    for key in ("log_every", "checkpoint_every", "keep_states", "loggers"):
        values["loop"].pop(key)
    values["data"].pop("root")
    values["data"].pop("storage")
    values.pop("device")
    return values


def _origin(config: Config) -> Any:
    """Return the settings that must match to resume, ignoring learning rate and precision."""
    return without_recovery(resumable_settings(config))


def without_recovery(values: Any) -> Any:
    """Return plain settings without :data:`RECOVERY_SETTINGS`, in every block."""
    if not isinstance(values, dict):
        return values
    return {k: without_recovery(v) for k, v in values.items() if k not in RECOVERY_SETTINGS}


def differ_only_in_recovery(saved: Config, now: Config) -> bool:
    """Return whether two configurations differ in nothing but :data:`RECOVERY_SETTINGS`."""
    return bool(_origin(saved) == _origin(now))


def differences(saved: Any, now: Any, key: str = "") -> str:
    """Return the keys in which two blocks differ, with both values.

    >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}})
    'a.b (1 then, 3 now)'
    """
    if isinstance(saved, dict) and isinstance(now, dict):
        parts = [
            differences(saved.get(name), now.get(name), f"{key}.{name}".lstrip("."))
            for name in sorted(saved.keys() | now.keys())
            if saved.get(name) != now.get(name)
        ]
        return ", ".join(parts)
    return f"{key} ({saved!r} then, {now!r} now)"
