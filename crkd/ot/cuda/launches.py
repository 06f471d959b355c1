"""The launches of both kernel families on PyTorch's current stream."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crkd.ot.cuda import compiler, plans

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Scores that the kernels read and results that they write, with their numbers there."""

_streams: dict[tuple[int, int], Any] = {}
_counters: dict[tuple[int, int], Tensor] = {}


class Kind(NamedTuple):
    """All that decides which machine code runs.

    Attributes:
        device: ordinal of the CUDA device.
        n: samples.
        m: classes.
        scores: type of the scores.
        out: type of the result.
        relaxed: whether the class step is relaxed.
        weighted: whether a sample marginal is given.
    """

    device: int
    n: int
    m: int
    scores: torch.dtype
    out: torch.dtype
    relaxed: bool
    weighted: bool


@functools.cache
def device(index: int) -> plans.Device:
    """Return what the plans must know of CUDA device ``index``."""
    properties = torch.cuda.get_device_properties(index)
    # PyTorch's type stubs do not list this attribute.
    shared_bytes: int = getattr(properties, "shared_memory_per_block_optin")  # noqa: B009
    return plans.Device(10 * properties.major + properties.minor, shared_bytes)


class ResidentRun:
    """Enqueues the one launch of ``resident.cu``."""

    def __init__(self, kind: Kind, plan: plans.Resident) -> None:
        constants = {**plan.constants, **_types(kind)}
        code = compiler.cubin("resident", constants, _architecture(kind))
        self.kernel = compiler.load(code, "sinkhorn_resident", plan.shared_bytes, plan.cluster)
        self.plan = plan
        self.index = kind.device
        self._configs: dict[int, Any] = {}

    def config(self, problems: int) -> Any:
        """Return the launch configuration for so many problems."""
        if problems not in self._configs:
            cluster = self.plan.cluster if self.plan.cluster > 1 else None
            self._configs[problems] = _config(
                problems, cluster, self.plan.threads, self.plan.shared_bytes
            )
        return self._configs[problems]

    def __call__(
        self,
        scores: Tensor,
        out: Tensor,
        class_marginal: tuple[int, int],
        sample_marginal: tuple[int, int],
        num_iters: int,
        scale: float,
        power: float,
    ) -> None:
        """Enqueue the launch; marginals are (address, stride) pairs."""
        p, n, m = scores.shape
        compiler.core().launch(
            current_stream(self.index),
            self.config(p),
            self.kernel,
            scores.data_ptr(),
            out.data_ptr(),
            class_marginal[0],
            sample_marginal[0],
            scores.stride(0),
            scores.stride(1),
            n,
            m,
            num_iters,
            class_marginal[1],
            sample_marginal[1],
            scale,
        )


class StreamingRun:
    """Enqueues the T + 1 launches of ``streaming.cu``."""

    def __init__(self, kind: Kind, plan: plans.Streaming) -> None:
        self.plan = plan
        self.index = kind.device
        self.first, self.middle, self.last = (
            compiler.load(
                compiler.cubin(
                    "streaming", {**plan.constants(step), **_types(kind)}, _architecture(kind)
                ),
                "sinkhorn_streaming",
                plan.shared_bytes,
                1,
            )
            for step in (0, 2 if kind.relaxed else 1, 3)
        )

    def __call__(
        self,
        scores: Tensor,
        out: Tensor,
        class_marginal: tuple[int, int],
        sample_marginal: tuple[int, int],
        num_iters: int,
        scale: float,
        power: float,
    ) -> None:
        """Enqueue the launches; marginals are (address, stride) pairs."""
        p, n, m = scores.shape
        plan = self.plan
        sizes = (2 * p * m, 2 * p * plan.chunks * m, 2 * p * plan.groups * m)
        workspace = torch.empty(sum(sizes), dtype=torch.float32, device=scores.device)
        start = workspace.data_ptr()
        arguments = (
            scores.data_ptr(),
            out.data_ptr(),
            class_marginal[0],
            sample_marginal[0],
            start,
            start + 4 * sizes[0],
            start + 4 * (sizes[0] + sizes[1]),
            _zeroed(self.index, p * (plan.groups + 1)).data_ptr(),
            scores.stride(0),
            scores.stride(1),
            n,
            m,
            plan.chunks,
            plan.chunks_per_group,
            class_marginal[1],
            sample_marginal[1],
            scale,
            power,
        )
        stream = current_stream(self.index)
        config = _config(p * plan.chunks, None, plan.threads, plan.shared_bytes)
        kernels = [self.first, *[self.middle] * (num_iters - 1), self.last]
        for kernel in kernels:
            compiler.core().launch(stream, config, kernel, *arguments)


def _types(kind: Kind) -> dict[str, int]:
    return {
        "WEIGHTED": int(kind.weighted),
        "SCORE_TYPE": TYPES[kind.scores],
        "OUT_TYPE": TYPES[kind.out],
    }


def _architecture(kind: Kind) -> str:
    return f"sm_{device(kind.device).architecture}"


def _config(grid: int, cluster: int | None, block: int, shared_bytes: int) -> Any:
    """Return a launch configuration, with overlap of successive launches where it exists."""
    make = functools.partial(
        compiler.core().LaunchConfig,
        grid=grid,
        cluster=cluster,
        block=block,
        shmem_size=shared_bytes,
    )
    try:
        return make(programmatic_stream_serialization=True)
    except TypeError:
        return make()


def current_stream(index: int) -> Any:
    """Return PyTorch's current stream as ``cuda.core`` knows it."""
    key = (index, _raw_stream(index))
    stream = _streams.get(key)
    if stream is None:
        stream = _streams[key] = compiler.core().Stream.from_handle(key[1])
    return stream


def _raw_stream(index: int) -> int:
    """Return the handle of PyTorch's current stream on device ``index``."""
    # Compiled PyTorch code asks in this way too: the public call takes several microseconds.
    quick = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    if quick is not None:
        return int(quick(index))
    return int(torch.cuda.current_stream(index).cuda_stream)


def _zeroed(index: int, count: int) -> Tensor:
    """Return ``count`` counters that are zero now and that the kernels leave at zero.

    Launches of one stream follow each other and can share them. A captured graph may be replayed
    on any stream, therefore it has counters of its own, and zeroes them in each replay.
    """
    if torch.cuda.is_current_stream_capturing():
        return torch.zeros(count, dtype=torch.int32, device=f"cuda:{index}")
    key = (index, _raw_stream(index))
    counters = _counters.get(key)
    if counters is None or len(counters) < count:
        counters = torch.zeros(max(count, 4096), dtype=torch.int32, device=f"cuda:{index}")
        _counters[key] = counters
    return counters
