"""A step of fixed shape, captured once as a CUDA graph and replayed from then on.

An eager step costs the host thousands of launches; a replay costs one. What is captured must not
depend on the host: batches are copied into tensors that stay where they are, the learning rate
and the step's number are on the device (``step.py``), and what the host switches between epochs is
named by :class:`HostState`. When shapes or switches change, the step is captured again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils import _pytree as tree

from crkd.core.batch_shard import processes
from crkd.core.errors import InputError
from crkd.core.types import Batch
from crkd.training.step import TrainingStep

_log = logging.getLogger(__name__)

StepMode = Literal["eager", "auto", "cuda_graph"]

WARM_UP = 3
"""Eager steps before a capture: they make momentum buffers, choose algorithms, compile."""


@runtime_checkable
class HostState(Protocol):
    """A module whose operations follow a switch on the host, such as a queue that starts late."""

    @property
    def host_state(self) -> Hashable:
        """The switch; a captured step is captured again when it changes."""


class GraphCapture(Protocol):
    """Capture of operations on a device."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work now, on the stream on which it will be captured."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return what repeats the operations of ``work``; ``work`` itself has no effect."""


class CudaGraphCapture:
    """Captures into a CUDA graph, on a stream of its own as PyTorch requires.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work on the capture stream, in order with the current one."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return the replay of a graph of ``work``.

        Raises:
            RuntimeError: something in it cannot be captured, such as a look at a value.
        """
        graph = torch.cuda.CUDAGraph()
        # Decoding threads may pin memory meanwhile, which concerns no capture but their own.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


class CudaGraphStep:
    """Calls a step's computation a few times, captures it, and then replays it.

    Args:
        step: the step.
        capture: of the device.
        strict: raise where capture fails; otherwise run eagerly and log the reason once.
    """

    def __init__(self, step: TrainingStep, capture: GraphCapture, *, strict: bool) -> None:
        self._step, self._graph, self._strict = step, capture, strict
        self._switches = [m for m in step.modules.modules() if isinstance(m, HostState)]
        for group in step.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True
        self._key: Hashable = None
        self._warmed_up = 0
        self._inputs: list[Tensor] = []
        self._replay: Callable[[], None] | None = None
        self._hopeless = False

    def __call__(self, batch: Batch) -> None:
        """Train on one batch, by replaying where there is a capture of its shape."""
        if self._hopeless:
            self._step.compute(batch)
            return
        key = (_shape(batch), tuple(m.host_state for m in self._switches))
        if key != self._key:
            # The capture of the former shape is dropped, and its memory with it.
            self._key, self._warmed_up, self._replay, self._inputs = key, 0, None, []
        if self._warmed_up < WARM_UP:
            self._warmed_up += 1
            self._graph.warm_up(lambda: self._step.compute(batch))
            return
        if self._replay is None and not self._capture_step(batch):
            self._step.compute(batch)
            return
        for place, tensor in zip(self._inputs, _tensors(batch), strict=True):
            place.copy_(tensor)
        assert self._replay is not None
        self._replay()

    def _capture_step(self, batch: Batch) -> bool:
        """Record the step on tensors shaped like the batch; say whether it worked."""
        leaves, layout = tree.tree_flatten(batch)
        fixed = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        inputs = tree.tree_unflatten(fixed, layout)
        try:
            self._replay = self._graph.capture(lambda: self._step.compute(inputs))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            if self._strict:
                raise RuntimeError(
                    f"the step cannot be captured ({reason}); use --set loop.step=eager"
                ) from error
            _log.warning("steps run eagerly, capturing one failed: %s", reason)
            self._hopeless = True
            return False
        self._inputs = _tensors(inputs)
        return True


def runner(step: TrainingStep, mode: StepMode, device: torch.device) -> Callable[[Batch], None]:
    """Return what computes a prepared step: eagerly, or by replaying a capture.

    Args:
        step: the step.
        mode: ``loop.step``; "auto" captures where it can.
        device: where it computes.

    Raises:
        InputError: "cuda_graph" was asked for where nothing can be captured.
    """
    if mode == "eager":
        return step.compute
    reasons = []
    if device.type != "cuda":
        reasons.append(f"the device is {device.type}, and CUDA graphs need a CUDA device")
    if (size := processes()[1]) > 1:
        reasons.append(f"{size} processes exchange values within a step")
    if reasons and mode == "cuda_graph":
        raise InputError(
            f"loop.step=cuda_graph cannot be used: {'; '.join(reasons)}; use auto or eager"
        )
    if reasons:
        _log.info("steps run eagerly: %s", "; ".join(reasons))
        return step.compute
    return CudaGraphStep(step, CudaGraphCapture(device), strict=mode == "cuda_graph")


def _tensors(batch: Batch) -> list[Tensor]:
    return [leaf for leaf in tree.tree_leaves(batch) if isinstance(leaf, Tensor)]


def _shape(batch: Batch) -> Hashable:
    """Return everything of a batch that decides which operations it meets."""
    leaves: list[Any] = tree.tree_leaves(batch)
    return tuple((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves)
