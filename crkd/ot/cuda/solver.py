"""Launches the kernels: one problem set in, one assignment out, on the current stream."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crkd.ot.cuda import compiler, plans

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Scores that the kernels read and results that they write, with their numbers there."""

_ready: dict[tuple[Any, ...], Callable[..., Tensor]] = {}
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
    """

    device: int
    n: int
    m: int
    scores: torch.dtype
    out: torch.dtype
    relaxed: bool


def is_ready(kind: Kind) -> bool:
    """Say whether the kernels for ``kind`` are loaded, so that a CUDA graph may capture them."""
    return kind in _ready


def solve(
    scores: Tensor,
    epsilon: float,
    num_iters: int,
    class_marginal: Tensor | None,
    sample_marginal: Tensor | None,
    relaxation: float | None,
    out_dtype: torch.dtype,
) -> Tensor:
    """Return the assignment ``(P, N, M)``, contiguous; ``scores`` lie on a CUDA device.

    Raises:
        RuntimeError: a CUDA graph is being captured and these kernels were never run before.
    """
    p, n, m = scores.shape
    out = torch.empty((p, n, m), dtype=out_dtype, device=scores.device)
    if out.numel() == 0:
        return out
    if scores.stride(2) != 1:
        scores = scores.contiguous()
    kind = Kind(scores.device.index, n, m, scores.dtype, out_dtype, relaxation is not None)
    run = _ready.get(kind) or prepare(kind)
    marginals = (
        0 if class_marginal is None else class_marginal.data_ptr(),
        0 if sample_marginal is None else sample_marginal.data_ptr(),
    )
    strides = (
        m if class_marginal is not None and class_marginal.ndim == 2 else 0,
        n if sample_marginal is not None and sample_marginal.ndim == 2 else 0,
    )
    power = 1.0 if relaxation is None else relaxation / (relaxation + epsilon)
    scale = 1.0 / (math.log(2) * epsilon)
    if kind.device == torch.cuda.current_device():
        run(scores, out, marginals, strides, num_iters, scale, power)
    else:
        with torch.cuda.device(kind.device):
            run(scores, out, marginals, strides, num_iters, scale, power)
    return out


def prepare(kind: Kind) -> Callable[..., None]:
    """Compile and load the kernels for ``kind``; needed before a CUDA graph captures them.

    Raises:
        RuntimeError: a CUDA graph is being captured; loading would end the capture.
    """
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"Sinkhorn's kernels for N={kind.n}, M={kind.m} must be loaded before a CUDA graph "
            "captures them: call sinkhorn once on scores of this shape and type beforehand"
        )
    with torch.cuda.device(kind.device):
        plan = None if kind.relaxed else plans.resident(kind.n, kind.m, device(kind.device))
        if plan is not None:
            run = resident_runner(kind, plan)
        else:
            layout = plans.streaming(kind.n, kind.m)
            if layout is None:
                raise RuntimeError(f"the kernels take at most 16384 classes, got {kind.m}")
            run = streaming_runner(kind, layout)
    _ready[kind] = run
    return run


@functools.cache
def device(index: int) -> plans.Device:
    """Return what the plans must know of CUDA device ``index``."""
    properties = torch.cuda.get_device_properties(index)
    return plans.Device(
        10 * properties.major + properties.minor, properties.shared_memory_per_block_optin
    )


def resident_runner(kind: Kind, plan: plans.Resident) -> Callable[..., None]:
    """Return a function that enqueues one launch of ``resident.cu``."""
    code = compiler.cubin("resident", {**plan.constants, **_types(kind)}, _architecture(kind))
    kernel = compiler.load(code, "sinkhorn_resident", plan.shared_bytes, plan.cluster)
    cuda = compiler.core()
    cluster = plan.cluster if plan.cluster > 1 else None

    @functools.lru_cache(maxsize=64)
    def config(p: int) -> Any:
        return _config(p, cluster, plan.threads, plan.shared_bytes)

    def run(
        scores: Tensor,
        out: Tensor,
        marginals: tuple[int, int],
        strides: tuple[int, int],
        num_iters: int,
        scale: float,
        power: float,
    ) -> None:
        p, n, m = scores.shape
        cuda.launch(
            _stream(kind.device),
            config(p),
            kernel,
            scores.data_ptr(),
            out.data_ptr(),
            *marginals,
            scores.stride(0),
            scores.stride(1),
            n,
            m,
            num_iters,
            *strides,
            scale,
        )

    return run


def streaming_runner(kind: Kind, plan: plans.Streaming) -> Callable[..., None]:
    """Return a function that enqueues the T + 1 launches of ``streaming.cu``."""
    steps = (0, 2 if kind.relaxed else 1, 3)
    first, middle, last = (
        compiler.load(
            compiler.cubin(
                "streaming", {**plan.constants(step), **_types(kind)}, _architecture(kind)
            ),
            "sinkhorn_streaming",
            plan.shared_bytes,
            1,
        )
        for step in steps
    )
    cuda = compiler.core()

    @functools.lru_cache(maxsize=64)
    def config(p: int) -> Any:
        return _config(p * plan.chunks, None, plan.threads, plan.shared_bytes)

    def run(
        scores: Tensor,
        out: Tensor,
        marginals: tuple[int, int],
        strides: tuple[int, int],
        num_iters: int,
        scale: float,
        power: float,
    ) -> None:
        p, n, m = scores.shape
        sizes = (2 * p * m, 2 * p * plan.chunks * m, 2 * p * plan.groups * m)
        workspace = torch.empty(sum(sizes), dtype=torch.float32, device=scores.device)
        start = workspace.data_ptr()
        counters = _zeroed(kind.device, p * (plan.groups + 1))
        arguments = (
            scores.data_ptr(),
            out.data_ptr(),
            *marginals,
            start,
            start + 4 * sizes[0],
            start + 4 * (sizes[0] + sizes[1]),
            counters.data_ptr(),
            scores.stride(0),
            scores.stride(1),
            n,
            m,
            plan.chunks,
            plan.chunks_per_group,
            *strides,
            scale,
            power,
        )
        stream, launch_config = _stream(kind.device), config(p)
        cuda.launch(stream, launch_config, first, *arguments)
        for _ in range(num_iters - 1):
            cuda.launch(stream, launch_config, middle, *arguments)
        cuda.launch(stream, launch_config, last, *arguments)

    return run


def _types(kind: Kind) -> dict[str, int]:
    return {"SCORE_TYPE": TYPES[kind.scores], "OUT_TYPE": TYPES[kind.out]}


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


def _stream(index: int) -> Any:
    """Return PyTorch's current stream as ``cuda.core`` knows it."""
    handle = torch.cuda.current_stream(index).cuda_stream
    key = (index, handle)
    if key not in _streams:
        _streams[key] = compiler.core().Stream.from_handle(handle)
    return _streams[key]


def _zeroed(index: int, count: int) -> Tensor:
    """Return ``count`` counters that are zero now and that the kernels leave at zero.

    Launches of one stream follow each other and can share them. A captured graph may be replayed
    on any stream, therefore it has counters of its own, and zeroes them in each replay.
    """
    if torch.cuda.is_current_stream_capturing():
        return torch.zeros(count, dtype=torch.int32, device=f"cuda:{index}")
    key = (index, torch.cuda.current_stream(index).cuda_stream)
    counters = _counters.get(key)
    if counters is None or len(counters) < count:
        counters = torch.zeros(max(count, 4096), dtype=torch.int32, device=f"cuda:{index}")
        _counters[key] = counters
    return counters
