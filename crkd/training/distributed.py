"""Several processes that train one network, started by ``torchrun``.

The first one writes the run; all of them compute every step together (``crkd.core.batch_shard``).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch import nn

from crkd.core.batch_shard import processes
from crkd.core.errors import InputError
from crkd.models.backbones.base import Backbone
from crkd.models.sync_batchnorm import synchronize
from crkd.runs.console import console

VERBS: Final = ("pretrain", "discover", "distill", "embed", "predict")
PATIENCE: Final = timedelta(days=1)
"""Longest wait of a process for the others, such as while the first one stores labels of a teacher.
A process that ends is noticed at once, because its connections close."""


@contextlib.contextmanager
def joined(verb: str) -> Iterator[None]:
    """Let the processes that the launcher started find each other; all but the first are silent.

    Args:
        verb: the command that all of them run.

    Raises:
        InputError: the command runs in one process.
    """
    if verb not in VERBS:
        raise InputError(
            f"{verb} runs in one process; start it without torchrun (several processes serve: "
            f"{', '.join(VERBS)})"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    silent = dist.get_rank() > 0
    try:
        with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
            if silent:
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                console.quiet = True
            yield
            # No process ends while another still sends to it.
            barrier()
    except InputError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        who = f"process {dist.get_rank()} of {dist.get_world_size()}"
        sys.stderr.write(f"crkd {verb}: {who} ended: {reason}\n")
        raise
    finally:
        dist.destroy_process_group()


def is_rank_zero() -> bool:
    """Return whether this process writes the run: the first one, or the only one."""
    return processes()[0] == 0


def barrier() -> None:
    """Wait until all processes have reached this point."""
    if processes()[1] > 1:
        any_rank(False)


def any_rank(wish: bool) -> bool:
    """Return whether the flag is set in any process; all must call it, and no GPU is waited for."""
    if processes()[1] == 1:
        return wish
    flag = torch.tensor([wish], dtype=torch.int32)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def broadcast_from_rank_zero(values: torch.Tensor) -> None:
    """Overwrite a tensor with the first process's, where rounding may have made them differ."""
    if processes()[1] > 1:
        dist.broadcast(values, 0)


def synchronize_backbones(modules: nn.Module, device: torch.device) -> None:
    """Compute batch norm over all processes' rows; heads and terms see the whole batch anyway."""
    if processes()[1] == 1:
        return
    for module in list(modules.modules()):
        if isinstance(module, Backbone) and not module.keeps_statistics:
            synchronize(module, device)


@torch.no_grad()
def average_gradients(modules: nn.Module) -> None:
    """Replace every gradient by its mean over the processes, in one exchange a type of number."""
    size = processes()[1]
    if size == 1:
        return
    for group in _by_dtype(p.grad for p in modules.parameters()):
        together = torch.cat([gradient.flatten() for gradient in group])
        dist.all_reduce(together)
        together /= size
        parts = torch.split(together, [gradient.numel() for gradient in group])
        for gradient, mean in zip(group, parts, strict=True):
            gradient.copy_(mean.view(gradient.shape))


def _by_dtype(gradients: Iterable[torch.Tensor | None]) -> list[list[torch.Tensor]]:
    groups: dict[torch.dtype, list[torch.Tensor]] = {}
    for gradient in gradients:
        if gradient is not None:
            groups.setdefault(gradient.dtype, []).append(gradient)
    return list(groups.values())
