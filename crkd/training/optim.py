"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from crkd.config.blocks import OptimizerConfig
from crkd.core.errors import InputError
from crkd.training.muon import Muon, is_matrix


def build_optimizer(modules: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer over every trainable parameter of ``modules``.

    The fused form is used on every device: it also respects ``found_inf``, by which a step with a
    non-finite loss is skipped without asking the device. Each group's ``factor`` multiplies the
    learning rate of the schedule.

    Raises:
        InputError: as :func:`check_optimizer`.
    """
    check_optimizer(modules, config)
    backbone: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in modules.named_parameters():
        if parameter.requires_grad:
            inside = _in_backbone(name)
            matrix = inside and config.name == "muon" and is_matrix(parameter)
            (matrices if matrix else backbone if inside else others).append(parameter)
    orthogonal = config.backbone_factor * config.matrix_lr / config.lr
    parameters = [
        {"params": group, "factor": factor, "matrix": group is matrices}
        for group, factor in (
            (matrices, orthogonal),
            (backbone, config.backbone_factor),
            (others, 1.0),
        )
        if group
    ]
    if config.name == "adamw":
        return torch.optim.AdamW(
            parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
    if config.name == "muon":
        return Muon(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,
    )


def check_optimizer(modules: nn.Module, config: OptimizerConfig) -> None:
    """Refuse an optimizer that does not fit the trained parameters.

    Raises:
        InputError: muon, and no trained convolution of the backbone to use it for.
    """
    matrices = [
        parameter
        for name, parameter in modules.named_parameters()
        if _in_backbone(name) and parameter.requires_grad and is_matrix(parameter)
    ]
    if config.name == "muon" and not matrices:
        raise InputError(
            "optimizer.name is 'muon', but no convolution of the backbone is trained; choose sgd "
            "or adamw"
        )


def _in_backbone(name: str) -> bool:
    return "backbone" in name.split(".")


def learning_rate(config: OptimizerConfig, step: int, total: int, steps_per_epoch: int) -> float:
    """Return the learning rate of ``step`` in ``[0, total)``: warm-up, then cosine.

    The warm-up lasts at most a fifth of the run, so that a short trial run of a long recipe still
    trains at full speed. It rises from 0 in each step, or from ``min_lr`` in each epoch.

    >>> config = OptimizerConfig(lr=1.0, min_lr=0.0, warmup_epochs=1)
    >>> [round(learning_rate(config, step, 100, 10), 2) for step in (0, 5, 10, 55, 100)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if config.schedule == "epoch":
        return _rate_of_epoch(config, step // steps_per_epoch, math.ceil(total / steps_per_epoch))
    warmup = min(config.warmup_epochs * steps_per_epoch, total / 5)
    if step < warmup:
        return config.lr * step / warmup
    return _cosine(config, (step - warmup) / max(1.0, total - warmup))


def _rate_of_epoch(config: OptimizerConfig, epoch: int, epochs: int) -> float:
    """Return the learning rate of ``epoch`` in ``[0, epochs)``.

    Closed form of ``LinearWarmupCosineAnnealingLR`` of lightning-bolts 0.3.0, which UNO and
    Cr-KD-NCD call once in each epoch with ``warmup_start_lr = eta_min = min_lr``. The last epoch of
    the warm-up and the one after it have the highest rate. A part of an epoch is left out.
    """
    warmup = int(min(config.warmup_epochs, epochs / 5))
    if epoch < warmup:
        return config.min_lr + (config.lr - config.min_lr) * epoch / max(1, warmup - 1)
    return _cosine(config, (epoch - warmup) / (epochs - warmup))


def _cosine(config: OptimizerConfig, progress: float) -> float:
    """Return the rate between ``lr`` at progress 0 and ``min_lr`` at progress 1."""
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1 + math.cos(math.pi * progress))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as flat tensors, "PARAMETER NUMBER.KEY"."""
    tensors = {}
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                tensors[f"{number}.{key}"] = torch.as_tensor(value)
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load what :func:`optimizer_tensors` returned into a fresh optimizer."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, loaded in optimizer.state.items():
        for key, value in loaded.items():
            if value is not None and value.shape == parameter.shape:
                # Fused kernels walk through memory: state must have the layout of its weights.
                loaded[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
