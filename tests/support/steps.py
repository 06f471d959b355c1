"""A stand-in for CUDA graphs, and loops to try steps on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode

from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.gpu_checks.fresh_loops import discovery_loop
from crkd.stages.run_data import prepare
from crkd.training.loop import Loop
from tests.support.small_runs import SMALL

CPU = torch.device("cpu")


def tiny(*settings: str) -> Config:
    wanted = ["discover.batch_size=48", "discover.epochs=2", "model.hidden=16", *settings]
    return load_config("digits", [*SMALL, *wanted])


def loop_of(config: Config) -> Loop:
    return discovery_loop(config, prepare(config, CPU), CPU)


@contextmanager
def device_branches() -> Iterator[None]:
    """Run on the CPU what a GPU would run.

    What crkd does on the CPU alone (views in place, Sinkhorn by scaling, values of marginals) it
    leaves out while it is being compiled; then it runs the operations of any other device.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.compiler,
            "is_compiling",
            lambda: sys._getframe(1).f_globals["__name__"].startswith("crkd."),
        )
        yield


class Tape(TorchDispatchMode):
    """Notes every operation with the very tensors it read and wrote, as a CUDA graph does.

    A replay repeats the operations on the same memory; whatever was a host value when it was
    captured stays as it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        with torch.no_grad():
            for function, args, kwargs, result in self.operations:
                again = function(*args, **kwargs)
                for old, new in zip(tensors(result), tensors(again), strict=True):
                    shares = old.untyped_storage().data_ptr() == new.untyped_storage().data_ptr()
                    if not shares:
                        old.copy_(new)


def tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree.tree_leaves(values) if isinstance(leaf, Tensor)]


class TapeCapture:
    """Records on the CPU; the capture itself is undone, as capturing executes nothing."""

    def __init__(self, loop: Loop) -> None:
        self.state = [*loop.task.modules.state_dict().values()]
        self.loop, self.captures, self.warm_ups = loop, 0, 0

    def warm_up(self, work: Callable[[], None]) -> None:
        self.warm_ups += 1
        work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        kept = self._everything()
        values = [t.detach().clone() for t in kept]
        with Tape() as tape:
            work()
        with torch.no_grad():
            for tensor, value in zip(kept, values, strict=True):
                tensor.detach().copy_(value)
        return tape.replay

    def _everything(self) -> list[Tensor]:
        step = self.loop.training_step
        momentum = tensors(list(step.optimizer.state.values()))
        return [
            *self.loop.task.modules.state_dict().values(),
            *momentum,
            *step.totals._sums.values(),
            step._first_bad,
        ]
