"""Kernels and their launches on PyTorch's current stream."""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

import torch

from crkd.ot.cuda import compiler, plans

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Types of the scores and of the results, with their numbers in the kernels."""

CLUSTERED = (90, 100, 103)
"""Architectures whose blocks can form clusters that read each other's shared memory."""


class Kind(NamedTuple):
    """Properties that determine the machine code of a solve.

    Attributes:
        device: ordinal of the CUDA device.
        n: samples.
        m: classes.
        scores: type of the scores and of the result.
        relaxed: whether the class step is relaxed.
        weighted: whether a sample marginal is given.
        short: whether the plan may be kept in bfloat16 between iterations.
    """

    device: int
    n: int
    m: int
    scores: torch.dtype
    relaxed: bool
    weighted: bool
    short: bool


class _Thread(threading.local):
    """State of each thread.

    Attributes:
        streams: streams on which the thread has launched, by device and handle.
    """

    def __init__(self) -> None:
        self.streams: dict[tuple[int, int], Any] = {}


_thread = _Thread()


@functools.cache
def device(index: int) -> plans.Device:
    """Return the properties of CUDA device ``index`` for the plans."""
    properties = torch.cuda.get_device_properties(index)
    # PyTorch's type stubs do not list this attribute.
    shared_bytes: int = getattr(properties, "shared_memory_per_block_optin")  # noqa: B009
    architecture = 10 * properties.major + properties.minor
    return plans.Device(
        architecture,
        shared_bytes,
        16 if architecture in CLUSTERED else 1,
        properties.multi_processor_count,
    )


class Kernel:
    """One loaded kernel ``sinkhorn_NAME`` of ``NAME.cu`` and its launch configuration.

    Args:
        kind: properties for which it is compiled.
        name: file of the kernel, without ``.cu``.
        plan: its layout.
        constants: compile-time constants of the layout.
        cluster: blocks of a cluster.
        cooperative: whether all blocks must be on the device at once.

    Raises:
        Exception: it cannot be compiled, loaded or configured; ``cuda.core``, ``cuda.bindings``
            and the operating system raise different types.
    """

    def __init__(
        self,
        kind: Kind,
        name: str,
        plan: plans.Resident | plans.Streaming | plans.Persistent,
        constants: dict[str, int],
        *,
        cluster: int = 1,
        cooperative: bool = False,
    ) -> None:
        make_current(kind.device)
        architecture = f"sm_{device(kind.device).architecture}"
        code = compiler.cubin(name, {**constants, **_types(kind)}, architecture)
        self._kernel = compiler.load(code, f"sinkhorn_{name}", plan.shared_bytes, cluster)
        self._index = kind.device
        self._threads, self._shared_bytes, self._cluster = plan.threads, plan.shared_bytes, cluster
        self._launch = compiler.core().launch
        self._config = functools.cache(
            functools.partial(
                _config,
                cluster=cluster if cluster > 1 else None,
                block=plan.threads,
                shmem_size=plan.shared_bytes,
                extras=_extras(device(kind.device).architecture, cooperative=cooperative),
            )
        )
        # A launch that this device or cuda.core does not support must fail here, so that another
        # backend can be used.
        self._config(1)

    def __call__(self, grid: int, *arguments: float) -> None:
        """Enqueue one launch of ``grid`` clusters or, without clusters, blocks."""
        self._launch(current_stream(self._index), self._config(grid), self._kernel, *arguments)

    def clusters_at_once(self) -> int:
        """Return the number of clusters or, without clusters, blocks that run at the same time."""
        if self._cluster == 1:
            return self.blocks_per_multiprocessor() * device(self._index).multiprocessors
        stream = current_stream(self._index)
        return int(self._kernel.occupancy.max_active_clusters(self._config(1), stream=stream))

    def blocks_per_multiprocessor(self) -> int:
        """Return the number of blocks that a multiprocessor runs at the same time."""
        occupancy = self._kernel.occupancy
        return int(
            occupancy.max_active_blocks_per_multiprocessor(self._threads, self._shared_bytes)
        )


def _types(kind: Kind) -> dict[str, int]:
    return {
        "WEIGHTED": int(kind.weighted),
        "SCORE_TYPE": TYPES[kind.scores],
        "OUT_TYPE": TYPES[kind.scores],
    }


def _extras(architecture: int, *, cooperative: bool) -> list[dict[str, bool]]:
    """Return the launch options besides the layout, in the names of several ``cuda.core`` versions.

    From compute capability 9.0 on, successive launches overlap and the kernels wait for their
    predecessor themselves. A cooperative launch does not overlap with its predecessor.
    """
    if cooperative:
        return [{"is_cooperative": True}, {"cooperative_launch": True}]
    return [{"programmatic_stream_serialization": True}, {}] if architecture >= 90 else [{}]


def _config(grid: int, *, extras: list[dict[str, bool]], **layout: int | None) -> Any:
    """Return a launch configuration with the first of ``extras`` that ``cuda.core`` accepts.

    Raises:
        RuntimeError: the launch must be cooperative, which that version does not support.
    """
    for extra in extras:
        try:
            return compiler.core().LaunchConfig(grid=grid, **layout, **extra)
        except TypeError:
            continue
    raise RuntimeError("this cuda-core has no cooperative launches; install a later one")


def current_stream(index: int) -> Any:
    """Return PyTorch's current stream on device ``index`` as an object of ``cuda.core``.

    The first call on a stream in each thread makes the device's context current in that thread.
    """
    key = (index, _raw_stream(index))
    stream = _thread.streams.get(key)
    if stream is None:
        make_current(index)
        stream = _thread.streams[key] = compiler.core().Stream.from_handle(key[1])
    return stream


def make_current(index: int) -> None:
    """Make the context of device ``index``, PyTorch's current device, current in this thread.

    PyTorch does so at a thread's first work on a GPU. Memory from its cache is not such work, so
    the launch may be the first.
    """
    compiler.core().Device(index).set_current()


def _raw_stream(index: int) -> int:
    """Return the handle of PyTorch's current stream on device ``index``."""
    # Compiled PyTorch code uses this call too; the public one takes several microseconds.
    quick = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    if quick is not None:
        return int(quick(index))
    return int(torch.cuda.current_stream(index).cuda_stream)
