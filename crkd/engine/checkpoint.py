"""The state from which a run goes on at the exact step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crkd.config.check import plain
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.engine.distributed import is_first
from crkd.engine.files import load_tensors, save_tensors
from crkd.engine.optim import optimiser_tensors, restore_optimiser
from crkd.models.weights import load_strict

FILE = "state.safetensors"


def save_state(
    folder: Path,
    *,
    stage: str,
    step: int,
    seconds: float,
    modules: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: Config,
) -> None:
    """Write ``state.safetensors``: weights, buffers, optimiser, step.

    Batches, views and the schedule are pure functions of the seed and the step, so no random
    state and no data position has to be kept.
    """
    if not is_first():
        return
    tensors = {f"modules.{name}": t for name, t in modules.state_dict().items()}
    for name, tensor in optimiser_tensors(optimiser).items():
        tensors[f"optimiser.{name}"] = tensor
    metadata = {"stage": stage, "step": step, "seconds": seconds, "config": _essence(config)}
    save_tensors(folder / FILE, tensors, metadata)


def has_state(folder: Path) -> bool:
    """Return whether a run was saved; one that ended before that goes on from its first step."""
    return (folder / FILE).is_file()


def load_state(
    folder: Path,
    *,
    stage: str,
    modules: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: Config,
) -> tuple[int, float]:
    """Load the saved state in place; return the next step and the seconds spent so far.

    Raises:
        InputError: it cannot be read, is damaged, or belongs to another configuration.
    """
    path = folder / FILE
    tensors, metadata = load_tensors(path)
    if metadata.get("stage") != stage:
        raise InputError(
            f"--resume: {path} is a state of {metadata.get('stage')!r}, not of {stage!r}; "
            "use the command that started this run"
        )
    if metadata.get("config") != _essence(config):
        changed = _differences(metadata.get("config"), _essence(config))
        raise InputError(
            f"--resume: the configuration differs from the saved one in {changed}; "
            "leave these settings as they were"
        )
    load_strict(modules, _part(tensors, "modules."))
    restore_optimiser(optimiser, _part(tensors, "optimiser."))
    return int(metadata["step"]), float(metadata["seconds"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _essence(config: Config) -> Any:
    """Return what must agree for a run to go on: everything but where and how often to write."""
    values = json.loads(json.dumps(plain(config)))
    for key in ("log_every", "checkpoint_every"):
        values["loop"].pop(key)
    values["data"].pop("root")
    values["data"].pop("storage")
    values.pop("device")
    return values


def _differences(saved: Any, now: Any, key: str = "") -> str:
    if isinstance(saved, dict) and isinstance(now, dict):
        parts = [
            _differences(saved.get(name), now.get(name), f"{key}.{name}".lstrip("."))
            for name in sorted(saved.keys() | now.keys())
            if saved.get(name) != now.get(name)
        ]
        return ", ".join(parts)
    return f"{key} ({saved!r} then, {now!r} now)"
